"""The cast of a scene as it is read: its assets, and which of them a phrase points back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from common.errors import UserError
from scenes.graph import MAX_ASSETS, Asset
from scenes.planners import phrases
from scenes.planners.lexicon import (
    FILLERS,
    IN_WALLS,
    ON_WALLS,
    OUTSIDE,
    SEATS,
    TABLES,
    TOYS,
)
from scenes.planners.phrases import Phrase
from scenes.planners.tokens import Token

TOY = 0.15
"""Metres that a toy is high."""
WINDOW = 1.3
"""Metres that a window is high: with its sill above what usually stands below."""


@dataclass(frozen=True)
class Group:
    """Assets that one phrase named."""

    ids: tuple[str, ...]
    phrase: Phrase

    @property
    def head(self) -> str:
        return self.phrase.head


@dataclass
class Clause:
    """What has been read of a clause and waits for more."""

    run: list[Group] = field(default_factory=list)
    """Groups named in a row, of which nothing has been said yet."""
    subject: list[Group] = field(default_factory=list)
    last: list[Group] = field(default_factory=list)
    pending: tuple[str, list[Group]] | None = None
    inverted: tuple[str, list[Group]] | None = None
    """Hosts named before their subject: "on the table is a lamp"."""
    holder: Group | None = None
    """What stands before "with"."""
    guessed: bool = False
    """It was named in the sentence before."""
    sized: list[Group] = field(default_factory=list)
    """Their size was said: of these there is no more to come."""
    held: list[Group] = field(default_factory=list)
    """What was named after "with", of which nothing else has been said."""
    halves: list[Group] = field(default_factory=list)
    separated: bool = False
    listed: bool = False
    """The last separator was a bare comma."""
    closed: bool = False
    """It was said how what is held lies to its holder: after a comma it holds no more."""
    place: str = ""
    """A place named before what is there: "along the wall stands a desk"."""
    verb: bool = False
    gap: float | None = None
    named: list[Group] = field(default_factory=list)
    """Every group, in order; the next sentence is likely to be about the first."""

    @property
    def hangs(self) -> bool:
        """What was named last is on or in a wall: what comes "with" it is with the subject."""
        return bool(self.last) and self.last[-1].head in ON_WALLS | IN_WALLS

    def passes(self, tokens: Sequence[Token], at: int) -> bool:
        """Whether a word is a verb that says nothing.

        A participle alone after a verb, as in "they are lined up", but not in "there are painted
        chairs"; or what a sentence begins with before an article, as in "picture a room".
        """
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        bare = not phrases.determines(tokens[at].text)
        if at == 0 and bare and after is not None and after.kind == "word":
            return phrases.determines(after.text)
        thing = after is not None and after.kind == "word" and after.text not in FILLERS
        return self.verb and not thing and phrases.no_noun(tokens[at].text)


@dataclass
class Cast:
    """Assets in the order in which they were named, and the groups that they were named in."""

    assets: list[Asset] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def resolved(self, phrase: Phrase) -> Group | None:
        """The assets that "the sofa" or "both chairs" point back to."""
        if not phrase.definite or phrase.new:
            return None
        fitting = [
            g
            for g in self.groups
            if g.head == phrase.head and set(phrase.words[:-1]) <= set(g.phrase.words)
        ]
        if not fitting:
            return None
        if phrase.other and len(fitting[-1].ids) > 1:
            return Group(fitting[-1].ids[1:], fitting[-1].phrase)
        if phrase.count == 0 or phrase.each:
            ids = tuple(dict.fromkeys(i for g in fitting for i in g.ids))
        else:
            ids = fitting[-1].ids[: phrase.count] if phrase.count > 1 else fitting[-1].ids[:1]
        return Group(ids, replace(fitting[-1].phrase, each=phrase.each))

    def made(self, phrase: Phrase, holder: str = "") -> Group:
        """New assets; ``holder`` is the head of what they were named with."""
        count = phrase.count
        if count == 0:
            around = phrase.head in SEATS and holder in TABLES
            count = 4 if around or phrase.shape in ("row", "grid", "ring") else 2
            self.notes.append(f"{phrase.what}: nobody says how many; {count}")
        if phrase.rows:
            count *= phrase.rows
        group = Group(self._new(phrase, count), phrase)
        self.groups.append(group)
        return group

    def _new(self, phrase: Phrase, count: int) -> tuple[str, ...]:
        if len(self.assets) + count > MAX_ASSETS:
            raise UserError(
                f"more than {MAX_ASSETS} things ({phrase.what} and what came before)",
                "ask for fewer, or for several scenes",
            )
        ids = numbered(phrase.head, count, {a.id for a in self.assets})
        sizes = _sizes(phrase)
        self.assets += [Asset(id=i, what=phrase.what[:300]).model_copy(update=sizes) for i in ids]
        return ids

    def size(self, group: Group, lengths: dict[str, float]) -> None:
        sizes = _sizes(replace(group.phrase, lengths=lengths))
        self.assets = [a.model_copy(update=sizes) if a.id in group.ids else a for a in self.assets]

    def copied(self, group: Group, count: int) -> Group:
        """The group with as many assets as are needed, more of the same added."""
        if len(group.ids) >= count:
            return group
        if len(self.assets) + count - len(group.ids) > MAX_ASSETS:
            self.notes.append(f"{group.phrase.what}: no room for {count} of them")
            return group
        more = self._new(replace(group.phrase, shape=""), count - len(group.ids))
        grown = Group((*group.ids, *more), group.phrase)
        # By its assets: "each" makes another phrase of the same group.
        self.groups = [Group(grown.ids, g.phrase) if g.ids == group.ids else g for g in self.groups]
        return grown


def numbered(name: str, count: int, taken: set[str]) -> tuple[str, ...]:
    """Ids for ``count`` things called ``name``, none ``taken``: chair, or chair-1 and chair-2."""
    stem = "".join(ch if ch.isascii() and ch.isalnum() else "-" for ch in name)
    stem = stem.strip("-")[:40] or "thing"
    ids: list[str] = []
    number = 1
    while len(ids) < count:
        name = stem if count == 1 and stem not in taken else f"{stem}-{number}"
        number += 1
        if name not in taken | set(ids) and not (name == f"{stem}-1" and stem in taken):
            ids.append(name)
    return tuple(ids)


def _sizes(phrase: Phrase) -> dict[str, float]:
    """Metres by dimension, within what a scene can hold; "a 2 m sofa" is 2 m along its longest."""
    lengths = dict(phrase.lengths)
    if not lengths and TOYS & set(phrase.words[:-1]):
        lengths["height"] = TOY
    if not lengths and phrase.head == "window":
        lengths["height"] = WINDOW
    if "" in lengths:
        tall = phrase.head in OUTSIDE or phrase.head == "lamp"
        lengths["height" if tall else "width"] = lengths.pop("")
    return {name: min(max(metres, 0.01), 200.0) for name, metres in lengths.items()}
