"""Cameras: what they frame, how they project, and the paths they take."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from scenes.graph import Room
from scenes.render.jobs import Camera, Scene, Thing
from scenes.render.views import MARGIN, VIEWS, axes, corners, extent, frame, path, project, view

number = st.floats(-20, 20)
size = st.floats(0.01, 5)
thing = st.builds(
    Thing,
    id=st.just("thing"),
    size=st.tuples(size, size, size),
    location=st.tuples(number, number, st.floats(0, 3)),
    yaw=st.floats(-7, 7),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(thing, min_size=1, max_size=6), st.sampled_from(list(VIEWS)), st.floats(0.5, 2.5))
def test_a_view_holds_every_corner_and_no_nearer_one_would(
    things: list[Thing], name: str, aspect: float
) -> None:
    points = extent(things)
    camera = frame(points, VIEWS[name], aspect)  # type: ignore[index]
    seen = project(camera, points, 1000, round(1000 / aspect))
    assert (seen[:, 2] > 0).all()
    shares = np.abs(seen[:, :2] / (1000, 1000 / aspect) - 0.5) * 2
    assert shares.max() <= 1 / MARGIN + 2e-3
    assert shares.max() >= 1 / MARGIN - 2e-2 or seen[:, 2].min() < 0.06


def test_projection_by_hand() -> None:
    camera = Camera(location=(0, -5, 1), target=(0, 0, 1), fov=math.pi / 2)
    points = np.array([(0, 0, 1), (5, 0, 1), (0, 0, 6), (0, -6, 1)], float)
    seen = project(camera, points, 200, 100)
    assert seen[0] == pytest.approx((100, 50, 5))
    assert seen[1] == pytest.approx((200, 50, 5))
    assert seen[2] == pytest.approx((100, -50, 5))
    assert seen[3, 2] == pytest.approx(-1)


def test_axes_are_a_rotation_also_straight_down() -> None:
    for target in ((1, 2, -3), (0, 0, -1), (0, 0, 1), (5, 0, 0)):
        basis = axes(Camera(location=(0, 0, 0), target=target))
        assert basis.T @ basis == pytest.approx(np.eye(3))
        assert np.linalg.det(basis) == pytest.approx(1)
    assert axes(Camera(location=(0, 0, 5), target=(0, 0, 0))) == pytest.approx(np.eye(3))


def test_corners_turn_counterclockwise_from_above() -> None:
    turned = corners(Thing(id="a", size=(2, 1, 1), yaw=math.pi / 2, location=(3, 0, 0)))
    assert turned.min(0) == pytest.approx((2.5, -1, 0))
    assert turned.max(0) == pytest.approx((3.5, 1, 1))


def test_an_empty_scene_is_framed_by_its_room() -> None:
    scene = Scene(things=(), room=Room(width=4, depth=3))
    seen = project(view(scene), extent((), scene.room), 400, 300)
    assert (seen[:, :2].min() >= 0) and (seen[:, 0].max() <= 400)
    with pytest.raises(UserError, match="no view is called 'under'"):
        view(scene, "under")  # type: ignore[arg-type]


def test_paths() -> None:
    start = Camera(location=(0, -4, 2), target=(0, 0, 1))
    orbit = path(start, "orbit", 9, math.pi)
    assert orbit[4].location == pytest.approx(start.location)
    assert [math.dist(c.location, c.target) for c in orbit] == pytest.approx([math.sqrt(17)] * 9)
    assert orbit[-1].location == pytest.approx((4, 0, 2), abs=1e-9)
    dolly = path(start, "dolly", 3)
    assert [math.dist(c.location, c.target) for c in dolly] == pytest.approx(
        [math.sqrt(17) * s for s in (1.25, 1, 0.75)]
    )
    pan = path(start, "pan", 5)
    assert {c.location for c in pan} == {start.location}
    assert pan[0].target[0] < 0 < pan[-1].target[0]  # from left to right
    assert path(start, "static", 2) == (start, start)
    assert path(start, "orbit", 1) == (start,)
    with pytest.raises(UserError, match="0 frames"):
        path(start, "orbit", 0)
