"""Greedy selection against exhaustive search, and each measure against its definition."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.diversity import (
    EMBEDDED,
    SCALE,
    SUBMODULAR,
    Measure,
    bound,
    chain,
    greedy,
    ngrams,
    objective,
)
from common.errors import UserError
from common.monitors.exploration import distinct_n, embedding_diversity

WORDS = ["we", "add", "3", "+", "4", "=", "7", "so", "6", "*", "2", "12"]


def group(seed: int, count: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(count)]
    vectors = rng.normal(size=(count, 3))
    vectors[rng.random(count) < 0.3] = vectors[0]  # equal ones too
    return texts, vectors


def value(measure: Measure, texts: list[str], vectors: np.ndarray, chosen: list[int]) -> float:
    made = objective(measure, texts, vectors)
    for item in chosen:
        made.add(item)
    return made.value


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(get_args(Measure)), st.integers(0, 10**6), st.integers(3, 9), st.integers(2, 4)
)
def test_greedy_keeps_its_bound(measure: Measure, seed: int, count: int, k: int) -> None:
    texts, vectors = group(seed, count)
    k = min(k, count)
    best = max(
        value(measure, texts, vectors, list(chosen))
        for chosen in itertools.combinations(range(count), k)
    )
    for first in range(count):
        made = objective(measure, texts, vectors)
        chosen = greedy(made, k, first)
        assert chosen[0] == first and len(set(chosen)) == k
        assert made.value == pytest.approx(value(measure, texts, vectors, chosen))
        assert made.value >= bound(measure, k) * best - 1e-9
        assert made.value <= best + 1e-9


def test_bounds_are_the_known_ones() -> None:
    assert bound("distinct-n", 2) == 0.5 and bound("embedding", 2) == 0.25
    assert bound("facility", 1000) == pytest.approx(1 - 1 / math.e, abs=1e-3)
    assert bound("embedding", 4000) == pytest.approx((1 - math.exp(-2)) / 2, abs=1e-3)
    # A first item in the middle of two opposite ones is as bad as it gets.
    line = np.array([[0.0, 1.0], [1.0, 1e-9], [-1.0, 1e-9]])
    made = objective("embedding", ["a", "b", "c"], line)
    greedy(made, 2, 0)
    assert made.value == pytest.approx(1.0, abs=1e-6)  # half of the best, by the unit circle


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(get_args(Measure)), st.integers(0, 10**6))
def test_gains_are_differences_and_fall_where_submodular(measure: Measure, seed: int) -> None:
    texts, vectors = group(seed, 7)
    small, large = [0, 1], [0, 1, 2, 3]
    gains = {}
    for name, chosen in (("small", small), ("large", large)):
        made = objective(measure, texts, vectors)
        for item in chosen:
            made.add(item)
        gains[name] = made.gains()
        if measure != "embedding":  # of which the mean is the value, and sums are the gains
            for item in (4, 5, 6):
                more = value(measure, texts, vectors, [*chosen, item])
                assert gains[name][item] == pytest.approx(more - made.value, abs=1e-9)
    if measure in SUBMODULAR:
        assert (gains["large"][4:] <= gains["small"][4:] + 1e-9).all()
        assert (gains["small"] >= -1e-9).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_measures_by_their_definitions(seed: int) -> None:
    texts, vectors = group(seed, 6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    some = [0, 2, 5]
    mean = embedding_diversity(vectors[some])
    assert value("embedding", texts, vectors, some) == pytest.approx(mean, abs=1e-9)
    near = (1 + unit @ unit[some].T) / 2
    expected = np.maximum(near, 0).max(1).mean()
    assert value("facility", texts, vectors, some) == pytest.approx(expected)
    kernel = np.eye(3) + SCALE * unit[some] @ unit[some].T
    assert value("determinant", texts, vectors, some) == pytest.approx(
        np.linalg.slogdet(kernel)[1], abs=1e-6
    )
    chains = {chain(texts[i]) for i in some}
    assert value("chains", texts, vectors, some) == len(chains)
    has, weights = ngrams(texts)
    assert weights.sum() == pytest.approx(1.0)
    assert value("distinct-n", texts, vectors, list(range(6))) == pytest.approx(1.0)
    singles = round(distinct_n(texts, 1) * sum(len(t.split()) for t in texts))
    assert (weights == weights[0]).sum() >= singles and has.shape == (6, len(weights))


def test_chains_of_equations() -> None:
    assert chain("48/2 = <<48/2=24>>24 and 24+24=<<24+24=48>>48") == ("48/2=24", "24+24=48")
    assert chain("He has 3 x 4 = 12, then 12 + 1,000 = 1012 apples.") == ("3*4=12", "12+1000=1012")
    assert chain("(2 + 3) * 4 = 20") == ("(2+3)*4=20",)
    assert chain("The answer is 7. x = 5") == ()


def test_odd_groups() -> None:
    blank = objective("distinct-n", ["", ""])
    assert greedy(blank, 2, 1) == [1, 0] and blank.value == 0
    assert greedy(objective("chains", ["same"]), 5, 0) == [0]
    with pytest.raises(UserError, match="needs a vector"):
        objective("facility", ["a"])
    with pytest.raises(UserError, match="no measure"):
        objective("novelty", ["a"])  # type: ignore[arg-type]
    assert set(get_args(Measure)) >= EMBEDDED
