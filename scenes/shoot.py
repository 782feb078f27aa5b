"""One state of a scene, from its graph to its picture: dress, solve, look, shoot.

Without Blender workers a state has no sights and no picture, and surfaces are those that the index
knows already: that is enough for the constraint score, at some hundred milliseconds a scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from common.errors import UserError
from scenes.assets.index import Index
from scenes.assets.model import Model, attribution
from scenes.critics import Shot, Staged
from scenes.dress import Dressed, Looks, Size, dress
from scenes.graph import SceneGraph, Surface
from scenes.layout import Solution, SolverConfig, solve
from scenes.render.jobs import Export, Look, Matrix, Measure, Render, Scene, Sight, Thing
from scenes.render.pool import RenderError, Workers
from scenes.render.views import View, view
from scenes.rooms import housed


@dataclass(frozen=True)
class State:
    """What fully says a scene, given the models of the index."""

    graph: SceneGraph
    seed: int = 0
    view: View = "front"


@dataclass(frozen=True)
class Studio:
    """What states are made with. ``aspect`` is width over height of the pictures."""

    index: Index
    workers: Workers | None = None
    looks: Looks | None = None
    solver: SolverConfig = field(default_factory=SolverConfig)
    aspect: float = 4 / 3

    def stage(
        self,
        state: State,
        asked: SceneGraph | None = None,
        before: Staged | None = None,
        text: str = "",
    ) -> Staged:
        """``state`` dressed, laid out, and looked at.

        ``asked`` is what the score is taken by, the state's own graph by default. Where nothing but
        the view differs from ``before``, its layout stays.

        Raises:
            UserError: as :func:`~scenes.dress.dress` and :func:`~scenes.layout.solve` do, or a
                model that cannot be read.
        """
        dressed: Dressed
        solution: Solution
        if before is not None and (before.dressed.graph, before.seed) == (state.graph, state.seed):
            dressed, solution = before.dressed, before.solution
        else:
            measure = self._measure if self.workers is not None else None
            dressed = dress(state.graph, self.index, measure, self.looks)
            dressed = replace(dressed, graph=housed(dressed.graph, dressed.sizes, dressed.lifts))
            solution = solve(
                dressed.graph,
                dressed.sizes,
                dressed.surfaces,
                lifts=dressed.lifts,
                seed=state.seed,
                config=self.solver,
            )
        scene = shown(dressed, solution)
        camera = view(scene, state.view, self.aspect)
        sights: tuple[Sight, ...] = ()
        if self.workers is not None:
            sights = self.workers.do(Look(scene=scene, camera=camera)).sights
        return Staged(
            text=text or state.graph.text,
            asked=asked or dressed.graph,
            dressed=dressed,
            solution=solution,
            scene=scene,
            camera=camera,
            sights=sights,
            seed=state.seed,
            view=state.view,
        )

    def shoot(self, staged: Staged, path: Path, width: int, height: int, samples: int) -> Shot:
        """``staged`` with its picture at ``path``."""
        assert self.workers is not None
        made = self.workers.do(
            Render(
                scene=staged.scene,
                cameras=(staged.camera,),
                paths=(path,),
                width=width,
                height=height,
                samples=samples,
            )
        )
        return Shot(**vars(staged), picture=path, notes=made.notes)

    def export(self, staged: Staged, blend: Path, glb: Path) -> None:
        """The scene's files."""
        assert self.workers is not None
        self.workers.do(Export(scene=staged.scene, camera=staged.camera, blend=blend, glb=glb))

    def _measure(
        self, models: Sequence[Model]
    ) -> Mapping[str, tuple[Size, Sequence[Surface]] | str]:
        assert self.workers is not None
        found: dict[str, tuple[Size, Sequence[Surface]] | str] = {}
        for model in models:
            job = Measure(model=model.file, rotation=turned(model), size=model.size)
            try:
                told = self.workers.do(job)
                found[model.id] = (told.size, told.surfaces)
            except RenderError as error:
                found[model.id] = error.message
            except UserError as error:
                if not model.file.exists():
                    raise
                found[model.id] = error.message
        return found


def shown(dressed: Dressed, solution: Solution) -> Scene:
    """What Blender is to show."""
    things = []
    for asset in dressed.graph.assets:
        place, model = solution.layout[asset.id], dressed.models.get(asset.id)
        things.append(
            Thing(
                id=asset.id,
                size=place.size,
                location=place.location,
                yaw=place.yaw,
                model=model.file if model else None,
                rotation=turned(model) if model else None,
            )
        )
    return Scene(
        things=tuple(things),
        room=dressed.graph.room,
        outdoors=dressed.graph.outdoors,
        notes=attribution(dressed.models.values()),
    )


def turned(model: Model) -> Matrix | None:
    """The catalogue's rotation, whose nine numbers :class:`~scenes.render.jobs.Thing` checks."""
    return cast("Matrix | None", model.rotation)
