"""Raw passes as the pictures that video models take. No Blender here, numpy only.

- depth: inverse depth over the whole clip, the nearest white and the farthest black (the form of
  MiDaS and of the depth ControlNets); nothing at all, as the sky, is black. 16 bit.
- normal: (X, Y, Z) from [-1, 1] to red, green, blue; X right, Y up, Z towards the camera, so that
  what faces the camera is (128, 128, 255). Nothing is (128, 128, 255) too. 8 bit.
- segmentation: a flat colour a thing, black for nothing. 8 bit.
- flow: where each pixel goes in the next frame, in pixels right (U) and down (V), as OpenEXR; and
  a picture of it, the direction as hue and the length as strength (Baker et al., "A Database and
  Evaluation Methodology for Optical Flow", 2011; here HSV and not their wheel).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scenes.render.jobs import Camera
from scenes.render.views import axes, project

FAR = 1e9
"""Metres from which on a depth means that nothing is there; Blender says 1e10."""
Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]


def depth_range(plane: Floats) -> tuple[float, float] | None:
    """The least and the largest depth in metres; None where nothing is seen."""
    seen = plane[plane < FAR]
    return (float(seen.min()), float(seen.max())) if seen.size else None


def depth(plane: Floats, near: float, far: float) -> NDArray[np.uint16]:
    """Depth in metres (height, width) as 16-bit grey."""
    nearest, farthest = 1 / near, 1 / far
    span = nearest - farthest
    with np.errstate(divide="ignore"):
        share = (1 / plane - farthest) / span if span > 0 else np.ones_like(plane)
    grey = np.clip(share, 0, 1) * 65535
    return np.asarray(np.where(plane < FAR, np.rint(grey), 0).astype(np.uint16))


def normal(planes: Floats) -> Bytes:
    """Normals in the camera's frame (height, width, 3) as colours."""
    length = np.linalg.norm(planes, axis=-1, keepdims=True)
    unit = np.where(length > 0.1, planes / np.maximum(length, 1e-6), (0.0, 0.0, 1.0))
    return np.asarray(np.rint(unit * 127.5 + 127.5).clip(0, 255).astype(np.uint8))


def colours(count: int) -> Bytes:
    """``count`` colours that are all different and none of them black, (count, 3).

    The hue goes on by the golden ratio, so that neighbours differ; lightness takes turns.
    """
    found: list[tuple[int, int, int]] = []
    place = 0
    while len(found) < count:
        hue, value = place * 0.618034 % 1, (0.95, 0.7, 0.5)[place % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.55)[place // 3 % 2], value)
        colour = (round(red * 255), round(green * 255), round(blue * 255))
        if colour not in found:
            found.append(colour)
        place += 1
    return np.array(found, np.uint8).reshape(-1, 3)


def segmentation(plane: Floats, table: Bytes) -> Bytes:
    """Indices (height, width), 0 for nothing, as the colours of :func:`colours`."""
    black = np.concatenate([np.zeros((1, 3), np.uint8), table])
    index = np.rint(plane).astype(int)
    return np.asarray(black[np.where(index < len(black), index, 0)])


def flow(plane: Floats, here: Camera, there: Camera) -> NDArray[np.float32]:
    """Where a still scene's pixels go as the camera moves, (height, width, 2): right and down.

    ``plane`` is the depth seen from ``here``. What is not in sight ``there``, or hidden, still has
    its flow, as is usual for ground truth. Where nothing is, the flow is that of endless distance.
    """
    height, width = plane.shape
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    focal = width / 2 / np.tan(here.fov / 2)
    distance = np.where(plane < FAR, plane, FAR).astype(np.float64)
    local = np.stack(
        [
            (across - width / 2) / focal * distance,
            -(down - height / 2) / focal * distance,
            -distance,
        ],
        -1,
    )
    world = local.reshape(-1, 3) @ axes(here).T + np.asarray(here.location)
    seen = project(there, world, width, height)[:, :2].reshape(height, width, 2)
    return np.asarray((seen - np.stack([across, down], -1)).astype(np.float32))


def flow_picture(vectors: Floats, longest: float) -> Bytes:
    """Flow (height, width, 2) as colours: still is white, ``longest`` pixels are full colour."""
    strength = np.clip(np.linalg.norm(vectors, axis=-1) / max(longest, 1e-6), 0, 1)
    hue = (np.arctan2(vectors[..., 1], vectors[..., 0]) / (2 * np.pi)) % 1
    bytes_ = np.stack([hue * 255, strength * 255, np.full_like(hue, 255)], -1).astype(np.uint8)
    return np.asarray(Image.fromarray(bytes_, mode="HSV").convert("RGB"))


def intrinsics(camera: Camera, width: int, height: int) -> list[list[float]]:
    """The 3 by 3 camera matrix, in pixels."""
    focal = width / 2 / float(np.tan(camera.fov / 2))
    return [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]


def extrinsics(camera: Camera) -> list[list[float]]:
    """World to camera, 4 by 4, in the convention of OpenCV: x right, y down, z forward."""
    turn = (axes(camera) * (1, -1, -1)).T
    full = np.eye(4)
    full[:3, :3] = turn
    full[:3, 3] = -turn @ np.asarray(camera.location)
    return [[float(v) for v in row] for row in full]


def film(pictures: Sequence[Path], path: Path, fps: int) -> None:
    """PNGs as an MP4 (H.264, yuv420p), padded to even sides; whole or not at all."""
    import av

    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        with av.open(str(part), "w") as out:
            stream = out.add_stream("libx264", rate=fps, options={"crf": "16"})
            stream.pix_fmt = "yuv420p"
            for number, name in enumerate(pictures):
                image = _eight(Image.open(name))
                if number == 0:
                    stream.width, stream.height = image.width, image.height
                picture = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
                out.mux(stream.encode(picture))
            out.mux(stream.encode())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _eight(image: Image.Image) -> Image.Image:
    """Eight-bit RGB with sides that H.264 takes."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    sides = (image.width + image.width % 2, image.height + image.height % 2)
    if sides != image.size:
        wide = Image.new("RGB", sides)
        wide.paste(image)
        return wide
    return image
