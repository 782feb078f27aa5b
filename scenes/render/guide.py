"""Raw passes of a saved scene along a camera path. Runs in a worker only.

The file may be anybody's: it is opened with its scripts and drivers' Python off. The scene stands
still, as it was saved; only the camera moves.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from common.errors import UserError
from scenes.render import exr, picture, stage
from scenes.render.jobs import Camera, Framed, Frames, Opened, Triple
from scenes.render.views import axes

VAST = 100.0
"""Metres; what is wider is ground, which a camera path need not go around."""


def open_file(path: Path) -> None:
    """Make a .blend the current scene.

    Raises:
        UserError: no such file, or none that Blender can read.
    """
    try:
        with path.open("rb") as file:
            file.read(1)
        bpy.ops.wm.open_mainfile(filepath=os.fspath(path), load_ui=False, use_scripts=False)
    except (OSError, RuntimeError) as error:
        words = " ".join(str(error).removeprefix("Error: ").split())[:200]
        raise UserError(f"cannot open {path}: {words}", "name a .blend file") from error


def things() -> list[bpy.types.Object]:
    """What has a surface and is rendered: assets first, then the rest, each by name.

    Their places, from 1, are the indices of the segmentation.
    """
    solid = [
        thing
        for thing in bpy.context.scene.objects
        if thing.type in ("MESH", "CURVE", "SURFACE", "FONT", "META") and not thing.hide_render
    ]
    return sorted(solid, key=lambda thing: ("asset" not in thing, thing.name))


def opened() -> Opened:
    """What the open file holds."""
    bpy.context.view_layer.update()
    scene, found = bpy.context.scene, things()
    if not found:
        raise UserError(
            "the scene has nothing to see", "put at least one object with faces into it"
        )
    assets = [thing for thing in found if "asset" in thing]
    around = assets or [t for t in found if max(t.dimensions) < VAST] or found
    points = np.array([t.matrix_world @ Vector(c) for t in around for c in t.bound_box])
    low, high = points.min(0), points.max(0)
    return Opened(
        things=tuple(thing.name for thing in found),
        low=(float(low[0]), float(low[1]), float(low[2])),
        high=(float(high[0]), float(high[1]), float(high[2])),
        camera=_camera((low + high) / 2),
        aspect=scene.render.resolution_x / scene.render.resolution_y,
    )


def _camera(middle: NDArray[np.float64]) -> Camera | None:
    """The file's camera, with the point of its line of sight next to ``middle`` as target."""
    held = bpy.context.scene.camera
    if held is None or held.type != "CAMERA" or held.data.type != "PERSP":
        return None
    location = np.array(held.matrix_world.translation)
    forward = -np.array(held.matrix_world.to_3x3().col[2])
    forward /= np.linalg.norm(forward)
    reach = max(float((middle - location) @ forward), 0.1)
    return Camera(
        location=_triple(location),
        target=_triple(location + forward * reach),
        fov=held.data.angle_x,
    )


def frames(job: Frames) -> Framed:
    """The frames of ``job`` that are not there yet."""
    began, done = time.monotonic(), []
    shown = things()
    for index, thing in enumerate(shown, 1):
        thing.pass_index = index
    for number in job.frames:
        wanted = [path for path in files(job, number) if not path.exists()]
        if not wanted:
            continue
        camera = job.cameras[number]
        stage.aim(camera)
        raw = [path for path in wanted if path.suffix == ".exr"]
        if raw:
            planes = picture.passes(job.width, job.height, "z", "normal", "object_index")
            _write(raw, planes, camera)
        for path in wanted:
            if path.suffix == ".png":
                picture.picture(path, job.width, job.height, job.samples)
        done.append(number)
    return Framed(frames=tuple(done), seconds=time.monotonic() - began)


def files(job: Frames, number: int) -> list[Path]:
    """The files of one frame."""
    name = f"{number:05d}"
    return [
        job.folder / each / (f"{name}.png" if each == "rgb" else f"{name}.exr")
        for each in job.passes
    ]


def _write(raw: list[Path], planes: dict[str, NDArray[np.float32]], camera: Camera) -> None:
    """The passes as OpenEXR: depth in metres, normals as the camera sees them, indices."""
    for path in raw:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if path.parent.name == "depth":
                exr.write(path, {"Z": planes["Depth.Z"]})
            elif path.parent.name == "normal":
                world = np.stack([planes[f"Normal.{axis}"] for axis in "XYZ"], -1)
                seen = world @ axes(camera)
                exr.write(path, {a: seen[..., i] for i, a in enumerate("XYZ")}, half=True)
            else:
                exr.write(path, {"ID": planes["Object Index.X"]}, half=True)
        except OSError as error:
            error.filename = str(path)
            raise
        finally:
            path.with_name(path.name + ".part").unlink(missing_ok=True)


def _triple(values: NDArray[np.float64]) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])
