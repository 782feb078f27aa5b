"""A lifetime as a picture: performance of each task, where it was trained, beside the experts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from common.lifelong.curves import Lifetime

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 2000
"""Points of a curve that are drawn: more make a large file and no other picture."""
LINE: dict[str, Any] = {"color": "#2563eb", "linewidth": 1}
DOT: dict[str, Any] = {"color": "#18181b", "marker": "o", "markersize": 3, "linestyle": "none"}
DASHES: dict[str, Any] = {"color": "#ea580c", "linewidth": 1, "linestyle": "--"}
OWN: dict[str, Any] = {"color": "#dbeafe", "linewidth": 0}
OTHER: dict[str, Any] = {"color": "#f4f4f5", "linewidth": 0}


def figure(life: Lifetime, label: str = "performance, 1 to 101") -> str:
    """A row of axes a task: training as a line, tests as points, trainings shaded; SVG.

    An expert's curve is dashed and stands at as many experiences of the task as the lifetime had:
    what RP compares lies one above the other. ``label`` is of the values.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tasks = life.tasks
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lifelong"}):
        drawing = Figure(figsize=(10, 1.9 * len(tasks) + 0.6), layout="constrained")
        every = np.atleast_1d(drawing.subplots(len(tasks), 1, sharex=True))
        for axes, task in zip(every, tasks, strict=True):
            for r in life.regimes:
                if r.train:
                    first, last = int(r.experiences[0]), int(r.experiences[-1])
                    axes.axvspan(first, last, **(OWN if r.task == task else OTHER))
                if r.task != task:
                    continue
                if r.train:
                    step = max(1, len(r.values) // POINTS)
                    axes.plot(r.experiences[::step], r.values[::step], **LINE)
                else:
                    middle = float(r.experiences.mean())
                    axes.plot(middle, r.term, **DOT)
            _experts(axes, life, task)
            axes.set_title(task, fontsize=9, loc="left")
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        every[-1].set_xlabel("experience", fontsize=8)
        drawing.supylabel(label, fontsize=8)
        kinds = [Line2D([], [], **LINE, label="training"), Line2D([], [], **DOT, label="test")]
        if any(life.experts.get(task) for task in tasks):
            kinds.append(Line2D([], [], **DASHES, label="expert of the task alone"))
        shades = [Patch(**OWN, label="trained on it"), Patch(**OTHER, label="trained on another")]
        drawing.legend(handles=kinds + shades, loc="outside upper right", ncols=5, fontsize=8,
                       frameon=False)  # fmt: skip
        text = io.StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _experts(axes: Axes, life: Lifetime, task: str) -> None:
    """The curves of a task's experts, in pieces as long as the trainings that they stand in."""
    for curve in life.experts.get(task, ()):
        done = 0
        for r in life.regimes:
            if r.task == task and r.train and r.wake:
                piece = curve[done : done + len(r.values)]
                step = max(1, len(piece) // POINTS)
                axes.plot(r.experiences[: len(piece) : step], piece[::step], **DASHES)
                done += len(r.values)
