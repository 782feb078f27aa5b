"""How much of what a run gained is sharpening? Accuracy when sampled, and when greedy.

Run: ``python studies/greedy.py RUN [RUN ...]`` with finished runs of one recipe, such as the seeds
of a comparison. Sampling spreads over answers that the model itself finds less likely, so a run
that only sharpened its policy gains at the temperature at which it is measured and nothing where
the likeliest token is taken each time (temperature 0). Both are measured here, for what the runs
began with and for what they ended with, on QUESTIONS questions that none of the runs had: of the
dev split, drawn with another seed, so that the test split stays untouched. Differences are paired
by question, over the mean of the runs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.artifacts import Files
from common.commands.runs import find
from common.comparison import lines
from common.errors import UserError
from common.gate import paired_interval
from common.progress import progress
from common.records import Metric
from common.stages import Context
from common.store import Store
from common.tracking import Nothing
from text.improve import Accuracy, ImproveConfig, Solve, sampler
from text.setup import load_policy, questions, settings

QUESTIONS, SAMPLES, SEED = 200, 4, 1000
HEADINGS = ("temperature", "start", "final", "gain, 95%")


def measured(model: str, config: ImproveConfig) -> dict[float, Mapping[str, float]]:
    """The accuracy of each question, by temperature."""
    policy = load_policy(model)
    drawn = replace(config, train=1, dev=QUESTIONS, test=2)
    tasks = [t for t in questions(drawn, SEED) if t.split == "dev"]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        ctx = Context(SEED, 0, Files(place), Nothing(), progress(), place)
        for temperature in (config.temperature, 0.0):
            count = SAMPLES if temperature else 1
            sample = replace(sampler(config), n=count, temperature=temperature)
            metrics = Accuracy(Solve(sample)).measure(policy, tasks, ctx)
            [accuracy] = [m for m in metrics if m.name == "accuracy"]
            found[temperature] = accuracy.items
    return found


def main(runs: list[str]) -> None:
    """Measure, and print a line for each temperature."""
    if not runs:
        raise UserError("no runs", "name the seeds of a comparison; upspiral runs list has them")
    store = Store()
    rows = [find(store, run) for run in runs]
    config = settings(rows[0])
    if any(settings(row) != config for row in rows):
        raise UserError("runs with different settings", "name the seeds of one comparison")
    start = measured(config.model, config)
    finals = [measured(row.run, config) for row in rows]
    table = []
    for temperature, before in start.items():
        after = {q: float(np.mean([final[temperature][q] for final in finals])) for q in before}
        shown = [Metric.of("accuracy", items) for items in (before, after)]
        gain = paired_interval(before, after)
        table.append((f"{temperature:g}", *(f"{m.value:.3f} ± {m.se:.3f}" for m in shown),
                      f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"))  # fmt: skip
    print(f"{config.task}, {len(rows)} runs of {config.method}, n = {QUESTIONS} questions\n")
    print(lines(HEADINGS, table))


if __name__ == "__main__":
    main(sys.argv[1:])
