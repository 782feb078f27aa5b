"""Noun phrases: "two small round tables 60 cm wide" as a count, words, and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scenes.assets.words import singular
from scenes.planners.lexicon import (
    DEFINITE,
    DETERMINERS,
    EVEN,
    FILLERS,
    GROUPS,
    INTRODUCING,
    NUMBERS,
    PARTICIPLES,
    PERSONS,
    PRONOUNS,
    SHAPES,
)
from scenes.planners.tokens import Token

_NOUNS = frozenset(
    """painting building railing ceiling awning ring king wing spring swing string thing bed shed
    sled seed reed weed belly lily butterfly family bathing-suit pudding clothing kettledrum
    jewelry""".split()
)
"""Nouns that look like verbs or adverbs."""
HOLDERS = frozenset({"vase", "pot", "flowerpot"})
"""Things that nobody sees for what is in them."""


@dataclass(frozen=True)
class Phrase:
    """``count`` 0: several, nobody said how many. The last of ``words`` is the head, singular."""

    words: tuple[str, ...]
    count: int = 1
    definite: bool = False
    each: bool = False
    other: bool = False
    new: bool = False
    """"another": not one that was there before."""
    shape: str = ""
    rows: int = 0
    lengths: dict[str, float] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    """What it is of: "a bowl of fruit"."""
    sought: str = ""
    """Other words to look for it by: "a vase with flowers" is found by what is in it."""

    @property
    def head(self) -> str:
        return self.words[-1]

    @property
    def what(self) -> str:
        return self.sought or " ".join((*self.words, *self.tail))


def read(tokens: Sequence[Token], at: int) -> tuple[Phrase, int] | None:
    """The phrase that begins at ``at``, and where it ends; None if none begins there."""
    start = at
    count, definite, each, other, new, shape, rows = -1, False, False, False, False, "", 0
    lengths: dict[str, float] = {}
    while at < len(tokens):
        token = tokens[at]
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if token.kind == "measure" and following is not None and following.kind == "word":
            if following.text in ("apart", "away"):
                break
            lengths.update(token.lengths)
            at += 1
            continue
        if token.kind != "word":
            break
        ahead = tuple(
            t.text if t.kind == "word" or t.text == "with" else "" for t in tokens[at : at + 3]
        )
        grouped = next(
            (g for g in sorted(GROUPS, key=len, reverse=True) if ahead[: len(g)] == g), None
        )
        shaped = next((s for s in SHAPES if ahead[: len(s)] == s), None)
        even = token.text in EVEN and any(ahead[1 : 1 + len(s)] == s for s in SHAPES)
        if even:
            at += 1
        elif shaped is not None:
            shape, rows = SHAPES[shaped], max(count, 0) if shaped[0] == "rows" else 0
            count, at = -1, at + len(shaped)
        elif grouped is not None:
            count = GROUPS[grouped] or -1
            at += len(grouped)
        elif token.text in ("each", "every"):
            each, at = True, at + 1
            definite = not (at < len(tokens) and tokens[at].text == "of")
            at += not definite  # "each of five desks", which are new
        elif token.text in ("other", "remaining", "second") and definite:
            other = True
            at += 1
        elif token.text in DEFINITE:
            definite = True
            count = 2 if token.text == "both" else count
            at += 1
        elif token.text in NUMBERS or token.text.isdecimal():
            new = new or token.text == "another"
            value = NUMBERS.get(token.text) or int(token.text)
            count = count + value if count >= 20 and value < 10 else value
            at += 1
        elif _compound(token.text) is not None:
            count = _compound(token.text) or count
            at += 1
        else:
            break
    words: list[str] = []
    while at < len(tokens) and tokens[at].kind == "word":
        word = tokens[at].text
        # "a TV stand", but "two chairs stand" and "around a table stand two chairs".
        behind = tokens[at + 1].text if at + 1 < len(tokens) else ""
        one = words and singular(words[-1]) == words[-1]
        a_stand = word == "stand" and one and not determines(behind)
        # "a trash can", but "a chair can be seen".
        a_can = word == "can" and words and behind not in ("be", "see")
        filler = word in FILLERS and not (a_stand or a_can)
        if words and not one and determines(behind):
            break  # a verb: "two benches fill the place"
        if filler or word in PRONOUNS or (words and word in NUMBERS):
            break
        if words and word in DEFINITE:
            break
        words.append(word)
        at += 1
    tail: list[str] = []
    sought = ""
    if words and at + 1 < len(tokens) and tokens[at].text in ("of", "with"):
        said, after = tokens[at].text, read(tokens, at + 1)
        bare = tokens[at + 1].text not in NUMBERS and tokens[at + 1].text not in DEFINITE
        if after is not None and said == "of" and tokens[at].kind == "word":
            tail, at = ["of", *after[0].words], after[1]
        elif after is not None and said == "with" and singular(words[-1]) in HOLDERS and bare:
            sought, at = f"{after[0].what} in a {singular(words[-1])}", after[1]
    unused: list[str] = []
    while len(words) > 1 and no_noun(words[-1]):
        verb = words.pop()
        unused[:0] = [verb] if verb not in PARTICIPLES else []
    if not words or at == start:
        return None
    if at < len(tokens) and tokens[at].kind == "measure" and not _gap_follows(tokens, at):
        lengths.update(tokens[at].lengths)
        at += 1
    head = singular(words[-1])
    plural = head != words[-1]
    if count < 0 and not (plural or definite or each or shape or _alone(tokens, start, at)):
        return None
    if count < 0:
        count = 0 if plural else 1
    made = Phrase(
        (*words[:-1], head),
        count,
        definite,
        each,
        other,
        new,
        shape,
        rows,
        lengths,
        tuple(unused),
        tuple(tail),
        sought,
    )
    return made, at


def _alone(tokens: Sequence[Token], start: int, end: int) -> bool:
    """Whether a thing may be named there without an article, as in "sofa left of lamp".

    Most single words without one are verbs and the like: "we need a sofa", "tell me about a room".
    """
    before = tokens[start - 1] if start else None
    after = tokens[end] if end < len(tokens) else None
    if before is not None and before.kind == "word" and before.text not in INTRODUCING | {"of"}:
        return False
    if after is None or after.kind != "word":
        return True
    return after.text in FILLERS - PERSONS and not determines(after.text)


def _compound(word: str) -> int | None:
    """twenty-one"""
    tens, dash, ones = word.partition("-")
    if dash and tens in NUMBERS and ones in NUMBERS:
        return NUMBERS[tens] + NUMBERS[ones]
    return None


def determines(word: str) -> bool:
    """Whether a noun phrase may begin with the word."""
    return word in DETERMINERS or word.isdecimal()


def no_noun(word: str) -> bool:
    """A verb or an adverb by its ending: "a lamp glowing softly"."""
    if word in PARTICIPLES:
        return True
    return word.endswith(("ing", "ed", "ly")) and word not in _NOUNS and len(word) > 4


def _gap_follows(tokens: Sequence[Token], at: int) -> bool:
    """Whether a measure is a distance: "2 m from the sofa", "1 m apart"."""
    if tokens[at].lengths[0][0] or at + 1 >= len(tokens):
        return False
    after = tokens[at + 1]
    return after.kind == "connector" or after.text == "apart"
