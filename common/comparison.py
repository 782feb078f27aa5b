"""Methods side by side: several runs of each, told apart on the test split of all.

A method's runs differ in their seed only. What is compared is the final policy with the starter of
the same run, paired by task: a task's value is the mean over the method's runs, and the interval is
over tasks (Student, :func:`common.gate.paired_interval`). The standard error of the mean over runs
stands beside it: the first says what other tasks would change, the second what other luck would.
Between methods it is the final policies that are paired, each with the first method's, the control.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common import budget
from common.commands.runs import find, tests_of
from common.errors import UserError
from common.gate import PairedInterval, paired_interval
from common.records import Metric, Round
from common.store import Store


@dataclass(frozen=True)
class Change:
    """One metric of one method. Means are over runs; ``se`` is the standard error over runs.

    ``relative`` is the change as a share of the starter's mean. ``win``, ``tie`` and ``lose`` are
    shares of the pairs of run and task in which the final policy was better, equal or worse; of a
    metric without a direction all are ties.
    """

    starter: float
    starter_se: float
    final: float
    final_se: float
    interval: PairedInterval
    relative: float
    win: float
    tie: float
    lose: float
    finals: Mapping[str, float]
    """Of each task, what the final policies came to."""


@dataclass(frozen=True)
class Method:
    """What a method's finished runs came to; ``changes`` is by metric."""

    name: str
    runs: tuple[str, ...]
    changes: Mapping[str, Change]
    rounds: tuple[tuple[Round, ...], ...]
    """The rounds of each run."""
    learning_seconds: float
    """Mean seconds that a run spent in the learn stage."""
    seconds: float
    """Mean seconds of a run's rounds, the starter's measurement included."""
    sampled: float
    trained: float
    """Mean tokens of a run (:mod:`common.budget`)."""

    @property
    def kept(self) -> str:
        """Rounds kept of those that were run, as ``5/6``."""
        return f"{sum(r.kept for r in _all(self.rounds))}/{len(_all(self.rounds))}"


def _all(rounds: Sequence[Sequence[Round]]) -> list[Round]:
    """Every round but the starters."""
    return [r for run in rounds for r in run if r.index > 0]


def compare(store: Store, methods: Mapping[str, Sequence[str]]) -> list[Method]:
    """The methods in order, by the runs of each; runs that are not done are left out.

    Raises:
        UserError: a run is unknown, or a method's runs were not tested on the same tasks.
    """
    found = []
    for name, runs in methods.items():
        rows = [find(store, run) for run in runs]
        done = [row for row in rows if row.status == "done"]
        tests = [tests_of(store, row) for row in done]
        if not tests:
            continue
        starters = [{m.name: m for m in test["starter"]} for test in tests]
        finals = [{m.name: m for m in test["final"]} for test in tests]
        changes = {
            metric: change([s[metric] for s in starters], [f[metric] for f in finals])
            for metric, measured in starters[0].items()
            if measured.items  # without values by task there is nothing to pair
        }
        rounds = tuple(tuple(store.rounds(row.run)) for row in done)
        spent = [
            unit.seconds
            for row, own in zip(done, rounds, strict=True)
            for r in own
            for unit in store.units(row.run, r.index, "learn").values()
        ]
        names = tuple(row.run for row in done)
        costs = [budget.spent(own) for own in rounds]
        found.append(
            Method(
                name,
                names,
                changes,
                rounds,
                learning_seconds=sum(spent) / len(done),
                seconds=sum(r.seconds for own in rounds for r in own) / len(done),
                sampled=sum(cost.sampled for cost in costs) / len(done),
                trained=sum(cost.trained for cost in costs) / len(done),
            )
        )
    return found


def change(starters: Sequence[Metric], finals: Sequence[Metric]) -> Change:
    """One metric of the starter and of the final policy in each of a method's runs, in order."""
    tasks = starters[0].items.keys()
    if any(m.items.keys() != tasks for m in (*starters, *finals)):
        raise UserError(
            f"runs that are to be compared measured {starters[0].name} on different tasks",
            "compare runs of one recipe",
        )
    before = np.array([[m.items[task] for task in tasks] for m in starters])
    after = np.array([[m.items[task] for task in tasks] for m in finals])
    means = dict(zip(tasks, after.mean(0).tolist(), strict=True))
    interval = paired_interval(dict(zip(tasks, before.mean(0).tolist(), strict=True)), means)
    sign = {"higher": 1, "lower": -1, "neither": 0}[starters[0].better]
    gains = (after - before) * sign
    mean = float(before.mean())
    return Change(
        starter=mean,
        starter_se=_se(before.mean(1)),
        final=float(after.mean()),
        final_se=_se(after.mean(1)),
        interval=interval,
        relative=interval.mean / mean if mean else math.nan,
        win=float((gains > 0).mean()),
        tie=float((gains == 0).mean()),
        lose=float((gains < 0).mean()),
        finals=means,
    )


def against(first: Method, other: Method, metric: str) -> PairedInterval | None:
    """What ``other``'s final policies have more of ``metric`` than ``first``'s, paired by task.

    None if there are more runs of one, since then it is other luck that is compared, or if they
    were tested on different tasks.
    """
    ours, theirs = first.changes[metric].finals, other.changes[metric].finals
    if len(first.runs) != len(other.runs) or ours.keys() != theirs.keys():
        return None
    return paired_interval(ours, theirs)


def _se(means: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Standard error over runs; NaN of a single one, whose luck is unknown."""
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else math.nan


HEADINGS = ("method", "runs", "kept", "starter", "final", "change, 95% interval", "relative",
            "win / tie / lose", "against the first, 95%")  # fmt: skip


def rows(methods: Sequence[Method], metric: str) -> list[tuple[object, ...]]:
    """A table row a method, under :data:`HEADINGS`."""
    found: list[tuple[object, ...]] = []
    for method in methods:
        c = method.changes[metric]
        found.append(
            (
                method.name,
                len(method.runs),
                method.kept,
                f"{c.starter:.3f} ± {c.starter_se:.3f}",
                f"{c.final:.3f} ± {c.final_se:.3f}",
                _shown(c.interval),
                f"{c.relative:+.0%}" if math.isfinite(c.relative) else "-",
                f"{c.win:.0%} / {c.tie:.0%} / {c.lose:.0%}",
                _shown(None if method is methods[0] else against(methods[0], method, metric)),
            )
        )
    return found


def _shown(interval: PairedInterval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def overview(
    methods: Sequence[Method], metrics: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headings and a row a method: final means with the paired change and its standard error."""
    shown = [m for m in metrics if all(m in method.changes for method in methods)]
    headings = ("method", "runs", *shown, *COSTS[2:4], COSTS[5])
    found = []
    for method, (*_, sampled, trained, _, seconds) in zip(methods, costs(methods), strict=True):
        means = []
        for metric in shown:
            c = method.changes[metric]
            means.append(f"{c.final:.3f} ({c.interval.mean:+.3f} ± {c.interval.se:.3f})")
        found.append((method.name, len(method.runs), *means, sampled, trained, seconds))
    return headings, found


COSTS = ("method", "rounds", "tokens sampled", "tokens trained", "learning s", "all rounds s")


def costs(methods: Sequence[Method]) -> list[tuple[object, ...]]:
    """What a run of each method took, under :data:`COSTS`; means over runs."""
    return [
        (
            method.name,
            len(_all(method.rounds)) / len(method.rounds),
            round(method.sampled),
            round(method.trained),
            round(method.learning_seconds, 1),
            round(method.seconds, 1),
        )
        for method in methods
    ]


def facts(methods: Sequence[Method]) -> dict[str, Any]:
    """Every figure under its name, by method; ``dev`` is what each round of each run measured."""

    def told(method: Method, metric: str) -> dict[str, Any]:
        change = {k: v for k, v in vars(method.changes[metric]).items() if k != "finals"}
        between = None
        if method is not methods[0] and metric in methods[0].changes:
            between = against(methods[0], method, metric)
        change["interval"] = method.changes[metric].interval._asdict()
        return {**change, "against_first": between and between._asdict()}

    return {
        method.name: {
            "runs": method.runs,
            "kept": method.kept,
            "learning_seconds": method.learning_seconds,
            "seconds": method.seconds,
            "sampled_tokens": method.sampled,
            "trained_tokens": method.trained,
            "metrics": {name: told(method, name) for name in method.changes},
            "dev": [
                [{**{m.name: m.value for m in r.metrics}, "kept": r.kept} for r in run]
                for run in method.rounds
            ],
        }
        for method in methods
    }


def markdown(methods: Sequence[Method], metric: str) -> str:
    """The rows as a Markdown table."""
    return lines(HEADINGS, rows(methods, metric))


def lines(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    whole = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(str(value) for value in line)} |\n" for line in whole)


def figure(methods: Sequence[Method], metric: str) -> str:
    """Win, tie and lose of each method against the starter, and dev over its rounds, as SVG.

    A curve is the mean over runs of what each run held after the round: of a round that was rolled
    back, what it went back to. Bars reach one standard error over runs.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # Letters stay letters, and the same figures make the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": metric}):
        height = max(2.4, 0.4 * len(methods) + 1.0)
        drawing = Figure(figsize=(10, height), layout="constrained")
        bars, curves = drawing.subplots(1, 2)
        names = [method.name for method in methods]
        left = np.zeros(len(methods))
        for label, colour in (("win", "#16a34a"), ("tie", "#d4d4d8"), ("lose", "#dc2626")):
            share = np.array([getattr(m.changes[metric], label) for m in methods])
            bars.barh(names, share, left=left, color=colour, label=label)
            left += share
        bars.invert_yaxis()
        bars.set_xlim(0, 1)
        bars.set_title(f"{metric} on test, final against starter", fontsize=10, loc="left")
        bars.legend(ncols=3, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0))
        bars.tick_params(labelsize=8, labelbottom=False)
        for method in methods:
            longest = max(map(len, method.rounds))
            held = np.array([_held(run, metric, longest) for run in method.rounds])
            spread = [_se(column) for column in held.T]
            curves.errorbar(
                range(held.shape[1]), held.mean(0), spread, label=method.name, capsize=3, marker="o"
            )
        curves.set_title(f"{metric} on dev after each round", fontsize=10, loc="left")
        curves.set_xticks(range(max(len(run) for m in methods for run in m.rounds)))
        curves.tick_params(labelsize=8)
        curves.legend(fontsize=8, frameon=False)
        for axes in (bars, curves):
            axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _held(rounds: Sequence[Round], metric: str, longest: int) -> list[float]:
    """The dev value that a run held after each of ``longest`` rounds; it may have had fewer."""
    held: list[float] = []
    for r in rounds:
        value = next(m.value for m in r.metrics if m.name == metric)
        held.append(value if r.kept or not held else held[-1])
    return held + held[-1:] * (longest - len(held))
