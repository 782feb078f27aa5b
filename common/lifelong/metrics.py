"""What a lifetime shows: what is kept, what transfers, and how it compares with experts.

Definitions of arXiv 2201.08278 as the package of arXiv 2301.07799 computes them; *term* is
:attr:`common.lifelong.curves.Regime.term`.

| | asks | value |
|---|---|---|
| PM | is a task kept while others are learnt? | term of later tests less the reference |
| FT | does learning *a* help *o*, not yet trained? | term after over term before |
| BT | does learning *a* help *o*, already trained? | the same |
| RP | is it better than a single-task expert? | area under the curve over the expert's |
| SE | does it learn faster than an expert? | saturation over the expert's, times how much sooner |
| PR | does it recover faster as it lives on? | minus the Theil-Sen slope of recovery times |
| MEP, MTP | how good is it? | mean of test, of train experiences |

Below 0 PM means forgetting; above 1
transfer helps. Two readings of PM: the reference is the first test after each training of the task
(``PM``), or the end of that training itself (``PM_train``). Transfer also comes as a contrast,
(after - before) / (after + before), which does not explode where the term before is small.
Deviation: a metric that a lifetime cannot show is None and not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from common.lifelong.curves import Curve, Lifetime, Regime, smooth

Pair = tuple[str, str]
"""The task that was learnt, and the one that was tested before and after."""
METRICS = ("PM", "FT", "BT", "RP", "SE", "PR", "MEP", "MTP")


@dataclass(frozen=True)
class Measured:
    """A lifetime's metrics, and what they are means of; None where there is nothing to measure."""

    metrics: Mapping[str, float | None]
    by_task: Mapping[str, Mapping[str, float | None]]
    transfer: Mapping[str, Mapping[Pair, float | None]]
    """The first value of each pair, for FT, BT and their contrasts; None for a ratio to 0."""

    def plain(self) -> dict[str, Any]:
        """As JSON says it: pairs as ``learnt > tested``."""
        return {
            "metrics": dict(self.metrics),
            "by_task": {task: dict(found) for task, found in self.by_task.items()},
            "transfer": {
                name: {" > ".join(pair): value for pair, value in found.items()}
                for name, found in self.transfer.items()
            },
        }


def measure(life: Lifetime) -> Measured:
    """Every metric of a prepared lifetime; means over tasks, or over pairs of tasks."""
    tests = _tests(life)
    by_task: dict[str, dict[str, float | None]] = {}
    for task in life.tasks:
        mine = [r for r in life.regimes if r.task == task]
        trained = [r for r in mine if r.train and r.wake]
        curve = np.concatenate([r.values for r in trained]) if trained else np.zeros(0)
        alone = life.experts.get(task, ())
        by_task[task] = {
            "PM": _mean(maintenance(mine, tests, _first_test)),
            "PM_train": _mean(maintenance(mine, tests, _training)),
            "RP": _mean(_known(relative_performance(curve, c) for c in alone))
            if len(curve)
            else None,
            "SE": _mean(_known(sample_efficiency(curve, c) for c in alone)) if len(curve) else None,
            "PR": recovery(trained),
        }
    transfer = {
        "FT": _transfer(life, tests, forward=True, how=_ratio),
        "BT": _transfer(life, tests, forward=False, how=_ratio),
        "FT_contrast": _transfer(life, tests, forward=True, how=_contrast),
        "BT_contrast": _transfer(life, tests, forward=False, how=_contrast),
    }
    metrics: dict[str, float | None] = {
        name: _mean(_known(found[name] for found in by_task.values()))
        for name in ("PM", "PM_train", "RP", "SE", "PR")
    }
    metrics |= {name: _mean(_known(found.values())) for name, found in transfer.items()}
    metrics["MEP"] = _mean_of([r.values for r in life.regimes if id(r) in tests])
    metrics["MTP"] = _mean_of([r.values for r in life.regimes if r.train and r.wake])
    order = [*METRICS, *(name for name in metrics if name not in METRICS)]
    return Measured({name: metrics[name] for name in order}, by_task, transfer)


def maintenance(
    mine: Sequence[Regime], tests: set[int], reference: Callable[[Regime, Regime], Regime]
) -> list[float]:
    """Term of each later test of a task less that of its latest reference.

    ``mine`` are the task's regimes in order; ``reference`` picks from a training and the first test
    after it. That first test is a reference itself and no later test.
    """
    found: list[float] = []
    held: float | None = None
    training: Regime | None = None
    for r in mine:
        if r.train:
            training = r
        elif id(r) in tests:
            if training is not None:
                held = reference(training, r).term
                training = None
            elif held is not None:
                found.append(r.term - held)
    return found


def _first_test(training: Regime, test: Regime) -> Regime:  # noqa: ARG001
    return test


def _training(training: Regime, test: Regime) -> Regime:  # noqa: ARG001
    return training


def _transfer(
    life: Lifetime, tests: set[int], *, forward: bool, how: Callable[[float, float], float | None]
) -> dict[Pair, float | None]:
    """The first value of each pair: two tests in a row with a training of another task between.

    Forward: the task was not trained before the second test; backward: before the first test.
    """
    found: dict[Pair, float | None] = {}
    for task in life.tasks:
        places = [n for n, r in enumerate(life.regimes) if r.task == task and id(r) in tests]
        trainings = [n for n, r in enumerate(life.regimes) if r.task == task and r.train]
        first = trainings[0] if trainings else len(life.regimes)
        for before, after in pairwise(places):
            if not (after < first if forward else before > first):
                continue
            value = how(life.regimes[before].term, life.regimes[after].term)
            for r in life.regimes[before + 1 : after]:
                if r.train and r.task != task:
                    found.setdefault((r.task, task), value)
    return found


def _ratio(before: float, after: float) -> float | None:
    return after / before if before else None


def _contrast(before: float, after: float) -> float:
    return (after - before) / (after + before) if after + before else 0.0


def relative_performance(curve: Curve, expert: Curve) -> float | None:
    """Area under a task's training curve over that of an expert, as far as both reach.

    None where the expert's is 0.
    """
    n = min(len(curve), len(expert))
    area = float(expert[:n].sum())
    return float(curve[:n].sum()) / area if area else None


def sample_efficiency(curve: Curve, expert: Curve) -> float | None:
    """Saturation over the expert's, times the expert's experiences to saturation over its own.

    Both curves are smoothed (again). 0 where the agent does not learn: it saturates below a fifth
    of the expert, or its curve falls. None where it is saturated from the first experience on, or
    the expert saturates at 0.
    """
    own, other = smooth(curve), smooth(expert)
    at, their = int(own.argmax()), int(other.argmax())
    middle = np.arange(len(own)) - (len(own) - 1) / 2
    falls = float(middle @ (own - own.mean())) < 0  # the sign of its least-squares slope
    if not other.max():
        return None
    if own.max() < 0.2 * other.max() or falls:
        return 0.0
    if at == 0:
        return None
    return float(own.max() / other.max() * their / at)


def recovery(trained: Sequence[Regime]) -> float | None:
    """Minus the Theil-Sen slope of recovery times over a task's trainings, awake; None below three.

    A recovery time is how many experiences it takes to be as good as the training before ended; one
    more than there are where that never happens.
    """
    times = []
    for before, now in pairwise(trained):
        there = np.flatnonzero(now.values >= before.term)
        times.append(int(there[0]) if len(there) else len(now.values) + 1)
    return float(-stats.theilslopes(times)[0]) if len(times) > 1 else None


def _tests(life: Lifetime) -> set[int]:
    """The identities of the regimes that count as tests: those asleep, where there are any."""
    tests = [r for r in life.regimes if not r.train]
    asleep = [r for r in tests if not r.wake]
    return {id(r) for r in asleep or tests}


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean_of(curves: Sequence[Curve]) -> float | None:
    return float(np.concatenate(curves).mean()) if curves else None
