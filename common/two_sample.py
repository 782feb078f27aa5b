"""Do two sets of paired samples come from one distribution?

The pairs share what they are about (a text), so the null hypothesis is that the two of a pair are
exchangeable, and it is simulated by swapping within pairs. Swapping keeps the number of samples,
so that what a finite sample adds to a divergence is in the null's mean as well (``floor``) and
can be taken off. Halves of one set against each other would not do: they are smaller, and the
plug-in divergence of smaller samples is larger.

Maximum mean discrepancy: Gretton et al., JMLR 13 (2012). Classifier two-sample test: Lopez-Paz and
Oquab, arXiv 1610.06545.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class TwoSample(NamedTuple):
    """A statistic, what it comes to on average under the null, and the permutation p-value.

    ``p`` is ``(1 + permutations at least as large) / (1 + permutations)``, so never 0.
    """

    value: float
    floor: float
    p: float


def mmd(x: Floats, y: Floats, seed: int, permutations: int = 9999) -> TwoSample:
    """The unbiased squared maximum mean discrepancy of ``x`` and ``y``, ``(N, D)`` each, in pairs.

    ``sum over i ≠ j of h(i, j) / (N (N - 1))`` with ``h(i, j) = k(x_i, x_j) + k(y_i, y_j) -
    k(x_i, y_j) - k(y_i, x_j)`` (Gretton's eq. 4); swapping pair i turns the sign of row and column
    i of h. k is Gaussian, its width the median distance of the pooled samples (section 8).

    Deviation: the paper's permutations mix the pooled samples; ours stay within pairs.

    Raises:
        ValueError: the shapes differ, or there are fewer than two pairs.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    _check(x, y)
    n = len(x)
    pooled = np.concatenate([x, y])
    squared = euclidean_distances(pooled, squared=True)
    median = float(np.median(squared[np.triu_indices(2 * n, 1)]))
    k = np.exp(-squared / (2 * median)) if median > 0 else (squared == 0).astype(float)
    h = k[:n, :n] + k[n:, n:] - k[:n, n:] - k[n:, :n]
    np.fill_diagonal(h, 0)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (permutations, n))
    null = np.einsum("pi,pi->p", signs @ h, signs) / (n * (n - 1))
    return _against(float(h.sum() / (n * (n - 1))), null)


def classifier(
    x: Floats, y: Floats, seed: int, permutations: int = 199, folds: int = 5
) -> TwoSample:
    """How often ridge regression tells held-out ``x`` from ``y``, ``(N, D)`` each, in pairs.

    Both of a pair are held out together. 0.5 is guessing, 1 is telling them apart always.

    Raises:
        ValueError: the shapes differ, or there are fewer than two pairs.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(x, y)
    n = len(x)
    told_apart = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))
    samples, pair = np.concatenate([x, y]), np.tile(np.arange(n), 2)
    swapped = np.random.default_rng(seed).integers(0, 2, (n, permutations))
    # The labels first, then those with pairs swapped: targets of one regression share its matrix.
    first = np.concatenate([np.zeros((n, 1), np.int64), swapped], axis=1)
    labels = np.concatenate([first, 1 - first])
    right = []
    for train, test in GroupKFold(min(folds, n)).split(samples, groups=pair):
        guessed = told_apart.fit(samples[train], labels[train]).predict(samples[test])
        right.append((guessed == labels[test]).mean(0))
    value, *null = np.mean(right, axis=0)
    return _against(float(value), np.array(null))


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """How often a score of label true is above one of label false, ties counting half.

    The area under the receiver operating characteristic, by ranks; not a number without both.
    """
    from scipy.stats import rankdata

    truth = np.asarray(labels, dtype=bool)
    good, bad = int(truth.sum()), int((~truth).sum())
    if not good or not bad:
        return float("nan")
    ranks = float(rankdata(scores)[truth].sum())
    return (ranks - good * (good + 1) / 2) / (good * bad)


class Divergence(NamedTuple):
    """Jensen-Shannon divergence in bits (0 to 1) of two sets of sequences.

    ``excess`` is ``value - floor``: what finite samples of one distribution do not explain.
    ``low`` and ``high`` are its 95% interval by bootstrap over pairs.
    """

    value: float
    floor: float
    excess: float
    low: float
    high: float
    p: float


def ngram_divergence(
    x: Sequence[Sequence[Hashable]],
    y: Sequence[Sequence[Hashable]],
    n: int,
    seed: int,
    permutations: int = 499,
    resamples: int = 200,
) -> Divergence:
    """The divergence of the n-grams in ``x`` from those in ``y``, sequences in pairs.

    A resample of the bootstrap has fewer different sequences, so a higher floor of its own, which
    is taken off it (the mean of eight swaps).

    Raises:
        ValueError: the numbers of sequences differ, there are fewer than two pairs, or a side has
            no n-gram.
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"pairs are needed, two or more; these are {len(x)} and {len(y)}")
    counts = [Counter(_ngrams(s, n)) for s in (*x, *y)]
    sides = len(x)
    if not any(counts[:sides]) or not any(counts[sides:]):
        raise ValueError(f"no sequence of {n} or more symbols on one side")
    matrix = _counted(counts)
    first, second = matrix[:sides], matrix[sides:]
    random = np.random.default_rng(seed)
    ones = np.ones((1, sides))
    value = float(_divergences(first, second, ones, np.zeros((1, sides)))[0])
    swaps = random.integers(0, 2, (permutations, sides)).astype(float)
    null = _divergences(first, second, np.repeat(ones, permutations, 0), swaps)
    floor = float(null.mean())
    excesses = np.empty(resamples)
    for i in range(resamples):
        weights = np.bincount(random.integers(0, sides, sides), minlength=sides)[None].astype(float)
        own = random.integers(0, 2, (8, sides)).astype(float)
        swapped = _divergences(first, second, np.repeat(weights, 8, 0), own)
        excesses[i] = _divergences(first, second, weights, np.zeros((1, sides)))[0] - swapped.mean()
    low, high = np.quantile(excesses, (0.025, 0.975))
    p = _against(value, null).p
    return Divergence(value, floor, value - floor, float(low), float(high), p)


def _ngrams(sequence: Sequence[Hashable], n: int) -> Iterable[tuple[Hashable, ...]]:
    return zip(*(sequence[i:] for i in range(n)), strict=False)


def _counted(counts: Sequence[Counter[Any]]) -> Any:
    """The counters as a sparse matrix, a row each."""
    from scipy.sparse import csr_array

    index = {gram: i for i, gram in enumerate(dict.fromkeys(g for c in counts for g in c))}
    rows = [i for i, c in enumerate(counts) for _ in c]
    columns = [index[g] for c in counts for g in c]
    values = [float(v) for c in counts for v in c.values()]
    return csr_array((values, (rows, columns)), shape=(len(counts), len(index)))


def _divergences(first: Any, second: Any, weights: Floats, swaps: Floats) -> Floats:
    """Divergence for each row of weights and swaps ``(B, pairs)``."""
    from scipy.spatial.distance import jensenshannon

    stay, go = weights * (1 - swaps), weights * swaps
    p = stay @ first + go @ second
    q = go @ first + stay @ second
    # Rounding takes the divergence of equal counts below 0, whose root is no number.
    found: Floats = np.nan_to_num(jensenshannon(p, q, base=2, axis=1)) ** 2
    return found


def _check(x: Floats, y: Floats) -> None:
    if x.shape != y.shape or x.ndim != 2 or len(x) < 2:
        raise ValueError(f"pairs are needed, two or more; these are {x.shape} and {y.shape}")


def _against(value: float, null: Floats) -> TwoSample:
    # A swap of all pairs is no change: what rounding makes of it must count as large as it is.
    larger = int((null >= value - 1e-12).sum())
    return TwoSample(value, float(null.mean()), (1 + larger) / (1 + len(null)))
