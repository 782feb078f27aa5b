"""What comes of a text that the rules read: a cast, and the relations that were said of it."""

from __future__ import annotations

from scenes.graph import Relation, Room
from scenes.planners.arrange import relate, shaped
from scenes.planners.cast import Cast, Clause, Group
from scenes.planners.lexicon import (
    BIG,
    OUTSIDE,
    SEATS,
    SURROUNDINGS,
    TABLES,
    WHOLE,
)
from scenes.planners.phrases import Phrase
from scenes.planners.sayings import say

TURNED = {"surrounded-by": "around", "flanked-by": "flanking", "holds": "on"}
"""Connectors whose host comes first, and what they are the other way round."""


class Told:
    """What was said until now."""

    def __init__(self) -> None:
        self.cast = Cast()
        self.relations: list[Relation] = []
        self.unused: list[str] = []
        self.room: Room | None = None
        self.kind = ""
        """The place, as in "kitchen"."""

    def surroundings(self, c: Clause, phrase: Phrase) -> bool:
        """Walls, floors and corners are no assets; being at them may be a place."""
        if phrase.head not in SURROUNDINGS:
            return False
        if c.pending is not None:
            kind, subjects = c.pending
            ids = [i for g in subjects for i in g.ids]
            wall = next((w for w in ("back", "left", "right") if w in phrase.words), "any")
            if phrase.head == "wall" and kind in ("on",):
                self.relations += [say("on-wall", i, wall=wall) for i in ids]
            elif phrase.head == "wall":
                self.relations += [say("against-wall", i, wall=wall) for i in ids]
            elif phrase.head == "corner":
                side = wall if wall in ("left", "right") else "any"
                self.relations += [say("in-corner", i, corner=side) for i in ids]
            c.subject = c.last = subjects
            c.pending = None
        else:
            self.unused += phrase.words
        return True

    def setting(self, phrase: Phrase) -> None:
        """The room or the place that a text is about, and its size."""
        if phrase.head not in WHOLE or not self.kind:
            self.kind = phrase.head
        wanted = phrase.lengths
        if {"width", "depth"} <= wanted.keys():
            height = {"height": wanted["height"]} if "height" in wanted else {}
            self.room = Room(width=wanted["width"], depth=wanted["depth"], **height)

    def made(self, c: Clause, phrase: Phrase) -> Group:
        """New assets of a phrase, in its shape."""
        group = self.cast.made(phrase, c.holder.head if c.holder is not None else "")
        self.relations += shaped(phrase.shape, group.ids, phrase.rows)
        return group

    def say(self, c: Clause, kind: str, subjects: list[Group], hosts: list[Group]) -> None:
        """``subjects`` are ``kind`` of ``hosts``, a connector of the lexicon; each has its own."""
        if kind in TURNED:
            kind, subjects, hosts = TURNED[kind], hosts, subjects
        on = [i for h in hosts for i in h.ids]
        for n, group in enumerate(subjects):
            if set(group.ids) & set(on):
                continue
            if any(h.phrase.each for h in hosts) and kind != "flanking":
                each = 1 if group.phrase.definite else len(group.ids)
                subjects[n] = group = self.cast.copied(group, each * len(on))
            elif kind == "flanking" and len(group.ids) == 1 and len(subjects) == 1:
                subjects[n] = group = self.cast.copied(group, 2)
            ids = group.ids[:1] if kind == "on" and group.phrase.shape == "stack" else group.ids
            if kind == "facing" and group.phrase.shape in ("row", "column", "grid"):
                # They all look the same way.
                self.relations.append(say("facing", ids[len(ids) // 2], on[0]))
                continue
            self.relations += relate(kind, ids, on, (group.head, hosts[-1].head), c.gap)
        c.gap = None

    def attach(self, c: Clause) -> None:
        """What stands after "with" and of which nothing else was said belongs to what is before."""
        if c.holder is None:
            return
        for group in c.held:
            host = c.holder
            if c.guessed and (host.head not in TABLES or group.head in BIG | OUTSIDE | SEATS):
                continue  # "it has a sofa": the room
            if host.phrase.each:
                group = self.cast.copied(group, len(group.ids) * len(host.ids))
            if group.head in SEATS and host.head in TABLES:
                kind = "around"
            elif host.head in TABLES or (host.head not in SEATS and group.head not in BIG):
                kind = "on"
            else:
                kind = "on" if group.head not in BIG else "near"
            self.relations += relate(kind, group.ids, host.ids, (group.head, host.head))
            self.cast.notes.append(f"{host.phrase.what} with {group.phrase.what}: taken as {kind}")
        c.held, c.holder, c.closed = [], None, False
