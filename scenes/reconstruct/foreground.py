"""What of a picture is a thing and what is ground, wall or sky, without a model that was trained.

Background is what can be reached from the picture's edges without crossing an edge: the geodesic
distance from the border, as in Wei et al. 2012 ("Geodesic saliency using background priors"), with
steps below the noise for free. What is far is set aside, the rest filled in smoothly, and the
difference between the picture and that filled-in background decides for each pixel; a random walker
(Grady 2005, with priors) makes the decision follow the picture's own edges. A pixel that is the
background but darker is a shadow, up to a point.

What it cannot do: tell a thing that the picture's edge cuts off, a thing of the background's own
colour (a white chair before a white wall), or a hard shadow as dark as a thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve

from common.errors import UserError

Floats = NDArray[np.float64]
WIDTH = 160
"""Pixels across that a picture is looked at with."""
SMALLEST = 0.0008
"""Share of the picture below which a piece is a speck."""


@dataclass(frozen=True)
class Picture:
    """A picture as it is looked at: ``rgb`` (H, W, 3) from 0 to 1, ``lab`` of the same, ``things``
    (H, W) the probability that a pixel shows a thing, and ``full`` the picture's own size."""

    path: Path
    rgb: Floats
    lab: Floats
    things: Floats
    full: tuple[int, int]

    @property
    def mask(self) -> NDArray[np.bool_]:
        return self.things > 0.5


def read(path: Path, width: int = WIDTH) -> Picture:
    """A picture file, looked at.

    Raises:
        UserError: no such file, no picture, or one too small.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"cannot read the picture {path}: {error}", "name a PNG or JPEG") from error
    full = image.size
    if min(full) < 48 or max(full) > 6 * min(full):
        raise UserError(
            f"{path} is {full[0]} by {full[1]} pixels", "give 48 or more a side, and no strip"
        )
    small = image.resize((width, max(16, round(width * full[1] / full[0]))), Image.Resampling.BOX)
    rgb = np.asarray(small, float) / 255
    lab = to_lab(rgb)
    return Picture(path, rgb, lab, foreground(lab), full)


def to_lab(rgb: Floats) -> Floats:
    """sRGB from 0 to 1 as CIE L*a*b* under D65."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = linear @ (0.4124, 0.3576, 0.1805)
    y = linear @ (0.2126, 0.7152, 0.0722)
    z = linear @ (0.0193, 0.1192, 0.9505)
    xyz = np.stack([x / 0.9505, y, z / 1.089], -1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]
    return np.asarray(np.stack(lab, -1))


def foreground(lab: Floats) -> Floats:
    """The probability that each pixel (H, W) shows a thing."""
    soft = np.stack([ndimage.gaussian_filter(lab[..., c], 0.7) for c in range(3)], -1)
    height, width = lab.shape[:2]
    right, down = _steps(soft)
    free = 1.5 * _local(right), 1.5 * _local(down)
    reach = _reach(np.maximum(right - free[0] - 0.2, 0), np.maximum(down - free[1] - 0.2, 0))
    far = reach > max(2.0, 0.03 * float(np.quantile(reach, 0.98)))
    for _ in range(3):
        known = ~ndimage.binary_dilation(far, iterations=2)
        behind = _filled(soft, known)
        unlike = _unlike(soft, behind)
        # How much background differs from itself hereabouts.
        weight = ndimage.gaussian_filter(known.astype(float), 12, mode="nearest") + 1e-6
        spread = ndimage.gaussian_filter(unlike * known, 12, mode="nearest") / weight
        bound = np.maximum(3.0, 3.0 * spread)
        prior = 1 / (1 + np.exp(-(unlike - bound) / np.maximum(1.0, 0.25 * bound)))
        # A pixel that no way leads to is a thing's even where its colour is the background's.
        prior = np.clip(prior + 0.25 * (reach > 2 * bound), 0.02, 0.98)
        prior[[0, -1]] = prior[:, [0, -1]] = 0.02
        walked = _walked(soft, prior, height, width)
        far = walked > 0.5
    return np.where(_whole(far), walked, np.minimum(walked, 0.49))


def _local(steps: Floats) -> Floats:
    """What half of the steps around each pixel stay below: grain, and not the edges of things."""
    coarse = ndimage.percentile_filter(steps[::2, ::2], 50, size=15)
    height, width = steps.shape
    return np.asarray(coarse.repeat(2, 0).repeat(2, 1)[:height, :width])


def _steps(lab: Floats) -> tuple[Floats, Floats]:
    """How much colour changes from each pixel to the next, right and down; light counts less."""
    scaled = lab * (0.7, 1.0, 1.0)
    return (
        np.linalg.norm(np.diff(scaled, axis=1), axis=-1),
        np.linalg.norm(np.diff(scaled, axis=0), axis=-1),
    )


def _grid(right: Floats, down: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The edges of the pixel grid as two lists of pixels, with their weights."""
    height, width = right.shape[0], down.shape[1]
    number = np.arange(height * width).reshape(height, width)
    a = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    b = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    return a, b, np.concatenate([right.ravel(), down.ravel()])


def _reach(right: Floats, down: Floats) -> Floats:
    """The least sum of steps from the border to each pixel (H, W)."""
    height, width = right.shape[0], down.shape[1]
    a, b, cost = _grid(right, down)
    count = height * width
    # Zero is no edge to a sparse matrix.
    graph = sparse.coo_matrix((cost + 1e-3, (a, b)), (count, count)).tocsr()
    border = np.zeros((height, width), bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    found = csgraph.dijkstra(
        graph, directed=False, indices=np.flatnonzero(border.ravel()), min_only=True
    )
    return np.asarray(found).reshape(height, width)


def _filled(lab: Floats, known: NDArray[np.bool_]) -> Floats:
    """The background everywhere: where it is not ``known``, from what is around, row by row first.

    Ground and walls change from top to bottom more than from left to right.
    """
    weight = known.astype(float)
    found = np.zeros_like(lab)
    total = np.zeros(lab.shape[:2])
    for sigma, trust in (((1.0, 6.0), 1.0), ((3.0, 20.0), 1e-2), ((8.0, 60.0), 1e-4)):
        mass = ndimage.gaussian_filter(weight, sigma, mode="nearest") * trust
        total += mass
        for c in range(3):
            found[..., c] += trust * ndimage.gaussian_filter(
                lab[..., c] * weight, sigma, mode="nearest"
            )
    found /= np.maximum(total, 1e-12)[..., None]
    return np.asarray(np.where(known[..., None], (lab + found) / 2, found))


def _unlike(lab: Floats, behind: Floats) -> Floats:
    """How far each pixel is from the background, shadows forgiven in part."""
    difference = lab - behind
    unlike = np.hypot(np.linalg.norm(difference[..., 1:], axis=-1), 0.8 * difference[..., 0])
    return np.asarray(unlike * (1 - 0.8 * _shadow(lab, behind)))


def _shadow(lab: Floats, behind: Floats) -> Floats:
    """How likely it is that a pixel is only the background with less light, from 0 to 1.

    A shadow takes as much of each colour, or leaves more of the blue, which comes from the sky. On
    ground that has a colour a dark thing takes otherwise; on grey ground it does not, and only what
    is not much darker passes for a shadow.
    """
    left = np.log(np.maximum(to_linear(lab), 2e-3) / np.maximum(to_linear(behind), 2e-3))
    red, green, blue = (left[..., c] for c in range(3))
    mean = np.exp(left.mean(-1))
    odd = np.maximum(np.maximum(red - green, green - blue), 0)
    hue = np.linalg.norm(behind[..., 1:], axis=-1)
    darkest = 0.5 - 0.4 * hue / (hue + 6)

    def below(value: Floats, bound: float | Floats, width: float) -> Floats:
        return np.asarray(1 / (1 + np.exp(np.clip((value - bound) / width, -30, 30))))

    return (
        below(odd, 0.22, 0.05) * below(blue - red, 1.4, 0.1) * below(darkest, mean, 0.04)
        * below(mean, 1.0, 0.02)
    )  # fmt: skip


def to_linear(lab: Floats) -> Floats:
    """CIE L*a*b* under D65 as linear RGB, not clipped."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 0.2069, f**3, (f - 16 / 116) / 7.787) * (0.9505, 1.0, 1.089)
    red = xyz @ (3.2406, -1.5372, -0.4986)
    green = xyz @ (-0.9689, 1.8758, 0.0415)
    blue = xyz @ (0.0557, -0.2040, 1.0570)
    return np.stack([red, green, blue], -1)


def _walked(lab: Floats, prior: Floats, height: int, width: int) -> Floats:
    """The prior, made to agree between pixels that look alike."""
    right, down = _steps(lab)
    a, b, step = _grid(right, down)
    pull = np.exp(-((step / 4.0) ** 2)) + 1e-3
    count = height * width
    links = sparse.coo_matrix((pull, (a, b)), (count, count))
    links = links + links.T
    own = 0.15
    system = sparse.diags(np.asarray(links.sum(1)).ravel() + own) - links
    return np.asarray(spsolve(system.tocsc(), own * prior.ravel())).reshape(height, width)


def _whole(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask without specks, and without what the picture's edge cuts: borders of floors mostly."""
    # The horizon, where the filled-in background is neither ground nor sky.
    line = ndimage.binary_opening(mask, np.ones((1, 40))) & ~ndimage.binary_opening(
        mask, np.ones((3, 1))
    )
    mask = mask & ~line
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = sizes >= max(6, SMALLEST * mask.size)
    inner = np.zeros(mask.shape, bool)
    inner[2:-2, 2:-2] = True
    cut = np.unique(pieces[~inner])
    keep[cut] &= sizes[cut] > 0.1 * mask.size
    keep[0] = False
    return np.asarray(keep[pieces])
