"""What a crafted scene leaves in its folder, beside the pictures of its steps.

``graph.json`` is written after every step, so that a command that was stopped can go on from it;
the rest at the end: ``scene.blend``, ``scene.glb``, ``scene.py``, ``report.html``, and
``attribution.txt`` where a model's licence asks for it.
"""

from __future__ import annotations

from pathlib import Path

from scenes import coder, report
from scenes.assets.model import attribution
from scenes.craft import CraftConfig, Crafted, Step
from scenes.shoot import Studio

GRAPH = "graph.json"


def keep(step: Step, number: int, out: Path) -> None:
    """The graph of a step; with the first one, what pictures an earlier run left go."""
    if not number:
        for old in out.glob("step-*.png"):
            if old != step.picture:
                old.unlink()
    _write(out / GRAPH, step.staged.dressed.graph.dump())


def deliver(crafted: Crafted, out: Path, studio: Studio, config: CraftConfig) -> tuple[str, ...]:
    """Write everything; the names of the files. What was amiss with models goes into the notes.

    Raises:
        RenderError, OSError: Blender failed; the disk is full.
    """
    staged = crafted.best.staged
    _write(out / GRAPH, crafted.graph.dump())
    files = [GRAPH, *(s.picture.name for s in crafted.steps if s.picture is not None)]
    owed = attribution(staged.dressed.models.values())
    if owed:
        _write(out / "attribution.txt", owed)
        files.append("attribution.txt")
    else:
        (out / "attribution.txt").unlink(missing_ok=True)
    source = coder.script(
        staged.dressed.graph,
        staged.solution,
        staged.dressed,
        staged.scene,
        staged.camera,
        size=(config.width, config.height),
        samples=config.samples,
    )
    _write(out / "scene.py", source)
    studio.export(staged, out / "scene.blend", out / "scene.glb")
    report.write(crafted, out / "report.html")
    return (*files, "scene.py", "scene.blend", "scene.glb", "report.html")


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.new")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
