"""A room for a scene that is indoors and was given none: as large as its furniture asks for.

Walls count in the layout (``against-wall``, ``on-wall``, ``in-corner`` score nothing without them),
and people read a scene by them. A few things on a table are shown without: in a studio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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
PASSAGE = 0.8
"""Metres between rows, for those who go there and what else stands there."""


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
    blocks = _blocks(graph, sizes)
    across = max((width for width, _ in blocks), default=0.0)
    across = max(across, _spread(graph, sizes))
    width = max(LEAST, math.sqrt(area * ASPECT), longest + 1.0, across + 0.5)
    depth = max(LEAST, area / width, longest + 0.5, _stacked(blocks, width - 0.5) + 0.5)
    tall = max((height for *_, height in sizes.values()), default=0.0)
    room = Room(width=round(width, 1), depth=round(depth, 1), height=round(max(2.6, tall + 0.2), 1))
    return graph.model_copy(update={"room": room})


def _blocks(
    graph: SceneGraph, sizes: Mapping[str, tuple[float, float, float]]
) -> list[tuple[float, float]]:
    """Metres that each row and grid takes across the room and along it."""
    found = []
    for said in graph.relations:
        wide = max(sizes[a][0] for a in said.assets) + AIR
        deep = max(sizes[a][1] for a in said.assets) + AIR
        count = len(said.assets)
        if said.kind == "repetition" and said.options.get("axis") in ("x", "y"):
            beside = said.options["axis"] == "x"
            found.append((wide * count, deep) if beside else (wide, deep * count))
        elif said.kind == "grid":
            columns = int(said.options.get("columns", 0)) or math.ceil(math.sqrt(count))
            found.append((wide * columns, deep * math.ceil(count / columns)))
    return found


def _spread(graph: SceneGraph, sizes: Mapping[str, tuple[float, float, float]]) -> float:
    """Metres that two things take with the distance that was said of them."""
    options = {"distance": "metres", "apart": "distance"}
    said = [r for r in graph.relations if r.kind in options]
    return max(
        (
            float(r.options.get(options[r.kind], 0.0)) + sum(sizes[a][0] for a in r.assets[:2])
            for r in said
        ),
        default=0.0,
    )


def _stacked(blocks: Sequence[tuple[float, float]], width: float) -> float:
    """The depth that ``blocks`` take in a room of that width: deep ones first, side by side while
    they fit, the next ones behind."""
    total = used = deep = 0.0
    for wide, along in sorted(blocks, key=lambda block: -block[1]):
        if used + wide > width:
            total, used, deep = total + deep + PASSAGE, 0.0, 0.0
        used, deep = used + wide, max(deep, along)
    return total + deep


def _on_floor(graph: SceneGraph) -> list[str]:
    """The assets that stand on the floor."""
    up = {r.assets[0] for r in graph.relations if r.kind in ("on", "inside", "on-wall", "above")}
    up |= {a for r in graph.relations if r.kind == "stack" for a in r.assets[1:]}
    return [a.id for a in graph.assets if a.id not in up]
