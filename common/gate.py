"""The gate: a round is kept only if it measurably improved on the last one that was kept.

Both policies are measured on the same dev tasks, so the comparison is paired: with d_i the gain
on task i (after - before, turned so that positive is better), the interval for the mean gain is
mean(d) ± t * sd(d)/sqrt(n), t Student's quantile with n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.records import Metric


class PairedInterval(NamedTuple):
    """Mean of the ``n`` paired differences, its interval and its standard error."""

    mean: float
    low: float
    high: float
    se: float
    n: int


def paired_interval(
    a_items: Mapping[str, float], b_items: Mapping[str, float], confidence: float = 0.95
) -> PairedInterval:
    """The two-sided Student interval for the mean of b - a over the same tasks.

    With one task nothing is known of the spread, and the interval is infinite.

    Raises:
        ValueError: the tasks differ or there are none, a value is not finite, or ``confidence``
            is not in [0, 1).
    """
    gains = _differences(a_items, b_items, confidence)
    mean = float(gains.mean())
    if gains.size == 1:
        return PairedInterval(mean, -math.inf, math.inf, math.inf, 1)
    se = float(gains.std(ddof=1)) / math.sqrt(gains.size)
    half = _quantile((1 + confidence) / 2, gains.size - 1) * se
    return PairedInterval(mean, mean - half, mean + half, se, gains.size)


def bootstrap_interval(
    a_items: Mapping[str, float],
    b_items: Mapping[str, float],
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 9999,
) -> PairedInterval:
    """As :func:`paired_interval`, by the percentile bootstrap over tasks (Efron, 1979).

    It asks for no normal differences, which error rates of few tasks are not: most tasks do not
    change, a few change much. With fewer than about twenty tasks it is too narrow; Student's is
    not. ``se`` is the standard deviation over resamples; ``seed`` draws them.

    Raises:
        ValueError: as :func:`paired_interval`.
    """
    from scipy.stats import bootstrap  # seconds to import

    gains = _differences(a_items, b_items, confidence)
    mean = float(gains.mean())
    if gains.size == 1:
        return PairedInterval(mean, -math.inf, math.inf, math.inf, 1)
    found = bootstrap(
        (gains,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2**22 // gains.size),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return PairedInterval(mean, float(low), float(high), float(found.standard_error), gains.size)


def _differences(
    a_items: Mapping[str, float], b_items: Mapping[str, float], confidence: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if a_items.keys() != b_items.keys() or not a_items:
        raise ValueError("a paired comparison needs the same tasks, at least one, on both sides")
    if not 0 <= confidence < 1:
        raise ValueError(f"confidence {confidence} is not in [0, 1)")
    # Sorted, so that the sums, and with them the last digit, do not depend on the order of tasks.
    gains = np.array([b_items[task] - a_items[task] for task in sorted(a_items)], dtype=float)
    if not np.isfinite(gains).all():
        raise ValueError(f"{np.sum(~np.isfinite(gains))} of {gains.size} values are not finite")
    return gains


def _quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit  # scipy.stats takes seconds to import; this is its t.ppf

    return float(stdtrit(freedom, probability))


class Decision(NamedTuple):
    """Whether to keep a round, why in a line, and the two-sided 95% interval of the gain."""

    keep: bool
    reason: str
    gain: PairedInterval | None


@dataclass(frozen=True)
class Gate:
    """Keeps a round when ``metric`` gained more than ``min_gain`` on dev.

    The gain counts with the metric's own direction, so that for an error rate a fall is a gain.

    ``confidence`` is how sure the gate must be: the lower end of the one-sided interval at this
    confidence must exceed ``min_gain``. At 0.5 that end is the paired mean itself: keep what
    improved on average. At 0.95 it is a one-sided test at the 5% level, which with few dev tasks
    sends many real but small improvements back.

    ``guards`` are metrics that may not be worse than at the run's start by more than one standard
    error of their paired difference. The last kept round is no yardstick for them: many small
    losses would add up unseen, and one lucky round would bar all that follow. A value that is not
    finite sends the round back.
    """

    metric: str
    confidence: float = 0.5
    min_gain: float = 0.0
    guards: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"the gate's confidence {self.confidence} is not in [0.5, 1)")

    def decide(
        self,
        before: Sequence[Metric],
        after: Sequence[Metric],
        start: Sequence[Metric] | None = None,
    ) -> Decision:
        """Compare the metrics of the last kept round with those of this one.

        ``start`` are the metrics that the run began with; without them ``before`` are.

        Raises:
            ValueError: a metric that the gate looks at is missing, has no items or no direction,
                or its items are not of the same tasks.
        """
        first = before if start is None else start
        pairs = {name: (_find(first, name), _find(after, name)) for name in self.guards}
        pairs[self.metric] = (_find(before, self.metric), _find(after, self.metric))
        for name, (old, new) in pairs.items():
            values = [*old.items.values(), *new.items.values()]
            broken = sum(not math.isfinite(value) for value in values)
            if broken:
                return Decision(False, f"{broken} values of {name} are not finite", None)
        old, new = pairs[self.metric]
        gain = _gain(old, new, 0.95)
        # One-sided at c is the lower half of two-sided at 2c - 1.
        low = gain.mean
        if self.confidence > 0.5:
            low = _gain(old, new, 2 * self.confidence - 1).low
        said = f"{self.metric} {old.value:.4g} -> {new.value:.4g}, paired gain {gain.mean:.3g}"
        said += f" ± {gain.se:.2g} (n={gain.n})"
        if not low > self.min_gain:
            sure = f" with confidence {self.confidence:g}" if self.confidence > 0.5 else ""
            return Decision(False, f"{said}: not above {self.min_gain:g}{sure}", gain)
        for name in self.guards:
            guard = _gain(*pairs[name], 0.95)
            if guard.mean < 0 and -guard.mean > guard.se:
                worse = f"{name} worse than at the start by {-guard.mean:.3g}, se {guard.se:.2g}"
                return Decision(False, f"{said}, but {worse}", gain)
        return Decision(True, said, gain)


def _find(metrics: Sequence[Metric], name: str) -> Metric:
    for metric in metrics:
        if metric.name == name:
            if not metric.items:
                raise ValueError(f"metric {name!r} has no items, so the gate cannot compare it")
            if metric.better == "neither":
                raise ValueError(f"metric {name!r} has no direction that would be a gain")
            return metric
    known = ", ".join(metric.name for metric in metrics) or "none"
    raise ValueError(f"the gate looks at {name!r}, but what is measured is: {known}")


def _gain(old: Metric, new: Metric, confidence: float) -> PairedInterval:
    found = paired_interval(old.items, new.items, confidence)
    if new.better == "higher":
        return found
    # 0.0 - x, because -0.0 would print as a loss.
    return PairedInterval(0.0 - found.mean, -found.high, -found.low, found.se, found.n)
