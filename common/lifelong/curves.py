"""From experiences to curves that can be compared: regimes, smoothing, normalisation.

As published (arXiv 2301.07799, and the package that came with it), in this order: train regimes and
the curves of single-task experts are smoothed by a flat window, values may be clamped to their 10th
and 90th percentile, and each task is brought to 1 to 101 by the least and largest value that it has
over the lifetime and the experts' curves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.lifelong.logs import Log

Curve = NDArray[np.float64]
WIDEST = 100
"""The widest smoothing window; a fifth of the curve where that is less."""
TAIL = 0.1
"""The share of a train regime at its end whose mean is its terminal performance."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to values before they are compared; the defaults are the published ones."""

    smooth: bool = True
    clamp: bool = False
    """To the 10th and 90th percentile of the task's values."""
    normalise: bool = True
    """Each task to 1 to 101. Ratios of performance mean nothing where values may be negative."""


@dataclass(frozen=True)
class Regime:
    """Experiences in a row of one task in one block: ``values`` and their numbers, (n,)."""

    block: int
    train: bool
    wake: bool
    task: str
    values: Curve
    experiences: NDArray[np.int64]

    @property
    def term(self) -> float:
        """Terminal performance: the mean of a test regime, of a train regime that of its end."""
        if not self.train:
            return float(self.values.mean())
        return float(self.values[-max(1, int(TAIL * len(self.values))) :].mean())


@dataclass(frozen=True)
class Lifetime:
    """A lifetime's regimes in order, and the curves of each task's single-task experts."""

    regimes: tuple[Regime, ...]
    experts: Mapping[str, tuple[Curve, ...]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """In the order of their first appearance."""
        return tuple(dict.fromkeys(r.task for r in self.regimes))


def regimes(log: Log) -> tuple[Regime, ...]:
    """Contiguous runs of equal block, type, subtype and task."""
    keys = (log.block, log.train, log.wake, log.task)
    change = np.zeros(len(log) - 1, bool)
    for key in keys:
        change |= key[1:] != key[:-1]
    bounds = [0, *(np.flatnonzero(change) + 1).tolist(), len(log)]
    return tuple(
        Regime(
            int(log.block[a]), bool(log.train[a]), bool(log.wake[a]), log.tasks[log.task[a]],
            log.value[a:b], log.experience[a:b],
        )
        for a, b in pairwise(bounds)
    )  # fmt: skip


def prepare(
    log: Log, experts: Sequence[Log] = (), how: Preprocessing = Preprocessing()
) -> Lifetime:
    """The lifetime of ``log`` beside those of ``experts``, each trained on one task alone.

    Raises:
        UserError: an expert that was trained on several tasks, or on none.
    """
    smoothed = smooth if how.smooth else np.asarray
    lived = tuple(replace(r, values=smoothed(r.values)) if r.train else r for r in regimes(log))
    alone: dict[str, list[Curve]] = {}
    for expert in experts:
        trained = {expert.tasks[n] for n in np.unique(expert.task[expert.train])}
        if len(trained) != 1:
            said = f"{len(trained)} tasks" if trained else "no task"
            raise UserError(f"{expert.name} was trained on {said}", "an expert has one")
        alone.setdefault(trained.pop(), []).append(smoothed(expert.value[expert.train]))
    for task in dict.fromkeys(r.task for r in lived):
        mine = [r.values for r in lived if r.task == task] + alone.get(task, [])
        if how.clamp:
            low, high = np.quantile(np.concatenate(mine), (0.1, 0.9))
            lived = tuple(
                replace(r, values=r.values.clip(low, high)) if r.task == task else r for r in lived
            )
            alone[task] = [curve.clip(low, high) for curve in alone.get(task, [])]
            mine = [values.clip(low, high) for values in mine]
        if how.normalise:
            low = min(float(values.min()) for values in mine)
            high = max(float(values.max()) for values in mine)
            lived = tuple(
                replace(r, values=scaled(r.values, low, high)) if r.task == task else r
                for r in lived
            )
            alone[task] = [scaled(curve, low, high) for curve in alone.get(task, [])]
    return Lifetime(lived, {task: tuple(curves) for task, curves in alone.items() if curves})


def smooth(values: Curve) -> Curve:
    """The mean over a flat window of a fifth of the values, at most :data:`WIDEST`; (n,) to (n,).

    Both ends are reflected, and the result lags by a sample as the published one does: of 1 to 10
    with a window of 3 it begins 2, 5/3, 2, 3. Windows below 3 leave the values as they are.
    """
    return averaged(values, min(int(0.2 * len(values)), WIDEST))


def averaged(values: Curve, window: int) -> Curve:
    """:func:`smooth` with a window of one's own."""
    if window < 3:
        return values
    reflected = np.concatenate([values[window - 1 : 0 : -1], values, values[-2 : -window - 1 : -1]])
    sums = np.cumsum(np.concatenate([[0.0], reflected]))
    means = (sums[window:] - sums[:-window]) / window
    return np.asarray(means[math.floor(window / 2 - 1) : len(means) - math.ceil(window / 2)])


def scaled(values: Curve, low: float, high: float) -> Curve:
    """1 to 101 for ``low`` to ``high``; 1 where all values are the same."""
    if high <= low:
        return np.ones_like(values)
    return (values - low) / (high - low) * 100 + 1
