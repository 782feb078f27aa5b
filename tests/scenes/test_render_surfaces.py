"""Level surfaces of meshes made by hand: a table's top, a chair's seat, each board of a shelf."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.render.surfaces import rectangle, sample, surfaces
from tests.scenes.shapes import bookcase, chair, mesh, table


def test_a_table_has_its_top() -> None:
    (top,), filled = surfaces(*mesh(table()))
    assert top.z == pytest.approx(0.75, abs=0.005)
    assert (*top.x, *top.y) == pytest.approx((-0.6, 0.6, -0.4, 0.4), abs=0.025)
    assert top.clearance is None
    assert filled == pytest.approx(1, abs=0.02)


def test_a_chair_has_its_seat_and_not_the_top_of_its_back() -> None:
    (seat,), _ = surfaces(*mesh(chair()))
    assert seat.z == pytest.approx(0.45, abs=0.005)
    assert seat.y[1] == pytest.approx(0.18, abs=0.02)
    assert seat.clearance is None


def test_each_board_of_a_bookcase() -> None:
    found, _ = surfaces(*mesh(bookcase()))
    boards = sorted(found, key=lambda s: s.z)
    assert [s.z for s in boards] == pytest.approx([0.03, 0.43, 0.83, 1.23], abs=0.005)
    for board in boards[:-1]:
        assert board.clearance == pytest.approx(0.37, abs=0.01)
        assert board.x[1] - board.x[0] == pytest.approx(0.74, abs=0.05)
    assert boards[-1].clearance is None


def test_the_inside_of_a_closed_box_is_nowhere_to_stand() -> None:
    outer, inner = ((-0.5, 0.5),) * 2 + ((0.0, 1.0),), ((-0.4, 0.4),) * 2 + ((0.2, 0.6),)
    (top,), _ = surfaces(*mesh([outer, inner]))
    assert top.z == pytest.approx(1, abs=0.005)


def test_normals_may_point_anywhere() -> None:
    points, triangles = mesh(table())
    (top,), _ = surfaces(points, triangles[:, ::-1])
    assert top.z == pytest.approx(0.75, abs=0.005)


def test_a_rug_has_its_top_and_a_ball_nothing() -> None:
    (rug,), _ = surfaces(*mesh([((-1, 1), (-0.7, 0.7), (0, 0.01))]))
    assert rug.z == pytest.approx(0.01)
    assert rug.x == pytest.approx((-1, 1), abs=0.04)
    angles = np.linspace(0, np.pi, 25)
    ring = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points = np.array(
        [
            (0.1 * np.sin(a) * np.cos(b), 0.1 * np.sin(a) * np.sin(b), 0.1 - 0.1 * np.cos(a))
            for a in angles
            for b in ring
        ]
    )
    quads = [
        (i * 48 + j, i * 48 + (j + 1) % 48, (i + 1) * 48 + (j + 1) % 48, (i + 1) * 48 + j)
        for i in range(24)
        for j in range(48)
    ]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    assert surfaces(points, triangles)[0] == ()


def test_a_surface_of_a_round_table_lies_within_it() -> None:
    ring = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    points = np.array([(0, 0, 0.7), *((0.5 * np.cos(a), 0.5 * np.sin(a), 0.7) for a in ring)])
    triangles = np.array([(0, i + 1, (i + 1) % 64 + 1) for i in range(64)])
    foot = mesh([((-0.05, 0.05), (-0.05, 0.05), (0, 0.69))])
    (top, *_), filled = surfaces(
        np.concatenate([points, foot[0]]), np.concatenate([triangles, foot[1] + len(points)])
    )
    assert np.hypot(max(map(abs, top.x)), max(map(abs, top.y))) < 0.5 + 0.04
    assert (top.x[1] - top.x[0]) * (top.y[1] - top.y[0]) > 0.85 * 0.5  # the square has 2 r²
    assert filled == pytest.approx(np.pi / 4, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=7))
def test_the_largest_rectangle_is_full_and_none_is_larger(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    x0, x1, y0, y1 = rectangle(mask)
    assert mask[x0:x1, y0:y1].all()
    area = (x1 - x0) * (y1 - y0)
    height, width = mask.shape
    for a in range(height):
        for b in range(a + 1, height + 1):
            for c in range(width):
                for d in range(c + 1, width + 1):
                    assert not mask[a:b, c:d].all() or (b - a) * (d - c) <= area


def test_samples_lie_on_their_triangle_and_close_together() -> None:
    points = np.array([(0.0, 0, 0), (1, 0, 0.2), (0.3, 0.4, 0.1)])
    spots, level = sample(points, np.array([[0, 1, 2]]), 0.05)
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    assert np.abs((spots - points[0]) @ normal).max() < 1e-12
    assert level == pytest.approx(normal[2] / np.linalg.norm(normal))
    gap = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
    gap[np.diag_indices(len(gap))] = np.inf
    assert gap.min(1).max() <= 0.05
