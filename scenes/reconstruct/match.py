"""Which model a piece of a picture may show, from which side, and where the camera may be.

A piece is compared with every view of every model (:mod:`~scenes.reconstruct.shapes`): outline,
proportions, colours. How high above the horizon it is seen from follows from the camera, and so
does how large it is if it stands on the floor; a camera under which all pieces are well explained
by models of about their catalogue's size is a good one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from common.errors import UserError
from scenes.reconstruct.foreground import Picture
from scenes.reconstruct.shapes import COARSE, ELEVATIONS, GRID, YAWS, Shapes
from scenes.render.jobs import Camera

Floats = NDArray[np.float32]
RATIO, COLOUR, SIZE = 0.5, 0.012, 0.35
"""What a difference costs: in the logarithm of proportions, in units of Lab, in the logarithm of
size beyond a tenth."""
EYES = 0.03
"""What a camera costs that is not at the height of eyes, in squares of the logarithm."""
MOST_CUT = 40
"""Things that a mask may hold; more are smooth edges."""
PITCHES = tuple(range(2, 61, 4))
FOVS = (0.55, 0.75, 1.0)
HEIGHTS = tuple(np.geomspace(0.25, 7, 22).tolist())


@dataclass(frozen=True)
class View:
    """A camera at (0, 0, height) that looks along +y and down by ``pitch``; ``fov`` is the angle
    across the picture. Radians and metres."""

    pitch: float
    height: float
    fov: float


def camera_of(view: View, x: float = 0.0, y: float = 0.0, turn: float = 0.0) -> Camera:
    """A camera as Blender takes it: at (x, y), its direction turned counterclockwise."""
    reach = view.height / max(math.sin(view.pitch), 0.15)
    level = reach * math.cos(view.pitch)
    ahead = np.array([-math.sin(turn) * level, math.cos(turn) * level])
    return Camera(
        location=(x, y, view.height),
        target=(x + ahead[0], y + ahead[1], view.height - reach * math.sin(view.pitch)),
        fov=view.fov,
    )


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of the picture that may be one thing: its mask (H, W), at the picture's own scale."""

    mask: NDArray[np.bool_]

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom; the last two are outside."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    def distance(self, other: Piece) -> float:
        """Pixels to another piece at the nearest."""
        return float(self._away[other.mask].min())

    @cached_property
    def _away(self) -> NDArray[np.float64]:
        return np.asarray(ndimage.distance_transform_edt(~self.mask))


@dataclass(frozen=True)
class Guess:
    """A model, by its place among the shapes, and the yaw that a view says, with its score."""

    model: int
    yaw: float
    score: float


def pieces(picture: Picture) -> list[Piece]:
    """The connected parts of what is no background, largest first."""
    found, count = ndimage.label(picture.mask, np.ones((3, 3)))
    parts = [Piece(found == n) for n in range(1, count + 1)]
    return sorted(parts, key=lambda piece: -piece.area)


def cut_out(path: Path, picture: Picture) -> list[Piece]:
    """The pieces that somebody has cut out: a picture with a colour a thing, black for none.

    Raises:
        UserError: no picture, of another shape, or with no or too many colours.
    """
    from PIL import Image, UnidentifiedImageError

    height, width = picture.mask.shape
    try:
        with Image.open(path) as opened:
            image = opened if opened.mode in ("I;16", "I", "L", "P") else opened.convert("RGB")
            near = Image.Resampling.NEAREST
            colours = np.asarray(image.resize((width, height), near)).reshape(height, width, -1)
            full = image.size
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"cannot read the mask {path}: {error}", "name a PNG") from error
    if abs(full[0] / full[1] - picture.full[0] / picture.full[1]) > 0.02:
        raise UserError(f"{path} has another shape than {picture.path}", "make them alike")
    found, labels = np.unique(colours.reshape(height * width, -1), axis=0, return_inverse=True)
    labels = labels.reshape(height, width)
    parts = [Piece(labels == n) for n, colour in enumerate(found) if colour.any()]
    parts = [part for part in parts if part.area >= 12]
    if not 1 <= len(parts) <= MOST_CUT:
        raise UserError(
            f"{path} holds {len(parts)} things",
            f"one plain colour for each of 1 to {MOST_CUT} things, no smooth edges, black around",
        )
    return sorted(parts, key=lambda piece: -piece.area)


def parted(piece: Piece, picture: Picture) -> list[list[Piece]]:
    """Ways to take a piece apart: at its narrow places, into patches of like colours, and into two
    or three by place and colour."""
    found: list[list[Piece]] = []
    for width in (1, 2, 3):
        cores, count = ndimage.label(ndimage.binary_erosion(piece.mask, iterations=width))
        sizes = np.bincount(cores.ravel(), minlength=count + 1)
        cores[np.isin(cores, np.flatnonzero(sizes < 8))] = 0
        names = [n for n in np.unique(cores) if n]
        if not 2 <= len(names) <= 4:
            continue
        _, nearest = ndimage.distance_transform_edt(cores == 0, return_indices=True)
        labels = cores[tuple(nearest)]
        found.append([Piece(piece.mask & (labels == n)) for n in names])
    rows, columns = np.nonzero(piece.mask)
    left, top, right, bottom = piece.box
    span = max(right - left, bottom - top, 1)
    lab = picture.lab[rows, columns]
    for count in (2, 3, 4):
        labels = np.full(piece.mask.shape, -1)
        labels[rows, columns] = _means(lab * (0.5, 1, 1), count)
        found.append(_patches(piece, labels, count))
    for colour in (0.012, 0.0):
        features = np.column_stack(
            [columns / span, rows / span, lab * (0.5 * colour, colour, colour)]
        )
        for count in (2, 3):
            labels = _means(features, count)
            parts = []
            for k in range(count):
                mask = np.zeros_like(piece.mask)
                mask[rows[labels == k], columns[labels == k]] = True
                parts.append(Piece(mask))
            found.append(parts)
    return [p for p in found if 2 <= len(p) <= 5 and all(part.area >= 16 for part in p)]


def _patches(piece: Piece, labels: NDArray[np.int64], count: int) -> list[Piece]:
    """Connected patches of one label, crumbs given to the patch next to them."""
    numbered = np.zeros(piece.mask.shape, int)
    for k in range(count):
        smooth = ndimage.binary_opening(labels == k)
        patches, many = ndimage.label(smooth)
        sizes = np.bincount(patches.ravel(), minlength=many + 1)
        for n in range(1, many + 1):
            if sizes[n] >= max(16, 0.08 * piece.area):
                numbered[patches == n] = numbered.max() + 1
    if not numbered.any():
        return []
    _, nearest = ndimage.distance_transform_edt(numbered == 0, return_indices=True)
    whole = numbered[tuple(nearest)]
    return [Piece(piece.mask & (whole == n)) for n in range(1, numbered.max() + 1)]


def _means(features: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """k-means (Lloyd 1982) from the points that lie farthest apart."""
    centres = [features[np.linalg.norm(features - features.mean(0), axis=1).argmax()]]
    while len(centres) < count:
        away = np.min([np.linalg.norm(features - c, axis=1) for c in centres], axis=0)
        centres.append(features[away.argmax()])
    found = np.array(centres)
    labels = np.zeros(len(features), np.int64)
    for _ in range(12):
        labels = np.linalg.norm(features[:, None] - found, axis=2).argmin(1)
        found = np.array(
            [features[labels == k].mean(0) if (labels == k).any() else found[k]
             for k in range(count)]
        )  # fmt: skip
    return labels


def scores(piece: Piece, picture: Picture, shapes: Shapes, degrees: float | None = None) -> Floats:
    """How well each view (M, E, Y) explains a piece; 1 is the very same.

    Where ``degrees`` says from how high it is seen, only the two heights around that are filled in.
    """
    views = shapes.views
    left, top, right, bottom = piece.box
    crop = torch.tensor(piece.mask[top:bottom, left:right], dtype=torch.float32)
    lab = torch.tensor(picture.lab[top:bottom, left:right], dtype=torch.float32)
    resize = torch.nn.functional.adaptive_avg_pool2d
    fine = torch.nn.functional.interpolate(crop[None, None], (GRID * 4, GRID * 4), mode="nearest")
    own = (resize(fine, GRID)[0, 0] > 0.5).float().flatten().numpy()
    weighted = torch.nn.functional.interpolate(
        torch.cat([lab.permute(2, 0, 1) * crop, crop[None]])[None], (COARSE * 8, COARSE * 8)
    )
    pooled = resize(weighted, COARSE)[0]
    mass = pooled[3]
    colours = (pooled[:3] / mass.clamp(min=1e-6)).permute(1, 2, 0).reshape(-1, 3).numpy()
    there = (mass.flatten() > 0.15).numpy()
    ratio = math.log((right - left) / (bottom - top))
    found = np.zeros(views.ratio.shape, np.float32)
    low = None if degrees is None else _between(degrees)[0]
    for e in range(len(ELEVATIONS)) if low is None else (low, low + 1):
        theirs = np.unpackbits(views.outline[:, e], axis=-1)[..., : GRID * GRID]
        theirs = theirs.reshape(-1, GRID * GRID).astype(np.float32)
        both = theirs @ own
        union = theirs.sum(1) + own.sum() - both
        iou = (both / np.maximum(union, 1)).reshape(-1, YAWS)
        off = np.abs(views.ratio[:, e] - ratio)
        found[:, e] = iou - RATIO * np.minimum(off, 1.5)
        # Colours take time: only where the outline leaves a chance.
        near = np.nonzero(found[:, e] > found[:, e].max() - 0.35)
        lab_e = views.lab[near[0], e, near[1]].astype(np.float32)
        filled = (np.abs(lab_e).sum(-1) > 0) & there
        away = lab_e - colours
        # How bright a thing is depends on the light, of which nothing is known.
        shift = (away[..., 0] * filled).sum(-1) / np.maximum(filled.sum(-1), 1)
        away[..., 0] -= np.clip(shift, -25, 25)[..., None]
        distance = np.minimum(np.linalg.norm(away * (0.5, 1, 1), axis=-1), 60)
        mean = (distance * filled).sum(-1) / np.maximum(filled.sum(-1), 1)
        cost = np.full(found[:, e].shape, COLOUR * 30, np.float32)
        cost[near] = COLOUR * np.where(filled.any(-1), mean, 30)
        found[:, e] -= cost
    return found


def depression(view: View, row: float, size: tuple[int, int]) -> float:
    """How far below the horizon a row of a picture of (width, height) pixels looks, in radians."""
    focal = size[0] / 2 / math.tan(view.fov / 2)
    return view.pitch + math.atan((row - size[1] / 2) / focal)


def _between(degrees: float) -> tuple[int, float]:
    """The height below among those that views were made for, and how far it is to the next."""
    where = float(np.interp(degrees, ELEVATIONS, range(len(ELEVATIONS))))
    low = min(int(where), len(ELEVATIONS) - 2)
    return low, where - low


def lifted(part: Piece, view: View, size: tuple[int, int]) -> float:
    """Degrees above the horizon from which a camera sees a piece."""
    _, top, _, bottom = part.box
    return math.degrees(depression(view, (top + bottom) / 2, size))


def at_elevation(found: Floats, degrees: float) -> Floats:
    """Scores (M, Y) between the heights that views were made for."""
    low, share = _between(degrees)
    return found[:, low] * (1 - share) + found[:, low + 1] * share


def cameras(
    parts: Sequence[Piece],
    found: Sequence[Floats],
    shapes: Shapes,
    size: tuple[int, int],
    fovs: Sequence[float] = FOVS,
    top: int = 4,
) -> list[tuple[float, View]]:
    """The cameras that explain all pieces best, with their scores, best first, none alike."""
    # What looks like no model at all, a fragment, says little about the camera.
    sure = [max(0.15, float(scored.max())) ** 2 for scored in found]
    weights = np.sqrt([p.area for p in parts]) * sure
    weights /= weights.sum()
    usual = EYES * np.square(np.log(np.array(HEIGHTS) / 1.5))
    ranked: list[tuple[float, View]] = []
    for fov in fovs:
        focal = size[0] / 2 / math.tan(fov / 2)
        for degrees in PITCHES:
            pitch = math.radians(degrees)
            total = -usual
            for part, scored, weight in zip(parts, found, weights, strict=True):
                best, wanted = _explained(part, scored, shapes, View(pitch, 1.0, fov), size, focal)
                # A higher camera has everything farther away, and so larger.
                off = np.abs(wanted[:, None] + np.log(HEIGHTS))
                total += weight * (best[:, None] - SIZE * np.maximum(off - 0.1, 0)).max(0)
            ranked += [(float(t), View(pitch, h, fov)) for t, h in zip(total, HEIGHTS, strict=True)]
    ranked.sort(key=lambda pair: -pair[0])
    kept: list[tuple[float, View]] = []
    for score, view in ranked:
        if all(
            abs(view.pitch - k.pitch) > 0.1 or abs(math.log(view.height / k.height)) > 0.25
            for _, k in kept
        ):
            kept.append((score, view))
        if len(kept) == top:
            break
    return kept


def _explained(
    part: Piece, scored: Floats, shapes: Shapes, view: View, size: tuple[int, int], focal: float
) -> tuple[Floats, Floats]:
    """Each model's best score (M,), and the logarithm of how much larger than it the piece is if it
    stands on a floor one metre below the camera."""
    _, top, _, bottom = part.box
    middle = lifted(part, view, size)
    there = at_elevation(scored, middle)
    yaw = there.argmax(1)
    rows = np.arange(len(there))
    foot = depression(view, bottom, size)
    if foot < math.radians(1.0):  # it ends above the horizon: no floor there
        return there[rows, yaw] - 1, np.zeros(len(there), np.float32)
    away = 1 / math.sin(foot)
    seen = (bottom - top) / focal * away * math.cos(foot - view.pitch)
    nearest = int(np.abs(np.subtract(ELEVATIONS, middle)).argmin())
    tall = shapes.views.tall[rows, nearest, yaw]
    return there[rows, yaw], np.log(seen / np.maximum(tall, 1e-3)).astype(np.float32)


def guesses(
    part: Piece,
    scored: Floats,
    shapes: Shapes,
    view: View,
    size: tuple[int, int],
    top: int,
    bonus: Floats | None = None,
    held: float = SIZE,
) -> list[Guess]:
    """The likeliest models of a piece under a camera, each with its likeliest yaw.

    ``bonus`` (M,) is what else speaks for a model; ``held`` is what being of another size costs,
    which is nothing for what may stand on something else.
    """
    focal = size[0] / 2 / math.tan(view.fov / 2)
    best, wanted = _explained(part, scored, shapes, view, size, focal)
    off = np.abs(wanted + math.log(view.height))
    worth = best - held * np.maximum(off - 0.1, 0) + (0 if bonus is None else bonus)
    left, _, right, _ = part.box
    yaw = at_elevation(scored, lifted(part, view, size)).argmax(1)
    # The views' yaw is against the line of sight, ours against the camera's direction.
    side = math.atan(((left + right) / 2 - size[0] / 2) / focal)
    order = np.argsort(-worth, kind="stable")[:top]
    return [
        Guess(int(m), float(yaw[m]) * 2 * math.pi / YAWS - side, float(worth[m]))
        for m in order
        if worth[m] > -5  # less has what may not be used
    ]
