"""A lifetime as a picture: performance of each task, where it was trained, beside the experts."""

from __future__ import annotations

import io

import numpy as np

from common.lifelong.curves import Lifetime

POINTS = 2000
"""Points of a curve that are drawn: more make a large file and no other picture."""


def figure(life: Lifetime) -> str:
    """A row of axes a task: training as a line, tests as points, trainings shaded; SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    tasks = life.tasks
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lifelong"}):
        drawing = Figure(figsize=(10, 1.9 * len(tasks) + 0.6), layout="constrained")
        every = np.atleast_1d(drawing.subplots(len(tasks), 1, sharex=True))
        for axes, task in zip(every, tasks, strict=True):
            for r in life.regimes:
                if r.train:
                    first, last = int(r.experiences[0]), int(r.experiences[-1])
                    colour = "#dbeafe" if r.task == task else "#f4f4f5"
                    axes.axvspan(first, last, color=colour, linewidth=0)
                if r.task != task:
                    continue
                if r.train:
                    step = max(1, len(r.values) // POINTS)
                    axes.plot(r.experiences[::step], r.values[::step], color="#2563eb", linewidth=1)
                else:
                    middle = float(r.experiences.mean())
                    axes.plot(middle, r.term, marker="o", markersize=3, color="#18181b")
            axes.set_title(task, fontsize=9, loc="left")
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        every[-1].set_xlabel("experience", fontsize=8)
        text = io.StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
