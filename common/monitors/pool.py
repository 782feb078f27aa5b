"""What a round's pool of candidates shows without any model: recorded for every run.

The loop puts :func:`figures` of each round into ``Round.notes["pool"]``; the report plots them over
rounds. They come from the candidates as the store holds them, so speech, scenes and text have the
same: exploration (pass@k, distinct-n, answer entropy), exploitation by the policy's own likelihood
(the best of n), sharpening (log-probability) and length. They describe proposals on train tasks,
not progress: only dev and test tell that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.monitors.exploration import (
    answer_entropy,
    best_of_k,
    distinct,
    pass_at_k,
    pass_at_k_s,
)
from common.monitors.gap import gap, top_share
from common.pool import by_task
from common.records import Candidate

Floats = NDArray[np.float64]

SOME = 4
"""The S of pass@k-S, where so many samples are drawn."""


def figures(pool: Iterable[Candidate]) -> dict[str, Any]:
    """Figures of one round's judged candidates; each is a mean over tasks. Empty without any.

    A score that is 0 or 1 throughout gets ``pass@k`` for k = 1, 2, 4 and on to the smallest number
    of samples that a task has, ``pass@n-4``, and what the policy's own likelihood by token is worth
    as a verifier: ``best_by_logprob``, the score of the likeliest of n, and ``relative_gap``, the
    relative generation-verification gap of keeping the likeliest quarter. Any other score gets its
    ``mean``, the means of each task's ``highest`` and ``lowest``, and the ``spread``, the standard
    deviation within a task, which is what selection has to choose from.
    """
    lengths, sums, each, distinct_n, entropy = ([] for _ in range(5))
    values: dict[str, list[Floats]] = {}
    likely: dict[str, list[Floats]] = {}
    tokens, answered, smallest, total = 0, False, math.inf, 0
    for _, group in by_task(pool):
        lengths.append(np.mean([c.tokens for c in group]))
        sums.append(np.mean([c.logprob for c in group]))
        each.append(np.mean(_per_token(group)))
        tokens += spent(group)
        answered = answered or any(c.answer is not None for c in group)
        smallest, total = min(smallest, len(group)), total + len(group)
        if smallest > 1:
            distinct_n.append(distinct([c.output for c in group]))
            entropy.append(answer_entropy([c.answer for c in group]))
        for name in {name for c in group for name in c.scores}:
            scored = [c for c in group if name in c.scores]
            values.setdefault(name, []).append(np.array([c.scores[name] for c in scored], float))
            likely.setdefault(name, []).append(_per_token(scored))
    if not total:
        return {}
    found: dict[str, Any] = {
        "candidates": total,
        "sampled_tokens": tokens,
        "length": _mean(lengths),
    }
    if any(sums):  # a server may not give them
        found["logprob"] = _mean(sums)
        found["logprob_per_token"] = _mean(each)
    if smallest > 1:
        found["distinct_n"] = _mean(distinct_n)
        if answered:
            found["answer_entropy"] = _mean(entropy)
    for name in sorted(values):
        found[name] = _score(values[name], likely[name])
    return found


def spent(pool: Iterable[Candidate]) -> int:
    """Tokens that sampling the candidates took.

    ``meta["spent"]`` says how many where a candidate took more than its own: a judgement, a draft.
    """
    return sum(int(c.meta.get("spent", c.tokens)) for c in pool)


def _score(values: Sequence[Floats], likely: Sequence[Floats]) -> Mapping[str, float]:
    """By task: what a score gave, and the log-probability of a token."""
    flat = np.concatenate(values)
    if not np.isin(flat, (0.0, 1.0)).all():
        finite = [v[np.isfinite(v)] for v in values]
        finite = [v for v in finite if len(v)]
        if not finite:
            return {}
        return {
            "mean": _mean([v.mean() for v in finite]),
            "highest": _mean([v.max() for v in finite]),
            "lowest": _mean([v.min() for v in finite]),
            "spread": _mean([v.std() for v in finite]),
        }
    n = min(map(len, values))
    sizes = sorted({1 << i for i in range(n.bit_length())} | {n})
    found = {
        f"pass@{k}": _mean([pass_at_k(len(v), int(v.sum()), k) for v in values]) for k in sizes
    }
    if n > SOME:
        found[f"pass@{n}-{SOME}"] = _mean(
            [pass_at_k_s(len(v), int(v.sum()), n, SOME) for v in values]
        )
    if n > 1 and any(u.any() for u in likely):
        found["best_by_logprob"] = _mean(
            [best_of_k(v, u, n) for v, u in zip(values, likely, strict=True)]
        )
        found["relative_gap"] = gap(values, top_share(0.25, likely)).relative.value
    return found


def _per_token(group: Sequence[Candidate]) -> Floats:
    return np.array([c.logprob / max(1, c.tokens) for c in group])


def _mean(values: Sequence[Any]) -> float:
    return float(np.mean(values))
