"""Level surfaces of a mesh: where things can stand on, in or under it. No Blender here.

The mesh is sampled to points over a grid of its plan. Points of level faces are gathered by
height; where a height covers enough of the plan, with room above that can be reached from outside,
the largest rectangle inside it is a surface. So a table has its top, a chair its seat and not the
top of its back, a bookcase each of its boards.
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
SEAM = 0.06
"""Metres of a gap that a surface goes on over."""
LAYERS = 160
"""The air above and beside a mesh is looked at in at most so many layers."""
MOST = 16

Floats = NDArray[np.float64]


def surfaces(points: Floats, triangles: NDArray[np.int64]) -> tuple[tuple[Surface, ...], float]:
    """The surfaces of a mesh, largest first, and the share of its plan that is under something.

    ``points`` is (n, 3), in metres in the asset's frame; ``triangles`` (m, 3), its corners.
    """
    low, high = points.min(0), points.max(0)
    extent = high - low
    cell = float(np.clip(extent[:2].max() / CELLS, 0.002, 0.5))
    shape = np.maximum(np.ceil(extent[:2] / cell - 1e-6).astype(int), 1)
    spots, level = sample(points, triangles, cell * 0.7)
    where = np.clip(((spots[:, :2] - low[:2]) / cell).astype(int), 0, shape - 1)
    flat = where[:, 0] * shape[1] + where[:, 1]
    height = spots[:, 2]
    filled = len(np.unique(flat)) / int(shape.prod())
    layer = max(cell, float(extent[2]) / LAYERS)
    reached = _outside(flat, ((height - low[2]) / layer).astype(int), shape)
    flat_here = np.abs(level) > LEVEL
    found: list[Surface] = []
    for z in _heights(height[flat_here], flat[flat_here]):
        here = flat_here & (height <= z + 1e-6) & (height >= z - BAND)
        covered = np.zeros(shape.prod(), bool)
        covered[flat[here]] = True
        above = np.full(shape.prod(), np.inf)
        higher = height > z + 0.005
        np.minimum.at(above, flat[higher], height[higher])
        above = above.reshape(shape)
        # The layer of the surface is filled by the surface itself; the next may be by its rim.
        next_up = int((z - low[2]) / layer) + 1
        open_air = reached[:, :, next_up] | reached[:, :, min(next_up + 1, reached.shape[2] - 1)]
        free = _closed(covered.reshape(shape), cell) & (above - z >= ROOM) & open_air
        least = max(0.04 * float(extent[0] * extent[1]), ROOM**2)
        if free.sum() * cell**2 < least:
            continue
        x0, x1, y0, y1 = _largest(free, np.isinf(above))
        width, depth = (x1 - x0) * cell, (y1 - y0) * cell
        if min(width, depth) < ROOM or width * depth < least:
            continue
        clear = float(above[x0:x1, y0:y1].min() - z)
        found.append(
            Surface(
                x=(float(low[0] + x0 * cell), float(min(low[0] + x1 * cell, high[0]))),
                y=(float(low[1] + y0 * cell), float(min(low[1] + y1 * cell, high[1]))),
                z=float(z),
                clearance=clear if np.isfinite(clear) else None,
            )
        )
    found.sort(key=lambda s: (s.x[0] - s.x[1]) * (s.y[1] - s.y[0]))
    apart: list[Surface] = []
    for surface in found:
        if not any(_same(surface, other) for other in apart):
            apart.append(surface)
    return tuple(apart[:MOST]), filled


def _same(one: Surface, other: Surface) -> bool:
    """Whether two finds are one place: over each other, with no room between."""
    over = all(min(a[1], b[1]) > max(a[0], b[0]) for a, b in ((one.x, other.x), (one.y, other.y)))
    return over and abs(one.z - other.z) < ROOM


def _heights(height: Floats, flat: NDArray[np.int64]) -> list[float]:
    """Heights that many cells of the plan share, most first; BAND apart at least."""
    if not len(height):
        return []
    step = BAND / 3
    low = float(height.min())
    bins = ((height - low) / step).astype(np.int64)
    # A cell counts once a height, however finely its triangles are sampled.
    seen = np.zeros((int(bins.max()) + 3, int(flat.max()) + 1), bool)
    seen[bins, flat] = True
    counts = seen.sum(1)
    found: list[float] = []
    while len(found) < 3 * MOST:
        window = counts[:-2] + counts[1:-1] + counts[2:]
        best = int(window.argmax())
        if window[best] < 4:
            return found
        inside = height[(bins >= best) & (bins <= best + 2)]
        # Nearly the highest: things shall stand on it and not sink in.
        found.append(float(np.quantile(inside, 0.95)))
        counts[best : best + 3] = 0
    return found


def sample(points: Floats, triangles: NDArray[np.int64], step: float) -> tuple[Floats, Floats]:
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
    pairs = along * 1024 + across
    for pair in np.unique(pairs):
        n, m = divmod(int(pair), 1024)
        group = np.flatnonzero(pairs == pair)
        # Rows from the longest edge to the corner; each as many points, closer towards it.
        v, u = np.meshgrid((np.arange(m) + 0.5) / m, (np.arange(n) + 0.5) / n)
        u, v = u.ravel()[:, None], v.ravel()[:, None]
        wa, wb, wc = (1 - u) * (1 - v), u * (1 - v), v
        spots.append(
            (a[group, None] * wa + b[group, None] * wb + c[group, None] * wc).reshape(-1, 3)
        )
        levels.append(np.repeat(cross[group, 2] / double[group], n * m))
    return np.concatenate(spots), np.concatenate(levels)


def _largest(free: NDArray[np.bool_], sky: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The largest rectangle, or the largest under the sky where that is not much smaller."""
    wide, high = rectangle(free), rectangle(free & sky)
    areas = [(r[1] - r[0]) * (r[3] - r[2]) for r in (wide, high)]
    return high if areas[1] >= 0.6 * areas[0] else wide


def _powers(ratio: Floats) -> NDArray[np.int64]:
    """The least power of two that is no less than ``ratio``, up to 256."""
    return np.asarray(2 ** np.ceil(np.log2(np.clip(ratio, 1, 256))).astype(np.int64))


def _outside(
    flat: NDArray[np.int64], layers: NDArray[np.int64], shape: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The cells (x, y, layer) of the air that is connected with the air around the mesh.

    So the inside of a cushion or of a closed wardrobe is nowhere to stand, whatever the normals
    say. Air comes from the sides and from above; the floor is closed. There are three layers more
    than the mesh is high.
    """
    from scipy.ndimage import label

    count = int(layers.max()) + 4
    air = np.ones((int(shape[0]) + 2, int(shape[1]) + 2, count), bool)
    inner = np.ones((int(shape.prod()), count), bool)
    inner[flat, layers] = False
    air[1:-1, 1:-1] = inner.reshape(int(shape[0]), int(shape[1]), count)
    parts, _ = label(air)
    return np.asarray(parts[1:-1, 1:-1] == parts[0, 0, 0])


def _closed(mask: NDArray[np.bool_], cell: float) -> NDArray[np.bool_]:
    """Gaps of up to SEAM filled, as between the slats of a bench or the cushions of a sofa."""
    from scipy.ndimage import binary_closing

    reach = max(1, round(SEAM / 2 / cell))
    padded = np.pad(mask, reach)
    closed = binary_closing(padded, np.ones((2 * reach + 1, 2 * reach + 1), bool))
    return np.asarray(closed[reach:-reach, reach:-reach] | mask)


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
