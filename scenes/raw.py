"""``--raw``: a served model writes the Blender script itself, and we trust none of it.

What BlenderGPT does, and what SceneCraft's published skills are written in (arXiv 2403.01248,
appendix); here it is the opt-in beside scene graphs. An answer is taken through these steps, and
what fails is told to the model, which writes again:

1. The script is read (:mod:`common.sandbox.lint`) and nothing of it runs if something is amiss.
2. It runs in the sandbox, in an empty scene, which is then saved there.
3. A second job in the sandbox opens that file with its scripts off, looks through its data blocks
   (:mod:`scenes.render.scan`), renders a small picture under the sandbox's limits, and writes the
   scene anew, so that what leaves the sandbox was written by Blender and not by the script.
4. A render worker opens it with its scripts off, looks through its data blocks itself, and renders.

The models of the index play no part: a script builds its things from meshes.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import sandbox
from common.errors import UserError
from common.policies.served import Message, ServedPolicy
from common.sandbox.lint import MODULES, OPERATORS
from scenes.render.control import start
from scenes.render.jobs import Frames, Open, Scan
from scenes.render.pool import RenderError, Workers

Progress = Callable[[int, int, str], None]
BLACK = 6.0
"""A picture whose brightest pixels are darker than this, of 255, shows nothing."""

BUILD = """
import bpy, runpy
bpy.ops.wm.read_factory_settings(use_empty=True)
runpy.run_path("../in/scene.py", run_name="__main__")
bpy.ops.wm.save_as_mainfile(filepath="scene.blend", check_existing=False)
"""
"""The first job: the model's script is an input of it, so that lines of errors are its own."""

TRY = """
import json
bpy.ops.wm.open_mainfile(filepath="../in/scene.blend", load_ui=False, use_scripts=False)
found = problems()
scene = bpy.context.scene
print("FOUND" + json.dumps(found))
if not found:
    bpy.ops.wm.save_as_mainfile(filepath="scene.blend", check_existing=False, compress=True)
    bpy.ops.export_scene.gltf(filepath="scene.glb", export_format="GLB", export_yup=True)
    if scene.camera is None:
        scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(scene.camera)
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples = "CPU", 1
    scene.render.resolution_x, scene.render.resolution_y = 48, 32
    bpy.ops.render.render()
"""
"""The second job, behind the source of :mod:`scenes.render.scan`."""


@dataclass(frozen=True)
class Attempt:
    """One answer of the model: its script, and what stopped it ("" if nothing did)."""

    code: str
    why: str


@dataclass(frozen=True)
class Made:
    """A scene from a script that a model wrote."""

    blend: Path
    glb: Path
    picture: Path
    script: Path
    things: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    """The last one is the script that worked."""
    seconds: float


@dataclass(frozen=True)
class Raw:
    """Scripts of ``policy``, at most ``attempts`` a scene, within ``limits`` for each job."""

    policy: ServedPolicy
    workers: Workers
    attempts: int = 4
    limits: sandbox.Limits = sandbox.LIMITS["blender"]
    width: int = 800
    height: int = 600
    samples: int = 32

    def make(self, text: str, out: Path, progress: Progress | None = None) -> Made:
        """The scene of ``text``: scene.blend, scene.glb, scene.py and step-0.png in ``out``.

        Scripts that failed stay there too, as ``attempt-1.py`` and so on.

        Raises:
            UserError: no text; no script that works in so many attempts; no wall for it here.
            common.policies.served.ServedError: the server keeps failing.
        """
        begun = time.monotonic()
        if not text.strip():
            raise UserError("an empty text", "say what the scene shows")
        out.mkdir(parents=True, exist_ok=True)
        asked: list[Message] = [
            {"role": "system", "content": instructions()},
            {"role": "user", "content": text},
        ]
        tried: list[Attempt] = []
        latest: list[Message] = []
        for number in range(1, self.attempts + 1):
            if progress is not None:
                progress(number - 1, self.attempts, "scripts tried")
            answer = self.policy.chat([*asked, *latest])
            code = script_of(answer)
            made = self._made(code, out) if code is not None else NO_CODE
            if isinstance(made, tuple):
                if progress is not None:
                    progress(self.attempts, self.attempts, "scripts tried")
                (out / "scene.py").write_text(_signed(code or "", self.policy.model), "utf-8")
                attempts = (*tried, Attempt(code or "", ""))
                return Made(
                    blend=out / "scene.blend",
                    glb=out / "scene.glb",
                    picture=out / "step-0.png",
                    script=out / "scene.py",
                    things=made,
                    attempts=attempts,
                    seconds=time.monotonic() - begun,
                )
            tried.append(Attempt(code or "", made))
            failed = f"# It did not work: {' '.join(made.split())}\n{code or _commented(answer)}"
            (out / f"attempt-{number}.py").write_text(failed, "utf-8", "replace")
            # Only the latest attempt is shown again: contexts are short, and old errors mislead.
            latest = [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": f"{made}\n\nAnswer with the whole script, mended."},
            ]
        raise UserError(
            f"{self.policy.model} wrote no script that works in {self.attempts} attempts; the last "
            f"one: {' '.join(tried[-1].why.split())[:200]}",
            f"see {out}/attempt-{self.attempts}.py; ask for less, or leave out --raw",
        )

    def _made(self, code: str, out: Path) -> tuple[str, ...] | str:
        """The names of the things, once everything is in ``out``; or what stopped it, in words."""
        findings = sandbox.lint(code, "blender")
        if findings:
            lines = "\n".join(f"line {f.line}: {f.message}" for f in findings[:12])
            return f"The script was not run, because it says what it may not say:\n{lines}"
        ran = sandbox.run(
            BUILD, profile="blender", files={"scene.py": code.encode()}, limits=self.limits,
            check=False,
        )  # fmt: skip
        if ran.status != "ok":
            return f"The script failed: {ran.why}\n{_trace(ran.stderr)}".strip()
        if "scene.blend" not in ran.files:
            return "The script left no scene."
        tried = sandbox.run(
            _trial(), profile="blender", files={"scene.blend": ran.files["scene.blend"]},
            limits=self.limits, check=False,
        )  # fmt: skip
        said = [x for x in tried.stdout.splitlines() if x.startswith("FOUND")]
        if said and (amiss := json.loads(said[0].removeprefix("FOUND"))):
            return f"The scene holds what it may not hold: {_few(amiss)}."
        if tried.status != "ok" or {"scene.blend", "scene.glb"} - tried.files.keys():
            return f"The scene cannot be opened and rendered: {tried.why or 'it left no files'}"
        with tempfile.TemporaryDirectory() as scratch:
            blend = Path(scratch) / "scene.blend"
            blend.write_bytes(tried.files["scene.blend"])
            things = self._shown(blend, Path(scratch))
            if isinstance(things, str):
                return things
            (out / "scene.glb").write_bytes(tried.files["scene.glb"])
            shutil.move(blend, out / "scene.blend")
            shutil.move(Path(scratch) / "rgb/00000.png", out / "step-0.png")
            return things

    def _shown(self, blend: Path, folder: Path) -> tuple[str, ...] | str:
        """Have the host's worker look through the file and render it."""
        try:
            amiss = self.workers.do(Scan(blend=blend)).problems
            if amiss:
                return f"The scene holds what it may not hold: {_few(amiss)}."
            opened = self.workers.do(Open(blend=blend))
            frames = Frames(
                blend=blend, cameras=(start(opened, self.width / self.height),), frames=(0,),
                folder=folder, passes=("rgb",), width=self.width, height=self.height,
                samples=self.samples,
            )  # fmt: skip
            self.workers.do(frames)
        except (RenderError, UserError) as error:
            return f"The scene cannot be rendered: {error.message}."
        from PIL import Image

        pixels = np.asarray(Image.open(folder / "rgb/00000.png").convert("L"))
        if np.quantile(pixels, 0.99) < BLACK:
            return "The picture is black: add lights, and a camera that sees the things."
        return opened.things


NO_CODE = "There is no Python script in that answer."
_FENCE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def script_of(answer: str) -> str | None:
    """The script in an answer: the longest fenced block, or the whole answer if it is one."""
    blocks = [block.strip() for block in _FENCE.findall(answer)]
    # Reasoning that a model shows may hold fences of its own; they are shorter than the script.
    code = max(blocks, key=len, default=answer.strip())
    if blocks:
        return code + "\n" if code else None
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return None
    imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
    return code + "\n" if imports else None


def instructions() -> str:
    """The system prompt, which is a file beside this one."""
    text = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    modules = sorted(MODULES["blender"] - {"__future__"})
    return text.format(modules=", ".join(modules), operators=", ".join(sorted(OPERATORS)))


def _trial() -> str:
    scan = Path(__file__).parent / "render/scan.py"
    return scan.read_text(encoding="utf-8") + TRY


def _trace(stderr: str) -> str:
    """The traceback from the script's own first line on, as far as it is short."""
    at = stderr.find('File "../in/scene.py"')
    return re.sub(r'".*?/site-packages/', '"', stderr[max(at, 0) :][-1500:].strip())


def _few(amiss: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(amiss) - 5} more" if len(amiss) > 5 else ""
    return "; ".join(amiss[:5]) + more


def _commented(answer: str) -> str:
    return "".join(f"# {line}\n" for line in answer[:4000].splitlines())


def _signed(code: str, model: str) -> str:
    """The script with a word of warning; it is not run again."""
    name = " ".join(model.split())
    return f"# Written by {name}. It was run in a sandbox only: read it before you run it.\n{code}"
