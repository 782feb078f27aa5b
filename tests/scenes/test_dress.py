"""Which model stands for an asset, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from common.errors import UserError
from scenes.assets.index import Index
from scenes.assets.model import Model
from scenes.dress import BLOCK, dress, scaled, sized
from scenes.graph import Asset, Relation, SceneGraph, Surface
from tests.scenes.hashed import hashed


def model(name: str, *size: float, **more: object) -> Model:
    return Model.model_validate(
        {"id": name.replace(" ", "-"), "name": name, "path": f"/{name}.obj", "digest": name,
         "source": "test", "size": size or None, **more}
    )  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> Index:
    made = Index(tmp_path / "i.db", hashed)
    made.add(
        "test",
        [
            model("chair", 0.5, 0.5, 0.9),
            model("oak chair", 0.5, 0.5, 1.0),
            model("wooden chair", 0.45, 0.5, 0.95),
            model("table", 1.2, 0.8, 0.75, rest=0.7),
            model("rug", 2.0, 1.5, 0.01),
        ],
    )
    return made


def graph(*assets: tuple[str, str], **more: object) -> SceneGraph:
    return SceneGraph(assets=tuple(Asset(id=i, what=w, **more) for i, w in assets))  # type: ignore[arg-type]


def test_assets_alike_get_the_same_model(index: Index) -> None:
    found = dress(graph(("a", "chair"), ("b", "chair"), ("t", "oak table")), index)
    assert found.models["a"] == found.models["b"]
    assert found.graph["a"].model == found.models["a"].id
    assert found.models["t"].name == "table" and found.missing == {}
    varied = dress(graph(("a", "different chairs"), ("b", "different chairs")), index)
    assert varied.models["a"] != varied.models["b"]


def test_what_is_not_there_is_a_block(index: Index) -> None:
    found = dress(graph(("s", "spaceship"), ("c", "chair")), index)
    assert [*found.missing] == ["s"] and found.sizes["s"] == BLOCK
    assert found.graph["s"].model is None
    assert dress(graph(("s", "spaceship"), height=3.0), index).sizes["s"] == (3.0, 3.0, 3.0)


def test_an_asset_may_name_its_model(index: Index) -> None:
    named = SceneGraph(assets=(Asset(id="a", what="chair", model="table"),))
    assert dress(named, index).models["a"].id == "table"
    lost = SceneGraph(assets=(Asset(id="a", what="chair", model="throne"),))
    with pytest.raises(UserError, match="a is to be the model 'throne'"):
        dress(lost, index)


def test_sizes_follow_what_is_wanted() -> None:
    table = (1.2, 0.8, 0.75)
    assert sized(Asset(id="t", what="table"), table) == table
    assert sized(Asset(id="t", what="table", height=1.5), table) == (2.4, 1.6, 1.5)
    assert sized(Asset(id="t", what="table", width=1.5, depth=1.0), table)[:2] == (1.5, 1.0)
    # Twice as wide and half as deep would be no such table any more.
    bent = sized(Asset(id="t", what="table", width=2.4, depth=0.4), table)
    assert bent == pytest.approx((1.5, 1.0, 0.9375))


def test_surfaces_follow_the_size() -> None:
    made = model("table", 1.0, 0.5, 0.8, rest=0.7)
    (top,) = scaled(made, (2.0, 0.5, 0.8))
    assert top.z == pytest.approx(0.7) and top.x == pytest.approx((-0.9, 0.9))
    shelf = made.model_copy(
        update={"surfaces": (Surface(x=(-0.4, 0.4), y=(-0.2, 0.2), z=0.3, clearance=0.2),)}
    )
    (level,) = scaled(shelf, (1.0, 0.5, 1.6))
    assert (level.z, level.clearance) == (0.6, 0.4)
    assert scaled(model("ball", 1, 1, 1), (1, 1, 1)) == ()


def test_models_are_measured_once_and_broken_ones_left_out(index: Index) -> None:
    asked: list[str] = []

    def measure(models: Sequence[Model]):  # type: ignore[no-untyped-def]
        asked.extend(m.id for m in models)
        top = [Surface(x=(-0.2, 0.2), y=(-0.2, 0.2), z=0.45)]
        return {m.id: "no faces" if m.id == "chair" else ((0.5, 0.5, 0.9), top) for m in models}

    found = dress(graph(("a", "chair")), index, measure)
    assert asked[0] == "chair" and found.models["a"].id != "chair"
    assert found.surfaces["a"][0].z == pytest.approx(0.45)
    assert index.problems() == {"chair": "no faces"}
    asked.clear()
    again = dress(graph(("a", "chair")), index, measure).models["a"]
    assert "chair" not in (again.id, *asked)
    asked.clear()
    assert dress(graph(("a", "chair")), index, measure).models["a"] == again and asked == []


def test_hits_may_be_ranked_again_by_looks(index: Index) -> None:
    found = dress(graph(("a", "chair")), index, looks=lambda _, hits: hits[::-1])
    assert found.models["a"] != dress(graph(("a", "chair")), index).models["a"]


def test_what_would_find_no_room_together_gets_smaller_to_half_at_most(index: Index) -> None:
    # The table's top is 1.08 by 0.72 m: two chairs of 0.5 m fit side by side, six need to shrink.
    def sizes(count: int, **wanted: float) -> set[tuple[float, float, float]]:
        assets = [Asset(id="t", what="table")]
        assets += [Asset(id=f"c{k}", what="chair", **wanted) for k in range(count)]  # type: ignore[arg-type]
        on = tuple(Relation(kind="on", assets=(f"c{k}", "t")) for k in range(count))
        found = dress(SceneGraph(assets=tuple(assets), relations=on), index).sizes
        return {found[f"c{k}"] for k in range(count)}

    assert sizes(2) == {(0.5, 0.5, 0.9)}
    (six,) = sizes(6)
    across, along = int((1.08 + 0.02) / (six[0] + 0.02)), int((0.72 + 0.02) / (six[1] + 0.02))
    assert 0.25 <= six[0] < 0.5 and across * along >= 6
    assert six[2] / six[0] == pytest.approx(1.8)
    assert sizes(40) == {(0.25, 0.25, 0.45)}
    assert sizes(6, width=0.5) == {(0.5, 0.5, 0.9)}
