"""What rests on what, and on which of its surfaces: decided once, before anything is moved."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from common.errors import UserError
from scenes.graph import Surface

if TYPE_CHECKING:
    from scenes.layout.problem import Problem, Support

FULL = 0.4
"""The share of a surface from which it is full: things have to be set beside one another."""
OVERHANG = 0.5
"""The share of its half width by which a thing may then reach beyond an edge."""
HANG = 0.5
"""Metres over what it hangs above, where there is no ceiling."""


def supports(problem: Problem) -> list[Support]:
    """The support of each asset, in order.

    ``on``, ``inside`` and ``stack`` rest on an asset; ``on-wall`` and ``above`` give a height, and
    so does what hangs by itself. The first relation that says so counts.

    Raises:
        UserError: assets rest on one another in a circle.
    """
    from scenes.layout.problem import Support

    index, sizes = problem.index, problem.sizes
    host: dict[int, tuple[int, str]] = {}
    height: dict[int, float] = {}
    for said in problem.graph.relations:
        members = [index[a] for a in said.assets]
        if said.kind in ("on", "inside"):
            host.setdefault(members[0], (members[1], said.kind))
        elif said.kind == "stack":
            for below, above in pairwise(members):
                host.setdefault(above, (below, "stack"))
        elif said.kind == "on-wall":
            wanted = float(said.options.get("height", 1.5)) - sizes[members[0]][2] / 2
            top = problem.room.height - sizes[members[0]][2] if problem.room else wanted
            height.setdefault(members[0], max(0.0, min(wanted, top)))
    for name in problem.ids:
        _no_circle(name, problem, {i: h for i, (h, _) in host.items()})
    for said in problem.graph.relations:
        if said.kind == "above" and (i := index[said.assets[0]]) not in host:
            over = _top(index[said.assets[1]], problem, host)
            ceiling = problem.room.height - sizes[i][2] if problem.room else over + HANG
            height[i] = max(over + 0.05, height.get(i, ceiling))
    for name, lift in problem.lifts.items():
        top = problem.room.height - sizes[index[name]][2] if problem.room else lift
        height.setdefault(index[name], max(0.0, min(lift, top)))
    load: dict[tuple[int, int], float] = {}
    found = []
    for i in range(problem.count):
        if i in host:
            on, how = host[i]
            found.append(_resting(problem, i, on, how, load))
        else:
            found.append(Support(-1, z=height.get(i, 0.0)))
    return _spilling(problem, found)


def _resting(
    problem: Problem, i: int, on: int, how: str, load: dict[tuple[int, int], float]
) -> Support:
    """The surface with the most room left that asset ``i`` fits on, else the largest."""
    from scenes.layout.problem import Support

    width, depth, tall = problem.sizes[i]
    w, d, h = problem.sizes[on]
    floor = Surface(x=(-w / 2, w / 2), y=(-d / 2, d / 2), z=min(0.02, h))
    top = floor.model_copy(update={"z": h})
    offers = list(problem.offers[on])
    if how == "stack":  # on top of what may itself be open
        offers = [top]
    elif how == "inside":
        offers = [s for s in offers if s.clearance is not None] or [floor]
    else:
        offers = offers or [top]

    def room(n: int) -> float:
        s = offers[n]
        return (s.x[1] - s.x[0]) * (s.y[1] - s.y[0]) - load.get((on, n), 0.0)

    def fits(n: int) -> bool:
        s = offers[n]
        wide, deep = s.x[1] - s.x[0], s.y[1] - s.y[0]
        flat = min(width, depth) <= min(wide, deep) and max(width, depth) <= max(wide, deep)
        return flat and (s.clearance is None or tall <= s.clearance)

    chosen = max(range(len(offers)), key=lambda n: (fits(n), room(n), offers[n].z))
    load[on, chosen] = load.get((on, chosen), 0.0) + 1.3 * width * depth
    s = offers[chosen]
    return Support(on, s.x, s.y, s.z)


def _spilling(problem: Problem, found: list[Support]) -> list[Support]:
    """Where a surface is full, what stands on it may reach beyond its edges."""
    load: dict[Support, float] = {}
    for i, s in enumerate(found):
        load[s] = load.get(s, 0.0) + problem.sizes[i][0] * problem.sizes[i][1]
    return [
        replace(s, overhang=OVERHANG)
        if s.host >= 0 and load[s] > FULL * (s.x[1] - s.x[0]) * (s.y[1] - s.y[0])
        else s
        for s in found
    ]


def _no_circle(name: str, problem: Problem, host: dict[int, int]) -> None:
    seen = [problem.index[name]]
    while seen[-1] in host:
        seen.append(host[seen[-1]])
        if seen[-1] in seen[:-1]:
            names = " on ".join(problem.ids[i] for i in seen)
            raise UserError(f"assets rest on one another in a circle: {names}", "drop a relation")


def _top(i: int, problem: Problem, host: dict[int, tuple[int, str]]) -> float:
    """Height of an asset's top if everything below it is as tall as its box."""
    below = host.get(i)
    return problem.sizes[i][2] + (_top(below[0], problem, host) if below else 0.0)
