"""Trained starters into ``assets/``: copied, recorded in the manifest, their curves drawn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from common import registry


def put(folder: Path, part: str, about: str, licence: str, attribution: str) -> None:
    """``folder`` as ``assets/PART``, starter ``starter-PART`` of the registry."""
    target = registry.assets() / part
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    registry.record(f"starter-{part}", part, about, licence, attribution)


def keep_curves(files: Iterable[Path]) -> None:
    """Copy the figures of trainings (``NAME.jsonl``) and draw all that are there."""
    curves = registry.assets() / "curves"
    curves.mkdir(exist_ok=True)
    for curve in files:
        shutil.copy(curve, curves / curve.name)
    draw(curves, registry.assets() / "curves.svg")


def draw(curves: Path, picture: Path) -> None:
    """The figures of each training over its steps, those of a kind in one panel."""
    import matplotlib
    from matplotlib.figure import Figure

    files = sorted(curves.glob("*.jsonl"))
    if not files:
        return
    matplotlib.rcParams["svg.hashsalt"] = "upspiral"
    figure = Figure(figsize=(12, 3 * -(-len(files) // 3)), layout="constrained")
    panels = list(figure.subplots(-(-len(files) // 3), 3, squeeze=False).flat)
    for panel in panels:
        panel.set_visible(False)
    for panel, file in zip(panels, files, strict=False):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for name in dict.fromkeys(key for row in rows for key in row if key != "step"):
            points = [(row["step"], row[name]) for row in rows if name in row]
            panel.plot(*zip(*points, strict=True), label=name, linewidth=1, marker=".", ms=3)
        panel.set_visible(True)
        panel.set_title(file.stem)
        panel.set_xlabel("step")
        panel.legend(fontsize=7)
    figure.savefig(picture, metadata={"Date": None})
