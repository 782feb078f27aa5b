"""Rectangles seen from above, in plain numpy: what the judge of the benchmark measures with.

Written apart from :mod:`scenes.relations.boxes`, which the solver uses, so that a mistake in one is
not hidden by the same mistake in the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Rectangle:
    """``middle`` in metres, turned by ``yaw`` counterclockwise; at yaw 0 it looks along -y."""

    middle: tuple[float, float]
    yaw: float
    width: float
    depth: float

    @property
    def area(self) -> float:
        return self.width * self.depth

    @property
    def forward(self) -> tuple[float, float]:
        return math.sin(self.yaw), -math.cos(self.yaw)

    def corners(self) -> Points:
        """(4, 2), counterclockwise."""
        w, d = self.width / 2, self.depth / 2
        local = np.array([[-w, -d], [w, -d], [w, d], [-w, d]])
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        turned: Points = local @ np.array([[c, s], [-s, c]]) + self.middle
        return turned

    def local(self, point: tuple[float, float]) -> tuple[float, float]:
        """A point as the rectangle sees it: x along its width, y to its back."""
        x, y = point[0] - self.middle[0], point[1] - self.middle[1]
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return x * c + y * s, -x * s + y * c

    def holds(self, point: tuple[float, float]) -> bool:
        x, y = self.local(point)
        return abs(x) <= self.width / 2 + 1e-6 and abs(y) <= self.depth / 2 + 1e-6

    def off(self, point: tuple[float, float]) -> float:
        """Radians between where it looks and the way to ``point``, 0 to pi."""
        x, y = self.local(point)
        return abs(math.atan2(x, -y))

    def meets(self, other: Rectangle) -> bool:
        """Whether the ray from its middle, forward, hits ``other``."""
        (x, y), (dx, dy) = other.local(self.middle), self.forward
        c, s = math.cos(other.yaw), math.sin(other.yaw)
        way = (dx * c + dy * s, -dx * s + dy * c)
        near, far = 0.0, math.inf
        for at, step, half in zip((x, y), way, (other.width / 2, other.depth / 2), strict=True):
            if abs(step) < 1e-9:
                if abs(at) > half:
                    return False
                continue
            first, last = sorted(((-half - at) / step, (half - at) / step))
            near, far = max(near, first), min(far, last)
        return near <= far


def shared_area(a: Rectangle, b: Rectangle) -> float:
    """Square metres that two rectangles have in common (Sutherland and Hodgman's clipping)."""
    polygon = [tuple(p) for p in a.corners()]
    clip = b.corners()
    for start, end in zip(clip, np.roll(clip, -1, 0), strict=True):
        edge = end - start
        given, polygon = polygon, []
        for p, q in zip(given, [*given[1:], *given[:1]], strict=True):
            inside_p = edge[0] * (p[1] - start[1]) - edge[1] * (p[0] - start[0])
            inside_q = edge[0] * (q[1] - start[1]) - edge[1] * (q[0] - start[0])
            if inside_p >= 0:
                polygon.append(p)
            if inside_p * inside_q < 0:
                t = inside_p / (inside_p - inside_q)
                polygon.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
        if len(polygon) < 3:
            return 0.0
    x, y = np.array(polygon).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def gap(a: Rectangle, b: Rectangle) -> float:
    """Metres between two rectangles; 0 if they touch or overlap."""
    if shared_area(a, b) > 0:
        return 0.0
    return min(_to_edges(a.corners(), b.corners()), _to_edges(b.corners(), a.corners()))


def _to_edges(points: Points, corners: Points) -> float:
    """The least distance of points to the edges of a polygon."""
    starts = corners
    ways = np.roll(corners, -1, 0) - corners
    away = points[:, None] - starts
    t = np.clip((away * ways).sum(-1) / np.maximum((ways**2).sum(-1), 1e-12), 0, 1)
    return float(np.linalg.norm(away - t[..., None] * ways, axis=-1).min())
