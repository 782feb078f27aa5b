"""Estimators of exploration and exploitation, and the gap, against brute force."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.monitors.exploration import (
    answer_entropy,
    best_of_k,
    distinct,
    distinct_n,
    embedding_diversity,
    pass_at_k,
    pass_at_k_s,
    reward_at_k_s,
    words,
)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(*[st.just(n), *[st.integers(0, n)] * 3])))
def test_pass_at_k_s_counts_subsets(numbers: tuple[int, int, int, int]) -> None:
    n, c, k, s = numbers
    k = max(1, k)
    subsets = list(combinations([1] * c + [0] * (n - c), k))
    expected = np.mean([sum(one) >= s for one in subsets])
    assert pass_at_k_s(n, c, k, s) == pytest.approx(expected)
    assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(one) for one in subsets]))


def test_pass_at_k_of_many_samples_is_exact_and_unbiased() -> None:
    assert pass_at_k(10_000, 1, 100) == pytest.approx(0.01)
    assert pass_at_k(200, 0, 7) == 0 and pass_at_k(200, 194, 7) == 1
    rng = np.random.default_rng(0)
    drawn = rng.binomial(8, 0.3, size=20_000)
    estimates = np.array([pass_at_k(8, c, 4) for c in range(9)])[drawn]
    truth = 1 - 0.7**4
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / math.sqrt(len(drawn))
    plugged = 1 - (1 - drawn / 8) ** 4  # the naive estimate is biased, which is why it is not used
    assert abs(plugged.mean() - truth) > 4 * plugged.std() / math.sqrt(len(drawn))


SAMPLE = st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 3))


@given(st.lists(SAMPLE, min_size=1, max_size=5), st.data())
def test_reward_at_k_s_counts_subsets_with_ties_at_random(
    samples: list[tuple[float, int]], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(samples)))
    s = data.draw(st.integers(1, k))
    values, rewards = [v for v, _ in samples], [float(r) for _, r in samples]
    found = []
    for subset in combinations(range(len(samples)), k):
        for order in permutations(subset):  # every way to break ties
            best = sorted(order, key=lambda i: -rewards[i])[:s]
            found.append(np.mean([values[i] for i in best]))
    assert reward_at_k_s(values, rewards, k, s) == pytest.approx(np.mean(found))


def test_best_of_k_of_its_own_values_is_the_largest() -> None:
    values = [0.3, 0.9, 0.1, 0.5]
    assert best_of_k(values, values, 4) == 0.9
    assert best_of_k(values, values, 1) == pytest.approx(np.mean(values))
    pairs = [max(pair) for pair in combinations(values, 2)]
    assert best_of_k(values, values, 2) == pytest.approx(np.mean(pairs))
    assert best_of_k([1, 0, 0, 1], [5, 5, 5, 5], 3) == pytest.approx(0.5)  # it knows nothing
    assert best_of_k([1, 0], [math.inf, 2], 2) == 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda: pass_at_k(3, 1, 4),
        lambda: pass_at_k(3, 4, 1),
        lambda: pass_at_k(3, 1, 0),
        lambda: reward_at_k_s([1, 0], [1.0, 2.0], 1, 2),
        lambda: reward_at_k_s([1, 0], [1.0], 1, 1),
        lambda: best_of_k([1, 0], [math.nan, 1.0], 1),
    ],
)
def test_what_cannot_be_estimated_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        bad()  # type: ignore[operator]


def test_distinct_n_by_hand() -> None:
    texts = ["a b a b", "a b c"]
    assert distinct_n(texts, 1) == 3 / 7
    assert distinct_n(texts, 2) == 3 / 5  # ab ba ab, ab bc
    assert distinct_n(texts, 5) == 0
    assert distinct(["a b c d e"]) == 1.0
    assert words("共有12个 apples") == ["共", "有", "12", "个", "apples"]


@given(st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=2, max_size=6))
def test_embedding_diversity_is_the_mean_over_pairs(rows: list[list[int]]) -> None:
    vectors = np.array(rows, dtype=float)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / size) if size else 0.0

    pairs = [cosine(a, b) for a, b in combinations(vectors, 2)]
    assert embedding_diversity(vectors) == pytest.approx(1 - np.mean(pairs))
    assert embedding_diversity(vectors[:1]) == 0


def test_answer_entropy() -> None:
    assert answer_entropy(["4", "4"]) == 0 and answer_entropy([]) == 0
    assert answer_entropy(["4", None, "4", None]) == pytest.approx(math.log(2))
    assert answer_entropy(range(5)) == pytest.approx(math.log(5))
