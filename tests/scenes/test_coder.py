"""The script of a scene: it runs without us and builds what the render worker builds."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError
from scenes.assets.model import Model, attribution
from scenes.coder import builtin, script
from scenes.dress import Dressed, dress
from scenes.graph import Asset, Relation, Room, SceneGraph, SubScene
from scenes.layout import Solution, SolverConfig, solve
from scenes.render.jobs import Camera, Render, Scene, Thing
from scenes.render.pool import Workers
from scenes.render.views import view
from tests.scenes.hashed import hashed
from tests.scenes.shapes import chair, obj, table

needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="Blender's module is not installed"
)
TURNED = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0)
"""A quarter turn around the vertical, as a catalogue writes it."""
REPORT = """
import json, runpy, sys

made = runpy.run_path(sys.argv[1])
made["empty"]()
made["build_scene"]()
from mathutils import Vector
import bpy
bpy.context.view_layer.update()
found = {}
for thing in bpy.data.objects:
    if "asset" in thing:
        points = [thing.matrix_world @ Vector(c) for c in thing.bound_box]
        found[thing.name] = {
            "at": list(thing.location), "yaw": thing.rotation_euler.z,
            "low": [min(p[i] for p in points) for i in range(3)],
            "high": [max(p[i] for p in points) for i in range(3)],
        }
print("FOUND" + json.dumps(found))
made["write"](made["Path"](sys.argv[2]))
"""


def furnished(folder: Path) -> tuple[SceneGraph, Solution, Dressed, Scene, Camera]:
    """A table with chairs around it and a lamp that no model fits, laid out by the solver."""
    graph = SceneGraph(
        text='A table with two chairs, a "lamp" on it.\nNothing else \\ """ \u2028 here!',
        assets=(
            Asset(id="table", what="table"),
            Asset(id="chair-1", what="chair"),
            Asset(id="chair-2", what="chair"),
            Asset(id="lamp", what="lamp", width=0.2, depth=0.2, height=0.4),
        ),
        relations=(
            Relation(kind="around", assets=("chair-1", "chair-2", "table")),
            Relation(kind="on", assets=("lamp", "table")),
        ),
        room=Room(width=4, depth=3.5),
    )
    paint = "Kd 0.6 0.3 0.1\nNi 1.0"
    files = {
        "table": obj(folder / "table.obj", table(), paint),
        "chair": obj(folder / "far/chair.obj", chair(), "Kd 0.1 0.3 0.6", doubled=True),
    }
    models = [
        Model(id="table", name="Table", path=str(files["table"]), digest="t", source="Shop",
              size=(1.2, 0.8, 0.75), rest=0.75, creator="Ann", licence="CC-BY-3.0"),
        Model(id="chair", name="Chair", path=str(files["chair"]), digest="c", source="Shop",
              size=(0.44, 0.44, 0.9), rotation=TURNED),
    ]  # fmt: skip
    from scenes.assets.index import Index

    index = Index(folder / "index.db", hashed)
    index.add("Shop", models)
    dressed = dress(graph, index)
    assert [*dressed.missing] == ["lamp"]
    found = solve(dressed.graph, dressed.sizes, dressed.surfaces, config=SolverConfig(starts=2))
    things = []
    for asset in graph.assets:
        at, model = found.layout[asset.id], dressed.models.get(asset.id)
        things.append(
            Thing(id=asset.id, size=at.size, location=at.location, yaw=at.yaw,
                  model=model.file if model else None, rotation=model and model.rotation)
        )  # fmt: skip
    notes = attribution(dressed.models.values())
    scene = Scene(things=tuple(things), room=graph.room, notes=notes)
    return dressed.graph, found, dressed, scene, view(scene, "corner")


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[SceneGraph, Solution, Dressed, Scene, Camera]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "far").mkdir()
    return furnished(folder)


@needs_blender
def test_the_script_builds_what_the_worker_builds(
    made: tuple[SceneGraph, Solution, Dressed, Scene, Camera], tmp_path: Path
) -> None:
    _, solution, _, scene, camera = made
    path = tmp_path / "scene.py"
    path.write_text(script(*made, size=(160, 120), samples=16), encoding="utf-8")
    command = [sys.executable, "-I", "-c", REPORT, str(path), str(tmp_path / "theirs.png")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr[-800:]
    line = next(x for x in ran.stdout.splitlines() if x.startswith("FOUND"))
    found = json.loads(line.removeprefix("FOUND"))
    assert found.keys() == solution.layout.keys()
    for name, place in solution.layout.items():
        assert found[name]["at"] == pytest.approx(place.location, abs=1e-3)
        assert found[name]["yaw"] == pytest.approx(place.yaw, abs=math.radians(0.1))
        c, s = abs(math.cos(place.yaw)), abs(math.sin(place.yaw))
        w, d, h = place.size
        extent = np.subtract(found[name]["high"], found[name]["low"])
        assert extent == pytest.approx((c * w + s * d, s * w + c * d, h), abs=1e-3)
    with Workers(device="cpu") as workers:
        job = Render(scene=scene, cameras=(camera,), paths=(tmp_path / "ours.png",),
                     width=160, height=120, samples=16)  # fmt: skip
        workers.do(job)
    ours, theirs = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), float)
        for name in ("ours", "theirs")
    )
    assert ours.std() > 20  # a picture of something
    assert np.abs(ours - theirs).mean() < 1.5


@needs_blender
def test_a_user_runs_it_and_gets_files(
    made: tuple[SceneGraph, Solution, Dressed, Scene, Camera], tmp_path: Path
) -> None:
    (tmp_path / "scene.py").write_text(script(*made, size=(32, 32), samples=1), "utf-8")
    command = [sys.executable, "scene.py", "out.png", "out.blend"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr[-800:]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out.blend").stat().st_size > 1000
    wrong = [sys.executable, "scene.py", "out.txt"]
    ran = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 1 and "name a .blend or a .png" in ran.stderr


def test_it_reads_sentence_by_sentence(
    made: tuple[SceneGraph, Solution, Dressed, Scene, Camera],
) -> None:
    graph, solution, dressed, scene, camera = made
    text = script(*made)
    assert text == script(*made)
    assert text.startswith('# A table with two chairs, a "lamp" on it. Nothing else')
    assert "# Table: Ann, Shop, CC-BY-3.0" in text
    first, second = text.index("# == A table with two chairs"), text.index('# == a "lamp" on it ==')
    assert first < text.index('place("chair-1"') < second < text.index("    place_block(")
    assert f"#   lamp on table: {solution.scores.values[1]:.2f}" in text
    assert text.count("chair-1, chair-2 around table") == 1
    assert text.count("import_model(MODELS") == 2
    # Only what the scene needs.
    assert "def room(" in text and "def lawn(" not in text and "def grass(" not in text
    assert "upspiral" not in text and "import scenes" not in text
    outside = script(graph, solution, dressed, scene.model_copy(update={"room": None}), camera)
    assert "def studio(" in outside and "def planks(" not in outside
    ast.parse(outside)


def test_sub_scenes_are_its_parts(
    made: tuple[SceneGraph, Solution, Dressed, Scene, Camera],
) -> None:
    graph, solution, dressed, scene, camera = made
    parts = (SubScene(title="Seats", assets=("chair-1", "chair-2")),)
    text = script(graph.model_copy(update={"scenes": parts}), solution, dressed, scene, camera)
    assert text.index("# == Seats ==") < text.index("# == besides ==") < text.index('place("table"')


def test_learned_skills_come_first(
    made: tuple[SceneGraph, Solution, Dressed, Scene, Camera],
) -> None:
    mine = "import random\n\ndef place(name, mesh, size, at, degrees=0):\n    random.seed(SEED)\n"
    text = script(*made, skills={"place": mine, "unused": "def unused():\n    pass\n"})
    assert "random.seed(SEED)" in text and "import random\n" in text
    assert text.count("def place(") == 1 and "def unused(" not in text
    with pytest.raises(UserError, match="skill place is no Python"):
        script(*made, skills={"place": "def place(:"})
    with pytest.raises(UserError, match="defines no function place"):
        script(*made, skills={"place": "x = 1"})


def test_builtin_skills_know_nothing_of_ours() -> None:
    skills = builtin()
    assert {"import_model", "place", "room", "soft_light", "look_from"} <= skills.sources.keys()
    assert not any("scenes" in line or "common" in line for line in skills.imports.values())
    for name, source in skills.sources.items():
        tree = ast.parse(source)
        if isinstance(tree.body[0], ast.FunctionDef):
            assert ast.get_docstring(tree.body[0]), name


anything = st.text(min_size=1, max_size=60).filter(lambda text: text.strip() != "")


@settings(max_examples=40, deadline=None)
@given(anything, anything, st.floats(-50, 50), st.floats(-10, 10), st.floats(1e-5, 20))
def test_no_words_break_the_script(
    text: str, what: str, x: float, yaw: float, height: float
) -> None:
    """Whatever a text, a name or a number holds, the script is Python and says the numbers."""
    graph = SceneGraph(text=text, assets=(Asset(id="it", what=what.strip()[:300] or "x"),))
    size = (1.0, 1.0, height)
    dressed = Dressed(graph, {}, {"it": size}, {}, {"it": "nothing"})
    solution = solve(graph, {"it": size}, config=SolverConfig(starts=1, steps=1, moves=0))
    thing = Thing(id="it", size=size, location=(x, 0, 0), yaw=yaw)
    scene = Scene(things=(thing,), outdoors=True, notes=text)
    made = script(graph, solution, dressed, scene, view(scene))
    calls = [n for n in ast.walk(ast.parse(made)) if isinstance(n, ast.Call)]
    (call,) = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "place_block"]
    given = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    assert given["at"][0] == pytest.approx(x, abs=5.1e-4)
    assert given["size"][2] == pytest.approx(height, abs=5.1e-4, rel=0.06)
    assert given["degrees"] == pytest.approx(math.degrees(yaw), abs=0.051)
