"""How well candidates are ranked: MAP, MRR, P@1, HR@5 and nDCG over groups, with standard errors.

A group is a question with its candidates, each right or wrong. The measures are of Manning et al.,
Introduction to Information Retrieval (2008), chapter 8; nDCG's discount is 1/log2(1 + rank).
Candidates of equal score are ordered by chance: each measure is its mean over all orders of equals,
so that a ranker that says the same of all earns what chance earns and no more.

As in the *clean* setting of answer-sentence selection, groups that are all right or all wrong are
left out: no order of them is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.records import Metric

Floats = NDArray[np.float64]
MEASURES = ("map", "mrr", "p@1", "hr@5", "ndcg")


def measures(scores: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """The measures of one group, higher scores first.

    Raises:
        ValueError: none or all are right, or a score is not finite.
    """
    score = np.asarray(scores, np.float64)
    good = np.asarray(right, bool)
    if len(score) != len(good) or not good.any() or good.all() or not np.isfinite(score).all():
        raise ValueError("a group needs finite scores, one that is right and one that is wrong")
    n, total = len(good), int(good.sum())
    precision, discounted = np.zeros(n), 0.0
    first = np.zeros(n)  # probability that the first right one stands at a place
    before, found = 0, 0
    for value in -np.unique(-score):
        at = score == value
        size, hits = int(at.sum()), int(good[at].sum())
        place = np.arange(before, before + size)
        # A place among equals holds a right one with probability hits/size; given that, each other
        # place is right with (hits-1)/(size-1).
        share = hits / size
        other = (hits - 1) / (size - 1) if size > 1 else 0.0
        above = found + (place - before) * other
        precision[place] = share * (above + 1) / (place + 1)
        discounted += float((share / np.log2(place + 2)).sum())
        if not found and hits:
            # Without replacement: none in k draws, then one.
            none = 1.0
            for k in range(size - hits + 1):
                first[before + k] = none * hits / (size - k)
                none *= (size - hits - k) / (size - k)
        before += size
        found += hits
    ideal = float((1 / np.log2(np.arange(total) + 2)).sum())
    return {
        "map": float(precision.sum() / total),
        "mrr": float((first / np.arange(1, n + 1)).sum()),
        "p@1": float(first[0]),
        "hr@5": float(first[:5].sum()),
        "ndcg": discounted / ideal,
    }


def evaluate(groups: Mapping[str, tuple[Sequence[float], Sequence[bool]]]) -> list[Metric]:
    """Every measure over groups of (scores, right), each group's own value in ``items``.

    Raises:
        ValueError: no group has both right and wrong ones.
    """
    rows = {
        name: measures(scores, right)
        for name, (scores, right) in groups.items()
        if any(right) and not all(right)
    }
    if not rows:
        raise ValueError("no group has a candidate that is right and one that is wrong")
    return [
        Metric.of(measure, {name: row[measure] for name, row in rows.items()})
        for measure in MEASURES
    ]
