"""Where the camera stands: views that hold all of a scene, and paths for films. No Blender here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from scenes.graph import Room
from scenes.render.jobs import Camera, Scene, Thing, Triple

View = Literal["front", "corner", "left", "right", "back", "top"]
Move = Literal["orbit", "dolly", "pan", "static"]

VIEWS: dict[View, Triple] = {
    "front": (0.0, 1.0, -0.42),
    "corner": (0.62, 1.0, -0.55),
    "left": (1.0, 0.0, -0.42),
    "right": (-1.0, 0.0, -0.42),
    "back": (0.0, -1.0, -0.42),
    "top": (0.0, 0.0, -1.0),
}
"""The direction that each view looks in: front stands before the scene, a little above it."""

MARGIN = 1.06
"""The picture is this much wider than what it must hold."""


def axes(camera: Camera) -> NDArray[np.float64]:
    """The camera's right, up and backward directions: the columns of a rotation, (3, 3)."""
    back = np.subtract(camera.location, camera.target)
    length = float(np.linalg.norm(back))
    back = back / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])
    up = np.array([0.0, 1.0, 0.0] if abs(back[2]) > 0.9999 else [0.0, 0.0, 1.0])
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)


def project(
    camera: Camera, points: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float64]:
    """World points (n, 3) to (n, 3): pixels right and down from the upper left corner, and depth.

    Depth is the distance along the line of sight's middle, in metres; not positive is behind.
    """
    seen = (points - np.asarray(camera.location)) @ axes(camera)
    depth = -seen[:, 2]
    focal = width / 2 / math.tan(camera.fov / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        across = width / 2 + focal * seen[:, 0] / depth
        down = height / 2 - focal * seen[:, 1] / depth
    return np.stack([across, down, depth], axis=1)


def corners(thing: Thing) -> NDArray[np.float64]:
    """The eight corners of a thing's box in the world, (8, 3)."""
    low = np.array([-thing.size[0] / 2, -thing.size[1] / 2, 0])
    unit = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    local = low + unit * np.asarray(thing.size)
    cos, sin = math.cos(thing.yaw), math.sin(thing.yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return np.asarray(local @ turn.T + np.asarray(thing.location))


def frame(
    points: NDArray[np.float64], direction: Triple, aspect: float, fov: float = 0.7
) -> Camera:
    """The nearest camera looking in ``direction`` whose picture holds all ``points`` (n, 3).

    In the camera's frame a point (x, y, z) is within the sides if |x - cx| <= (cz - z) t with t the
    tangent of half the angle of view, so that cx and the least cz follow from the largest
    z t + x and z t - x; likewise upright. ``aspect`` is width over height.
    """
    forward = np.asarray(direction, float) / np.linalg.norm(direction)
    basis = axes(Camera(location=(0, 0, 0), target=triple(forward)))
    seen = points @ basis
    place, least = [0.0, 0.0], 0.0
    wide = math.tan(fov / 2) / MARGIN
    for axis, tangent in ((0, wide), (1, wide / aspect)):
        above = float((seen[:, 2] * tangent + seen[:, axis]).max())
        below = float((seen[:, 2] * tangent - seen[:, axis]).max())
        place[axis] = (above - below) / 2
        distance = (above + below) / 2 / tangent
        least = distance if axis == 0 else max(least, distance)
    least = max(least, float(seen[:, 2].max()) + 0.05)
    location = basis @ np.array([*place, least])
    reach = float(least - seen[:, 2].mean())
    return Camera(location=triple(location), target=triple(location + forward * reach), fov=fov)


def view(scene: Scene, name: View = "front", aspect: float = 4 / 3) -> Camera:
    """The camera of a view, framing all things of the scene exactly by their boxes.

    An empty scene is framed by its room.

    Raises:
        UserError: no such view.
    """
    if name not in VIEWS:
        raise UserError(f"no view is called {name!r}", f"use {', '.join(get_args(View))}")
    x, y, z = VIEWS[name]
    if scene.outdoors and name != "top":
        z *= 0.4  # low enough for the horizon
    return frame(extent(scene.things, scene.room), (x, y, z), aspect)


def extent(things: Iterable[Thing], room: Room | None = None) -> NDArray[np.float64]:
    """The corners of all things; of the room where there are none."""
    boxes = [corners(thing) for thing in things]
    if not boxes:
        size = (room.width, room.depth, room.height) if room else (4.0, 4.0, 2.0)
        boxes = [corners(Thing(id="room", size=size))]
    return np.concatenate(boxes)


def ball(scene: Scene) -> tuple[Triple, float]:
    """The middle and half the diagonal of the box around all things, which the lights are for."""
    points = extent(scene.things, scene.room)
    low, high = points.min(0), points.max(0)
    return triple((low + high) / 2), max(float(np.linalg.norm(high - low)) / 2, 0.2)


def path(start: Camera, move: Move, frames: int, turn: float = math.tau / 6) -> tuple[Camera, ...]:
    """A camera path of ``frames`` places that has ``start`` in its middle.

    ``orbit`` goes around the target by ``turn`` radians, ``dolly`` from 1.25 to 0.75 of the
    distance to it, ``pan`` turns on the spot by half of ``turn``, all at an even speed.

    Raises:
        UserError: no such movement, or no frames.
    """
    if move not in get_args(Move):
        raise UserError(f"no camera movement is called {move!r}", "orbit, dolly, pan or static")
    if frames < 1:
        raise UserError(f"{frames} frames", "ask for one or more")
    return tuple(_moved(start, move, share, turn) for share in _shares(frames))


def _shares(frames: int) -> Sequence[float]:
    return [0.0] if frames == 1 else [i / (frames - 1) - 0.5 for i in range(frames)]


def _moved(start: Camera, move: Move, share: float, turn: float) -> Camera:
    """The camera at ``share`` of the way, from -1/2 to 1/2."""
    location, target = np.asarray(start.location, float), np.asarray(start.target, float)
    if move == "dolly":
        location = target + (location - target) * (1 - share / 2)
    elif move != "static":
        angle = turn * share if move == "orbit" else -turn / 2 * share
        cos, sin = math.cos(angle), math.sin(angle)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        if move == "orbit":
            location = target + rotation @ (location - target)
        else:
            target = location + rotation @ (target - location)
    return start.model_copy(update={"location": triple(location), "target": triple(target)})


def triple(values: NDArray[np.float64]) -> Triple:
    """Three floats of an array."""
    return float(values[0]), float(values[1]), float(values[2])
