"""Small model files for the tests of rendering, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def obj(path: Path, boxes: Sequence[Box], material: str = "", doubled: bool = False) -> Path:
    """Boxes given in our frame (x, y, z up) as an OBJ, whose frame is (x, z, -y)."""
    lines = [f"mtllib {path.stem}.mtl", "usemtl paint"] if material else []
    if material:
        path.with_suffix(".mtl").write_text(f"newmtl paint\n{material}\n")
    for number, ((x0, x1), (y0, y1), (z0, z1)) in enumerate(boxes):
        for x, y, z in ((x, y, z) for z in (z0, z1) for y in (y0, y1) for x in (x0, x1)):
            lines.append(f"v {x} {z} {-y}")
        faces = [(1, 3, 4, 2), (5, 6, 8, 7), (1, 2, 6, 5), (2, 4, 8, 6), (4, 3, 7, 8), (3, 1, 5, 7)]
        for face in faces + [face[::-1] for face in faces] * doubled:
            lines.append("f " + " ".join(str(number * 8 + corner) for corner in face))
    path.write_text("\n".join(lines) + "\n")
    return path


def mesh(boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as points (n, 3) and triangles (m, 3) in our frame."""
    points, triangles = [], []
    for (x0, x1), (y0, y1), (z0, z1) in boxes:
        start = len(points)
        points += [(x, y, z) for z in (z0, z1) for y in (y0, y1) for x in (x0, x1)]
        for a, b, c, d in (
            (0, 2, 3, 1),
            (4, 5, 7, 6),
            (0, 1, 5, 4),
            (1, 3, 7, 5),
            (3, 2, 6, 7),
            (2, 0, 4, 6),
        ):
            triangles += [(start + a, start + b, start + c), (start + a, start + c, start + d)]
    return np.array(points, float), np.array(triangles)


def legs(width: float, depth: float, height: float, thick: float = 0.05) -> list[Box]:
    """Four legs under the corners of a plan around the origin."""
    x, y = width / 2, depth / 2
    return [
        ((sx, sx + thick), (sy, sy + thick), (0, height))
        for sx in (-x, x - thick)
        for sy in (-y, y - thick)
    ]


def table(width: float = 1.2, depth: float = 0.8, height: float = 0.75) -> list[Box]:
    top = ((-width / 2, width / 2), (-depth / 2, depth / 2), (height - 0.04, height))
    return [*legs(width, depth, height - 0.04), top]


def chair() -> list[Box]:
    """Seat at 0.45, back up to 0.9 behind it."""
    seat = ((-0.22, 0.22), (-0.22, 0.22), (0.41, 0.45))
    back = ((-0.22, 0.22), (0.18, 0.22), (0.45, 0.9))
    return [*legs(0.44, 0.44, 0.41, 0.04), seat, back]


def bookcase() -> list[Box]:
    """Four boards 0.4 apart between two sides, and a closed back; open to the front."""
    sides = [((x, x + 0.03), (-0.15, 0.15), (0, 1.23)) for x in (-0.4, 0.37)]
    boards = [((-0.37, 0.37), (-0.15, 0.13), (z, z + 0.03)) for z in (0, 0.4, 0.8, 1.2)]
    return [*sides, *boards, ((-0.4, 0.4), (0.13, 0.15), (0, 1.23))]
