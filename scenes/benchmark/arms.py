"""The ablation: the full system, the system without each of its parts, and none of it.

SceneCraft removes its parts one after the other (arXiv 2403.01248, table 1): the learned library,
the inner loop, the relation graph; its baseline writes one script (BlenderGPT). Here each part is
removed from the full system by itself, so that each costs what it costs.

| arm | what it is |
|---|---|
| full | plan, dress, solve, look, revise, with the library |
| no-library | the same with relations and distances as the paper published them |
| no-inner-loop | the first draft counts |
| no-graph | the things that were planned, and nothing said of how they lie to one another |
| one-shot | the same things in rows, as a script would put them that nobody looks at |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from common.errors import UserError
from common.records import identity
from scenes.assets.index import Index
from scenes.benchmark.judge import Verdict, judge
from scenes.benchmark.predicates import Item
from scenes.benchmark.queries import Query
from scenes.benchmark.rectangles import Rectangle
from scenes.craft import CraftConfig, craft
from scenes.critics import Staged
from scenes.dress import Dressed, dress
from scenes.graph import Placement, SceneGraph, Surface
from scenes.layout import SolverConfig, score
from scenes.layout.solve import Solution
from scenes.planners import Planner
from scenes.render.views import view
from scenes.shoot import shown

Arm = Literal["full", "no-library", "no-inner-loop", "no-graph", "one-shot"]
ARMS: tuple[Arm, ...] = ("full", "no-library", "no-inner-loop", "no-graph", "one-shot")
GAP = 0.3
"""Metres between the things of the one-shot script."""


@dataclass(frozen=True)
class Answer:
    """What an arm made of a query. ``staged`` is None where the planner refused the text."""

    verdict: Verdict
    staged: Staged | None
    seconds: float
    refused: str = ""


@dataclass
class Bench:
    """What answers queries. Texts of one plan are laid out once.

    The relations that are registered count: a library in use is the caller's matter, and so is a
    bench for each.
    """

    index: Index
    planner: Planner
    seed: int = 0
    solver: SolverConfig = field(default_factory=SolverConfig)
    _made: dict[str, tuple[Staged, float]] = field(default_factory=dict)

    def answer(self, query: Query, arm: Arm) -> Answer:
        """Make a scene of a query as an arm does, and judge it."""
        try:
            graph = self.planner.plan(query.text).graph
        except UserError as error:
            nothing = judge(query.objects, query.constraints, [])
            return Answer(nothing, None, 0.0, error.message)
        graph = graph.model_copy(update={"text": ""})
        if arm in ("no-graph", "one-shot"):
            graph = graph.model_copy(update={"relations": ()})
        key = f"{arm} {query.scene} {graph.dump()}"
        if key not in self._made:
            self._made[key] = self._stage(graph, arm, query.scene)
        staged, seconds = self._made[key]
        room = staged.dressed.graph.room
        found = judge(query.objects, query.constraints, items(staged), room)
        return Answer(found, staged, seconds)

    def _stage(self, graph: SceneGraph, arm: Arm, scene: str) -> tuple[Staged, float]:
        if arm == "one-shot":
            return _scripted(graph, self.index), 0.0
        seed = int(identity("evaluate", self.seed, scene), 16) % 2**31
        steps = 1 if arm == "no-inner-loop" else CraftConfig.steps
        made = craft(
            graph, self.index, config=CraftConfig(steps=steps, seed=seed, solver=self.solver)
        )
        return made.best.staged, made.seconds


def items(staged: Staged) -> list[Item]:
    """What stands in a scene, as the judge looks at it."""
    dressed, layout = staged.dressed, staged.solution.layout
    return [
        _item(a.id, a.what, layout[a.id], dressed.surfaces.get(a.id, ()), a.id in dressed.models)
        for a in dressed.graph.assets
        if a.id in layout
    ]


def _item(
    name: str, what: str, place: Placement, surfaces: tuple[Surface, ...], modelled: bool
) -> Item:
    x, y, z = place.location
    width, depth, tall = place.size
    heights = tuple(s.z * place.scale for s in surfaces)
    return Item(name, what, Rectangle((x, y), place.yaw, width, depth), z, tall, heights, modelled)


def _scripted(graph: SceneGraph, index: Index) -> Staged:
    """Everything on the floor, in rows from left to right, looking at the viewer."""
    dressed: Dressed = dress(graph, index)
    area = sum(w * d for w, d, _ in dressed.sizes.values())
    wide = max(2.0, 2 * math.sqrt(area))
    layout: dict[str, Placement] = {}
    x = y = deep = 0.0
    for asset in graph.assets:
        width, depth, tall = dressed.sizes[asset.id]
        if x > 0 and x + width > wide:
            x, y, deep = 0.0, y + deep + GAP, 0.0
        layout[asset.id] = Placement(
            location=(x + width / 2 - wide / 2, y + depth / 2, 0.0),
            yaw=0.0, scale=1.0, size=(width, depth, tall),
        )  # fmt: skip
        x, deep = x + width + GAP, max(deep, depth)
    solution = Solution(layout, score(graph, layout, dressed.surfaces), (), (), 0.0)
    scene = shown(dressed, solution)
    camera = view(scene, "front", 4 / 3)
    return Staged(text=graph.text, dressed=dressed, solution=solution, scene=scene, camera=camera)
