"""Guides for video models: a saved scene filmed along a camera path, pass by pass.

The folder gets, for each pass, a numbered sequence of PNGs, the raw values as OpenEXR and an MP4 to
look at, and ``guide.json`` with the cameras, the range of the depth and the colours of the things.
What the pictures mean is told in :mod:`scenes.render.encode`. Frames that are there already stay,
so that the same call goes on after an interruption.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from common.errors import UserError
from scenes.render import encode, exr
from scenes.render.jobs import Camera, Frames, Open, Opened
from scenes.render.pool import Workers
from scenes.render.views import VIEWS, Move, frame, path

Pass = Literal["depth", "normal", "segmentation", "flow", "rgb"]
BATCH = 4
"""Frames a job: few enough for progress, many enough for the opening of the file not to matter."""


class Settings(BaseModel, frozen=True):
    """What a guide is made with; a folder holds frames of one setting only."""

    blend: Path
    move: Move
    frames: int
    width: int
    height: int
    passes: tuple[str, ...]
    """Of :data:`Pass`."""
    samples: int = 32
    turn: float = math.tau / 6


def make(
    settings: Settings,
    folder: Path,
    workers: Workers,
    fps: int = 24,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Film ``settings.blend`` into ``folder``; returns what ``guide.json`` holds.

    Raises:
        UserError: no such scene, nothing in it, no frames, an unknown pass or movement, flow
            of a single frame, or a folder with frames of other settings.
        OSError: the disk is full; the frames so far are kept.
    """
    unknown = set(settings.passes) - set(get_args(Pass))
    if unknown or not settings.passes:
        raise UserError(
            f"unknown pass {min(unknown)!r}" if unknown else "no pass is asked for",
            f"use {', '.join(get_args(Pass))}",
        )
    if settings.frames == 1 and "flow" in settings.passes:
        raise UserError("one frame has no flow to a next one", "raise --frames, or leave flow out")
    blend = settings.blend.resolve()
    _claim(settings, blend, folder)
    scene = workers.do(Open(blend=blend))
    cameras = path(
        start(scene, settings.width / settings.height),
        settings.move,
        settings.frames,
        settings.turn,
    )
    raw = {"depth" if each == "flow" else each for each in settings.passes}
    jobs = [
        Frames(
            blend=blend,
            cameras=cameras,
            frames=tuple(range(first, min(first + BATCH, settings.frames))),
            folder=folder.resolve(),
            passes=tuple(sorted(raw)),  # type: ignore[arg-type]
            width=settings.width,
            height=settings.height,
            samples=settings.samples,
        )
        for first in range(0, settings.frames, BATCH)
    ]
    done = 0
    for job, _ in zip(jobs, workers.map(jobs), strict=True):
        done += len(job.frames)
        if progress is not None:
            progress(done, settings.frames, "frames")
    told = _pictures(settings, folder, cameras, scene)
    for each in settings.passes:
        encode.film(sorted((folder / each).glob("*.png")), folder / f"{each}.mp4", fps)
    guide: dict[str, Any] = {
        "scene": blend.name,
        "camera": settings.move,
        "frames": settings.frames,
        "fps": fps,
        "size": [settings.width, settings.height],
        "passes": list(settings.passes),
        "intrinsics": encode.intrinsics(cameras[0], settings.width, settings.height),
        "extrinsics": [encode.extrinsics(camera) for camera in cameras],
        **told,
    }
    _replace(folder / "guide.json", json.dumps(guide, indent=1) + "\n")
    return guide


def start(scene: Opened, aspect: float) -> Camera:
    """The file's own camera, as wide as it needs to be for a picture of another shape.

    Where there is none, all things are framed from the front.
    """
    camera = scene.camera
    if camera is None:
        low, high = np.array(scene.low), np.array(scene.high)
        unit = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        return frame(low + unit * (high - low), VIEWS["front"], aspect)
    wider = math.tan(camera.fov / 2) * max(1.0, aspect / scene.aspect)
    return camera.model_copy(update={"fov": 2 * math.atan(wider)})


def _claim(settings: Settings, blend: Path, folder: Path) -> None:
    """See that frames in ``folder`` are of these settings; of no matter which passes."""
    try:
        digest = hashlib.sha256(blend.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot read {settings.blend}: {error.strerror}", "name a .blend"
        ) from None
    wanted = settings.model_dump(mode="json", exclude={"blend", "passes"}) | {"sha256": digest}
    path, text = folder / "settings.json", json.dumps(wanted, indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{folder} holds frames of another scene or other settings", "choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _replace(path, text)


def _pictures(
    settings: Settings, folder: Path, cameras: Sequence[Camera], scene: Opened
) -> dict[str, Any]:
    """PNGs of the raw passes, and what ``guide.json`` tells about them."""
    told: dict[str, Any] = {}
    numbers = range(settings.frames)

    def depth(number: int) -> NDArray[np.float32]:
        return exr.read(folder / "depth" / f"{number:05d}.exr")["Z"]

    if "depth" in settings.passes:
        ranges = [encode.depth_range(depth(n)) for n in numbers]
        seen = [each for each in ranges if each is not None] or [(1.0, 1.0)]
        near, far = min(low for low, _ in seen), max(high for _, high in seen)
        told["depth"] = {"near": near, "far": far, "white": "near", "scale": "inverse"}
        for n in numbers:
            _save(folder / "depth" / f"{n:05d}.png", encode.depth(depth(n), near, far))
    if "flow" in settings.passes:
        (folder / "flow").mkdir(exist_ok=True)
        longest = 1e-3
        for n in numbers[:-1]:
            field = encode.flow(depth(n), cameras[n], cameras[n + 1])
            longest = max(longest, float(np.quantile(np.linalg.norm(field, axis=-1), 0.99)))
            exr.write(folder / "flow" / f"{n:05d}.exr", {"U": field[..., 0], "V": field[..., 1]})
        for n in numbers[:-1]:
            planes = exr.read(folder / "flow" / f"{n:05d}.exr")
            field = np.stack([planes["U"], planes["V"]], -1)
            _save(folder / "flow" / f"{n:05d}.png", encode.flow_picture(field, longest))
        unit = "pixels, right (U) and down (V), to the next frame"
        told["flow"] = {"unit": unit, "strongest": longest}
    if "normal" in settings.passes:
        for n in numbers:
            planes = exr.read(folder / "normal" / f"{n:05d}.exr")
            stacked = np.stack([planes[axis] for axis in "XYZ"], -1)
            _save(folder / "normal" / f"{n:05d}.png", encode.normal(stacked))
    if "segmentation" in settings.passes:
        table = encode.colours(len(scene.things))
        told["segmentation"] = {
            name: [int(v) for v in colour] for name, colour in zip(scene.things, table, strict=True)
        }
        for n in numbers:
            plane = exr.read(folder / "segmentation" / f"{n:05d}.exr")["ID"]
            _save(folder / "segmentation" / f"{n:05d}.png", encode.segmentation(plane, table))
    return told


def _save(path: Path, pixels: NDArray[Any]) -> None:
    part = path.with_name(f".{path.stem}.part.png")
    try:
        Image.fromarray(pixels).save(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
