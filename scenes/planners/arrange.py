"""From "these stand so to those" to relations of a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scenes.graph import Relation
from scenes.planners.lexicon import PLACES, SEATS, TABLES
from scenes.planners.sayings import HABITS, say

FLOOR = frozenset("rug carpet mat tatami".split())
RATIOS = {"twice": 2.0, "as-tall": 1.0, "half": 0.5, "taller": 1.4, "shorter": 0.7}
Ids = Sequence[str]


def relate(
    kind: str, subjects: Ids, hosts: Ids, heads: tuple[str, str], gap: float | None = None
) -> list[Relation]:
    """What ``subjects`` being ``kind`` (of the lexicon's connectors) to ``hosts`` means.

    ``heads`` are the nouns of both, ``gap`` is a distance in metres that was said.
    """
    own, other = heads
    many = len(subjects) > 1
    if gap is not None and kind in ("far", "beside", "near"):
        return [say("distance", s, hosts[0], metres=gap) for s in subjects]
    if kind == "at":
        kind = "around" if own in SEATS and other in TABLES else "beside"
    if kind == "on" and other in FLOOR:
        return [say("under", hosts[0], subjects[0])]
    if kind in ("on", "under", "inside", "above"):
        return [say(kind, s, h) for s, h in _paired(subjects, hosts)]
    if kind == "around":
        return _around(subjects, hosts)
    if kind == "flanking" or (kind == "beside" and len(subjects) == 2 and len(hosts) == 1):
        return flank(subjects, hosts[0])
    if kind == "beside":
        return _each("say_next_to", subjects, hosts)
    if kind == "near":
        return _each("say_near", subjects, hosts)
    if kind in ("left-of", "right-of", "in-front-of", "behind"):
        if gap is None and not many:
            return HABITS["say_side"](kind, subjects[0], hosts[0])
        found = [say(kind, s, h) for s, h in _paired(subjects, hosts)]
        if gap is not None:
            found += [say("distance", s, hosts[0], metres=gap) for s in subjects]
        return found
    if kind == "facing":
        return [say("facing", s, h) for s, h in _paired(subjects, hosts)]
    if kind == "opposite":
        pairs = _paired(subjects, hosts)
        return [say("facing", *p) for s, h in pairs for p in ((s, h), (h, s))]
    if kind == "between" and len(hosts) > 1:
        return [say("between", s, hosts[0], hosts[1]) for s in subjects]
    if kind == "far":
        if gap is not None:
            return [say("apart", s, h, distance=gap) for s in subjects for h in hosts]
        return [r for s in subjects for h in hosts for r in HABITS["say_far"](s, h)]
    if kind == "aligned":
        return [say("alignment", *subjects, *hosts, axis="y")]
    if kind == "parallel":
        return [say("parallelism", s, hosts[0]) for s in subjects]
    if kind == "perpendicular":
        return [say("perpendicularity", s, hosts[0]) for s in subjects]
    if kind in RATIOS:
        return [say("scaling", s, hosts[0], ratio=RATIOS[kind]) for s in subjects]
    if kind == "larger":
        return [say("hierarchy", s, hosts[0]) for s in subjects]
    if kind == "smaller":
        return [say("hierarchy", hosts[0], s) for s in subjects]
    return _each("say_near", subjects, hosts)


def place(name: str, ids: Ids, gap: float | None = None) -> list[Relation]:
    """What a place of the lexicon says of ``ids``; nothing of a mere manner of speech."""
    kind, options = PLACES[name]
    if kind in ("against-wall", "on-wall", "in-corner", "in-centre"):
        found = [Relation(kind=kind, assets=(i,), options=dict(options)) for i in ids]
        if len(ids) > 1 and kind == "in-centre":  # not all of them can be in the very middle
            found = found[:1] + _each("say_near", ids[1:], ids[:1])
        return found
    if kind in ("row", "grid", "stack", "side-by-side", "column", "ring"):
        return shaped(kind, ids, 0, gap)
    if kind == "all-parallel" and len(ids) > 1:
        return [say("parallelism", *ids)]
    if kind == "each-other" and len(ids) > 1:
        return [say("facing", a, b) for a, b in zip(ids, [*ids[1:], ids[0]], strict=True)]
    return []


def shaped(shape: str, ids: Ids, rows: int = 0, gap: float | None = None) -> list[Relation]:
    """Relations among the things of a row, a grid, a stack."""
    if len(ids) < 2:
        return []
    if shape in ("row", "side-by-side"):
        return [say("repetition", *ids, axis="x")]
    if shape == "column":
        return [say("repetition", *ids, axis="y")]
    if shape == "grid":
        columns = math.ceil(len(ids) / rows) if rows else math.ceil(math.sqrt(len(ids)))
        return [say("grid", *ids, columns=float(columns))]
    if shape == "stack":
        return [say("stack", *ids)]
    if shape == "ring" and len(ids) > 2:
        # Nobody stands in the middle: the ring is one around each other's other side.
        return [say("facing", ids[k], ids[(k + len(ids) // 2) % len(ids)]) for k in range(len(ids))]
    if shape == "apart":
        return [say("apart", *ids, distance=gap or 1.0)]
    return []


def flank(subjects: Ids, host: str) -> list[Relation]:
    """By turns left and right of the host as it looks, close to it, the first two alike."""
    sides = ("left", "right")
    found: list[Relation] = []
    for n, s in enumerate(subjects):
        found += HABITS["say_flank"](sides[n % 2], s, host)
    if len(subjects) == 2:
        found.append(say("symmetry", *subjects, host, host=True))
    return found


def _paired(subjects: Ids, hosts: Ids) -> list[tuple[str, str]]:
    """Subjects to hosts in turn; all to the one, or one to each."""
    return [(s, hosts[n % len(hosts)]) for n, s in enumerate(subjects)]


def _each(habit: str, subjects: Ids, hosts: Ids) -> list[Relation]:
    return [r for s, h in _paired(subjects, hosts) for r in HABITS[habit](s, h)]


def _around(subjects: Ids, hosts: Ids) -> list[Relation]:
    each = -(-len(subjects) // len(hosts))
    return [
        r
        for n, host in enumerate(hosts)
        if subjects[n * each : (n + 1) * each]
        for r in HABITS["say_around"](subjects[n * each : (n + 1) * each], host)
    ]
