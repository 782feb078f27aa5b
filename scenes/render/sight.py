"""What a camera sees of each thing, by rays through the middles of pixels. Runs in a worker only.

A thing's own mesh is asked at every pixel of the box around it, also beyond the picture's edges;
the nearest hit of all things owns the pixel. This gives what an object-index pass gives, and what
each thing would cover alone as well, without a rendering a thing. Textures that are clear in part
count as solid; room and ground hide nothing.
"""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from scenes.render.jobs import Camera, Look, Sight, Sights
from scenes.render.views import axes, corners, project


def sights(job: Look, things: list[bpy.types.Object]) -> Sights:
    """A :class:`~scenes.render.jobs.Sight` a thing, and the mask if it is wanted."""
    bpy.context.view_layer.update()
    width, height = job.width, job.height
    depth = np.full((height, width), np.inf)
    owner = np.zeros((height, width), np.int32)
    alone, whole = [], []
    for index, (thing, shown) in enumerate(zip(job.scene.things, things, strict=True), 1):
        left, top, right, bottom = _reach(corners(thing), job.camera, width, height)
        hits = _hits(shown, job.camera, (left, top, right, bottom), width, height)
        whole.append(int(np.isfinite(hits).sum()))
        rows = slice(max(top, 0), max(min(bottom, height), 0))
        columns = slice(max(left, 0), max(min(right, width), 0))
        inside = hits[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        if rows.start >= rows.stop or columns.start >= columns.stop:
            alone.append(0)
            continue
        alone.append(int(np.isfinite(inside).sum()))
        nearer = inside < depth[rows, columns]
        depth[rows, columns][nearer] = inside[nearer]
        owner[rows, columns][nearer] = index
    if job.mask is not None:
        from PIL import Image

        job.mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(owner.astype(np.uint16)).save(job.mask)
    found = tuple(
        Sight(
            id=thing.id,
            visible=int((owner == index).sum()),
            alone=alone[index - 1],
            whole=whole[index - 1],
            box=_box(owner == index),
        )
        for index, thing in enumerate(job.scene.things, 1)
    )
    return Sights(sights=found)


def _reach(
    points: NDArray[np.float64], camera: Camera, width: int, height: int
) -> tuple[int, int, int, int]:
    """The pixels that a box may cover, up to a picture's width and height beyond the edges."""
    seen = project(camera, points, width, height)
    ahead = seen[:, 2] > 1e-6
    if not ahead.any():
        return 0, 0, 0, 0
    if not ahead.all():  # the camera is beside or inside it
        return -width, -height, 2 * width, 2 * height
    low = np.floor(seen[:, :2].min(0))
    high = np.ceil(seen[:, :2].max(0))
    bounds = (np.array([-width, -height]), np.array([2 * width, 2 * height]))
    (left, top), (right, bottom) = np.clip(low, *bounds), np.clip(high, *bounds)
    return int(left), int(top), int(right), int(bottom)


def _hits(
    shown: bpy.types.Object, camera: Camera, box: tuple[int, int, int, int], width: int, height: int
) -> NDArray[np.float64]:
    """How far along each ray of ``box`` the thing is met; infinity where it is not."""
    left, top, right, bottom = box
    found = np.full((bottom - top, right - left), np.inf)
    if not found.size:
        return found
    across, down = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    focal = width / 2 / np.tan(camera.fov / 2)
    rays = np.stack(
        [(across - width / 2) / focal, -(down - height / 2) / focal, -np.ones_like(across)], -1
    )
    inverse = np.array(shown.matrix_world.inverted())
    local = rays @ axes(camera).T @ inverse[:3, :3].T
    begin = Vector((inverse[:3, :3] @ np.asarray(camera.location) + inverse[:3, 3]).tolist())
    lengths = np.linalg.norm(local, axis=-1)
    for row, line in enumerate(local.tolist()):
        for column, direction in enumerate(line):
            met, place, _, _ = shown.ray_cast(begin, direction)
            if met:
                found[row, column] = (place - begin).length / lengths[row, column]
    return found


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )
