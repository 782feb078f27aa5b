"""The served planner against a real HTTP server that answers by script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.policies.served import RefusedError, ServedError
from scenes.planners.choose import planner
from scenes.planners.mend_assets import listed, recounted, said
from scenes.planners.mend_relations import Names, related
from scenes.planners.served import Served, wants_parts
from scenes.relations import KINDS, check, problem
from tests.common.loopback import Server, serving

ASSETS = {
    "assets": [
        {"name": "table", "what": "round table", "width": 1.2, "depth": 1.2, "height": 0.75},
        {"name": "chair", "what": "chair", "count": 4, "width": 0.45, "depth": 0.5, "height": 0.9},
        {"name": "lamp", "what": "table lamp", "width": 0.3, "depth": 0.3, "height": 0.5},
    ],
    "outdoors": False,
    "room": {"width": 4, "depth": 5},
}
RELATIONS = {
    "relations": [
        {"kind": "around", "assets": ["chair-1", "chair-2", "chair-3", "chair-4", "table"]},
        {"kind": "on", "assets": ["lamp", "table"], "options": {}},
    ]
}
TEXT = "a round table with four chairs around it and a lamp on it"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


def served(server: Server, keep: Path | None = None, **options: Any) -> Served:
    return Served(server.policy(**{"retries": 1, "timeout": 5.0, **options}), keep=keep)


def test_assets_then_relations(server: Server) -> None:
    server.script = [json.dumps(ASSETS), json.dumps(RELATIONS)]
    steps: list[tuple[int, int]] = []
    asking = served(server)
    asking.progress = lambda done, total, what: steps.append((done, total))
    plan = asking.plan(TEXT)
    check(plan.graph)
    assert [a.id for a in plan.graph.assets] == [
        "table",
        *(f"chair-{i}" for i in range(1, 5)),
        "lamp",
    ]
    assert [str(r) for r in plan.graph.relations] == [
        "around(chair-1, chair-2, chair-3, chair-4, table)",
        "on(lamp, table)",
    ]
    assert plan.graph["table"].height == 0.75 and plan.graph.room is not None
    assert plan.graph.text == TEXT and plan.notes == ()
    assert steps == [(1, 2), (2, 2)]
    asked = [body["messages"][-1]["content"] for body in server.seen]
    assert all(TEXT in text for text in asked)
    assert all(kind.signature() in asked[1] for kind in KINDS.values())
    assert "response_format" in server.seen[0]


def test_what_a_careless_model_says_is_mended(server: Server) -> None:
    assets = [
        {"name": "table", "what": "round table", "width": 120, "depth": "1.2 m", "height": 75},
        {"name": "Chair!", "what": "chair", "count": "three", "size": [45, 50, 90]},
        {"name": "lamp", "what": "lamp", "size": {"width": 30, "depth": 30, "height": "50 cm"}},
        {"name": "lamp", "what": "floor lamp", "height": 150},
        {"nothing": "here"},
    ]
    relations = [
        "around(chairs, the table; distance=20 cm)",
        {"relation": "next_to", "subject": "lamp-2", "object": "tabel"},
        {"kind": "on_top_of", "assets": ["lamp-1", "table"]},
        {"kind": "on", "assets": ["table", "floor"]},
        {"kind": "symetry", "assets": ["chair", "table"], "options": {"axis": "X axis", "foo": 2}},
        {"kind": "against", "assets": ["table", "back wall"]},
        {"kind": "on", "assets": ["table", "lamp-1"]},
        {"kind": "facing", "assets": ["chair", "table"]},
        {"kind": "floats", "assets": ["lamp", "ghost"]},
        {"kind": "on", "assets": ["chair-9", "table"]},
        "nonsense",
    ]
    server.script = [f"Here you go:\n```json\n{json.dumps(assets)}\n```", json.dumps(relations)]
    plan = served(server).plan(TEXT)
    check(plan.graph)
    sizes = {a.id: (a.width, a.depth, a.height) for a in plan.graph.assets}
    assert sizes["table"] == (1.2, 1.2, 0.75)
    assert sizes["chair-4"] == (0.45, 0.5, 0.9), "the text says four"
    assert sizes["lamp"] == (0.3, 0.3, 0.5) and sizes["lamp-2"] == (None, None, 1.5)
    assert [str(r) for r in plan.graph.relations] == [
        "around(chair-1, chair-2, chair-3, chair-4, table, distance=0.2)",
        "proximity(lamp-2, table, distance=0.3)",
        "on(lamp, table)",
        "symmetry(chair-1, chair-2, chair-3, chair-4, table, axis=x)",
        "against-wall(table, wall=back)",
        *(f"facing(chair-{i}, table)" for i in range(1, 5)),
    ]
    for word in (
        "centimetres",
        "4 of chair",
        "symetry",
        "foo",
        "ghost",
        "chair-9",
        "rest on itself",
    ):
        assert any(word in note for note in plan.notes), word


def test_a_long_text_is_divided_and_its_parts_join(server: Server) -> None:
    text = "A cafe. " + " ".join(["It is very nice there."] * 15)
    parts = [
        {"title": "bar", "asset_list": ["bar", "2 stools"], "description": "stools at the bar"},
        {"title": "table", "asset_list": ["table", "2 stools"], "description": "by the bar"},
    ]

    def answer(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if asked.startswith("Divide"):
            return json.dumps({"parts": parts})
        host = "bar" if 'part "bar"' in asked else "table"
        if asked.startswith("List"):
            assert ("stools at the bar" in asked) == (host == "bar")
            stool = {"name": "stool", "what": "stool", "count": 2}
            return json.dumps([{"name": host, "what": host}, stool])
        rows = [{"kind": "around", "assets": ["stool", host]}]
        if host == "table":
            assert "Things of other parts, for hosts only: bar" in asked
            rows.append({"kind": "left-of", "assets": ["table", "bar"]})
        return json.dumps({"relations": rows})

    server.otherwise = answer
    plan = served(server).plan(text)
    check(plan.graph)
    assert [str(r) for r in plan.graph.relations] == [
        "around(stool-1, stool-2, bar)",
        "around(stool-1-2, stool-2-2, table)",
        "left-of(table, bar)",
    ]
    assert [s.assets for s in plan.graph.scenes] == [
        ("bar", "stool-1", "stool-2"),
        ("table", "stool-1-2", "stool-2-2"),
    ]
    assert len(server.seen) == 5


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([(401, {})], UserError, "key"),
        ([(404, {})], UserError, "no model m"),
        ([(429, {"Retry-After": "0"})] * 2, ServedError, "planning the relations: .*failed"),
        ([(500, {})] * 2, ServedError, "failed"),
        (["hang"] * 2, ServedError, "no answer within 0.5 s"),
        (["drop"] * 2, UserError, "no server answers"),
        (["half"] * 2, UserError, "no server answers"),
        (["{oops"] * 3, ServedError, "no valid RelationList in 3 attempts: invalid JSON"),
        ([""] * 3, ServedError, "the answer is empty"),
        (["You need chairs."] * 3, ServedError, "no JSON"),
        (['{"relations": 7}'] * 3, ServedError, "list of relations is missing"),
        (['{"relations": [{"kind": "is", "assets": ["x"]}]}'] * 3, ServedError, "none can be used"),
        (
            ["I'm sorry, but I can't help with that."],
            RefusedError,
            "m refuses to answer: I'm sorry",
        ),
        ([{"refusal": "no tables"}], RefusedError, "refuses to answer: no tables"),
    ],
)
def test_failures_are_clear_and_lose_no_answer(
    server: Server, tmp_path: Path, bad: list[Any], error: type[Exception], message: str
) -> None:
    server.script = [json.dumps(ASSETS), *bad]
    options = {"timeout": 0.5} if "hang" in bad else {}
    with pytest.raises(error, match=message) as caught:
        served(server, tmp_path, **options).plan(TEXT)
    if isinstance(caught.value, ServedError):
        assert f"kept in {tmp_path}" in str(caught.value)
    assert server.script == [] and len(list(tmp_path.iterdir())) == 1
    server.script = [json.dumps(RELATIONS)]
    assert len(served(server, tmp_path).plan(TEXT).graph.relations) == 2
    assert server.script == [], "the assets were not asked for again"
    served(server, tmp_path).plan(TEXT)


@pytest.mark.parametrize(
    "bad", [(429, {"Retry-After": "0"}), (500, {}), "drop", "half", "", "{oops"]
)
def test_a_passing_failure_is_recovered_from(server: Server, bad: Any) -> None:
    server.script = [bad, json.dumps(ASSETS), bad, json.dumps(RELATIONS)]
    assert len(served(server).plan(TEXT).graph.relations) == 2


def test_a_cut_list_is_asked_again_and_its_whole_rows_are_used_at_last(server: Server) -> None:
    cut = json.dumps(RELATIONS).partition('"lamp"')[0]
    server.script = [json.dumps(ASSETS), cut, json.dumps(RELATIONS)]
    assert len(served(server).plan(TEXT).graph.relations) == 2
    assert "cut" in server.seen[-1]["messages"][-1]["content"]
    server.script = [json.dumps(ASSETS), cut, cut, cut]
    plan = served(server).plan(TEXT)
    assert [r.kind for r in plan.graph.relations] == ["around"]
    assert plan.notes == ("the answer with the relations was cut; its end is lost",)


def test_more_than_a_scene_holds_is_refused(server: Server) -> None:
    many = json.dumps({"assets": [{"name": "chair", "what": "chair", "count": 500}]})
    server.script = [many] * 3
    with pytest.raises(ServedError, match="500 things are more than 100"):
        served(server).plan("chairs everywhere")
    parts = json.dumps({"parts": [{"title": "hall", "asset_list": ["chairs"]}]})
    server.script = [parts, many.replace("500", "90")]
    with pytest.raises(UserError, match="500 things were listed"):
        served(server).plan("500 chairs in a hall")
    with pytest.raises(UserError, match="empty"):
        served(server).plan("  ")
    with pytest.raises(UserError, match="--model"):
        planner("served", base_url=server.url)


def test_texts_that_ask_for_much_are_divided() -> None:
    assert not wants_parts(TEXT)
    assert wants_parts("30 chairs in rows") and wants_parts("word " * 80)


def test_numbers_of_a_text_are_counted() -> None:
    assert said("two chairs at the desk, four chairs around a table and 12 books") == {
        "chair": 6,
        "book": 12,
    }
    assert said("the two chairs face both lamps; some plants") == {}
    notes: list[str] = []
    found = listed([{"name": "lamp", "what": "lamp", "count": 3}], notes)
    assert recounted([found], "two lamps", notes) == [found] and not notes


NAMES = st.sampled_from(
    ["a", "b", "b-1", "b-2", "b-9", "bs", "the a", "wall", "floor", "back wall", "zebra", "", 3]
)
KIND_NAMES = st.sampled_from(
    [*KINDS, "next to", "on top of", "flanked by", "surrounded-by", "in the corner", "Hangs", "", 1]
)
JSON = st.none() | st.booleans() | st.floats(-300, 300) | st.sampled_from(["x", "any", "30 cm", []])
ROWS = st.fixed_dictionaries(
    {"kind": KIND_NAMES, "assets": st.lists(NAMES, max_size=6)},
    optional={
        "options": st.dictionaries(
            st.sampled_from(["axis", "distance", "host", "side", "columns", "foo"]), JSON
        )
        | JSON
    },
)


@given(st.lists(ROWS | JSON, max_size=6))
def test_whatever_a_model_says_the_relations_are_valid(rows: list[Any]) -> None:
    found = listed([{"name": "a", "what": "table"}, {"name": "b", "what": "lamp", "count": 3}], [])
    names = Names({a.id: a for a in found.assets}, found.groups)
    notes: list[str] = []
    try:
        relations = related(rows, names, notes)
    except ValueError:
        assert rows
        return
    for relation in relations:
        assert problem(relation) is None
        assert set(relation.assets) <= set(names.assets)
        assert len(set(relation.assets)) == len(relation.assets)


SIZES = st.floats(allow_nan=True) | st.integers() | st.sampled_from(["80 cm", "tall", "", None])
THINGS = st.fixed_dictionaries(
    {"name": st.text(max_size=8) | st.integers(), "what": st.text(max_size=12)},
    optional={
        "count": st.integers(-3, 60) | st.sampled_from(["four", "some", 2.5, None]),
        "width": SIZES, "height": SIZES, "size": st.lists(SIZES, max_size=4) | SIZES,
    },
)  # fmt: skip


@given(st.lists(THINGS, max_size=8), st.booleans())
def test_whatever_a_model_lists_the_assets_are_valid(rows: list[Any], outdoors: bool) -> None:
    try:
        found = listed({"things": rows, "outdoors": outdoors}, [])
    except ValueError:
        return
    ids = [a.id for a in found.assets]
    assert 0 < len(ids) <= 100 and len(set(ids)) == len(ids)
    assert sorted(ids) == sorted(i for group in found.groups.values() for i in group)
    for asset in found.assets:  # copies are not validated, so do it here
        type(asset).model_validate(asset.model_dump())
        assert all(not v or v <= 400 for v in (asset.width, asset.depth, asset.height))
