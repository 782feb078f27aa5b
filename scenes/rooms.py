"""A room for a scene that is indoors and was given none: as large as its furniture asks for.

Walls count in the layout (``against-wall``, ``on-wall``, ``in-corner`` score nothing without them),
and people read a scene by them. A few things on a table are shown without: in a studio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scenes.graph import Room, SceneGraph

WALLED = frozenset({"against-wall", "on-wall", "in-corner", "in-centre"})
FURNISHED = 3
"""So many things on the floor make a room."""
FILLED = 0.3
"""The share of a room's floor that furniture takes."""
ASPECT = 1.3
"""Width over depth: the viewer looks along the depth."""
LEAST = 3.0
AIR = 0.3
"""Metres between the things of a row."""


def housed(
    graph: SceneGraph,
    sizes: Mapping[str, tuple[float, float, float]],
    lifts: Mapping[str, float] | None = None,
) -> SceneGraph:
    """``graph`` with a room, if it is indoors, needs walls or has furniture, and has none."""
    if graph.room is not None or graph.outdoors:
        return graph
    floor = [sizes[a] for a in _on_floor(graph)]
    walled = bool(lifts) or any(r.kind in WALLED for r in graph.relations)
    if not walled and len(floor) < FURNISHED:
        return graph
    area = sum(width * depth for width, depth, _ in floor) / FILLED
    longest = max((max(width, depth) for width, depth, _ in floor), default=0.0)
    across, along = _rows(graph, sizes)
    width = max(LEAST, math.sqrt(area * ASPECT), longest + 1.0, across + 0.5)
    depth = max(LEAST, area / width, longest + 0.5, along + 0.5)
    tall = max((height for *_, height in sizes.values()), default=0.0)
    room = Room(width=round(width, 1), depth=round(depth, 1), height=round(max(2.6, tall + 0.2), 1))
    return graph.model_copy(update={"room": room})


def _rows(
    graph: SceneGraph, sizes: Mapping[str, tuple[float, float, float]]
) -> tuple[float, float]:
    """Metres that the longest rows and grids take across the room and along it."""
    across = along = 0.0
    for said in graph.relations:
        wide = max(sizes[a][0] for a in said.assets) + AIR
        deep = max(sizes[a][1] for a in said.assets) + AIR
        count = len(said.assets)
        if said.kind == "repetition" and said.options.get("axis") in ("x", "y"):
            side_by_side = said.options["axis"] == "x"
            across = max(across, wide * count if side_by_side else 0.0)
            along = max(along, 0.0 if side_by_side else deep * count)
        elif said.kind == "grid":
            columns = int(said.options.get("columns", 0)) or math.ceil(math.sqrt(count))
            across = max(across, wide * columns)
            along = max(along, deep * math.ceil(count / columns))
    return across, along


def _on_floor(graph: SceneGraph) -> list[str]:
    """The assets that stand on the floor."""
    up = {r.assets[0] for r in graph.relations if r.kind in ("on", "inside", "on-wall", "above")}
    up |= {a for r in graph.relations if r.kind == "stack" for a in r.assets[1:]}
    return [a.id for a in graph.assets if a.id not in up]
