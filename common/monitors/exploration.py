"""Exploration and exploitation of a policy, estimated from n samples of a prompt.

Exploration asks what k draws can find: pass@k (arXiv 2107.03374, equation 1), pass@k-S (at least S
of k are correct), distinct n-grams, diversity of embeddings, entropy of the answers. Exploitation
asks what a reward makes of k draws: best-of-k, and reward@k-S, the share of correct ones among the
S of k that it likes best (arXiv 2412.17256, section 2).

Every estimate is the mean over all k-subsets of the n samples, counted in closed form: drawing
subsets at random would only add noise, and 1 - (1 - c/n)^k is biased.

Deviation: the wording of reward@k-S in that paper was not at hand. Best-of-k is reward@k-1 here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Scripts that put no space between words count by character.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that k of n samples, of which c are correct, hold a correct one.

    1 - C(n-c, k) / C(n, k). Raises ``ValueError`` unless 1 <= k <= n and 0 <= c <= n.
    """
    return pass_at_k_s(n, c, k, 1)


def pass_at_k_s(n: int, c: int, k: int, s: int) -> float:
    """Probability that k of n samples, of which c are correct, hold at least s correct ones."""
    if not 1 <= k <= n or not 0 <= c <= n or s < 0:
        raise ValueError(f"k={k} of n={n} with c={c} correct, s={s}: need 1<=k<=n, 0<=c<=n, s>=0")
    # Whole numbers until the last division: exact for any n.
    fewer = sum(math.comb(c, j) * math.comb(n - c, k - j) for j in range(min(s, k + 1)))
    return 1 - fewer / math.comb(n, k)


def best_of_k(values: ArrayLike, rewards: ArrayLike, k: int) -> float:
    """The expected value of the sample that the reward likes best among k of the n."""
    return reward_at_k_s(values, rewards, k, 1)


def reward_at_k_s(values: ArrayLike, rewards: ArrayLike, k: int, s: int) -> float:
    """The expected mean value of the s samples that the reward likes best among k of the n.

    ``values`` is 1 for correct and 0 for wrong, or any other worth. Equal rewards are told apart
    at random, so a reward that knows nothing gives the mean. Raises ``ValueError`` unless
    1 <= s <= k <= n, or if a reward is not a number.
    """
    worth, liked = np.asarray(values, dtype=float), np.asarray(rewards, dtype=float)
    n = len(worth)
    if worth.shape != liked.shape or not 1 <= s <= k <= n:
        raise ValueError(f"s={s} of k={k} of {n} values and {len(liked)} rewards")
    if np.isnan(liked).any():
        raise ValueError("a reward is not a number")
    order = np.argsort(-liked, kind="stable")
    worth, liked = worth[order], liked[order]
    # Samples of one reward are exchangeable: each stands for the mean of them.
    _, group = np.unique(-liked, return_inverse=True)
    worth = (np.bincount(group, worth) / np.bincount(group))[group]
    # Sample r (r are better) is among the best s of a subset that holds fewer than s of those r.
    total = math.comb(n, k)
    chance = [
        sum(math.comb(r, j) * math.comb(n - 1 - r, k - 1 - j) for j in range(min(s, k))) / total
        for r in range(n)
    ]
    return float(worth @ np.array(chance)) / s


def words(text: str) -> list[str]:
    """What n-grams are made of: words by spaces, and characters where a script has none."""
    return _WORDS.findall(text)


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams of ``texts`` together; 0 where there is none."""
    grams: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        split = words(text)
        found = list(zip(*(split[i:] for i in range(n)), strict=False))
        grams.update(found)
        total += len(found)
    return len(grams) / total if total else 0.0


def distinct(texts: Sequence[str], up_to: int = 5) -> float:
    """The mean of :func:`distinct_n` for n = 1 to ``up_to``, as DIVE has it (arXiv 2501.00747)."""
    return sum(distinct_n(texts, n) for n in range(1, up_to + 1)) / up_to


def embedding_diversity(vectors: NDArray[Any]) -> float:
    """1 - the mean cosine over all pairs of rows of ``vectors``, (n, d); 0 for fewer than two.

    By the sum of the unit vectors, so in O(n d). A row of zeros is like no other.
    """
    n = len(vectors)
    if n < 2:
        return 0.0
    long = np.asarray(vectors, dtype=float)
    norms = np.linalg.norm(long, axis=1, keepdims=True)
    unit = np.divide(long, norms, out=np.zeros_like(long), where=norms > 0)
    pairs = float((unit.sum(0) ** 2).sum() - (unit**2).sum())
    return 1 - pairs / (n * (n - 1))


def answer_entropy(answers: Sequence[Hashable]) -> float:
    """Entropy of the answers' frequencies, in nats. No answer (None) is an answer of its own."""
    counts = np.array(list(Counter(answers).values()), dtype=float)
    if not len(counts):
        return 0.0
    p = counts / counts.sum()
    return float(0.0 - (p * np.log(p)).sum())  # 0.0 -, because -0.0 would print as a loss
