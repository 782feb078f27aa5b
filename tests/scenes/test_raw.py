"""Scripts of a served model: what works becomes a scene, what does not is told and stays in."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import sandbox
from common.cli import main
from common.errors import UserError
from scenes.raw import NO_CODE, Raw, instructions, script_of
from scenes.render.jobs import Scan
from scenes.render.pool import Workers
from tests.common.test_served import Server, server

__all__ = ["server"]  # the fixture

if importlib.util.find_spec("bpy") is None:
    pytest.skip("Blender's module is not installed", allow_module_level=True)
needs_wall = pytest.mark.skipif(
    all(sandbox.problem(wall) for wall in sandbox.WALLS), reason="no wall works here"
)

GOOD = """
import bpy
from mathutils import Vector

def painted(name, colour):
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*colour, 1)
    bpy.context.object.name = name
    bpy.context.object.data.materials.append(material)

bpy.ops.mesh.primitive_plane_add(size=6)
painted("floor", (0.5, 0.5, 0.5))
bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, 0.5))
painted("red box", (0.8, 0.05, 0.05))
bpy.ops.object.light_add(type="SUN", location=(0, -3, 5))
bpy.context.object.data.energy = 3
bpy.ops.object.camera_add(location=(0, -5, 2))
camera = bpy.context.object
camera.rotation_euler = (Vector((0, 0, 0.4)) - camera.location).to_track_quat("-Z", "Y").to_euler()
bpy.context.scene.camera = camera
"""
WRONG = GOOD.replace("size=1,", "sise=1,")
LOOP = GOOD + "\nwhile True:\n    pass\n"
ESCAPE = "import os\nimport bpy\nos.system('touch {path}')\n"


def fenced(code: str) -> str:
    return f"Here it is.\n\n```python\n{code}\n```\nEnjoy!"


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(device="cpu") as pool:
        yield pool


def raw(server: Server, workers: Workers, **options: object) -> Raw:
    made = Raw(server.policy(), workers, width=96, height=72, samples=4)
    return dataclasses.replace(made, **options)  # type: ignore[arg-type]


@needs_wall
def test_a_script_becomes_a_scene_after_its_error_was_told(
    server: Server, workers: Workers, tmp_path: Path
) -> None:
    server.script = ["I cannot do that.", fenced(WRONG), fenced(GOOD)]
    made = raw(server, workers).make("a red box", tmp_path / "room")
    assert made.things == ("floor", "red box")
    assert [bool(a.why) for a in made.attempts] == [True, True, False]
    assert made.attempts[0].why == NO_CODE
    # The model is told the line and the reason, and sees its own script.
    told = server.seen[2]["messages"]
    assert [m["role"] for m in told] == ["system", "user", "assistant", "user"]
    assert '"../in/scene.py", line 13' in told[3]["content"] and "runpy" not in told[3]["content"]
    assert "primitive_cube_add" in told[3]["content"] and "sise" in told[3]["content"]
    assert told[2]["content"] == fenced(WRONG)
    names = {path.name for path in (tmp_path / "room").iterdir()}
    assert names == {"scene.blend", "scene.glb", "scene.py", "step-0.png", "attempt-1.py",
                     "attempt-2.py"}  # fmt: skip
    assert GOOD.strip() in made.script.read_text()
    pixels = np.asarray(Image.open(made.picture).convert("RGB"), float)
    assert pixels.shape == (72, 96, 3)
    red = pixels[..., 0] - pixels[..., 1:].max(-1)
    assert (red > 40).mean() > 0.02  # the box is in the picture
    assert made.glb.read_bytes().startswith(b"glTF")


@needs_wall
def test_what_leads_out_is_refused_and_nothing_happens_outside(
    server: Server, workers: Workers, tmp_path: Path
) -> None:
    outside = tmp_path / "written"
    sneaky = GOOD + (
        f"\nfind = bpy.ops.wm.save_as_mainfile\nfind(filepath={str(outside) + '.blend'!r})\n"
    )
    server.script = [fenced(ESCAPE.format(path=outside)), fenced(sneaky), fenced("x = " * 3)]
    with pytest.raises(UserError, match="no script that works in 3 attempts") as error:
        raw(server, workers, attempts=3).make("a box", tmp_path / "room")
    assert "attempt-3.py" in error.value.remedy
    assert "import of os" in server.seen[1]["messages"][-1]["content"]
    assert "operators of wm" in server.seen[2]["messages"][-1]["content"]
    assert [path.name for path in tmp_path.iterdir()] == ["room"]
    kept = {path.name for path in (tmp_path / "room").iterdir()}
    assert kept == {"attempt-1.py", "attempt-2.py", "attempt-3.py"}


@needs_wall
def test_the_wall_holds_what_the_check_lets_through(
    server: Server, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is feedback. Without it a script that leads out still does not get out."""
    monkeypatch.setattr(sandbox, "lint", lambda *_: [])
    outside = tmp_path / "written"
    text = GOOD + "\nbpy.data.texts.new('later').from_string('import os')\n"
    driver = GOOD + (
        "\ncurve = bpy.data.objects['red box'].driver_add('location', 0)\n"
        f"curve.driver.expression = \"__import__('os').mkdir({str(outside)!r}) or 0\"\n"
    )
    wav = GOOD + f"\nbpy.data.images.load({str(tmp_path)!r} + '/secret.png')\n"
    (tmp_path / "secret.png").write_bytes(b"secret")
    server.script = [fenced(code) for code in (ESCAPE.format(path=outside), text, driver, wav)]
    with pytest.raises(UserError):
        raw(server, workers).make("a box", tmp_path / "room")
    told = [body["messages"][-1]["content"] for body in server.seen[1:]]
    assert "left no scene" not in told[0]
    assert "the text block 'later'" in told[1]
    assert "a driver of 'red box'" in told[2]
    assert not outside.exists()
    assert not (tmp_path / "room/scene.blend").exists()


@needs_wall
def test_an_endless_loop_is_ended_and_told(
    server: Server, workers: Workers, tmp_path: Path
) -> None:
    server.script = [fenced(LOOP), fenced(GOOD.replace("light_add", "empty_add").replace(
        'type="SUN", ', "").replace("bpy.context.object.data.energy = 3", ""))]  # fmt: skip
    limits = dataclasses.replace(sandbox.LIMITS["blender"], seconds=12)
    with pytest.raises(UserError, match="The picture is black"):
        raw(server, workers, attempts=2, limits=limits).make("a box", tmp_path / "room")
    told = server.seen[1]["messages"][-1]["content"]
    assert "The script failed" in told and "12" in told


def test_a_file_that_holds_more_than_a_scene_is_found_out(workers: Workers, tmp_path: Path) -> None:
    trojan = (
        GOOD
        + """
bpy.data.texts.new("evil.py").use_module = True
bpy.data.objects["red box"].driver_add("location", 0).driver.expression = "1+1"
tree = bpy.data.materials["red box"].node_tree
tree.nodes.new("ShaderNodeScript")
image = bpy.data.images.new("i", 4, 4)
image.source, image.filepath = "FILE", "/etc/passwd"
tree.nodes.new("ShaderNodeTexImage").image = image
bpy.data.objects["red box"].modifiers.new("sea", "OCEAN")
bpy.ops.wm.save_as_mainfile(filepath="trojan.blend")
"""
    )
    ran = sandbox.run(trojan, profile="blender", check=False)
    assert ran.status == "ok", ran.stderr
    (tmp_path / "trojan.blend").write_bytes(ran.files["trojan.blend"])
    found = workers.do(Scan(blend=tmp_path / "trojan.blend")).problems
    for each in ("text block 'evil.py'", "driver of 'red box'", "ShaderNodeScript", "/etc/passwd",
                 "OCEAN"):  # fmt: skip
        assert any(each in problem for problem in found), (each, found)
    clean = "import bpy\nbpy.ops.wm.read_factory_settings(use_empty=True)\n" + GOOD
    clean += '\nbpy.ops.wm.save_as_mainfile(filepath="clean.blend")\n'
    ran = sandbox.run(clean, profile="blender", check=False)
    (tmp_path / "clean.blend").write_bytes(ran.files["clean.blend"])
    assert workers.do(Scan(blend=tmp_path / "clean.blend")).problems == ()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\nimport bpy\n```", "import bpy\n"),
        ("```py\r\nimport bpy\r\n```", "import bpy\n"),
        ("First\n```\nx = 1\n```\nthen\n```python\nimport bpy\nx = 2\n```", "import bpy\nx = 2\n"),
        ("```python\nimport bpy\nx = 1", "import bpy\nx = 1\n"),
        ("import bpy\nbpy.context.scene", "import bpy\nbpy.context.scene\n"),
        ("Sorry, no.", None),
        ("Sorry", None),
        ("", None),
        ("``` ```", None),
    ],
)
def test_the_script_in_an_answer(answer: str, code: str | None) -> None:
    assert script_of(answer) == code


def test_instructions_say_what_the_check_allows() -> None:
    text = instructions()
    assert "bmesh" in text and "mesh, node, object" in text and "{" not in text


def test_an_empty_text(server: Server, workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty text"):
        raw(server, workers).make("  ", tmp_path)
    assert server.seen == []


@needs_wall
def test_the_command(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.script = ["no", fenced(GOOD)]
    words = ["scenes", "craft", "a red box", "--raw", "--model", "m", "--base-url", server.url]
    words += ["--out", str(tmp_path), "--size", "64x48", "--samples", "2", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["placed"] == 2 and told["attempts"] == [NO_CODE, ""]
    assert told["constraint_score"] is None and (tmp_path / "scene.blend").exists()
    assert main([*words[:4], "--out", str(tmp_path)]) == 2
    assert "needs --model" in capsys.readouterr().err
