"""The CLIP critic on pictures whose colours are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from scenes.assets.index import Index
from scenes.assets.search import search
from scenes.clip.looks import by_looks, likeness
from scenes.critics import Shot
from scenes.critics.clip import ClipCritic
from scenes.dress import dress
from scenes.edits import apply
from scenes.graph import Asset, SceneGraph, SubScene
from scenes.layout import solve
from scenes.render.jobs import Camera, Scene, Sight
from tests.scenes.clips import colours
from tests.scenes.hashed import hashed
from tests.scenes.test_dress import model

RED, GREEN = (255, 60, 60), (60, 255, 60)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Two red chairs by name, one of them green by looks."""
    for name, colour in (("a", GREEN), ("b", RED)):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
    made = Index(tmp_path / "i.db", hashed)
    made.add(
        "test",
        [
            model("red chair", 0.5, 0.5, 0.9, icon=str(tmp_path / "a.png")),
            model("red oak chair", 0.5, 0.5, 0.9, icon=str(tmp_path / "b.png")),
        ],
        colours,
    )
    return made


def shot(index: Index, path: Path, colour: tuple[int, int, int], **more: float) -> Shot:
    image = Image.new("RGB", (160, 120), (60, 60, 60))
    ImageDraw.Draw(image).rectangle((40, 30, 79, 89), fill=colour)
    image.save(path)
    graph = SceneGraph(text="a red chair", assets=(Asset(id="c", what="red chair"),))
    dressed = dress(graph, index)
    sight = Sight(id="c", visible=2400, alone=2400, whole=2400, box=(0.25, 0.25, 0.5, 0.75))
    return Shot(
        text=graph.text, dressed=dressed, solution=solve(dressed.graph, dressed.sizes),
        scene=Scene(things=()), camera=Camera(location=(0, -3, 1), target=(0, 0, 0)),
        picture=path, sights=(sight.model_copy(update=more),),
    )  # fmt: skip


def test_the_score_is_the_raw_cosine(index: Index, tmp_path: Path) -> None:
    critic = ClipCritic(colours, index)
    seen = shot(index, tmp_path / "p.png", RED)
    said = critic.look(seen)
    likeness = critic.likeness(seen)
    assert said.critic == "clip" and said.findings == ()
    assert said.score == pytest.approx(likeness.cosine, abs=1e-6) and likeness.cosine > 0.95
    assert (likeness.architecture, likeness.weights) == ("colours", "0" * 16)
    assert critic.look(shot(index, tmp_path / "p.png", (60, 60, 255))).score < 0.1


def test_sub_scenes_count_each(index: Index, tmp_path: Path) -> None:
    seen = shot(index, tmp_path / "p.png", RED)
    parts = tuple(SubScene(title=t, assets=("c",)) for t in ("red", "green"))
    graph = seen.dressed.graph.model_copy(update={"scenes": parts})
    halved = Shot(**{**vars(seen), "dressed": type(seen.dressed)(
        graph, seen.dressed.models, seen.dressed.sizes, seen.dressed.surfaces, seen.dressed.missing
    )})  # fmt: skip
    critic = ClipCritic(colours, index)
    assert critic.likeness(halved).cosine == pytest.approx(
        critic.likeness(seen).cosine / 2, abs=0.02
    )


def test_what_looks_like_anything_but_itself_is_replaced(index: Index, tmp_path: Path) -> None:
    seen = shot(index, tmp_path / "p.png", GREEN)
    assert seen.dressed.models["c"].name == "red chair"  # by its words
    finding = ClipCritic(colours, index).look(seen).findings[0]
    assert "the red chair does not look like a red chair" in finding.what
    changed = apply(seen.dressed.graph, finding.edits)
    assert changed["c"].model == "red-oak-chair"
    assert ClipCritic(colours).look(seen).findings[0].edits == ()


@pytest.mark.parametrize(
    "more", [{"box": None}, {"visible": 900}, {"alone": 900}, {"box": (0.25, 0.25, 0.3, 0.75)}]
)
def test_what_is_hardly_to_be_seen_is_not_judged(
    index: Index, tmp_path: Path, more: dict[str, float]
) -> None:
    seen = shot(index, tmp_path / "p.png", GREEN, **more)
    assert ClipCritic(colours, index).look(seen).findings == ()


def test_likeness_of_hits(index: Index) -> None:
    hits = search(index, "red chair")
    wanted = [0.0 if h.model.id == "red-chair" else 1.0 for h in hits]
    assert likeness(colours, index, "red", hits).tolist() == pytest.approx(wanted, abs=0.01)
    # The index holds nothing of another encoder, so that it looks for itself.
    other = type(colours)("other", "1" * 16, colours.see, colours.read, colours.fits)
    assert index.all("image", other.name)[0] == []
    assert likeness(other, index, "red", hits).tolist() == pytest.approx(wanted, abs=0.01)


def test_hits_ranked_again_by_looks(index: Index, tmp_path: Path) -> None:
    graph = SceneGraph(assets=(Asset(id="c", what="red chair"),))
    assert dress(graph, index).models["c"].name == "red chair"
    assert dress(graph, index, looks=by_looks(colours, index)).models["c"].name == "red oak chair"
    bare = Index(tmp_path / "bare.db", hashed)
    bare.add("test", [model("red chair", 0.5, 0.5, 0.9), model("red oak chair", 0.5, 0.5, 0.9)])
    hits = search(bare, "red chair")
    assert list(by_looks(colours, bare)("red chair", hits)) == hits
