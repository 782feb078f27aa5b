"""The generation-verification gap (arXiv 2412.02674): what a verifier adds to its generator.

    gap(f, g) = J(f[w(u_g)]) - J(f)

f is the generator, u_g(x, y) the utility that verifier g gives to sample y of prompt x, w >= 0 the
filter that makes weights of utilities, J the mean of what samples are worth, prompts counting
alike. f[w] is f with its samples weighted. The relative gap divides each prompt's gain by what it
could gain at most, 1 - J_x, before the mean over prompts; a prompt that cannot gain (J_x = 1) has
none. Loops improve while the gap is positive: J(f_{t+1}) - J(f_t) >= gap - (error of the update).

Filters: a threshold for all prompts, a quantile of each prompt's own samples, and the weights
exp(u / beta) of a policy that is regularised by its divergence. Where a filter keeps nothing of a
prompt there is nothing to learn from, and f stays as it is: no gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def above(threshold: float, utilities: Sequence[ArrayLike]) -> list[Floats]:
    """1 where the utility is at least ``threshold``, else 0; an array for each prompt."""
    return [(np.asarray(u, dtype=float) >= threshold).astype(float) for u in utilities]


def top_share(share: float, utilities: Sequence[ArrayLike]) -> list[Floats]:
    """1 for the best ``share`` of each prompt's samples, at least one; equal ones count alike.

    The cut falls on a sample's utility, so that all samples as good as the last are kept.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share {share} is not in (0, 1]")
    found = []
    for utility in utilities:
        u = np.asarray(utility, dtype=float)
        kept = max(1, round(share * len(u)))
        found.append((u >= np.sort(u)[-kept]).astype(float))
    return found


def tilted(beta: float, utilities: Sequence[ArrayLike]) -> list[Floats]:
    """exp(u / beta), scaled to a largest weight of 1 in each prompt."""
    if beta <= 0:
        raise ValueError(f"beta {beta} is not positive")
    arrays = [np.asarray(u, dtype=float) for u in utilities]
    return [np.exp((u - u.max()) / beta) for u in arrays]


def every(*filters: Sequence[ArrayLike]) -> list[Floats]:
    """The filters together: a sample weighs the product, so what one refuses is refused."""
    return [
        np.prod([np.asarray(w, dtype=float) for w in ws], axis=0)
        for ws in zip(*filters, strict=True)
    ]


class Mean(NamedTuple):
    """A mean over ``n`` prompts and its standard error."""

    value: float
    se: float
    n: int


class Gap(NamedTuple):
    """``generator`` is J(f), ``filtered`` J(f[w]), ``kept`` the share of the samples kept.

    ``kept`` is the weights' mean over their largest; ``empty`` counts prompts that kept nothing.
    """

    generator: float
    filtered: float
    absolute: Mean
    relative: Mean
    kept: float
    empty: int


def gap(worth: Sequence[ArrayLike], weights: Sequence[ArrayLike]) -> Gap:
    """The gap from what samples are worth, in [0, 1], and the filter's weights, prompt by prompt.

    Raises ``ValueError`` without prompts, for a prompt without samples, or for shapes that differ,
    a worth out of [0, 1], or a weight that is negative or not finite.
    """
    if not worth:
        raise ValueError("a gap needs at least one prompt")
    gains, relative, before, kept, empty = [], [], [], [], 0
    for given, weighed in zip(worth, weights, strict=True):
        values, w = np.asarray(given, dtype=float), np.asarray(weighed, dtype=float)
        if values.shape != w.shape or values.ndim != 1 or not len(values):
            raise ValueError(f"a prompt has {values.shape} samples and {w.shape} weights")
        if not ((values >= 0) & (values <= 1)).all() or not ((w >= 0) & np.isfinite(w)).all():
            raise ValueError("worth must be in [0, 1], weights finite and not negative")
        now = float(values.mean())
        gain = 0.0 if not w.any() else float(w @ values / w.sum()) - now
        before.append(now)
        gains.append(gain)
        relative.append(gain / (1 - now) if now < 1 else 0.0)
        kept.append(float(w.mean() / w.max()) if w.any() else 0.0)
        empty += not w.any()
    absolute = mean(gains)
    start = float(np.mean(before))
    return Gap(start, start + absolute.value, absolute, mean(relative), float(np.mean(kept)), empty)


def mean(values: Sequence[float]) -> Mean:
    """The mean with its standard error, which is infinite for one value."""
    n = len(values)
    se = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Mean(float(np.mean(values)), se, n)
