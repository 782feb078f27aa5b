"""Blender in the sandbox: it builds and renders, and its back doors lead nowhere."""

# ruff: noqa: E501 (one door, one line)

from __future__ import annotations

import dataclasses
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import sandbox

if importlib.util.find_spec("bpy") is None:
    pytest.skip("Blender's module is not installed", allow_module_level=True)

TOKEN = "pineapple-4711"
WALLS = [
    pytest.param(wall, marks=pytest.mark.skipif(bool(why), reason=f"no {wall}: {why}"))
    for wall in sandbox.WALLS
    for why in [sandbox.problem(wall)]
]

SCENE = """
import os
import bpy
bpy.ops.mesh.primitive_monkey_add()
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 2
scene.render.resolution_x = scene.render.resolution_y = 64
scene.render.filepath = os.path.abspath("view.png")
bpy.ops.render.render(write_still=True)
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("scene.blend"))
"""

# Each line tries one way out; {outside} is a folder of the user's that holds secret.txt, code.py
# and house.blend. What it finds is printed, what it writes is looked for afterwards.
DOORS = """
bpy.utils._os.listdir({outside!r}) and print("BREACH _os")
print("BREACH", open({outside!r} + "/secret.txt").read())
print("BREACH", bpy.utils._sys.modules["os"].listdir({outside!r}))
bpy.utils.execfile({outside!r} + "/code.py") and print("BREACH execfile")
bpy.ops.script.python_file_run(filepath={outside!r} + "/code.py")
print("BREACH", bpy.data.texts.load({outside!r} + "/secret.txt").as_string())
bpy.ops.text.open(filepath={outside!r} + "/secret.txt")
bpy.data.texts.new("t").from_string("open({outside!r} + '/written', 'w')"); bpy.data.texts["t"].as_module()
bpy.context.window_manager.clipboard = "x"
driver("open({outside!r} + '/written', 'w').fileno()")
driver("__import__('os').system('touch {outside}/written')")
bpy.app.driver_namespace.update(leak=lambda: open({outside!r} + "/written", "w").fileno()); driver("leak()")
bpy.app.handlers.depsgraph_update_post.append(lambda *_: open({outside!r} + "/written", "w")); bpy.context.view_layer.update()
bpy.app.handlers.save_post.append(lambda *_: open({outside!r} + "/written", "w")); bpy.ops.wm.save_as_mainfile(filepath="here.blend")
bpy.app.timers.register(lambda: open({outside!r} + "/written", "w"))
bpy.ops.wm.save_as_mainfile(filepath={outside!r} + "/written.blend")
bpy.ops.wm.save_as_mainfile(filepath={outside!r} + "/house.blend", copy=True)
bpy.ops.wm.save_as_mainfile(filepath="//../../../../../.." + {outside!r} + "/written2.blend")
bpy.data.libraries.write({outside!r} + "/written.lib.blend", set(bpy.data.objects))
bpy.ops.wm.obj_export(filepath={outside!r} + "/written.obj")
bpy.ops.export_scene.gltf(filepath={outside!r} + "/written.glb")
bpy.ops.wm.usd_export(filepath={outside!r} + "/written.usdc")
setattr(bpy.context.scene.render, "engine", "CYCLES"); setattr(bpy.context.scene.render, "resolution_percentage", 1); setattr(bpy.context.scene.render, "filepath", {outside!r} + "/written.png"); bpy.ops.render.render(write_still=True)
bpy.data.images.new("i", 4, 4).save(filepath={outside!r} + "/written.image.png")
bpy.data.images["Render Result"].save_render({outside!r} + "/written.render.png")
bpy.ops.wm.open_mainfile(filepath={outside!r} + "/house.blend", use_scripts=True) and print("BREACH open")
print("BREACH", bpy.data.libraries.load({outside!r} + "/house.blend").__enter__()[0].objects)
bpy.ops.wm.append(directory={outside!r} + "/house.blend/Object/", filename="Cube")
print("BREACH", bpy.data.images.load({outside!r} + "/picture.png").pixels[0])
print("BREACH", bpy.data.fonts.load({outside!r} + "/secret.txt"))
print("BREACH", bpy.data.sounds.load({outside!r} + "/secret.txt").packed_file or bpy.ops.sound.pack())
bpy.ops.wm.url_open(url="http://127.0.0.1:{port}/")
bpy.ops.wm.path_open(filepath={outside!r})
setattr(bpy.context.preferences.filepaths, "use_scripts_auto_execute", True)
setattr(bpy.context.preferences.system, "use_online_access", True); bpy.ops.extensions.repo_sync_all()
bpy.ops.preferences.addon_install(filepath={outside!r} + "/code.py")
bpy.ops.preferences.addon_enable(module="io_scene_fbx"); bpy.ops.wm.save_userpref()
bpy.ops.preferences.script_directory_add(directory={outside!r}); bpy.ops.script.reload(); bpy.utils.load_scripts()
bpy.ops.wm.save_homefile()
print(bpy.utils.user_resource("SCRIPTS", path="startup", create=True))
import subprocess; print("BREACH", subprocess.run(["/bin/sh", "-c", "id"], capture_output=True))
import urllib.request; urllib.request.urlopen("http://127.0.0.1:{port}/", timeout=2)
import ctypes; ctypes.CDLL(None).kill({engine}, 9) or print("BREACH kill")
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("trojan.blend"))
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user's, with a Blender file in it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.txt").write_text(TOKEN)
    (folder / "code.py").write_text(f"open({str(folder / 'written')!r}, 'w')")
    ran = sandbox.run(SCENE, profile="blender", check=False)
    assert ran.status == "ok", ran.stderr
    (folder / "house.blend").write_bytes(ran.files["scene.blend"])
    (folder / "picture.png").write_bytes(ran.files["view.png"])
    return folder


@pytest.fixture
def visits() -> Iterator[tuple[int, list[str]]]:
    """The port of a web server of the user's, and who came."""
    seen: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, seen
        server.shutdown()


def doors(outside: Path, port: int) -> str:
    """A script that tries every door, one after the other."""
    lines = [
        line.replace("{outside!r}", repr(str(outside)))
        .replace("{outside}", str(outside))
        .replace("{port}", str(port))
        .replace("{engine}", str(os.getpid()))
        for line in DOORS.strip().splitlines()
    ]
    return f"""
import os
import bpy
def driver(expression):
    bpy.context.preferences.filepaths.use_scripts_auto_execute = True
    curve = bpy.data.objects[0].driver_add("location", 0)
    curve.driver.expression = expression
    bpy.context.view_layer.update()
for number, line in enumerate({lines!r}):
    try:
        exec(line)
    except BaseException as error:
        print("held", number, type(error).__name__)
print("tried", number + 1)
"""


@pytest.mark.parametrize("wall", WALLS)
def test_blenders_back_doors_lead_nowhere(
    wall: sandbox.Layer, outside: Path, visits: tuple[int, list[str]]
) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in outside.iterdir()}
    config = Path.home() / ".config/blender"
    had = config.exists()
    port, seen = visits

    ran = sandbox.run(doors(outside, port), profile="blender", check=False, layer=wall)

    assert [line for line in ran.stdout.splitlines() if "BREACH" in line] == []
    assert f"tried {len(DOORS.strip().splitlines())}" in ran.stdout, ran.stderr[-500:]
    assert TOKEN not in ran.stdout + ran.stderr
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in outside.iterdir()} == before
    assert seen == []
    assert config.exists() == had
    assert not any(TOKEN.encode() in data for data in ran.files.values())

    # The harmless one right after works, and its picture shows something.
    ran = sandbox.run(SCENE, profile="blender", check=False, layer=wall)
    assert ran.status == "ok", ran.stderr[-500:]
    assert ran.files["view.png"].startswith(b"\x89PNG") and len(ran.files["view.png"]) > 500


def test_a_file_with_scripts_inside_does_not_run_them_when_the_host_opens_it(
    tmp_path: Path,
) -> None:
    trojan = f"""
import os
import bpy
text = bpy.data.texts.new("evil.py")
text.from_string("open({str(tmp_path / "written")!r}, 'w')")
text.use_module = True
curve = bpy.data.objects[0].driver_add("location", 0)
curve.driver.expression = "__import__('os').mkdir({str(tmp_path / "folder")!r}) or 0"
bpy.ops.wm.save_as_mainfile(filepath=os.path.abspath("trojan.blend"))
"""
    ran = sandbox.run(trojan, profile="blender", check=False)
    (tmp_path / "trojan.blend").write_bytes(ran.files["trojan.blend"])
    host = (
        "import bpy, sys\n"
        "bpy.ops.wm.open_mainfile(filepath=sys.argv[1], use_scripts=False)\n"
        "bpy.context.view_layer.update(); print(len(bpy.data.texts), 'texts')"
    )
    command = [sys.executable, "-c", host, str(tmp_path / "trojan.blend")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 texts" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["trojan.blend"]


def test_a_scene_that_grows_without_end_is_stopped() -> None:
    grow = """
import bpy
for _ in range(20):
    bpy.ops.mesh.primitive_monkey_add()
    bpy.context.object.modifiers.new("s", "SUBSURF").levels = 6
    for _ in range(3):
        bpy.ops.object.modifier_apply(modifier=bpy.context.object.modifiers[0].name)
        bpy.context.object.modifiers.new("s", "SUBSURF").levels = 4
        bpy.context.view_layer.update()
"""
    limits = dataclasses.replace(sandbox.LIMITS["blender"], memory=700 * sandbox.MIB, seconds=30)
    ran = sandbox.run(grow, profile="blender", limits=limits)
    assert ran.status in ("limit", "failed"), ran.why


def test_the_check_lets_a_plain_scene_through() -> None:
    plain = """
import math
import bpy
from mathutils import Vector
bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0, math.pi))
bpy.context.object.location += Vector((1, 0, 0))
print(tuple(round(x, 2) for x in bpy.context.object.location))
"""
    ran = sandbox.run(plain, profile="blender")
    assert ran.status == "ok" and "(1.0, 0.0, 3.14)" in ran.stdout
