"""Pictures and raw passes with Cycles. Runs in a worker only."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from scenes.render import build, exr


def set_up(device: str, threads: int) -> str:
    """Cycles on a GPU if ``device`` allows it and there is one; what it came to, ``CPU`` or a kind.

    Raises:
        RuntimeError: ``gpu`` was asked for and Blender finds none.
    """
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.use_persistent_data = True
    found = "CPU"
    if device != "cpu":
        preferences = bpy.context.preferences.addons["cycles"].preferences
        for kind in ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI"):
            try:
                preferences.compute_device_type = kind
                preferences.refresh_devices()
            except (TypeError, ValueError):
                continue  # this build of Blender does not know the kind
            usable = [d for d in preferences.devices if d.type == kind]
            if usable:
                for each in preferences.devices:
                    each.use = each.type == kind
                found = kind
                break
        if found == "CPU" and device == "gpu":
            raise RuntimeError("no GPU that Blender can use")
    scene.cycles.device = "CPU" if found == "CPU" else "GPU"
    return found


def picture(path: Path, width: int, height: int, samples: int) -> None:
    """A lit, denoised PNG. Raises OSError if the disk is full; the file appears whole or not."""
    scene = bpy.context.scene
    build.pixels(width, height)
    build.quality(samples)
    _passes()
    image = scene.render.image_settings
    image.media_type = "IMAGE"
    image.file_format, image.color_mode, image.color_depth = "PNG", "RGB", "8"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.png")
    try:
        _render(part)
        if not _whole(part):
            raise full(path)
        os.replace(part, path)
    except RuntimeError as error:
        raise (full(path, error) or error) from error
    finally:
        part.unlink(missing_ok=True)


def passes(width: int, height: int, *names: str) -> dict[str, NDArray[np.float32]]:
    """Raw channels by name, each (height, width): one sample through the middle of every pixel.

    ``names`` are of view layer passes: z, normal, vector, object_index.
    """
    scene = bpy.context.scene
    build.pixels(width, height)
    cycles = scene.cycles
    cycles.samples, cycles.seed = 1, 0
    cycles.use_adaptive_sampling = cycles.use_denoising = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01
    cycles.max_bounces = 0
    _passes(*names)
    image = scene.render.image_settings
    image.media_type = "MULTI_LAYER_IMAGE"
    image.file_format, image.exr_codec, image.color_depth = "OPEN_EXR_MULTILAYER", "NONE", "32"
    image.use_exr_interleave = True
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "passes.exr"
        try:
            _render(raw)
        except RuntimeError as error:
            raise (full(raw, error) or error) from error
        return {name.partition(".")[2]: plane for name, plane in exr.read(raw).items()}


def _passes(*names: str) -> None:
    layer = bpy.context.scene.view_layers[0]
    for name in ("z", "normal", "vector", "object_index"):
        setattr(layer, f"use_pass_{name}", name in names)


def _render(path: Path) -> None:
    scene = bpy.context.scene
    scene.render.filepath = str(path)
    scene.render.use_file_extension = False
    bpy.ops.render.render(write_still=True)


def _whole(path: Path) -> bool:
    """Whether a PNG has its end; Blender does not always say that the disk was full."""
    try:
        with path.open("rb") as file:
            file.seek(-12, os.SEEK_END)
            return file.read()[4:8] == b"IEND"
    except OSError:
        return False


def full(path: Path, why: Exception | None = None) -> Exception:
    """What kept ``path`` from being written: the system's own words, or ``why``.

    Blender says only that it could not write; so the same folder is tried with a file of our own.
    """
    probe = path.with_name(f".{path.stem}.probe")
    try:
        probe.write_bytes(b"\0" * (1 << 20))
    except OSError as error:
        error.filename = str(path)
        return error
    finally:
        probe.unlink(missing_ok=True)
    return why or OSError(errno.EIO, "the picture could not be written", str(path))
