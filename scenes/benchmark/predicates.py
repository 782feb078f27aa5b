"""When a constraint holds: predicates over finished scenes, in metres and degrees.

None of the scores that the solver maximises (:mod:`scenes.relations`) is used here, so that the
judge that rewards is not the judge that evaluates. :data:`THRESHOLDS` says from where on something
holds; they are what a person would let pass, and were chosen before anything was measured.

Conventions are those of :mod:`scenes.graph`. A gap is the air between two footprints. Left, right,
in front and behind are the viewer's, who stands at -y.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scenes.benchmark.rectangles import Rectangle, gap, shared_area
from scenes.graph import Length, Room, Strict, Words

THRESHOLDS: Mapping[str, float] = {
    "beside": 0.6,  # metres of gap at most
    "near": 1.5,
    "far": 1.5,  # at least
    "around": 0.8,
    "flank": 0.8,
    "cone": 45.0,  # degrees to the side at most, beyond the host's own width
    "rest": 0.03,  # metres between an underside and what it rests on
    "looks": 30.0,  # degrees off at most
    "turned": 15.0,  # between two that are to look the same way, or at right angles
    "wall": 0.2,  # metres between a back and its wall
    "corner": 0.6,
    "middle": 0.2,  # share of half the room
    "line": 0.15,  # metres off a line
    "even": 0.25,  # share of a step by which steps may differ
    "lean": 0.15,  # metres between the middles of a stack
    "size": 0.1,  # share by which a length or a ratio may be off
    "ring": 1.75,  # largest angle between neighbours, in units of an even one
    "collision": 0.01,  # share of the smaller box inside the other
    "flat": 0.03,  # metres of height below which a thing may be stood on
}
Kind = Literal[
    "count", "size", "on", "under", "above", "left-of", "right-of", "in-front-of", "behind",
    "beside", "near", "far", "distance", "facing", "opposite", "around", "flank", "between", "row",
    "grid", "stack", "against-wall", "in-corner", "on-wall", "in-centre", "taller", "parallel",
    "perpendicular",
]  # fmt: skip
TOUCHING = ("on", "under", "stack")
"""Constraints whose objects' boxes may share space: a chair's box is not its seat."""


class Wanted(Strict):
    """Objects of one kind. The last word of ``name`` is what they are."""

    name: Words
    count: Annotated[int, Field(ge=1)] = 1
    width: Length | None = None
    height: Length | None = None


class Constraint(Strict):
    """What has to be so. ``subjects`` and ``hosts`` are names of objects, all of that name.

    With as many subjects as hosts, or a multiple, each host gets its share of them.
    """

    kind: Kind
    subjects: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    value: float | None = None
    """Metres of ``distance``, the ratio of ``taller``, the columns of ``grid``."""
    side: Literal["left", "right", "back"] | None = None
    """Which wall, or which corner."""

    def __str__(self) -> str:
        more = [str(v) for v in (self.side, self.value) if v is not None]
        return f"{self.kind}({'; '.join(filter(None, [*self.subjects, *self.hosts, *more]))})"


@dataclass(frozen=True)
class Item:
    """One object of a finished scene; ``heights`` are where things can stand on it, above it."""

    id: str
    what: str
    box: Rectangle
    bottom: float
    tall: float
    heights: tuple[float, ...] = ()
    modelled: bool = True
    """Whether a model stands for it, and not a plain block."""

    @property
    def top(self) -> float:
        return self.bottom + self.tall


def paired(
    subjects: Sequence[Item], hosts: Sequence[Item], holds: Callable[[Item, Item], bool]
) -> bool:
    """Whether each subject holds to a host, and where it comes out even, to one of its own."""
    if not subjects or not hosts:
        return False
    each = len(subjects) // len(hosts)
    if len(hosts) == 1 or len(subjects) % len(hosts):
        return all(any(holds(s, h) for h in hosts) for s in subjects)
    from scipy.optimize import linear_sum_assignment

    seats = [h for h in hosts for _ in range(each)]
    cost = np.array([[not holds(s, h) for h in seats] for s in subjects], dtype=float)
    rows, columns = linear_sum_assignment(cost)
    return not cost[rows, columns].any()


def shared_out(
    subjects: Sequence[Item], hosts: Sequence[Item], fits: Callable[[Item, Item], bool]
) -> list[tuple[Item, list[Item]]]:
    """Each host with its share of the subjects: those that fit it, and then the nearest."""
    if not hosts or len(subjects) % len(hosts):
        return []
    from scipy.optimize import linear_sum_assignment

    seats = [h for h in hosts for _ in range(len(subjects) // len(hosts))]
    cost = np.array([[gap(s.box, h.box) + 1e3 * (not fits(s, h)) for h in seats] for s in subjects])
    rows, columns = linear_sum_assignment(cost)
    return [
        (h, [subjects[r] for r, k in zip(rows, columns, strict=True) if seats[k] is h])
        for h in hosts
    ]


# Two objects


def _on(s: Item, h: Item, _: Constraint) -> bool:
    """Its middle over the host, its underside on a surface of it: a known one, or the top."""
    levels = [h.bottom + z for z in h.heights] + [h.top]
    rests = min(abs(s.bottom - z) for z in levels) <= THRESHOLDS["rest"]
    return rests and h.box.holds(s.box.middle)


def _under(s: Item, h: Item, _: Constraint) -> bool:
    """Below the host's top, sharing half of the smaller footprint with it."""
    common = shared_area(s.box, h.box) / min(s.box.area, h.box.area)
    low = s.top <= h.top and s.bottom <= h.bottom + THRESHOLDS["rest"]
    return low and common >= 0.5


def _above(s: Item, h: Item, _: Constraint) -> bool:
    return s.bottom >= h.top - THRESHOLDS["rest"] and h.box.holds(s.box.middle)


def _beyond(axis: int, sign: float) -> Callable[[Item, Item, Constraint], bool]:
    """The middle past the host's edge along an axis of the world, within the cone."""

    def holds(s: Item, h: Item, _: Constraint) -> bool:
        half = np.abs(h.box.corners() - h.box.middle).max(0)
        away = np.asarray(s.box.middle) - h.box.middle
        past = sign * away[axis] - half[axis]
        aside = abs(away[1 - axis]) - half[1 - axis]
        return bool(past > 0 and aside <= (past + half[axis]) * math.tan(_radians("cone")))

    return holds


def _close(name: str) -> Callable[[Item, Item, Constraint], bool]:
    """So much air between the footprints at most, and one not on the other."""

    def holds(s: Item, h: Item, _: Constraint) -> bool:
        level = min(s.top, h.top) - max(s.bottom, h.bottom) > 0
        return level and gap(s.box, h.box) <= THRESHOLDS[name]

    return holds


def _distance(s: Item, h: Item, c: Constraint) -> bool:
    """The gap as said, or a tenth and a hand's width off."""
    wanted = c.value or 0.0
    return abs(gap(s.box, h.box) - wanted) <= 0.15 + THRESHOLDS["size"] * wanted


def _looks(s: Item, h: Item, _: Constraint) -> bool:
    """Its forward vector meets the host, or misses its middle by few degrees."""
    return s.box.meets(h.box) or s.box.off(h.box.middle) <= _radians("looks")


def _turned(wanted: float) -> Callable[[Item, Item, Constraint], bool]:
    def holds(s: Item, h: Item, _: Constraint) -> bool:
        turn = (math.degrees(s.box.yaw - h.box.yaw) - wanted + 90) % 180 - 90
        return abs(turn) <= THRESHOLDS["turned"]

    return holds


def _taller(s: Item, h: Item, c: Constraint) -> bool:
    """The ratio of heights as said; without one, visibly taller."""
    ratio = s.tall / h.tall
    if c.value is None:
        return ratio > 1 + THRESHOLDS["size"] / 2
    return abs(ratio / c.value - 1) <= THRESHOLDS["size"]


PAIRS: Mapping[str, Callable[[Item, Item, Constraint], bool]] = {
    "on": _on,
    "under": _under,
    "above": _above,
    "left-of": _beyond(0, -1.0),
    "right-of": _beyond(0, 1.0),
    "in-front-of": _beyond(1, -1.0),
    "behind": _beyond(1, 1.0),
    "beside": _close("beside"),
    "near": _close("near"),
    "far": lambda s, h, _: gap(s.box, h.box) >= THRESHOLDS["far"],
    "distance": _distance,
    "facing": _looks,
    "opposite": lambda s, h, c: _looks(s, h, c) and _looks(h, s, c),
    "taller": _taller,
    "parallel": _turned(0.0),
    "perpendicular": _turned(90.0),
}


def between(s: Item, a: Item, b: Item) -> bool:
    """In the middle half of the way from one middle to the other, not far beside it."""
    start, way = np.asarray(a.box.middle), np.subtract(b.box.middle, a.box.middle)
    far = float(np.hypot(*way))
    away = np.asarray(s.box.middle) - start
    along = float(away @ way) / max(far, 1e-9) ** 2
    beside = abs(float(away[0] * way[1] - away[1] * way[0])) / max(far, 1e-9)
    return 0.25 <= along <= 0.75 and beside <= max(0.3, 0.25 * far)


# One host, and those that belong to it


def _at(s: Item, host: Item) -> bool:
    """Close to it and looking at it."""
    looks = s.box.meets(host.box) or s.box.off(host.box.middle) <= _radians("looks")
    return looks and gap(s.box, host.box) <= THRESHOLDS["around"]


def _at_side(s: Item, host: Item) -> bool:
    """Beyond its left or its right side, and close."""
    beyond = abs(host.box.local(s.box.middle)[0]) >= host.box.width / 2
    return beyond and gap(s.box, host.box) <= THRESHOLDS["flank"]


SEATED: Mapping[str, Callable[[Item, Item], bool]] = {"around": _at, "flank": _at_side}


def _around(mine: Sequence[Item], host: Item) -> bool:
    """All at it, and no wide side left empty; in the host's own proportions."""
    if not all(_at(s, host) for s in mine):
        return False
    if len(mine) < 3:
        return True
    local = [host.box.local(s.box.middle) for s in mine]
    angles = sorted(math.atan2(y / host.box.depth, x / host.box.width) for x, y in local)
    steps = np.diff([*angles, angles[0] + 2 * math.pi])
    return bool(max(steps) <= THRESHOLDS["ring"] * 2 * math.pi / len(mine))


def _flank(mine: Sequence[Item], host: Item) -> bool:
    """Half of them at its left side, half at its right."""
    sides = [host.box.local(s.box.middle)[0] for s in mine]
    even = abs(sum(x > 0 for x in sides) - len(sides) / 2) < 1
    return even and all(_at_side(s, host) for s in mine)


RINGS: Mapping[str, Callable[[Sequence[Item], Item], bool]] = {"around": _around, "flank": _flank}

# Groups


def _row(items: Sequence[Item], _: Constraint) -> bool:
    """On a line, at even steps, looking the same way."""
    points = np.array([i.box.middle for i in items])
    if not _alike(items):
        return False
    if len(items) < 3:
        return True
    centred = points - points.mean(0)
    axis = np.linalg.svd(centred)[2][0]
    along = np.sort(centred @ axis)
    off = np.abs(centred @ [-axis[1], axis[0]])
    return bool(off.max() <= THRESHOLDS["line"]) and _even(np.diff(along))


def _grid(items: Sequence[Item], c: Constraint) -> bool:
    """As many columns as said, each in a row: along x and y, at even steps, alike."""
    columns = int(c.value or math.ceil(math.sqrt(len(items))))
    rows = -(-len(items) // columns)
    xs, ys = (_levels([i.box.middle[a] for i in items]) for a in (0, 1))
    full = {len(xs), len(ys)} == {columns, rows} if columns != rows else len(xs) == len(ys) == rows
    return full and _alike(items) and _even(np.diff(xs)) and _even(np.diff(ys))


def _levels(values: Sequence[float]) -> list[float]:
    """The means of values that lie within a hand of one another, sorted."""
    found: list[list[float]] = []
    for value in sorted(values):
        if found and value - found[-1][0] <= 2 * THRESHOLDS["line"]:
            found[-1].append(value)
        else:
            found.append([value])
    return [sum(group) / len(group) for group in found]


def _even(steps: NDArray[np.float64]) -> bool:
    if not len(steps):
        return True
    return bool(np.abs(steps - steps.mean()).max() <= THRESHOLDS["even"] * abs(steps.mean()))


def _alike(items: Sequence[Item]) -> bool:
    turns = [math.degrees(i.box.yaw - items[0].box.yaw) for i in items]
    return all(abs((t + 180) % 360 - 180) <= THRESHOLDS["turned"] for t in turns)


def _stack(items: Sequence[Item], _: Constraint) -> bool:
    """Each on the one below it, their middles in one line."""
    order = sorted(items, key=lambda i: i.bottom)
    pairs = list(itertools.pairwise(order))
    rests = all(
        min(abs(up.bottom - z) for z in (low.top, *(low.bottom + z for z in low.heights)))
        <= THRESHOLDS["rest"]
        for low, up in pairs
    )
    lean = [math.dist(low.box.middle, up.box.middle) for low, up in pairs]
    return rests and max(lean, default=0.0) <= THRESHOLDS["lean"]


GROUPS: Mapping[str, Callable[[Sequence[Item], Constraint], bool]] = {
    "row": _row,
    "grid": _grid,
    "stack": _stack,
}

# Rooms


def _walls(i: Item, room: Room) -> dict[str, tuple[float, float]]:
    """By wall: metres from the box to it, and degrees that the front is off looking away."""
    corners = i.box.corners()
    out = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "back": (0.0, 1.0)}
    found = {}
    for name, way in out.items():
        limit = room.width / 2 if way[0] else room.depth / 2
        air = limit - float((corners @ np.array(way)).max())
        forward = i.box.forward
        found[name] = (abs(air), math.degrees(math.acos(max(-1.0, min(1.0, -(
            forward[0] * way[0] + forward[1] * way[1]))))))  # fmt: skip
    return found


def _against_wall(i: Item, room: Room, c: Constraint) -> bool:
    walls = _walls(i, room)
    return any(
        air <= THRESHOLDS["wall"] and turn <= THRESHOLDS["looks"]
        for name, (air, turn) in walls.items()
        if c.side in (None, name)
    )


def _on_wall(i: Item, room: Room, c: Constraint) -> bool:
    return i.bottom >= 0.5 and _against_wall(i, room, c)


def _in_corner(i: Item, room: Room, c: Constraint) -> bool:
    walls = _walls(i, room)
    sides = [walls[side][0] for side in ("left", "right") if c.side in (None, side)]
    return min(sides) <= THRESHOLDS["corner"] and walls["back"][0] <= THRESHOLDS["corner"]


def _in_centre(i: Item, room: Room, _: Constraint) -> bool:
    x, y = i.box.middle
    return math.hypot(2 * x / room.width, 2 * y / room.depth) <= THRESHOLDS["middle"]


PLACES: Mapping[str, Callable[[Item, Room, Constraint], bool]] = {
    "against-wall": _against_wall,
    "on-wall": _on_wall,
    "in-corner": _in_corner,
    "in-centre": _in_centre,
}


def _radians(name: str) -> float:
    return math.radians(THRESHOLDS[name])
