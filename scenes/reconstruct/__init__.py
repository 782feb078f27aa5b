"""Reconstruction: a picture, or frames of one scene, instead of a sentence.

    upspiral scenes reconstruct frame.png --out room/

SceneCraft's experiment on Sintel takes frames for a brief (arXiv 2403.01248, section 4) and says
little of how. Here, analysis by synthesis, without any model that was trained for it:

1. what stands out from the background is taken apart into pieces (``foreground``, ``match``);
2. each piece is compared with 144 views of every model of the index: outline, proportions, colours,
   and, where the index holds pictures, an image encoder's cosine (``shapes``, ``match``);
3. the camera is the one under which all pieces are explained by models of their catalogue's size;
4. model, place, yaw, scale, what stands on what, and the camera are searched so that projected
   points agree with the picture in outline and colour (``fit``, ``explain``);
5. Blender looks at the result with rays, and renders it beside the picture.

What it takes for granted: a level camera; things that stand on the floor or on one another, lie
wholly in the picture and are in the index; a background that is plain enough. How far it gets is
measured by ``studies/reconstruct.py`` (docs/lab-notes.md).
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from scenes.assets.index import ImageEncoder, Index
from scenes.assets.model import Model
from scenes.assets.search import SURE, search, search_image
from scenes.dress import Dressed, scaled
from scenes.graph import Asset, Placement, Relation, SceneGraph
from scenes.layout import Solution, score
from scenes.reconstruct.explain import Search, SearchConfig
from scenes.reconstruct.fit import Fit, Fitter
from scenes.reconstruct.foreground import Picture, read
from scenes.reconstruct.frames import Film, filmed
from scenes.reconstruct.match import Floats, Piece, camera_of, cut_out
from scenes.reconstruct.shapes import Shapes, library
from scenes.render.jobs import Camera, Look, Scene
from scenes.render.pool import Workers
from scenes.render.views import triple
from scenes.shoot import shown

Progress = Callable[[int, int, str], None]
LOOKS = 0.3
"""What a cosine of one more is worth beside the agreement of outlines."""


@dataclass(frozen=True)
class Reconstructed:
    """The scene of the pictures, a camera a picture, and how well they agree."""

    pictures: tuple[Picture, ...]
    scene: Scene
    cameras: tuple[Camera, ...]
    graph: SceneGraph
    dressed: Dressed
    solution: Solution
    silhouettes: tuple[float, ...]
    """Intersection over union of the things, as Blender's rays see them, a picture each."""
    agreement: float
    """Of outlines and colours, as the search saw it, 1 at most."""


def reconstruct(
    frames: Sequence[Path],
    index: Index,
    workers: Workers,
    *,
    names: Sequence[str] = (),
    categories: Sequence[str] = (),
    mask: Path | None = None,
    encoder: ImageEncoder | None = None,
    config: SearchConfig | None = None,
    progress: Progress | None = None,
) -> Reconstructed:
    """The scene that ``frames`` show.

    Args:
        frames: pictures of one scene; the layout is found in the first and has to explain all.
        names: what stands there, one entry a thing, if it is known.
        categories: only models of these categories of the catalogue.
        mask: what of the first frame is which thing, a plain colour each, black for none.
        encoder: an encoder that the index's pictures were embedded with.

    Raises:
        UserError: a picture that cannot be read or shows only background; names or categories that
            no model has; no models at all.
    """
    pictures = [read(path) for path in frames]
    given = None
    if mask is not None:
        given = cut_out(mask, pictures[0])
        things = np.any([piece.mask for piece in given], axis=0) * 1.0
        pictures[0] = replace(pictures[0], things=things)
    shapes = library(index, workers, progress=progress)
    if not shapes.models:
        raise UserError("no models to reconstruct from", "upspiral scenes index")
    allowed = _allowed(index, shapes, names, categories)
    first = pictures[0]

    def bonus(piece: Piece) -> Floats:
        assert encoder is not None
        return _looks(index, encoder, first, piece, shapes)

    seen = bonus if encoder is not None and index.all("image")[0] else None
    config = config or SearchConfig()
    found = Search(first, shapes, config, seen, len(names) or None, allowed, given)
    fit, fitter = found.run(progress)
    film = filmed(fit, fitter, pictures[1:], shapes, config, progress)
    return _delivered(film, pictures, shapes, workers)


def _allowed(
    index: Index, shapes: Shapes, names: Sequence[str], categories: Sequence[str]
) -> NDArray[np.bool_] | None:
    """Which models may be used (M,), None for all."""
    found = None
    if categories:
        wanted = {c.strip().lower() for c in categories}
        known = {m.category.lower() for m in shapes.models}
        if wanted - known:
            raise UserError(
                f"no model has the category {min(wanted - known)!r}",
                f"use of {', '.join(sorted(c for c in known if c))}",
            )
        found = np.array([m.category.lower() in wanted for m in shapes.models])
    if names:
        ids: set[str] = set()
        for name in dict.fromkeys(names):
            hits = [h.model.id for h in search(index, name, k=40) if h.score >= SURE]
            if not set(hits) & shapes.number.keys():
                raise UserError(f"no model is a {name}", "leave it out; see upspiral scenes search")
            ids.update(hits)
        named = np.array([m.id in ids for m in shapes.models])
        found = named if found is None else found & named
    if found is not None and not found.any():
        raise UserError("no model has those names and categories", "leave out --categories")
    return found


def _looks(
    index: Index, encoder: ImageEncoder, picture: Picture, piece: Piece, shapes: Shapes
) -> Floats:
    """What an image encoder says for each model (M,), of a piece cut out on plain grey."""
    from PIL import Image

    with Image.open(picture.path) as opened:
        whole = opened.convert("RGB")
    mask = Image.fromarray((piece.mask * 255).astype(np.uint8)).resize(whole.size)
    ground = Image.new("RGB", whole.size, (200, 200, 200))
    across, down = whole.size[0] / piece.mask.shape[1], whole.size[1] / piece.mask.shape[0]
    left, top, right, bottom = piece.box
    box = (left * across, top * down, right * across, bottom * down)
    cut = Image.composite(whole, ground, mask).crop(box)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.png"
        cut.save(path)
        hits = search_image(index, encoder, path, k=len(shapes.models) * 2)
    cosine = {hit.model.id: hit.score for hit in hits}
    best = max(cosine.values(), default=0.0)
    return np.array([LOOKS * (cosine.get(m.id, 0.0) - best) for m in shapes.models], np.float32)


def world(fit: Fit, fitter: Fitter) -> tuple[list[Placement], Camera]:
    """Places around the origin, and the camera there."""
    placed = fitter.place(fit.view, fit.things)
    middle = np.mean([p[:2] for p in placed], axis=0)
    places = []
    for thing, (x, y, z, scale) in zip(fit.things, placed, strict=True):
        size = fitter.shapes.models[thing.model].size
        assert size is not None
        places.append(
            Placement(
                location=(round(x - middle[0], 5), round(y - middle[1], 5), round(z, 5)),
                yaw=round(math.remainder(thing.yaw, 2 * math.pi), 5),
                scale=round(scale, 5),
                size=(
                    round(size[0] * scale, 5),
                    round(size[1] * scale, 5),
                    round(size[2] * scale, 5),
                ),
            )
        )
    return places, camera_of(fit.view, -float(middle[0]), -float(middle[1]))


def _delivered(
    film: Film, pictures: Sequence[Picture], shapes: Shapes, workers: Workers
) -> Reconstructed:
    """The graph, the scene, and what Blender sees of it."""
    places, camera = world(film.fit, film.fitter)
    models = [shapes.models[thing.model] for thing in film.fit.things]
    ids = _ids(models)
    layout = dict(zip(ids, places, strict=True))
    graph = SceneGraph(
        text=f"What {pictures[0].path.name} shows.",
        assets=tuple(
            Asset(id=i, what=_words(m), width=p.size[0], depth=p.size[1], height=p.size[2],
                  model=m.id)
            for i, m, p in zip(ids, models, places, strict=True)
        ),
        relations=tuple(
            Relation(kind="on", assets=(ids[n], ids[thing.on]))
            for n, thing in enumerate(film.fit.things) if thing.on is not None
        ),
    )  # fmt: skip
    sizes = {i: p.size for i, p in layout.items()}
    surfaces = {i: scaled(m, sizes[i]) for i, m in zip(ids, models, strict=True)}
    dressed = Dressed(graph, dict(zip(ids, models, strict=True)), sizes, surfaces, {})
    solution = Solution(layout, score(graph, layout, surfaces), (), (), 0.0)
    scene = shown(dressed, solution)
    location = np.array(camera.location)
    cameras = (camera, *(each.model_copy(update={
        "location": triple(np.array(each.location) + location * (1, 1, 0)),
        "target": triple(np.array(each.target) + location * (1, 1, 0)),
    }) for each in film.cameras))  # fmt: skip
    silhouettes = tuple(
        silhouette(workers, scene, c, picture) for c, picture in zip(cameras, pictures, strict=True)
    )
    return Reconstructed(
        tuple(pictures), scene, cameras, graph, dressed, solution, silhouettes, film.fit.score
    )


def silhouette(workers: Workers, scene: Scene, camera: Camera, picture: Picture) -> float:
    """Intersection over union of the picture's things and the scene's, by Blender's rays."""
    from PIL import Image

    height, width = picture.mask.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        workers.do(Look(scene=scene, camera=camera, width=width, height=height, mask=path))
        seen = np.asarray(Image.open(path)) > 0
    either = int((seen | picture.mask).sum())
    return int((seen & picture.mask).sum()) / either if either else 1.0


def _words(model: Model) -> str:
    return " ".join(model.name.lower().split()) or model.id


def _ids(models: Sequence[Model]) -> list[str]:
    """A name an asset: the model's own, numbered where there are several."""
    names = [re.sub(r"[^a-z0-9]+", "-", m.name.lower()).strip("-")[:50] or "thing" for m in models]
    counts: Mapping[str, int] = {n: names.count(n) for n in names}
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
    return found
