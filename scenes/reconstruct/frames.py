"""Several frames of one scene: where the other cameras stand, and a layout that explains all.

The layout of the first frame is looked at from all around until the second frame's outline and
colours agree best; so for each frame. Then places, yaws and scales are searched once more, each
change judged by all frames together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scenes.reconstruct.explain import SearchConfig
from scenes.reconstruct.fit import Fit, Fitter, Stand
from scenes.reconstruct.foreground import Picture
from scenes.reconstruct.match import Piece, View, camera_of
from scenes.reconstruct.shapes import Shapes
from scenes.render.jobs import Camera

Progress = Callable[[int, int, str], None]
SIDES = 24
"""Directions from which a frame may have been taken, at first."""


@dataclass(frozen=True)
class Pose:
    """A frame's camera against the first: its view, its place (x, y) in the first one's world, and
    how far it is turned counterclockwise."""

    view: View
    x: float
    y: float
    turn: float


@dataclass(frozen=True)
class Film:
    """The layout in the world of the first frame's camera, and the cameras of the others there."""

    fit: Fit
    fitter: Fitter
    cameras: tuple[Camera, ...]
    scores: tuple[float, ...]


def filmed(
    fit: Fit,
    fitter: Fitter,
    others: Sequence[Picture],
    shapes: Shapes,
    config: SearchConfig,
    progress: Progress | None = None,
) -> Film:
    """Find the cameras of the other frames, and refine the layout by all."""
    if not others:
        return Film(fit, fitter, (), ())
    fitters = [Fitter(picture, shapes, [Piece(picture.mask)], config.seed, 2) for picture in others]
    poses: list[Pose] = []
    for n, each in enumerate(fitters):
        known = poses[-1] if poses else Pose(fit.view, 0.0, 0.0, 0.0)
        poses.append(_found(fit, fitter, each, known))
        if progress is not None:
            progress(n + 1, len(fitters) + 1, "frames")
    fit, poses = _together(fit, fitter, fitters, poses)
    if progress is not None:
        progress(len(fitters) + 1, len(fitters) + 1, "frames")
    scores = tuple(_worth(fit, fitter, f, [p])[0] for f, p in zip(fitters, poses, strict=True))
    cameras = tuple(camera_of(p.view, p.x, p.y, p.turn) for p in poses)
    return Film(fit, fitter, cameras, scores)


def seen(fit: Fit, fitter: Fitter, other: Fitter, pose: Pose) -> tuple[Stand, ...]:
    """The things of ``fit`` as another frame's camera has them."""
    cos, sin = math.cos(pose.turn), math.sin(pose.turn)
    found = []
    for thing, (x, y, z, _) in zip(fit.things, fitter.place(fit.view, fit.things), strict=True):
        dx, dy = x - pose.x, y - pose.y
        u, v = other.pixel(pose.view, cos * dx + sin * dy, -sin * dx + cos * dy, z)
        found.append(replace(thing, u=u, v=v, yaw=thing.yaw - pose.turn, piece=0))
    return tuple(found)


def _worth(fit: Fit, fitter: Fitter, other: Fitter, poses: Sequence[Pose]) -> list[float]:
    """How well a frame is explained from each of several poses."""
    states = [seen(fit, fitter, other, pose) for pose in poses]
    found: list[float] = other.score([pose.view for pose in poses], states).tolist()
    return found


def _found(fit: Fit, fitter: Fitter, other: Fitter, known: Pose) -> Pose:
    """The pose of a frame: near the frame before, or from anywhere around."""
    placed = np.array([p[:2] for p in fitter.place(fit.view, fit.things)])
    middle = placed.mean(0)
    reach = float(np.hypot(*(middle - (known.x, known.y))))
    tried = [known]
    for side in np.arange(SIDES) * 2 * math.pi / SIDES:
        for far in (0.75, 1.0, 1.35):
            # Behind the scene at the same distance, looking at its middle.
            turn = float(side)
            back = np.array([math.sin(turn), -math.cos(turn)]) * reach * far
            at = middle + back
            view = replace(known.view, height=known.view.height * far)
            tried.append(Pose(view, float(at[0]), float(at[1]), turn))
    worth = _worth(fit, fitter, other, tried)
    best = max(
        (_walked(fit, fitter, other, tried[int(n)], 8, reach) for n in np.argsort(worth)[-4:]),
        key=lambda pair: pair[1],
    )
    return _walked(fit, fitter, other, best[0], 8, reach)[0]


def _walked(
    fit: Fit, fitter: Fitter, other: Fitter, pose: Pose, rounds: int, reach: float
) -> tuple[Pose, float]:
    """A pose after random steps that narrow, and what it is worth."""
    best = pose, _worth(fit, fitter, other, [pose])[0]
    for turn in range(rounds):
        spread = (1 - turn / rounds) + 0.05
        tried = []
        for noise in other.rng.normal(size=(24, 5)) * spread:
            at = best[0]
            # Around the scene and sideways are told apart by turning about the camera only.
            moved = np.array([at.x, at.y]) + noise[:2] * 0.12 * reach
            view = replace(
                at.view,
                pitch=float(np.clip(at.view.pitch + 0.05 * noise[3], 0.0, 1.4)),
                height=at.view.height * math.exp(0.1 * noise[4]),
            )
            tried.append(Pose(view, float(moved[0]), float(moved[1]), at.turn + 0.12 * noise[2]))
        worth = _worth(fit, fitter, other, tried)
        n = int(np.argmax(worth))
        if worth[n] > best[1]:
            best = tried[n], worth[n]
    return best


def _together(
    fit: Fit, fitter: Fitter, fitters: Sequence[Fitter], poses: list[Pose]
) -> tuple[Fit, list[Pose]]:
    """Every thing moved, and every camera, as all frames like it best."""

    def total(tried: Sequence[Fit]) -> NDArray[np.float64]:
        worth = np.asarray(fitter.score([t.view for t in tried], [t.things for t in tried]))
        for other, pose in zip(fitters, poses, strict=True):
            states = [seen(t, fitter, other, pose) for t in tried]
            worth = worth + np.asarray(other.score([pose.view] * len(tried), states))
        return worth

    best = float(total([fit])[0])
    for turn in range(5):
        spread = 0.6 * (1 - turn / 5) + 0.05
        for i, thing in enumerate(fit.things):
            left, top, right, bottom = fitter.pieces[thing.piece].box
            tried = []
            for u, v, yaw, scale in fitter.rng.normal(size=(16, 4)) * spread:
                moved = replace(
                    thing,
                    u=thing.u + 0.12 * u * (right - left),
                    v=thing.v + 0.12 * v * (bottom - top),
                    yaw=thing.yaw + 0.4 * yaw,
                    log_scale=thing.log_scale + 0.06 * scale,
                )
                tried.append(replace(fit, things=(*fit.things[:i], moved, *fit.things[i + 1 :])))
            worth = total(tried)
            if worth.max() > best:
                fit, best = tried[int(worth.argmax())], float(worth.max())
        reach = float(np.mean([p[1] for p in fitter.place(fit.view, fit.things)]))
        for n, other in enumerate(fitters):
            poses[n] = _walked(fit, fitter, other, poses[n], 3, reach * 0.5)[0]
        best = float(total([fit])[0])
    return replace(fit, score=float(fitter.score([fit.view], [fit.things])[0])), poses
