"""The judge of the benchmark: whether a scene is as it was asked for, by plain geometry.

A query knows its objects and constraints from how it was generated. Here a finished scene is held
against them. A constraint holds or it does not (:mod:`scenes.benchmark.predicates`), and a scene's
score is the share of constraints that hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scenes.assets.words import tokens
from scenes.benchmark.predicates import (
    GROUPS,
    PAIRS,
    PLACES,
    RINGS,
    SEATED,
    THRESHOLDS,
    TOUCHING,
    Constraint,
    Item,
    Wanted,
    between,
    paired,
    shared_out,
)
from scenes.benchmark.rectangles import shared_area
from scenes.graph import Room


@dataclass(frozen=True)
class Verdict:
    """What the judge says of a scene. ``held`` has an answer for each constraint, in order."""

    constraints: tuple[Constraint, ...]
    held: tuple[bool, ...]
    asked: int
    placed: int
    """Of the objects asked for, those that are there as models, and within the room."""
    extra: int
    collisions: tuple[tuple[str, str, float], ...]
    """Pairs, with the share of the smaller box inside the other, worst first."""

    @property
    def score(self) -> float:
        """The share of constraints that hold."""
        return sum(self.held) / len(self.held) if self.held else 1.0

    @property
    def broken(self) -> list[Constraint]:
        return [c for c, held in zip(self.constraints, self.held, strict=True) if not held]


def judge(
    objects: Sequence[Wanted],
    constraints: Sequence[Constraint],
    items: Sequence[Item],
    room: Room | None = None,
) -> Verdict:
    """Hold a scene against what was asked for.

    That each object is there in its number is a constraint by itself, the first ones.
    """
    counts = tuple(Constraint(kind="count", subjects=(o.name,)) for o in objects)
    sizes = tuple(
        Constraint(kind="size", subjects=(o.name,)) for o in objects if o.width or o.height
    )
    every = (*counts, *sizes, *constraints)
    cast = casting(objects, items)
    wanted = {o.name: o for o in objects}
    held = tuple(_holds(c, cast, wanted, room) for c in every)
    seen = [i for o in objects for i in cast[o.name][: o.count] if i.modelled and _inside(i, room)]
    named = sum(min(len(cast[o.name]), o.count) for o in objects)
    asked = sum(o.count for o in objects)
    return Verdict(
        every, held, asked, len(seen), len(items) - named,
        tuple(collisions(items, _touching(constraints, cast))),
    )  # fmt: skip


def casting(objects: Sequence[Wanted], items: Sequence[Item]) -> dict[str, list[Item]]:
    """Which items are which objects, by their words: the same noun, and most words in common."""
    found: dict[str, list[Item]] = {o.name: [] for o in objects}
    for item in items:
        said = tokens(item.what.split(" of ")[0])
        best, most = None, 0
        for o in objects:
            words = tokens(o.name)
            if words[-1:] == said[-1:] and (common := len(set(words) & set(said))) > most:
                best, most = o.name, common
        if best is not None:
            found[best].append(item)
    return found


def collisions(
    items: Sequence[Item], touching: Iterable[frozenset[str]] = ()
) -> list[tuple[str, str, float]]:
    """Pairs of boxes that share space, worst first; rugs and pairs that may touch are left out."""
    allowed = set(touching)
    solid = [i for i in items if i.tall > THRESHOLDS["flat"]]
    found = []
    for a, b in itertools.combinations(solid, 2):
        high = min(a.top, b.top) - max(a.bottom, b.bottom)
        if high <= 0 or frozenset((a.id, b.id)) in allowed:
            continue
        smaller = min(a.box.area * a.tall, b.box.area * b.tall)
        share = shared_area(a.box, b.box) * high / smaller
        if share > THRESHOLDS["collision"]:
            found.append((a.id, b.id, share))
    return sorted(found, key=lambda pair: -pair[2])


def _touching(
    constraints: Sequence[Constraint], cast: Mapping[str, list[Item]]
) -> set[frozenset[str]]:
    """Pairs of items that rest on or lie under one another, and what they carry in turn."""
    below: dict[str, set[str]] = {}
    for c in constraints:
        if c.kind in TOUCHING:
            for s in c.subjects:
                below.setdefault(s, set()).update(c.hosts or c.subjects)
    for _ in range(len(below)):
        for carried in below.values():
            carried |= {deep for on in list(carried) for deep in below.get(on, ())}
    return {
        frozenset((a.id, b.id))
        for s, hosts in below.items()
        for h in hosts
        for a in cast.get(s, [])
        for b in cast.get(h, [])
        if a.id != b.id
    }


def _holds(
    c: Constraint, cast: Mapping[str, list[Item]], wanted: Mapping[str, Wanted], room: Room | None
) -> bool:
    subjects = [i for name in c.subjects for i in cast.get(name, [])]
    hosts = [i for name in c.hosts for i in cast.get(name, [])]
    for name in (*c.subjects, *c.hosts):
        if len(cast.get(name, [])) < wanted[name].count:
            return False  # who is not there holds nothing
    if c.kind == "count":
        return len(subjects) == wanted[c.subjects[0]].count
    if c.kind == "size":
        o = wanted[c.subjects[0]]
        return all(
            length is None or abs(own / length - 1) <= THRESHOLDS["size"]
            for i in subjects
            for length, own in ((o.width, i.box.width), (o.height, i.tall))
        )
    if c.kind in PLACES:
        return room is not None and all(PLACES[c.kind](i, room, c) for i in subjects)
    if c.kind in GROUPS:
        return GROUPS[c.kind](subjects, c)
    if c.kind in RINGS:
        shares = shared_out(subjects, hosts, SEATED[c.kind])
        return bool(shares) and all(RINGS[c.kind](mine, host) for host, mine in shares)
    if c.kind == "between":
        return len(hosts) == 2 and all(between(s, *hosts) for s in subjects)
    return paired(subjects, hosts, lambda s, h: PAIRS[c.kind](s, h, c))


def _inside(i: Item, room: Room | None) -> bool:
    """Within the walls, or a centimetre beyond."""
    if room is None:
        return True
    reach = np.abs(i.box.corners()).max(0)
    return bool(reach[0] <= room.width / 2 + 0.01 and reach[1] <= room.depth / 2 + 0.01)
