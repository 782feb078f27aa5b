"""Small diverse subsets of texts: five measures of diversity, and greedy selection for each.

DIVE (arXiv 2501.00747) takes a random first item and then, again and again, the item that makes the
set most diverse. What that reaches depends on the measure f; k is the size of the set, its first
item included.

| measure | f(S) | submodular | greedy reaches at least |
|---|---|---|---|
| distinct-n | share of the group's distinct n-grams in S, mean of n = 1 to 5 | yes | b(k) |
| embedding | mean of 1 - cosine over the pairs of S | no | 1/4 for k = 2, tending to 0.43 |
| facility | mean over the group of (1 + cosine) / 2 to the nearest of S | yes | b(k) |
| determinant | log det(I + 10 cosines of S), the mode of a k-DPP | yes | b(k) |
| chains | number of different chains of equations in S | yes | all |

The submodular ones are monotone, so that greedy from any first item reaches
b(k) = 1 - (1 - 1/k)^(k-1) of the best set (Nemhauser, Wolsey and Fisher, 1978, of the k - 1 steps
that are greedy). The embedding's bound is derived in docs/dive.md: its distance is half the square
of the Euclidean one, and no metric. Chains are a matroid's rank, for which greedy is exact.

Deviations: DIVE's Distinct-N is a ratio, distinct over all n-grams, which falls when a set grows
and favours short texts. Covering is its monotone kin, and favours long ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from common.errors import UserError
from common.monitors.exploration import words

Measure = Literal["distinct-n", "embedding", "facility", "determinant", "chains"]
EMBEDDED = frozenset({"embedding", "facility", "determinant"})
"""Measures that need vectors of the texts."""
SUBMODULAR = frozenset({"distinct-n", "facility", "determinant", "chains"})
UP_TO = 5
"""The longest n-gram."""
SCALE = 10.0
"""How much the determinant's kernel outweighs the identity."""

_ANNOTATED = re.compile(r"<<(.*?)>>")
_TIMES = re.compile(r"(?<=\d)\s*[x×·]\s*(?=\d)")
_EQUATION = re.compile(r"([\d(][\d.\s()]*[-+*/][-+*/\d.\s()]*?)\s*=\s*(-?\d+(?:\.\d+)?)")


def chain(text: str) -> tuple[str, ...]:
    """The equations of a solution in order, without spaces: those in ``<<2*3=6>>`` if any are."""
    found = _ANNOTATED.findall(text)
    if not found:
        plain = re.sub(r"(?<=\d),(?=\d{3})|[$€£]", "", text).replace("÷", "/").replace("−", "-")
        found = ["=".join(parts) for parts in _EQUATION.findall(_TIMES.sub("*", plain))]
    return tuple(re.sub(r"\s+", "", equation) for equation in found)


class Objective(Protocol):
    """A measure of a growing set of a group's items."""

    @property
    def value(self) -> float:
        """f of the items that were added."""

    def gains(self) -> NDArray[np.float64]:
        """What adding each item of the group would add to f, (n,)."""

    def add(self, item: int) -> None: ...


def objective(
    measure: Measure, texts: Sequence[str], vectors: NDArray[Any] | None = None
) -> Objective:
    """``measure`` on a group of ``texts``, whose ``vectors`` are (n, d) if it needs them.

    Raises :class:`UserError` for an unknown measure, or vectors that are missing.
    """
    if measure == "distinct-n":
        return Cover(*ngrams(texts))
    if measure == "chains":
        chains = {c: i for i, c in enumerate(dict.fromkeys(map(chain, texts)))}
        numbers = np.array([chains[chain(text)] for text in texts], dtype=np.int64)
        return Cover(_incidence(np.arange(len(texts)), numbers, len(texts)), np.ones(len(chains)))
    if measure not in get_args(Measure):
        raise UserError(f"no measure {measure!r}", f"use {', '.join(get_args(Measure))}")
    if vectors is None or len(vectors) != len(texts):
        raise UserError(f"the measure {measure} needs a vector of each text", "give their vectors")
    unit = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, norms, out=np.zeros_like(unit), where=norms > 0)
    cosine = np.clip(unit @ unit.T, -1, 1)
    if measure == "embedding":
        return Dispersion(cosine)
    return Facility(cosine) if measure == "facility" else Determinant(cosine)


def greedy(objective: Objective, count: int, first: int) -> list[int]:
    """``count`` items in the order of their choice, fewer if there are not so many.

    Of equal gains the first item's counts, so give the items in an order that means nothing.
    """
    chosen = [first]
    objective.add(first)
    total = len(objective.gains())
    while len(chosen) < min(count, total):
        gains = objective.gains()
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        objective.add(chosen[-1])
    return chosen


def bound(measure: Measure, count: int) -> float:
    """The share of the best value that :func:`greedy` reaches at least, for any first item."""
    if measure == "chains":
        return 1.0
    if measure in SUBMODULAR:
        return float(1 - (1 - 1 / count) ** (count - 1))
    share = 0.0
    for i in range(1, count):
        share = share * (1 + 1 / i - 2 / count) + i / count**2
    return share if count > 1 else 1.0


def ngrams(
    texts: Sequence[str], up_to: int = UP_TO
) -> tuple[scipy.sparse.csr_matrix, NDArray[np.float64]]:
    """Which text has which n-gram of the group, (n, grams), and the weight of each n-gram.

    Weights add up to 1: those of each length share 1 / ``up_to``, or what lengths there are share.
    """
    split = [words(text) for text in texts]
    ids = {word: i for i, word in enumerate(dict.fromkeys(w for row in split for w in row))}
    flat = np.array([ids[word] for row in split for word in row], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(row) for row in split])
    gram, rows, columns, weights, before = flat, [], [], [], 0
    for n in range(1, up_to + 1):
        if n > 1:  # a gram is a shorter one and the word behind it
            pairs = gram[: len(flat) - n + 1] * max(1, len(ids)) + flat[n - 1 :]
            gram = np.unique(pairs, return_inverse=True)[1]
        whole = owner[: len(gram)] == owner[n - 1 :]
        kinds, number = np.unique(gram[whole], return_inverse=True)
        if not len(kinds):
            break
        rows.append(owner[: len(gram)][whole])
        columns.append(number + before)
        weights.append(np.full(len(kinds), 1 / len(kinds)))
        before += len(kinds)
    if not weights:
        return _incidence(np.zeros(0, np.int64), np.zeros(0, np.int64), len(texts)), np.zeros(0)
    matrix = _incidence(np.concatenate(rows), np.concatenate(columns), len(texts))
    return matrix, np.concatenate(weights) / len(weights)


def _incidence(
    rows: NDArray[np.int64], columns: NDArray[np.int64], count: int
) -> scipy.sparse.csr_matrix:
    """1 at each of the pairs, however often it is there."""
    width = int(columns.max(initial=-1)) + 1
    shape = (count, width)
    matrix = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
    matrix.data[:] = 1.0
    return matrix


class Cover:
    """The summed weight of the elements that any item of the set has."""

    def __init__(self, has: scipy.sparse.csr_matrix, weights: NDArray[np.float64]) -> None:
        self.has, self.left, self.value = has, weights.copy(), 0.0

    def gains(self) -> NDArray[np.float64]:
        gains: NDArray[np.float64] = self.has @ self.left
        return gains

    def add(self, item: int) -> None:
        has = self.has.indices[self.has.indptr[item] : self.has.indptr[item + 1]]
        self.value += float(self.left[has].sum())
        self.left[has] = 0.0


class Dispersion:
    """The sum of 1 - cosine over pairs, over the number of pairs of the final set.

    Sets of one size compare as their means do; ``value`` is the mean of the set as it is.
    """

    def __init__(self, cosine: NDArray[np.float64]) -> None:
        self.distance = 1 - cosine
        np.fill_diagonal(self.distance, 0.0)
        self.to_set, self.sum, self.size = np.zeros(len(cosine)), 0.0, 0

    @property
    def value(self) -> float:
        return self.sum / (self.size * (self.size - 1) / 2) if self.size > 1 else 0.0

    def gains(self) -> NDArray[np.float64]:
        return self.to_set.copy()

    def add(self, item: int) -> None:
        self.sum += float(self.to_set[item])
        self.to_set += self.distance[item]
        self.size += 1


class Facility:
    """The mean over the group of the similarity to the nearest item of the set."""

    def __init__(self, cosine: NDArray[np.float64]) -> None:
        self.near = (1 + cosine) / 2
        self.best, self.value = np.zeros(len(cosine)), 0.0

    def gains(self) -> NDArray[np.float64]:
        gains: NDArray[np.float64] = np.maximum(self.near - self.best, 0).mean(1)
        return gains

    def add(self, item: int) -> None:
        self.best = np.maximum(self.best, self.near[item])
        self.value = float(self.best.mean())


class Determinant:
    """log det(I + ``SCALE`` cosine) of the set, by the greedy Cholesky steps of arXiv 1709.05135.

    The identity keeps the kernel positive definite for equal texts, and f monotone.
    """

    def __init__(self, cosine: NDArray[np.float64]) -> None:
        self.kernel = SCALE * cosine + np.eye(len(cosine))
        self.rest = self.kernel.diagonal().copy()
        self.factors = np.zeros((0, len(cosine)))
        self.value = 0.0

    def gains(self) -> NDArray[np.float64]:
        gains: NDArray[np.float64] = np.log(np.maximum(self.rest, 1.0))
        return gains

    def add(self, item: int) -> None:
        self.value += float(np.log(max(self.rest[item], 1.0)))
        row = self.kernel[item] - self.factors[:, item] @ self.factors
        row /= np.sqrt(max(self.rest[item], 1.0))
        self.factors = np.vstack([self.factors, row])
        self.rest = self.rest - row**2
