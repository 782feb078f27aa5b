"""``upspiral text evaluate``: models and runs on the test questions of a task, side by side."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.records import Metric, Task
    from text.improve import ImproveConfig

HEADINGS = ("metric", "model", "questions", "mean ± standard error", "against the first, 95%")


@dataclass(frozen=True)
class Evaluate:
    """How well models and runs answer the test questions of a task, paired by question.

    All are asked alike: as the first run among them was measured, or by the defaults of `upspiral
    text improve` where there is none; a run keeps the form of question that its method practised.
    What is done is kept in the folder of --out; the same command continues where it was stopped.
    """

    models: tuple[str, ...] = ("smollm2",)
    """smollm2, a run of text (last for the newest), a folder, or a hub name. The first is what
    others are compared with."""
    task: str | None = None
    """As in `upspiral text improve`, and also what nobody practises on, as humaneval; the first
    run's by default."""
    questions: int = 50
    """How many test questions; fewer where there are fewer."""
    samples: int = 4
    """Answers to each: their mean is its value, pass@k has this k."""
    out: Path = Path("evaluation")
    """The folder for evaluation.md, evaluation.svg, and evaluation.json, which also has the value
    of each question."""
    seed: int = 0
    """Draws the answers; the questions stay the same."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Settings of how answers are sampled, as in --set shots=4 --set temperature=1.0."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.cli import plain
        from common.commands.outcome import made
        from common.comparison import lines

        configs = self.configs()
        first = next(iter(configs.values()))
        found = self._tasks(first)
        asked = sum(task.split == "test" for task in found)
        for name in configs:  # before an hour with the first of them
            _exists(name)
        folder = made(self.out, "--out")
        out.resume = self._words()
        metrics = {
            name: self._measured(name, config, found, folder, out)
            for name, config in configs.items()
        }
        out.resume = None
        rows, told = compared(metrics)
        whole = {"task": first.task, "questions": asked, "samples": self.samples,
                 "seed": self.seed, "models": told}  # fmt: skip
        (folder / "evaluation.md").write_text(lines(HEADINGS, rows), encoding="utf-8")
        values = {name: {m.name: m.items for m in own.values()} for name, own in metrics.items()}
        text = json.dumps(plain({**whole, "values": values}), indent=1)
        (folder / "evaluation.json").write_text(text, encoding="utf-8")
        out.table(HEADINGS, rows)
        files = "table"
        if all("accuracy" in measured for measured in metrics.values()):
            right = {name: measured["accuracy"] for name, measured in metrics.items()}
            svg = figure(right, self.samples, f"{first.task}, {asked} questions")
            (folder / "evaluation.svg").write_text(svg, encoding="utf-8")
            files = "table and figure"
        out.print(f"\n{files}: {self.out}")
        return {**whole, "out": self.out}

    def configs(self) -> dict[str, ImproveConfig]:
        """How each model is asked, by name.

        Raises:
            UserError: no models, no such task or setting, or a number that is too small.
        """
        from text.improve import ImproveConfig
        from text.setup import run_of, settings, with_settings
        from text.tasks import about

        if self.questions < 2 or self.samples < 1:
            raise UserError(
                f"{self.questions} questions and {self.samples} samples",
                "give 2 or more questions, 1 or more samples",
            )
        names = list(dict.fromkeys(self.models))
        if not names:
            raise UserError("no models", "give --models smollm2, or the name of a run")
        runs = {name: settings(run) for name in names if (run := run_of(name))}
        base = next(iter(runs.values()), ImproveConfig())
        base = replace(base, task=self.task or base.task, measured=self.samples)
        base = with_settings(base, self.set)
        about(base.task)  # a mistyped task before a model is loaded
        return {
            name: replace(
                base,
                model=name,
                method=runs[name].method if name in runs else base.method,
                settings=runs[name].settings if name in runs else base.settings,
            )
            for name in names
        }

    def _tasks(self, config: ImproveConfig) -> list[Task]:
        """The test questions with their prompts, and the run's other questions beside them, which
        some methods' judges learn from; of tasks that nobody practises on only the former."""
        from text import tasks
        from text.prompts import prompted

        try:
            found = tasks.load(config.task, 0, config.train, config.dev, self.questions)
        except UserError:
            found = tasks.load(config.task, 0, 0, 0, self.questions)
        return prompted(found, config.shots, config.chat)

    def _measured(
        self, name: str, config: ImproveConfig, asked: Sequence[Task], folder: Path, out: Output
    ) -> dict[str, Metric]:
        """The metrics of a model over all questions, a batch of them at a time."""
        from common.artifacts import Files
        from common.memo import Memo
        from common.progress import silent
        from common.stages import Context
        from common.tracking import Nothing
        from text.improve import Accuracy
        from text.setup import BATCH, build, load_policy, stored

        out.note(name)
        policy = load_policy(name, config.chat, config.sampling)
        loop = build(config, policy=policy, asked=asked)
        # Of the run its method and how it samples; its name says nothing that the state does not.
        way = stored(replace(config, model=""))
        memo = Memo(folder / "work")
        stages = loop.measure if isinstance(loop.measure, Sequence) else [loop.measure]
        measures = [memo.measure(stage, i, way) for i, stage in enumerate(stages)]
        tests = [task for task in loop.tasks if task.split == "test"]
        # Figures of a batch add up where they are means over questions; others may be quantiles.
        means = all(isinstance(stage, Accuracy) for stage in stages)
        step = max(1, BATCH // self.samples) if means else len(tests)
        progress = out.progress()
        inner = silent if means else progress
        ctx = Context(self.seed, 0, Files(folder / "artifacts"), Nothing(), inner, folder)
        found: dict[str, Metric] = {}
        for start in range(0, len(tests), step):
            progress(start, len(tests), "questions")
            some = tests[start : start + step]
            for metric in (m for measure in measures for m in measure.measure(policy, some, ctx)):
                if metric.name in found:
                    items = {**found[metric.name].items, **metric.items}
                    metric = metric.of(metric.name, items, metric.better)
                found[metric.name] = metric
        progress(len(tests), len(tests), "questions")
        return found

    def _words(self) -> str:
        words = ["upspiral", "text", "evaluate", "--models", *self.models]
        words += ["--task", self.task] if self.task else []
        for name in ("questions", "samples", "out", "seed"):
            words += [f"--{name}", str(getattr(self, name))]
        return shlex.join([*words, *(word for one in self.set for word in ("--set", one))])


def _exists(name: str) -> None:
    """Whether there is a model called ``name``, as far as that is known without loading it.

    Raises:
        UserError: there is none.
    """
    from common.policies.weights import reach
    from text.setup import run_of

    if name == "smollm2" or run_of(name):
        return
    try:
        reach(name)
    except OSError as error:
        raise UserError(
            f"no model {name!r} ({error})", "give smollm2, a run, a folder, or a hub name"
        ) from error


def compared(
    measured: Mapping[str, Mapping[str, Metric]],
) -> tuple[list[tuple[object, ...]], dict[str, dict[str, Any]]]:
    """Rows under :data:`HEADINGS` of the metrics that have a direction; and every figure under its
    name, by model."""
    from common.gate import paired_interval

    control, *_ = measured.values()
    rows: list[tuple[object, ...]] = []
    told: dict[str, dict[str, Any]] = {name: {} for name in measured}
    for metric in dict.fromkeys(m for own in measured.values() for m in own):
        for name, own in measured.items():
            if metric not in own:
                continue
            m = own[metric]
            fact: dict[str, Any] = {"mean": m.value, "se": m.se, "n": m.n}
            told[name][metric] = fact
            shown = "-"
            before = control.get(metric, m)
            if before is not m and m.items and m.items.keys() == before.items.keys():
                change = paired_interval(before.items, m.items)
                fact["against_first"] = change._asdict()
                shown = f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
            if m.better != "neither":
                rows.append((metric, name, m.n, f"{m.value:.3f} ± {m.se:.3f}", shown))
    return rows, told


def figure(right: Mapping[str, Metric], samples: int, title: str) -> str:
    """Pass@k of each model for every k up to ``samples``, with a standard error, as SVG.

    ``right`` is the share of each question's ``samples`` answers that are right.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from common.monitors.exploration import pass_at_k

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "evaluation"}):
        drawing = Figure(figsize=(6, 3.6), layout="constrained")
        axes = drawing.subplots()
        ks = range(1, samples + 1)
        for name, metric in right.items():
            counts = {task: round(share * samples) for task, share in metric.items.items()}
            means = [
                metric.of("", {task: pass_at_k(samples, c, k) for task, c in counts.items()})
                for k in ks
            ]
            axes.errorbar(ks, [m.value for m in means], [m.se for m in means],
                          label=name, marker="o", ms=4, capsize=3)  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xticks(ks)
        axes.set_xlabel("answers to a question, k", fontsize=9)
        axes.set_title(f"pass@k ({title}), ± standard error", fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
        text = io.StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
