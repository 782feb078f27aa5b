"""The benchmark: its judge against closed forms, and what its queries promise."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from scenes.benchmark.judge import casting, collisions, judge
from scenes.benchmark.phrasings import PHRASINGS, WAYS, tell
from scenes.benchmark.predicates import Constraint, Item, Wanted
from scenes.benchmark.queries import COUNTS, Query, builtin, load
from scenes.benchmark.rectangles import Rectangle, gap, shared_area
from scenes.graph import Room

ROOM = Room(width=6, depth=4)
PI = math.pi


def item(
    what: str, x: float, y: float, yaw: float = 0.0, z: float = 0.0,
    size: tuple[float, float, float] = (1.0, 1.0, 1.0), name: str = "",
) -> Item:  # fmt: skip
    return Item(name or what, what, Rectangle((x, y), yaw, size[0], size[1]), z, size[2])


def holds(kind: str, subjects: list[Item], hosts: list[Item] = [], **more: object) -> bool:  # noqa: B006
    """Whether a constraint of that kind holds of items, which are objects by their words."""
    names = {i.what for i in (*subjects, *hosts)}
    every = [*subjects, *hosts]
    objects = [Wanted(name=n, count=sum(i.what == n for i in every)) for n in sorted(names)]
    said = Constraint.model_validate({
        "kind": kind, "subjects": (subjects[0].what,), "hosts": sorted({h.what for h in hosts}),
        **more,
    })  # fmt: skip
    found = judge(objects, [said], every, ROOM)
    assert all(found.held[:-1])  # the counts
    return found.held[-1]


TABLE = item("table", 0, 0)
SMALL = (0.2, 0.2, 0.2)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("on", [item("cup", 0.3, 0.3, z=1.0, size=SMALL)], [item("cup", 0.3, 0.3, size=SMALL)]),
        ("on", [item("cup", 0.5, 0, z=1.02, size=SMALL)], [item("cup", 0.6, 0, z=1, size=SMALL)]),
        ("under", [item("cat", 0, 0, size=SMALL)], [item("cat", 0.7, 0, size=SMALL)]),
        ("above", [item("lamp", 0, 0, z=2, size=SMALL)], [item("lamp", 0, 0, z=0.5, size=SMALL)]),
        ("left-of", [item("sofa", -1.5, 0.5)], [item("sofa", 1.5, 0)]),
        ("left-of", [item("sofa", -1.5, 1.9)], [item("sofa", -1.5, 3)]),
        ("right-of", [item("sofa", 1.5, 0)], [item("sofa", 0.4, 0)]),
        ("in-front-of", [item("sofa", 0, -1.5)], [item("sofa", 0, 1.5)]),
        ("behind", [item("sofa", 0, 1.5)], [item("sofa", 3, 1.5)]),
        ("beside", [item("sofa", 1.5, 0)], [item("sofa", 1.7, 0)]),
        ("near", [item("sofa", 2.4, 0)], [item("sofa", 2.6, 0)]),
        ("far", [item("sofa", 2.6, 0)], [item("sofa", 2.4, 0)]),
        ("facing", [item("chair", 0, 2)], [item("chair", 0, 2, PI)]),
        ("facing", [item("chair", 2, 0, -PI / 2)], [item("chair", 2, 0)]),
        ("parallel", [item("sofa", 2, 0, PI)], [item("sofa", 2, 0, PI / 4)]),
        ("perpendicular", [item("sofa", 2, 0, -PI / 2)], [item("sofa", 2, 0, 0.3)]),
        ("flank", [item("lamp", -1.2, 0), item("lamp", 1.2, 0)],
         [item("lamp", 1.2, 0), item("lamp", 2.3, 0)]),
    ],
)  # fmt: skip
def test_two_things_hold_as_words_say(kind: str, good: list[Item], bad: list[Item]) -> None:
    assert holds(kind, good, [TABLE])
    assert not holds(kind, bad, [TABLE])


def test_distances_and_ratios_are_held_to_their_number() -> None:
    for metres, held in ((2.0, True), (2.3, True), (2.5, False), (1.5, False)):
        sofa = item("sofa", 1 + metres, 0)
        assert holds("distance", [sofa], [TABLE], value=2.0) == held
    for tall, held in ((2.0, True), (2.15, True), (2.3, False), (1.7, False)):
        shelf = item("shelf", 3, 0, size=(1, 1, tall))
        assert holds("taller", [shelf], [TABLE], value=2.0) == held


def around(count: int, turn: float = 0.0, radius: float = 1.2) -> list[Item]:
    angles = [2 * PI * k / count for k in range(count)]
    return [
        item("chair", radius * math.sin(a), -radius * math.cos(a), a + PI + turn,
             size=(0.4, 0.4, 0.9), name=f"chair-{k}")
        for k, a in enumerate(angles)
    ]  # fmt: skip


def test_around_wants_everybody_close_turned_and_spread() -> None:
    assert holds("around", around(6), [TABLE])
    assert not holds("around", around(6, turn=PI), [TABLE])
    assert not holds("around", around(6, radius=2.5), [TABLE])
    assert not holds("around", around(12)[:6], [TABLE])  # all on one side


def test_groups_are_lines_grids_and_stacks() -> None:
    row = [item("tree", 1.5 * k, 0.05 * (k % 2), name=f"t{k}") for k in range(5)]
    assert holds("row", row)
    assert holds("row", [item("tree", k, k, name=f"t{k}") for k in range(4)])  # aslant
    assert not holds("row", [*row[:4], item("tree", 7.5, 0)])
    assert not holds("row", [*row[:4], item("tree", 6, 0, PI / 2)])
    assert not holds("row", [*row[:4], item("tree", 6, 1)])
    grid = [item("desk", 2 * (k % 3), 2 * (k // 3), name=f"d{k}") for k in range(6)]
    assert holds("grid", grid, value=3.0)
    assert holds("grid", grid, value=2.0)  # two rows of three are three of two
    assert not holds("grid", grid, value=6.0)
    assert not holds("grid", [*grid[:5], item("desk", 4, 2.8)], value=3.0)
    stack = [item("box", 0, 0, z=k, name=f"b{k}") for k in range(3)]
    assert holds("stack", stack)
    assert not holds("stack", [*stack[:2], item("box", 0.5, 0, z=2)])
    assert not holds("stack", [*stack[:2], item("box", 0, 0, z=2.2)])


def test_walls_corners_and_the_middle() -> None:
    assert holds("against-wall", [item("bed", 0, 1.45)])
    assert holds("against-wall", [item("bed", 0, 1.45)], side="back")
    assert not holds("against-wall", [item("bed", 0, 1.45)], side="left")
    assert not holds("against-wall", [item("bed", 0, 1.45, PI)])  # its front to the wall
    assert not holds("against-wall", [item("bed", 0, 1.0)])
    assert holds("on-wall", [item("clock", 0, 1.9, z=1.5, size=SMALL)])
    assert not holds("on-wall", [item("clock", 0, 1.9, size=SMALL)])
    assert holds("in-corner", [item("plant", -2.4, 1.4)], side="left")
    assert not holds("in-corner", [item("plant", -2.4, 1.4)], side="right")
    assert holds("in-centre", [item("rug", 0.2, 0.2)])
    assert not holds("in-centre", [item("rug", 1, 0.2)])
    alone = judge([Wanted(name="bed")], [Constraint(kind="against-wall", subjects=("bed",))],
                  [item("bed", 0, 1.45)])  # fmt: skip
    assert alone.held == (True, False)  # no room, no wall


def test_each_host_gets_its_own() -> None:
    stands = [item("nightstand", x, 0, name=f"n{x}") for x in (-2, 2)]
    lamps = [item("lamp", x, 0, z=1, size=SMALL, name=f"l{x}") for x in (-2, 2)]
    assert holds("on", lamps, stands)
    both = [item("lamp", 2 + x, 0, z=1, size=SMALL, name=f"l{x}") for x in (-0.3, 0.3)]
    assert not holds("on", both, stands)


def test_who_is_not_there_holds_nothing() -> None:
    said = [Constraint(kind="near", subjects=("chair",), hosts=("table",))]
    objects = [Wanted(name="chair", count=2), Wanted(name="table")]
    found = judge(objects, said, [item("chair", 1, 0), TABLE, item("lamp", 3, 3)])
    assert (found.held, found.asked, found.placed) == ((False, True, False), 3, 2)
    assert (found.extra, found.score) == (1, 1 / 3)
    assert [str(c) for c in found.broken] == ["count(chair)", "near(chair; table)"]


def test_blocks_and_what_stands_outside_are_not_placed() -> None:
    block = Item("chair", "chair", Rectangle((0, 0), 0, 1, 1), 0, 1, modelled=False)
    objects = [Wanted(name="chair"), Wanted(name="table")]
    assert judge(objects, [], [block, TABLE], ROOM).placed == 1
    assert judge(objects, [], [item("chair", 2.8, 0), TABLE], ROOM).placed == 1


def test_words_of_things_are_matched_to_objects() -> None:
    objects = [Wanted(name="floor lamp"), Wanted(name="office chair", count=2)]
    items = [item("tall floor lamps", 0, 0), item("chair", 0, 0), item("chair leg", 0, 0)]
    found = casting(objects, items)
    assert [len(found[o.name]) for o in objects] == [1, 1]


def test_collisions_leave_out_what_may_touch() -> None:
    a, b = item("sofa", 0, 0), item("desk", 0.5, 0)
    (found,) = collisions([a, b])
    assert found == ("sofa", "desk", pytest.approx(0.5))
    assert collisions([a, b], [frozenset(("sofa", "desk"))]) == []
    assert collisions([a, item("desk", 0, 0, z=1.0)]) == []
    assert collisions([a, item("rug", 0, 0, size=(3, 3, 0.02))]) == []
    objects = [Wanted(name="sofa"), Wanted(name="desk")]
    on = [Constraint(kind="on", subjects=("desk",), hosts=("sofa",))]
    assert judge(objects, on, [a, b]).collisions == ()


numbers = st.floats(-2, 2)
sides = st.floats(0.2, 2)
rectangles = st.builds(
    lambda x, y, yaw, w, d: Rectangle((x, y), yaw, w, d), numbers, numbers, numbers, sides, sides
)


@given(rectangles, rectangles)
@settings(max_examples=60, deadline=None)
def test_areas_and_gaps_are_those_of_many_points(a: Rectangle, b: Rectangle) -> None:
    grid = (np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 41)] * 2), -1)).reshape(-1, 2)
    c, s = math.cos(a.yaw), math.sin(a.yaw)
    points = grid * [a.width, a.depth] @ np.array([[c, s], [-s, c]]) + a.middle
    inside = np.array([b.holds((x, y)) for x, y in points])
    assert shared_area(a, b) == pytest.approx(inside.mean() * a.area, abs=0.12 * a.area)
    assert shared_area(a, b) == pytest.approx(shared_area(b, a), abs=1e-6)
    local = np.array([b.local((x, y)) for x, y in points])
    out = np.maximum(np.abs(local) - [b.width / 2, b.depth / 2], 0)
    nearest = float(np.hypot(*out.T).min())
    assert gap(a, b) == pytest.approx(gap(b, a), abs=1e-6)
    assert gap(a, b) == pytest.approx(nearest, abs=0.1)
    assert (gap(a, b) == 0) == (shared_area(a, b) > 0) or gap(a, b) < 1e-6


# Queries

EVERY = {split: builtin(split) for split in COUNTS}


def test_there_are_as_many_queries_as_promised() -> None:
    test = EVERY["test"]
    scenes = {q.scene: q for q in test}
    assert len(scenes) == 60 and len(test) == 180
    sizes = [q.size for q in scenes.values()]
    assert min(sizes) == 3 and 85 <= max(sizes) <= 100
    assert sum(n > 15 for n in sizes) >= 15 and sum(n > 40 for n in sizes) >= 5
    kinds = {c.kind for q in test for c in q.constraints}
    assert len(kinds) >= 22
    assert builtin("test") == test  # the same every time
    assert {len({q.text for q in test if q.scene == s}) for s in scenes} == {3}
    one, known = builtin("test", each=1), builtin("test", each=1, known=True)
    assert [q.scene for q in one] == [q.scene for q in known] == list(scenes)
    assert all(a.constraints == b.constraints for a, b in zip(one, known, strict=True))
    assert not {q.text for q in known} & {q.text for q in test}


def test_splits_share_no_phrasing_and_no_combination() -> None:
    for phrasings in PHRASINGS.values():
        each = [{phrasings[way].lower() for way in ways} for ways in WAYS.values()]
        assert len(phrasings) == 123 and len(set.union(*each)) == sum(map(len, each))
    assert sorted(way for ways in WAYS.values() for way in ways) == list(range(123))
    said = {
        split: {(c.kind, c.subjects, c.hosts, c.side) for q in found for c in q.constraints}
        for split, found in EVERY.items()
    }
    for a, b in combinations(said.values(), 2):
        # "the wall" and "the left corner" are told apart by their words only.
        assert not {s for s in a & b if s[2]}
    assert not {q.text for q in EVERY["test"]} & {q.text for q in EVERY["dev"]}


def test_texts_name_every_object() -> None:
    for found in EVERY.values():
        for q in found:
            for o in q.objects:
                stem = o.name.split()[-1].replace("man", "m").removesuffix("x")[:3]
                assert stem in q.text.lower(), (q.text, o)
            assert q.size <= 100 and len({o.name for o in q.objects}) == len(q.objects)


def test_verbs_and_articles_agree() -> None:
    texts = [q.text for found in EVERY.values() for q in found]
    for text in texts:
        words = text.lower().replace(",", "").replace(".", "").split()
        pairs = set(pairwise(words))
        assert not {("a", "armchair"), ("a", "office"), ("an", "table"), ("1", "metres")} & pairs
        assert "{" not in text and "  " not in text
    assert tell(1, "office", []) == "An office. "


def test_queries_are_read_from_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text("\n".join(q.model_dump_json() for q in EVERY["dev"]))
    assert load(path) == EVERY["dev"]
    mine = '{"id": "1", "text": "a chair", "objects": [{"name": "chair"}]}'
    path.write_text(mine)
    assert load(path) == [Query(id="1", text="a chair", objects=(Wanted(name="chair"),))]
    for wrong in (
        "", "no json", '{"id": "1", "text": "", "objects": []}', mine + "\n" + mine,
        mine.replace("]}", '], "constraints": [{"kind": "on", "subjects": ["cup"]}]}'),
        mine.replace("]}", '], "constraints": [{"kind": "off", "subjects": ["chair"]}]}'),
    ):  # fmt: skip
        path.write_text(wrong)
        with pytest.raises(UserError) as caught:
            load(path)
        assert caught.value.remedy
    with pytest.raises(UserError, match="cannot read"):
        load(tmp_path / "none.jsonl")
