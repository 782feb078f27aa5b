"""The inner loop with Blender: what the camera sees counts, and every step has its picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from common.policies.served import ServedError
from scenes import report
from scenes.assets import folder
from scenes.assets.index import Index
from scenes.craft import CraftConfig, Step, craft
from scenes.critics import Criticism, Finding, Shot
from scenes.critics.geometry import Geometry
from scenes.edits import Resize
from scenes.graph import Asset, Relation, SceneGraph
from scenes.render.jobs import Measure
from scenes.render.pool import Workers
from tests.scenes.hashed import hashed
from tests.scenes.shapes import obj, table

TINY = CraftConfig(width=64, height=48, samples=1)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    own = tmp_path_factory.mktemp("own")
    obj(own / "wall.obj", [((-1.5, 1.5), (-0.1, 0.1), (0, 2))])
    obj(own / "ball.obj", [((-0.2, 0.2), (-0.2, 0.2), (0, 0.4))])
    obj(own / "table.obj", table())
    (own / "broken-chair.obj").write_text("v nonsense\n")
    (own / "models.csv").write_text("file,name,width,depth,height\nbroken-chair.obj,chair,1,1,1\n")
    made = Index(tmp_path_factory.mktemp("index") / "i.db", hashed)
    made.add("own", folder.read(own))
    return made


HIDDEN = SceneGraph(
    text="a ball behind a wall",
    assets=(Asset(id="ball", what="ball"), Asset(id="wall", what="wall")),
    relations=(
        Relation(kind="behind", assets=("ball", "wall")),
        Relation(kind="proximity", assets=("ball", "wall"), options={"distance": 0.2}),
        Relation(kind="alignment", assets=("ball", "wall"), options={"axis": "x"}),
    ),
)


def test_what_is_hidden_is_looked_at_from_another_side(
    index: Index, workers: Workers, tmp_path: Path
) -> None:
    heard: list[tuple[int, Path | None]] = []

    def kept(step: Step, number: int) -> None:
        heard.append((number, step.picture))

    found = craft(HIDDEN, index, workers=workers, out=tmp_path, config=TINY, kept=kept)
    first, best = found.steps[0], found.best
    assert (first.measures.visible, best.measures.visible) == (1, 2)
    assert "ball (behind others)" in first.criticisms[0].findings[0].what
    assert best.staged.view in ("corner", "top") and best.parent is not None
    assert first.staged.solution.layout == best.staged.solution.layout  # only the view is new
    assert [n for n, _ in heard] == [*range(len(found.steps))]
    for number, picture in heard:
        assert picture == tmp_path / f"step-{number}.png" and picture.stat().st_size > 500
    html = report.render(found)
    assert html.count("data:image/jpeg") == len(found.steps)
    assert "look from" in html and "Hardly to be seen: ball (behind others)" in html


def test_surfaces_are_measured_and_broken_models_left_out(index: Index, workers: Workers) -> None:
    found = craft("a ball on a table and a chair", index, workers=workers)
    placed = found.best.staged.solution.layout
    assert placed["ball"].location[2] == pytest.approx(0.75, abs=0.02)  # the top of the table
    assert found.best.staged.dressed.missing.keys() == {"chair"}
    assert any("broken-chair.obj" in why for why in index.problems().values())
    assert found.best.picture is None and found.measures.visible is not None


class Fails:
    name = "vision"

    def look(self, shot: Shot) -> Criticism:
        raise ServedError("the server went away")


class Wants:
    """A critic of pictures that always wants the ball another size; its score falls each time."""

    name = "taste"

    def __init__(self) -> None:
        self.looked = 0

    def look(self, shot: Shot) -> Criticism:
        assert shot.picture.exists() and shot.sights
        self.looked += 1
        size = 0.1 + 0.05 * self.looked
        edit = Resize(asset="ball", width=size, depth=size, height=size)
        return Criticism(
            critic=self.name, score=1 / self.looked, findings=(Finding(what="no", edits=(edit,)),)
        )


def test_a_critic_whose_server_fails_is_left_out(
    index: Index, workers: Workers, tmp_path: Path
) -> None:
    critics = [Geometry(index), Fails()]
    found = craft(
        "a ball on a table", index, workers=workers, out=tmp_path, config=TINY, critics=critics
    )
    assert [c.critic for c in found.best.criticisms] == ["geometry"] and found.accepted
    assert found.notes == ("the critic vision gave up: the server went away",)


def test_the_best_step_is_chosen_and_revised(
    index: Index, workers: Workers, tmp_path: Path
) -> None:
    config = CraftConfig(steps=3, width=64, height=48, samples=1)
    found = craft(
        "a ball on a table", index, workers=workers, out=tmp_path, config=config, critics=[Wants()]
    )
    # The one finding of the best step is tried once; what it gives scores less and is not chosen.
    assert len(found.steps) == 2 and found.chosen == 0 and not found.accepted
    assert found.steps[1].tried[-1].kept and found.steps[1].parent == 0


def test_the_one_picture_beside_a_model_is_its_texture(workers: Workers, tmp_path: Path) -> None:
    """A file may name a texture by a path of its maker's, and lie beside it under another name."""
    for name, pictures in (("one", ["photo.png"]), ("two", ["photo.png", "other.png"])):
        (tmp_path / name).mkdir()
        rug = obj(tmp_path / name / "rug.obj", [((-1, 1), (-1, 1), (0, 0.02))], "map_Kd /a/b.png")
        for picture in pictures:
            Image.new("RGB", (4, 4), (200, 20, 20)).save(tmp_path / name / picture)
        notes = workers.do(Measure(model=rug)).notes
        assert notes == (() if name == "one" else ("rug.obj: the texture b.png is missing",))
