"""Quality of the worst 1%, the worst 5% and all feedback, and whether two policies differ there.

A helper is harmed by the worst feedback, not by the mean. The paper compares the lowest scores of
two policies by a rank-sum and a Welch test. Values that were chosen for being the lowest are no
sample, so those p-values describe and are no tests at their level; the interval beside them is one:
responses are resampled, and the tails taken anew each time. As in the paper the tails are of
feedback that is valid; what no attempt made valid scores 0 in the mean, which the gate looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.records import Metric
from common.report import Section
from common.store import Store

Floats = NDArray[np.float64]
EACH = "_each"
"""Ends the name of the metric that holds every single score."""
SHARES: Mapping[str, float] = {"worst 1%": 0.01, "worst 5%": 0.05, "all": 1.0}


class Tail(NamedTuple):
    """A share of the lowest scores of two policies.

    ``difference`` is after - before with its 95% interval over responses; p-values are two-sided.
    """

    share: str
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    rank_sum: float
    welch: float


def worst(scores: Floats, share: float) -> Floats:
    """The lowest ``share`` of the scores, two at least."""
    return np.sort(scores)[: max(2, int(len(scores) * share))]


def tails(
    before: Mapping[str, float], after: Mapping[str, float], seed: int = 0, resamples: int = 2000
) -> list[Tail]:
    """Compare scores by ``response#sample``; a line for each share.

    Raises:
        ValueError: one of the two has fewer than two scores.
    """
    from scipy.stats import ranksums, ttest_ind

    if min(len(before), len(after)) < 2:
        raise ValueError("two policies are compared by two scores or more of each")
    a, b = (np.array(list(some.values()), dtype=float) for some in (before, after))
    drawn = _resampled(before, after, seed, resamples)
    found = []
    for number, (name, share) in enumerate(SHARES.items()):
        low_a, low_b = worst(a, share), worst(b, share)
        ranks = float(ranksums(low_a, low_b).pvalue)
        flat = not (low_a.std() or low_b.std())  # no spread to test by
        welch = float("nan") if flat else float(ttest_ind(low_a, low_b, equal_var=False).pvalue)
        low, high = np.nanquantile(drawn[:, number], (0.025, 0.975))
        means = float(low_a.mean()), float(low_b.mean())
        found.append(Tail(name, len(low_b), *means, means[1] - means[0], float(low), float(high),
                          ranks, welch))  # fmt: skip
    return found


def _resampled(
    before: Mapping[str, float], after: Mapping[str, float], seed: int, count: int
) -> Floats:
    """Differences of the tails' means, (resamples, shares), responses drawn with replacement."""
    owners = sorted({name.split("#")[0] for name in (*before, *after)})
    groups = [
        [np.array([v for name, v in some.items() if name.split("#")[0] == owner])
         for some in (before, after)]
        for owner in owners
    ]  # fmt: skip
    random = np.random.default_rng(seed)
    found = np.full((count, len(SHARES)), np.nan)
    for number in range(count):
        drawn = [groups[i] for i in random.integers(0, len(groups), len(groups))]
        a, b = (np.concatenate([pair[side] for pair in drawn]) for side in (0, 1))
        if len(a) and len(b):
            found[number] = [worst(b, s).mean() - worst(a, s).mean() for s in SHARES.values()]
    return found


def by_response(scores: Mapping[str, float]) -> dict[str, float]:
    """The mean of each response's samples, of scores by ``response#sample``."""
    groups: dict[str, list[float]] = {}
    for name, value in scores.items():
        groups.setdefault(name.split("#")[0], []).append(value)
    return {name: sum(values) / len(values) for name, values in groups.items()}


def valid(scores: Mapping[str, float]) -> dict[str, float]:
    """Without the zeros of feedback that no attempt made valid; a probability is above 0."""
    return {name: value for name, value in scores.items() if value > 0}


def metrics(name: str, scores: Mapping[str, float]) -> list[Metric]:
    """By response, which a gate can compare; each score, for :func:`tails`; the worst of them."""
    values = np.array(list(valid(scores).values()), dtype=float)
    each = Metric.of(name + EACH, scores, "neither")
    found = [Metric.of(name, by_response(scores)), each]
    for said, share in SHARES.items():
        if share < 1 and len(values) > 1:
            low = worst(values, share)
            se = float(low.std(ddof=1) / np.sqrt(len(low)))
            label = f"{name}_{said.replace(' ', '_').removesuffix('%')}"
            found.append(Metric(label, float(low.mean()), se, len(low)))
    return found


def of_run(store: Store, run: str) -> dict[str, list[Tail]]:
    """The tails of a run's final policy against its start on test, by the name of the score."""
    measured = store.metrics(run, "test")
    found = {}
    for name in dict.fromkeys(m.name for m in measured if m.name.endswith(EACH)):
        mine = sorted((m for m in measured if m.name == name), key=lambda m: m.round)
        start, final = valid(mine[0].items), valid(mine[-1].items)
        if min(len(start), len(final)) > 1:
            found[name.removesuffix(EACH)] = tails(start, final)
    return found


def sections(store: Store, run: str) -> list[Section]:
    """What a run's report says of the worst feedback; nothing for a run of another method."""
    return [
        Section(
            f"The worst feedback by {name}",
            "Scores of valid feedback's alternatives to test responses, start and final. p-values "
            "are of values that were chosen for being the lowest: they describe. The interval of "
            "the difference resamples responses.",
            columns=COLUMNS,
            rows=rows(found),
        )
        for name, found in of_run(store, run).items()
    ]


COLUMNS = ("", "n", "before", "after", "difference", "95%", "rank-sum p", "Welch p")


def rows(found: Sequence[Tail]) -> list[tuple[object, ...]]:
    """A row for each tail, under :data:`COLUMNS`."""
    return [
        (t.share, t.n, t.before, t.after, t.difference, f"{t.low:+.3f} to {t.high:+.3f}",
         f"{t.rank_sum:.2g}", f"{t.welch:.2g}")
        for t in found
    ]  # fmt: skip
