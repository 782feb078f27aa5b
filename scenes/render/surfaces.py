"""Level surfaces of a mesh: where things can stand on, in or under it. No Blender here.

The mesh is sampled to points over a grid of its plan. Points that face up, or have nothing above
them, are gathered by height; where a height covers enough of the plan with room above, the largest
rectangle inside it is a surface. So a table has its top, a chair its seat and not the top of its
back, a bookcase each of its boards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenes.graph import Surface

CELLS = 64
"""Of the grid along the longer side of the plan."""
LEVEL = 0.95
"""The least z of a normal that is level: 18 degrees."""
BAND = 0.03
"""Metres of height that one surface may cover: cushions are not flat."""
ROOM = 0.06
"""The least clearance and the least side of a surface, in metres."""
MOST = 16

Floats = NDArray[np.float64]


def surfaces(
    points: Floats, triangles: NDArray[np.int64]
) -> tuple[tuple[Surface, ...], float]:
    """The surfaces of a mesh, largest first, and the share of its plan that is under something.

    ``points`` is (n, 3), in metres in the asset's frame; ``triangles`` (m, 3), its corners.
    """
    low, high = points.min(0), points.max(0)
    extent = high - low
    cell = float(np.clip(extent[:2].max() / CELLS, 0.002, 0.5))
    shape = np.maximum(np.ceil(extent[:2] / cell - 1e-6).astype(int), 1)
    spots, level = sample(points, triangles, cell * 0.6)
    where = np.clip(((spots[:, :2] - low[:2]) / cell).astype(int), 0, shape - 1)
    flat = where[:, 0] * shape[1] + where[:, 1]
    height = spots[:, 2]
    top = np.full(shape.prod(), -np.inf)
    np.maximum.at(top, flat, height)
    filled = float(np.isfinite(top).mean())
    up = (level > LEVEL) | ((np.abs(level) > LEVEL) & (height > top[flat] - BAND / 3))
    found: list[Surface] = []
    for z in _heights(height[up], flat[up]):
        here = up & (height <= z + 1e-6) & (height >= z - BAND)
        covered = np.zeros(shape.prod(), bool)
        covered[flat[here]] = True
        above = np.full(shape.prod(), np.inf)
        higher = height > z + 0.005
        np.minimum.at(above, flat[higher], height[higher])
        free = (_closed(covered.reshape(shape))) & ((above - z).reshape(shape) >= ROOM)
        x0, x1, y0, y1 = rectangle(free)
        width, depth = (x1 - x0) * cell, (y1 - y0) * cell
        if min(width, depth) < ROOM or width * depth < 0.04 * extent[0] * extent[1]:
            continue
        clear = float((above.reshape(shape)[x0:x1, y0:y1]).min() - z)
        found.append(
            Surface(
                x=(float(low[0] + x0 * cell), float(min(low[0] + x1 * cell, high[0]))),
                y=(float(low[1] + y0 * cell), float(min(low[1] + y1 * cell, high[1]))),
                z=float(z),
                clearance=clear if np.isfinite(clear) else None,
            )
        )
    found.sort(key=lambda s: (s.x[0] - s.x[1]) * (s.y[1] - s.y[0]))
    return tuple(found[:MOST]), filled


def _heights(height: Floats, flat: NDArray[np.int64]) -> list[float]:
    """Heights that many cells of the plan share, most first; BAND apart at least."""
    if not len(height):
        return []
    step = BAND / 3
    low = float(height.min())
    bins = ((height - low) / step).astype(np.int64)
    # A cell counts once a height, however finely its triangles are sampled.
    unique = np.unique(np.stack([bins, flat], 1), axis=0)
    counts = np.bincount(unique[:, 0], minlength=int(bins.max()) + 3).astype(float)
    found: list[float] = []
    while len(found) < 2 * MOST:
        window = counts[:-2] + counts[1:-1] + counts[2:]
        best = int(window.argmax())
        if window[best] < 4:
            return found
        inside = height[(bins >= best) & (bins <= best + 2)]
        # Nearly the highest: things shall stand on it and not sink in.
        found.append(float(np.quantile(inside, 0.95)))
        counts[best : best + 3] = 0
    return found


def sample(
    points: Floats, triangles: NDArray[np.int64], step: float
) -> tuple[Floats, Floats]:
    """Points on triangles no more than about ``step`` apart, (k, 3), and the z of their normals."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    edges = np.stack([b - a, c - b, a - c])
    longest = np.linalg.norm(edges, axis=-1).argmax(0)
    # Turned so that a to b is the longest edge, which keeps slivers cheap.
    order = np.stack([longest, (longest + 1) % 3, (longest + 2) % 3], 1)
    corners = np.take_along_axis(np.stack([a, b, c], 1), order[:, :, None], 1)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    cross = np.cross(b - a, c - a)
    double = np.linalg.norm(cross, axis=1)
    base = np.linalg.norm(b - a, axis=1)
    keep = double > 1e-12
    a, b, c, cross, double, base = (v[keep] for v in (a, b, c, cross, double, base))
    along = _powers(base / step)
    across = _powers(double / base / step)
    spots, levels = [np.empty((0, 3))], [np.empty(0)]
    for n, m in np.unique(np.stack([along, across], 1), axis=0):
        group = np.flatnonzero((along == n) & (across == m))
        # Rows from the longest edge to the corner; each as many points, closer towards it.
        v, u = np.meshgrid((np.arange(m) + 0.5) / m, (np.arange(n) + 0.5) / n)
        u, v = u.ravel()[:, None], v.ravel()[:, None]
        wa, wb, wc = (1 - u) * (1 - v), u * (1 - v), v
        spots.append(
            (a[group, None] * wa + b[group, None] * wb + c[group, None] * wc).reshape(-1, 3)
        )
        levels.append(np.repeat(cross[group, 2] / double[group], n * m))
    return np.concatenate(spots), np.concatenate(levels)


def _powers(ratio: Floats) -> NDArray[np.int64]:
    """The least power of two that is no less than ``ratio``, up to 256."""
    return np.asarray(2 ** np.ceil(np.log2(np.clip(ratio, 1, 256))).astype(np.int64))


def _closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Gaps of up to two cells filled, as between the slats of a bench."""
    from scipy.ndimage import binary_closing

    padded = np.pad(mask, 2)
    return np.asarray(binary_closing(padded, np.ones((3, 3), bool))[2:-2, 2:-2] | mask)


def rectangle(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The largest rectangle of true cells: first and past-the-last place along both axes."""
    best, area = (0, 0, 0, 0), 0
    runs = np.zeros(mask.shape[1], int)
    for row in range(mask.shape[0]):
        runs = np.where(mask[row], runs + 1, 0)
        stack: list[tuple[int, int]] = []
        for column, run in enumerate([*runs.tolist(), 0]):
            start = column
            while stack and stack[-1][1] >= run:
                start, tall = stack.pop()
                if tall * (column - start) > area:
                    area = tall * (column - start)
                    best = (row - tall + 1, row + 1, start, column)
            stack.append((start, run))
    return best
