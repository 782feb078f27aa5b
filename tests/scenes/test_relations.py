"""Relations against closed forms, with the defects of the published ones, and as invariants."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from scenes.graph import Asset, Relation, SceneGraph
from scenes.relations import KINDS, check, signatures
from scenes.relations.boxes import (
    Poses,
    Walls,
    gap,
    overlap_area,
    overlap_volume,
    separation,
)

PAPER = {
    "proximity", "direction", "alignment", "symmetry", "overlap", "parallelism",
    "perpendicularity", "hierarchy", "rotation", "repetition", "scaling",
}  # fmt: skip
Box = tuple[float, float, float, float]
ROOM = Walls(3.0, 2.5, 2.6)


def poses(*assets: tuple[float, ...], size: object = (1.0, 1.0, 1.0), **more: object) -> Poses:
    """Assets as x, y, yaw and z (or less); ``size`` of all, or a list of each."""
    rows = [(*a, *(0.0,) * (4 - len(a))) for a in assets]
    sizes = size if isinstance(size, list) else [size] * len(rows)
    at = torch.tensor([[x, y, z] for x, y, _, z in rows], dtype=torch.float64)
    yaw = torch.tensor([r[2] for r in rows], dtype=torch.float64)
    return Poses(at, yaw, torch.tensor(sizes, dtype=torch.float64), **more)  # type: ignore[arg-type]


def score(kind: str, p: Poses, **options: object) -> float:
    return float(KINDS[kind].score(p, **{**KINDS[kind].options, **options}))


def test_the_eleven_of_the_paper_are_there() -> None:
    assert set(KINDS) >= PAPER
    assert set(KINDS) >= {
        "on",
        "under",
        "against-wall",
        "facing",
        "inside",
        "between",
        "keep-clear",
    }


def test_geometry_in_closed_form() -> None:
    a, b = poses((0, 0)), poses((1.5, 0))
    assert float(separation(a, b)) == pytest.approx(0.5)
    assert float(gap(a, poses((1.3, 1.4)))) == pytest.approx(0.5)  # corner to corner: 0.3, 0.4
    assert float(gap(a, poses((0.8, 0.1)))) == pytest.approx(-0.2)
    assert float(overlap_area(a, poses((0.25, 0.5)))) == pytest.approx(0.75 * 0.5)
    # A unit square and its copy turned by 45 degrees share a regular octagon.
    octagon = 2 * (math.sqrt(2) - 1)
    assert float(overlap_area(a, poses((0, 0, math.pi / 4)))) == pytest.approx(octagon)
    assert float(overlap_area(a, poses((3, 0, 0.3)))) == 0
    assert float(overlap_area(a, poses((0, 0)))) == pytest.approx(1)
    assert float(overlap_volume(a, poses((0.5, 0, 0, 0.75)))) == pytest.approx(0.5 * 0.25)


def test_proximity_falls_from_one_to_five_metres() -> None:
    for between, wanted in ((0.5, 1.0), (1.0, 1.0), (3.0, 0.5), (5.0, 0.0), (9.0, 0.0)):
        assert score("proximity", poses((1 + between, 0), (0, 0))) == pytest.approx(wanted)


def test_direction_is_the_cosine_of_the_angle() -> None:
    for side, at in (("front", (0, -2)), ("back", (0, 2)), ("left", (2, 0)), ("right", (-2, 0))):
        assert score("direction", poses(at, (0, 0)), side=side) == pytest.approx(1)
    aslant = poses((2 * math.sin(0.7), -2 * math.cos(0.7)), (0, 0))
    assert score("direction", aslant) == pytest.approx((math.cos(0.7) + 1) / 2)
    # The host's own front, wherever it looks.
    assert score("direction", poses((2, 0), (0, 0, math.pi / 2))) == pytest.approx(1)


def test_alignment_is_one_over_one_plus_variance() -> None:
    p = poses((0, 0), (0.4, 3))
    assert score("alignment", p) == pytest.approx(1 / (1 + 0.2**2 / 0.25**2))
    assert score("alignment", p, tolerance=1.0) == pytest.approx(1 / 1.04)  # as published
    assert score("alignment", poses((1, 0), (1, 9))) == 1


def test_symmetry_of_two_asks_for_more_than_one_axis() -> None:
    assert score("symmetry", poses((-1, 0, 0.3), (1, 0, -0.3))) == pytest.approx(1)
    # Published: always 1 for two assets.
    assert score("symmetry", poses((-1, 0), (1, 2))) < 0.2
    assert score("symmetry", poses((-1, 0, 0.5), (1, 0, 0.5))) < 0.95
    assert score("symmetry", poses((-2, 1), (2, 1), (0, 5))) == pytest.approx(1)


def test_symmetry_about_a_turned_host() -> None:
    bed = (1.0, 1.0, math.pi / 2)
    p = poses((1, 2.2, math.pi / 2), (1, -0.2, math.pi / 2), bed)
    assert score("symmetry", p, host=True) == pytest.approx(1)
    p = poses((1, 2.2, math.pi / 2), (1, 0.5, math.pi / 2), bed)
    assert score("symmetry", p, host=True) < 0.7


def test_overlap_is_a_share_of_volume() -> None:
    p = poses((0, 0), (0.5, 0), size=[(1.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
    assert score("overlap", p) == pytest.approx(1)
    assert score("overlap", poses((0, 0), (0.5, 0))) == pytest.approx(0.5)
    assert score("overlap", poses((0, 0), (1.005, 0))) == 0  # published: 1 within a centimetre


def test_parallelism_compares_angles_on_the_circle() -> None:
    assert score("parallelism", poses((0, 0), (2, 0))) == 1  # published: NaN
    assert score("parallelism", poses((0, 0, 0.1), (2, 0, 0.1 + 2 * math.pi))) == pytest.approx(1)
    # Published: yaw 0.1 and 3.0 are identical.
    apart = score("parallelism", poses((0, 0, 0.1), (2, 0, 3.0)))
    assert apart == pytest.approx((math.cos(2.9) + 1) / 2)
    bent = score("parallelism", poses((0, 0), (1, 0), (1, 1)))
    assert bent == pytest.approx((1 + 0.5) / 2)


def test_perpendicularity() -> None:
    assert score("perpendicularity", poses((0, 0, 0.4), (1, 1, 0.4 + math.pi / 2))) == (
        pytest.approx(1)
    )
    assert score("perpendicularity", poses((0, 0), (1, 1, math.pi / 3))) == pytest.approx(0.5)


def test_hierarchy_goes_from_large_to_small() -> None:
    sizes: list[tuple[float, float, float]] = [(2, 2, 2), (1, 1, 1), (0.5, 0.5, 0.5)]
    assert score("hierarchy", poses((0, 0), (3, 0), (5, 0), size=sizes)) == 1
    e = math.e ** (1 / 3)
    assert score("hierarchy", poses((0, 0), (3, 0), size=[(1, 1, 1), (e, e, e)])) == (
        pytest.approx(0.5)
    )


def test_rotation_wants_even_angles_in_the_hosts_square() -> None:
    ring = [(math.cos(a), math.sin(a)) for a in (0.2, 0.2 + math.pi / 2, 0.2 + math.pi, 4.912389)]
    assert score("rotation", poses(*ring, (0, 0))) == pytest.approx(1, abs=1e-4)
    three = poses((1, 0), (0, 1), (-1, 0), (0, 0))
    gaps = torch.tensor([math.pi / 2, math.pi / 2, math.pi])
    wanted = 1 / (1 + float(gaps.var(unbiased=False)) / 0.35**2)
    assert score("rotation", three) == pytest.approx(wanted, abs=1e-4)
    long = [(0.6, 3.0, 1.0), (0.6, 3.0, 1.0), (0.6, 3.0, 1.0), (2.0, 1.0, 1.0)]
    six = poses((1.5, 0), (-0.75, 0.65), (-0.75, -0.65), (0, 0), size=long)
    assert score("rotation", six) > 0.5


def test_repetition_and_grid_want_even_steps() -> None:
    row = poses((0, 0), (1.2, 0), (2.4, 0))
    assert score("repetition", row) == pytest.approx(1)
    assert score("repetition", row, axis="x", spacing=1.2) == pytest.approx(1)
    assert score("repetition", row, axis="y") < 0.1
    assert score("repetition", row, spacing=2.4) < 0.1
    assert score("repetition", poses((0, 0), (1.2, 0), (3.4, 0))) < 0.3
    square = poses((0, 0), (1.5, 0), (0, 1.5), (1.5, 1.5))
    assert score("grid", square) == pytest.approx(1)
    assert score("grid", square, columns=4.0) < 0.2


def test_scaling_is_a_ratio_of_heights() -> None:
    sizes = [(1.0, 1.0, 2.0), (1.0, 1.0, 1.0)]
    assert score("scaling", poses((0, 0), (3, 0), size=sizes), ratio=2.0) == pytest.approx(1)
    once = score("scaling", poses((0, 0), (3, 0), size=sizes))
    assert once == pytest.approx(1 / (1 + (math.log(2) / 0.2) ** 2))


def test_on_takes_the_surface_that_was_measured() -> None:
    size = [(0.2, 0.2, 0.2), (0.5, 0.5, 0.9)]
    none = torch.full((2, 1, 6), math.nan, dtype=torch.float64)
    seat = none.clone()
    seat[1, 0] = torch.tensor([-0.2, 0.2, -0.2, 0.2, 0.45, 1e3], dtype=torch.float64)
    on_seat, on_top = (
        poses((0, 0, 0, 0.45), (0, 0), size=size),
        poses((0, 0, 0, 0.9), (0, 0), size=size),
    )
    assert score("on", Poses(on_seat.location, on_seat.yaw, on_seat.size, seat)) == pytest.approx(1)
    assert score("on", Poses(on_top.location, on_top.yaw, on_top.size, seat)) < 0.05
    assert score("on", on_top) == pytest.approx(1)
    assert score("on", Poses(on_top.location, on_top.yaw, on_top.size, none)) == pytest.approx(1)
    assert score("on", poses((0.6, 0, 0, 0.9), (0, 0), size=size)) < 0.2


@pytest.mark.parametrize(
    ("kind", "at"),
    [
        ("left-of", (-1.5, 0)),
        ("right-of", (1.5, 0)),
        ("in-front-of", (0, -1.5)),
        ("behind", (0, 1.5)),
    ],
)
def test_the_viewers_sides(kind: str, at: tuple[float, float]) -> None:
    assert score(kind, poses(at, (0, 0))) == pytest.approx(1)
    assert score(kind, poses((-at[0], -at[1]), (0, 0))) < 0.1
    assert score(kind, poses((at[1], at[0]), (0, 0))) < 0.5


def test_places_hold_where_words_say() -> None:
    table = (0.0, 0.0)
    assert score("under", poses((0, 0), table, size=[(3, 2, 0.01), (1, 1, 0.7)])) == pytest.approx(
        1
    )
    assert score("inside", poses((0, 0, 0, 0.2), table, size=[(0.2, 0.2, 0.2), (1, 1, 1)])) == 1
    assert score("above", poses((0, 0, 0, 1.5), table)) == pytest.approx(1)
    assert score("between", poses((0, 0), (-2, 0), (2, 0.1))) == pytest.approx(1, abs=0.01)
    assert score("between", poses((4, 0), (-2, 0), (2, 0))) < 0.2
    assert score("facing", poses((0, 2), table)) == pytest.approx(1)
    assert score("facing", poses((0, 2, math.pi / 2), table)) == pytest.approx(0.25)
    ring = ((0, 1.1), (1.1, 0, -math.pi / 2), (0, -1.1, math.pi), (-1.1, 0, math.pi / 2))
    assert score("around", poses(*ring, table)) == pytest.approx(1, abs=1e-3)
    assert score("around", poses(*((x, y) for x, y, *_ in ring), table)) < 0.6
    assert score("distance", poses((3, 0), table), metres=2.0) == pytest.approx(1)
    assert score("distance", poses((6, 0), table), metres=2.0) < 0.2
    assert score("apart", poses((3, 0), table, (0, 3)), distance=2.0) == pytest.approx(1)
    assert score("apart", poses((1, 0), table), distance=2.0) == pytest.approx(0.2)
    assert score("stack", poses((0, 0), (0, 0, 0, 1), (0, 0, 0, 2))) == pytest.approx(1)


def test_places_in_a_room() -> None:
    back = poses((0, 2.0), walls=ROOM)
    assert score("against-wall", back) == pytest.approx(1)
    assert score("against-wall", back, wall="left") < 0.1
    assert score("against-wall", poses((0, 2.0, math.pi), walls=ROOM)) < 0.1  # looks at the wall
    left = poses((-2.5, 0, math.pi / 2), walls=ROOM)
    assert score("against-wall", left, wall="left") == pytest.approx(1)
    assert score("on-wall", poses((0, 2.0, 0, 1.0), walls=ROOM)) == pytest.approx(1)
    assert score("on-wall", poses((0, 2.0, 0, 0.0), walls=ROOM)) < 0.2
    assert score("in-corner", poses((-2.5, 2.0), walls=ROOM)) == pytest.approx(1)
    assert score("in-corner", poses((-2.5, 2.0), walls=ROOM), corner="right") < 0.1
    assert score("in-corner", poses((-2.5, -2.0), walls=ROOM)) < 0.1  # the front is open
    assert score("in-centre", poses((0.1, 0), walls=ROOM)) == pytest.approx(1)
    assert score("against-wall", poses((9, 9))) == 1  # out of doors


def test_keep_clear_sees_what_stands_in_the_way() -> None:
    def clear(at: tuple[float, ...], side: str = "front") -> float:
        everyone = poses((0, 0), at)
        own = everyone.take(0)
        return score(
            "keep-clear", Poses(own.location, own.yaw, own.size, others=everyone), side=side
        )

    assert clear((0, -3)) == 1
    assert clear((0, -1.2)) < 0.6
    assert clear((0, -1.2), "back") == 1
    assert clear((0, -1.2, 0, 1.5)) == 1  # it hangs above


@given(
    st.lists(
        st.tuples(*(st.floats(-6, 6, allow_nan=False),) * 2, st.floats(-7, 7), st.floats(0, 2)),
        min_size=3,
        max_size=6,
    ),
    st.floats(-3, 3),
)
@settings(max_examples=25, deadline=None)
def test_scores_and_their_gradients_are_sound(assets: list[Box], turn: float) -> None:
    for kind in KINDS.values():
        members = assets[: max(kind.least, min(kind.most, len(assets)))]
        at = torch.tensor([[x, y, z] for x, y, _, z in members], dtype=torch.float64)
        yaw = torch.tensor([a[2] for a in members], dtype=torch.float64)
        at.requires_grad_()
        yaw.requires_grad_()
        size = torch.ones(len(members), 3, dtype=torch.float64)
        everyone = Poses(at, yaw, size)
        p = Poses(at, yaw, size, walls=ROOM, others=everyone)
        found = kind.score(p, **kind.options)
        assert 0 <= found.item() <= 1 + 1e-9, kind.name
        if found.requires_grad:
            for grad in torch.autograd.grad(found, (at, yaw), allow_unused=True):
                assert grad is None or bool(grad.isfinite().all()), kind.name
        full_turn = Poses(at, yaw + 2 * math.pi, size, walls=ROOM, others=everyone)
        assert kind.score(full_turn, **kind.options).item() == pytest.approx(found.item(), abs=1e-6)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-4, 4), st.floats(0.2, 2), st.floats(0.2, 2))
@settings(max_examples=60, deadline=None)
def test_overlap_area_against_sampled_points(
    x: float, y: float, yaw: float, w: float, d: float
) -> None:
    a, b = poses((0, 0), size=(1.5, 1.0, 1.0)), poses((x, y, yaw), size=(w, d, 1.0))
    n = 120
    grid = torch.stack(
        torch.meshgrid(*(torch.linspace(-0.5 + 0.5 / n, 0.5 - 0.5 / n, n),) * 2, indexing="ij"), -1
    ).reshape(-1, 2).double() * torch.tensor([1.5, 1.0])  # fmt: skip
    inside = (b.within(grid.unsqueeze(0)).abs() <= b.half.unsqueeze(-2)).all(-1).double().mean()
    assert float(overlap_area(a, b)) == pytest.approx(1.5 * float(inside), abs=0.03)
    assert float(overlap_area(b, a)) == pytest.approx(float(overlap_area(a, b)), abs=1e-6)
    assert (float(separation(a, b)) < -1e-6) == (float(overlap_area(a, b)) > 1e-9)


def test_a_wrong_relation_is_named() -> None:
    assets = (Asset(id="a", what="box"), Asset(id="b", what="box"))
    for kind, members, options, said in (
        ("left", ("a", "b"), {}, "did you mean left-of"),
        ("left-of", ("a",), {}, "about 1 assets, not 2"),
        ("distance", ("a", "b"), {"meters": 2.0}, "knows no option 'meters'"),
        ("distance", ("a", "b"), {"metres": "two"}, "should be a number"),
        ("alignment", ("a", "b"), {"axis": "w"}, "should be x or y or z"),
    ):
        graph = SceneGraph(
            assets=assets,
            relations=(Relation(kind=kind, assets=members, options=options),),  # type: ignore[arg-type]
        )
        with pytest.raises(UserError, match=said):
            check(graph)


def test_signatures_are_lines_for_a_prompt() -> None:
    lines = signatures().splitlines()
    assert len(lines) == len(KINDS)
    assert "on(a, host): a rests on a level surface of the host." in lines
    assert any(line.startswith("alignment(a, b, ...; axis=x|y|z") for line in lines)
