"""Rooms for scenes that were given none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenes.graph import Asset, Relation, Room, SceneGraph
from scenes.rooms import FILLED, LEAST, housed

Size = tuple[float, float, float]


def graph(count: int, *relations: Relation, **more: object) -> SceneGraph:
    assets = tuple(Asset(id=f"a-{n}", what="box") for n in range(count))
    return SceneGraph.model_validate({"assets": assets, "relations": relations, **more})


def sizes(count: int, size: Size = (1.0, 0.5, 1.0)) -> dict[str, Size]:
    return {f"a-{n}": size for n in range(count)}


def test_a_few_things_have_no_room_and_furniture_has() -> None:
    assert housed(graph(2), sizes(2)).room is None
    assert housed(graph(3), sizes(3)).room is not None
    assert housed(graph(3, outdoors=True), sizes(3)).room is None
    given_room = Room(width=9, depth=8)
    assert housed(graph(3, room=given_room), sizes(3)).room == given_room


def test_what_is_carried_does_not_make_a_room() -> None:
    on = [Relation(kind="on", assets=(f"a-{n}", "a-0")) for n in (1, 2, 3)]
    assert housed(graph(4, *on), sizes(4)).room is None


@pytest.mark.parametrize("kind", ["against-wall", "on-wall", "in-corner"])
def test_what_needs_a_wall_gets_a_room(kind: str) -> None:
    assert housed(graph(1, Relation(kind=kind, assets=("a-0",))), sizes(1)).room is not None
    assert housed(graph(1), sizes(1), {"a-0": 1.5}).room is not None


@given(
    st.integers(3, 40),
    st.tuples(st.floats(0.1, 4), st.floats(0.1, 4), st.floats(0.1, 5)),
)
def test_a_room_holds_its_furniture(count: int, size: Size) -> None:
    room = housed(graph(count), sizes(count, size)).room
    assert room is not None
    assert room.width * room.depth >= 0.9 * count * size[0] * size[1] / FILLED
    assert min(room.width, room.depth) >= max(LEAST, *size[:2]) and room.height > size[2]


@pytest.mark.parametrize(
    ("relation", "width", "depth"),
    [
        (Relation(kind="repetition", assets=("a-0", "a-1", "a-2", "a-3")), 0.0, 0.0),
        (
            Relation(kind="repetition", assets=("a-0", "a-1", "a-2", "a-3"), options={"axis": "x"}),
            8.0,
            0.0,
        ),
        (Relation(kind="repetition", assets=("a-0", "a-1"), options={"axis": "y"}), 0.0, 1.0),
        (Relation(kind="distance", assets=("a-0", "a-1"), options={"metres": 4.0}), 8.0, 0.0),
        (Relation(kind="apart", assets=("a-0", "a-1"), options={"distance": 3.0}), 7.0, 0.0),
        (
            Relation(kind="grid", assets=("a-0", "a-1", "a-2", "a-3"), options={"columns": 2.0}),
            4.0,
            1.0,
        ),
    ],
)
def test_a_row_fits_into_its_room(relation: Relation, width: float, depth: float) -> None:
    room = housed(graph(4, relation), sizes(4, (2.0, 0.5, 1.0))).room
    assert room is not None and room.width >= max(width, LEAST) and room.depth >= depth
