"""Pictures of models whose catalogue has none, rendered once, for encoders of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import UserError
from common.home import cache
from scenes.assets.model import Model
from scenes.render.jobs import Measure, Render, Scene, Thing
from scenes.render.pool import Workers
from scenes.render.views import view

PIXELS = 192


def pictured(
    models: Sequence[Model],
    folder: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Model]:
    """The models, those without an icon with one from ``folder`` (of the cache by default).

    A model that Blender cannot show keeps none.
    """
    folder = folder or cache() / "previews"
    missing = [m for m in models if m.icon is None and not _path(folder, m).is_file()]
    if missing:
        with Workers() as workers:
            for done, model in enumerate(missing, 1):
                try:
                    _shoot(model, _path(folder, model), workers)
                except UserError:
                    # An index of the others is worth having; whoever uses this one is told.
                    continue
                finally:
                    if progress is not None:
                        progress(done, len(missing), "models pictured")
    return [
        m.model_copy(update={"icon": str(_path(folder, m))})
        if m.icon is None and _path(folder, m).is_file()
        else m
        for m in models
    ]


def _path(folder: Path, model: Model) -> Path:
    return folder / f"{model.digest}.png"


def _shoot(model: Model, path: Path, workers: Workers) -> None:
    size = model.size or workers.do(Measure(model=model.file)).size
    thing = Thing.model_validate(
        {"id": "model", "model": model.file, "rotation": model.rotation, "size": size}
    )
    scene = Scene(things=(thing,))
    camera = view(scene, "corner", 1.0)
    workers.do(
        Render(
            scene=scene, cameras=(camera,), paths=(path,), width=PIXELS, height=PIXELS, samples=8
        )
    )
