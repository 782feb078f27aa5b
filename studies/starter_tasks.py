"""How hard are the generated tasks for a model? Accuracy of both readings, before any learning.

Run: ``python studies/starter_tasks.py [MODEL] [QUESTIONS] [SAMPLES]``. Each line is a task with its
settings: QUESTIONS dev questions, SAMPLES answers each at temperature 0.7 with two worked examples.
A task teaches only where the model is neither at 0 nor at 1, and pass@k says how many questions
have something to learn from.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from common.artifacts import Files
from common.progress import progress
from common.stages import Context
from common.tracking import Nothing
from text.improve import Accuracy, ImproveConfig, Solve, sampler
from text.setup import load_policy, questions

TASKS = (
    "arithmetic:steps=1,level=1",
    "arithmetic:steps=2,level=1",
    "arithmetic:steps=1,level=2",
    "logic:hops=1,distractors=0",
    "logic:hops=2,distractors=1",
    "countdown:count=3",
    "code-basics:steps=1",
    "code-basics:steps=2",
)


def main(model: str = "smollm2", count: str = "32", samples: str = "4") -> None:
    """Print a line for each task."""
    policy = load_policy(model)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ctx = Context(0, 0, Files(place), Nothing(), progress(), place)
        for name in TASKS:
            config = ImproveConfig(task=name, train=1, dev=int(count), test=2)
            dev = [task for task in questions(config) if task.split == "dev"]
            measure = Accuracy(Solve(replace(sampler(config), n=int(samples))))
            found = {m.name: m for m in measure.measure(policy, dev, ctx)}
            shown = [f"{key} {found[key].value:.3f} ± {found[key].se:.3f}"
                     for key in ("accuracy", "strict", f"pass@{samples}", "finished")]  # fmt: skip
            print(f"{name:<28} {', '.join(shown)} (n={found['accuracy'].n})", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
