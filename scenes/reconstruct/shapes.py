"""The shapes of the index's models as points, and what they look like from all around.

A *view* is a model seen from one side and height without perspective: the outline in its tight box
on a grid of :data:`GRID` cells, the colours on a coarser one, and how much wider than high it is.
Comparing a piece of a picture with every view of every model is one product of matrices, so that a
look through 820 models from 144 sides takes a fraction of a second. Points come from a render
worker once a model (:class:`~scenes.render.jobs.Sample`) and are kept in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from common.home import cache
from common.records import identity
from scenes.assets.index import Index
from scenes.assets.model import Model
from scenes.reconstruct.foreground import to_lab
from scenes.render.jobs import Sample
from scenes.render.pool import Workers
from scenes.shoot import turned

Progress = Callable[[int, int, str], None]
Floats = NDArray[np.float32]
POINTS = 3072
GRID = 20
COARSE = 5
"""Cells of the grid of colours."""
YAWS = 24
ELEVATIONS = (2.0, 12.0, 22.0, 33.0, 45.0, 60.0)
"""Degrees above the horizon."""


@dataclass(frozen=True)
class Shapes:
    """Models with their points: ``points`` (M, P, 3) in metres at yaw 0 at the catalogue's size,
    ``lab`` (M, P, 3) their colours."""

    models: tuple[Model, ...]
    points: Floats
    lab: Floats

    @cached_property
    def number(self) -> dict[str, int]:
        """Places of the models by id."""
        return {model.id: n for n, model in enumerate(self.models)}

    @cached_property
    def views(self) -> Views:
        """The views of all models, made once and kept in the cache."""
        name = identity(GRID, COARSE, YAWS, ELEVATIONS, [m.digest for m in self.models],
                        [m.size for m in self.models])  # fmt: skip
        path = cache() / "shapes" / f"views-{name}.npz"
        if path.exists():
            with np.load(path) as kept:
                return Views(*(kept[each] for each in ("outline", "lab", "ratio", "tall")))
        parts = [views(p, c) for p, c in zip(self.points, self.lab, strict=True)]
        made = Views(*(np.stack(part) for part in zip(*parts, strict=True)))
        part = path.with_name(f".{path.name}")
        with part.open("wb") as file:
            np.savez(file, **vars(made))
        part.replace(path)
        return made


@dataclass(frozen=True)
class Views:
    """Of M models from E heights and Y sides: ``outline`` (M, E, Y, GRID * GRID / 8) in bits,
    ``lab`` (M, E, Y, COARSE * COARSE, 3), ``ratio`` (M, E, Y), the logarithm of width over height,
    and ``tall`` (M, E, Y), how many metres high the view is."""

    outline: NDArray[np.uint8]
    lab: NDArray[np.int8]
    ratio: Floats
    tall: Floats


def library(
    index: Index,
    workers: Workers,
    wanted: Callable[[Model], bool] | None = None,
    progress: Progress | None = None,
) -> Shapes:
    """The shapes of the models of ``index`` that are ``wanted`` and can be read.

    Doors, windows and what hangs are left out: only things that stand are looked for.
    """
    models = [
        m for m in index.all()[0]
        if m.size is not None and not m.fixed and not m.elevation
        and (wanted is None or wanted(m))
    ]  # fmt: skip
    folder = cache() / "shapes"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{identity(POINTS, m.digest, m.size, m.rotation)}.npz" for m in models]
    missing = [(m, p) for m, p in zip(models, paths, strict=True) if not p.exists()]
    jobs = [
        Sample(model=m.file, path=p, rotation=turned(m), size=m.size, count=POINTS)
        for m, p in missing
    ]
    futures = [workers.submit(job) for job in jobs]
    for done, ((model, _), future) in enumerate(zip(missing, futures, strict=True), 1):
        try:
            future.result()
        except UserError as error:
            index.broken(model.id, error.message)
        if progress is not None:
            progress(done, len(jobs), "models looked at")
    there = [(m, p) for m, p in zip(models, paths, strict=True) if p.exists()]
    return read([m for m, _ in there], [p for _, p in there])


def read(models: Sequence[Model], paths: Sequence[Path]) -> Shapes:
    """The points that lie in ``paths``, scaled to the models' sizes."""
    points, lab = [], []
    for model, path in zip(models, paths, strict=True):
        with np.load(path) as kept:
            size = np.array(model.size, np.float32)
            points.append(kept["points"].astype(np.float32) * size)
            lab.append(to_lab(kept["colours"] / 255).astype(np.float32))
    empty = np.zeros((0, POINTS, 3), np.float32)
    return Shapes(
        tuple(models), np.stack(points) if points else empty, np.stack(lab) if lab else empty
    )


def views(
    points: Floats, lab: Floats
) -> tuple[NDArray[np.uint8], NDArray[np.int8], Floats, Floats]:
    """One model's rows of :class:`Views`."""
    yaws = np.arange(YAWS) * (2 * math.pi / YAWS)
    lifts = np.radians(ELEVATIONS)
    cos, sin = np.cos(yaws), np.sin(yaws)
    # The camera stands at -y; the model turns counterclockwise.
    x = cos[:, None] * points[:, 0] - sin[:, None] * points[:, 1]
    y = sin[:, None] * points[:, 0] + cos[:, None] * points[:, 1]
    z = points[:, 2]
    across = np.broadcast_to(x, (len(lifts), *x.shape))
    up = np.cos(lifts)[:, None, None] * z + np.sin(lifts)[:, None, None] * y
    away = np.cos(lifts)[:, None, None] * y - np.sin(lifts)[:, None, None] * z
    flat = torch.tensor(np.stack([across, up, away], -1), dtype=torch.float32).reshape(
        -1, len(points), 3
    )
    outline, shown, ratio, tall = gridded(flat, torch.tensor(lab))
    lead = (len(lifts), YAWS)
    return (
        np.packbits(outline.numpy(), axis=-1).reshape(*lead, -1),
        shown.numpy().clip(-127, 127).astype(np.int8).reshape(*lead, COARSE * COARSE, 3),
        ratio.numpy().astype(np.float32).reshape(lead),
        tall.numpy().astype(np.float32).reshape(lead),
    )


def gridded(seen: Tensor, lab: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outlines (V, GRID * GRID), colours (V, COARSE * COARSE, 3), log ratios and heights (V,) of
    points (V, P, 3; right, up, away), each in its tight box."""
    low, high = seen[..., :2].amin(1), seen[..., :2].amax(1)
    size = (high - low).clamp(min=1e-6)
    ratio = (size[:, 0] / size[:, 1]).log()
    share = (seen[..., :2] - low[:, None]) / size[:, None]
    count, points = seen.shape[:2]

    def cells(grid: int) -> Tensor:
        column = (share[..., 0] * grid).long().clamp(0, grid - 1)
        row = ((1 - share[..., 1]) * grid).long().clamp(0, grid - 1)
        return row * grid + column

    fine = cells(GRID)
    outline = torch.zeros(count, GRID * GRID).scatter_(1, fine, 1.0)
    outline = closed(outline.reshape(count, GRID, GRID)).reshape(count, -1) > 0
    # Only what is near the front of its cell has a say in the colour.
    coarse = cells(COARSE)
    front = torch.full((count, GRID * GRID), math.inf).scatter_reduce_(
        1, fine, seen[..., 2], "amin"
    )
    thick = 0.12 * (seen[..., 2].amax(1) - seen[..., 2].amin(1)).clamp(min=1e-6)
    weight = (seen[..., 2] <= front.gather(1, fine) + thick[:, None]).float()
    total = torch.zeros(count, COARSE * COARSE).scatter_add_(1, coarse, weight)
    shown = torch.zeros(count, COARSE * COARSE, 3).scatter_add_(
        1, coarse[..., None].expand(-1, -1, 3), weight[..., None] * lab.expand(count, points, 3)
    )
    return outline, shown / total.clamp(min=1)[..., None], ratio, size[:, 1]


def closed(mask: Tensor) -> Tensor:
    """Masks (..., H, W) of zeros and ones without the pin holes that points leave."""
    flat = mask.reshape(-1, 1, *mask.shape[-2:])
    grown = torch.nn.functional.max_pool2d(flat, 3, 1, 1)
    # What lies beyond the edge counts as filled, or edges would be eaten away.
    padded = torch.nn.functional.pad(1 - grown, (1, 1, 1, 1), value=0.0)
    return (1 - torch.nn.functional.max_pool2d(padded, 3, 1, 0)).reshape(mask.shape)
