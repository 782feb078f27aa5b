"""Edits of a graph: what each does, and that whatever they do leaves a graph or says why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from common.errors import UserError
from scenes.edits import (
    AddAsset,
    AddRelation,
    DropAsset,
    DropRelation,
    Edit,
    LayOutAgain,
    LookFrom,
    Replace,
    Resize,
    Weigh,
    apply,
)
from scenes.graph import Asset, Relation, SceneGraph, SubScene
from scenes.relations import check

GRAPH = SceneGraph(
    text="chairs around a table",
    assets=(
        Asset(id="table", what="table", height=0.75, model="t1"),
        *(Asset(id=f"chair-{n}", what="chair") for n in (1, 2, 3)),
    ),
    relations=(
        Relation(kind="around", assets=("chair-1", "chair-2", "chair-3", "table")),
        Relation(kind="facing", assets=("chair-1", "table")),
    ),
    scenes=(SubScene(title="dining", assets=("table", "chair-1")),),
)


def test_each_does_what_it_says() -> None:
    vase = Asset(id="vase", what="vase")
    on = Relation(kind="on", assets=("vase", "table"))
    found = apply(GRAPH, [AddAsset(asset=vase), AddRelation(relation=on)])
    assert found.assets[-1] == vase and found.relations[-1] == on and found.text == GRAPH.text
    found = apply(GRAPH, [Resize(asset="table", width=2.0)])
    assert (found["table"].width, found["table"].height) == (2.0, 0.75)
    assert found["table"].model == "t1"  # it is only larger
    assert apply(GRAPH, [Replace(asset="table", what="desk")])["table"].model is None
    assert apply(GRAPH, [Replace(asset="table", model="t2")])["table"].what == "table"
    assert apply(GRAPH, [Weigh(index=1, weight=5)]).relations[1].weight == 5
    assert apply(GRAPH, [LookFrom(view="top"), LayOutAgain()]) == GRAPH


def test_a_thing_goes_with_what_is_about_nothing_else() -> None:
    found = apply(GRAPH, [DropAsset(asset="chair-1")])
    assert [str(r) for r in found.relations] == ["around(chair-2, chair-3, table)"]
    assert found.scenes[0].assets == ("table",)
    assert apply(GRAPH, [DropAsset(asset="table"), DropAsset(asset="chair-1")]).scenes == ()


def test_numbers_of_relations_are_those_of_the_graph_as_given() -> None:
    found = apply(GRAPH, [DropRelation(index=0), Weigh(index=1, weight=2)])
    assert [(r.kind, r.weight) for r in found.relations] == [("facing", 2)]


def test_a_relation_said_again_is_replaced() -> None:
    again = Relation(kind="facing", assets=("chair-1", "table"), weight=3)
    found = apply(GRAPH, [AddRelation(relation=again)])
    assert len(found.relations) == 2 and found.relations[1].weight == 3


@pytest.mark.parametrize(
    "edit",
    [
        AddAsset(asset=Asset(id="table", what="another")),
        DropAsset(asset="ghost"),
        Resize(asset="ghost", width=1),
        DropRelation(index=2),
        Weigh(index=9, weight=1),
        AddRelation(relation=Relation(kind="on", assets=("chair-1", "ghost"))),
        AddRelation(relation=Relation(kind="hovers", assets=("chair-1", "table"))),
        AddRelation(relation=Relation(kind="on", assets=("chair-1",))),
    ],
)
def test_what_cannot_be_done_is_said(edit: Edit) -> None:
    with pytest.raises(UserError):
        apply(GRAPH, [edit])


names = st.sampled_from(["table", "chair-1", "chair-2", "chair-3", "ghost"])
index = st.integers(0, 3)
edits = st.one_of(
    st.builds(AddAsset, asset=st.builds(Asset, id=names, what=st.just("thing"))),
    st.builds(DropAsset, asset=names),
    st.builds(Resize, asset=names, width=st.floats(0.01, 100)),
    st.builds(Replace, asset=names, what=st.just("other")),
    st.builds(DropRelation, index=index),
    st.builds(Weigh, index=index, weight=st.floats(0.01, 100)),
    st.builds(
        AddRelation,
        relation=st.builds(
            Relation,
            kind=st.sampled_from(["on", "facing", "left-of", "around"]),
            assets=st.lists(names, min_size=1, max_size=3).map(tuple),
        ),
    ),
)


@given(st.lists(edits, max_size=6))
def test_any_edits_leave_a_graph_that_can_be_laid_out(wanted: list[Edit]) -> None:
    try:
        found = apply(GRAPH, wanted)
    except UserError:
        return
    check(found)
    assert SceneGraph.model_validate_json(found.dump()) == found
    told = TypeAdapter(list[Edit])
    assert told.validate_json(told.dump_json(wanted)) == wanted
