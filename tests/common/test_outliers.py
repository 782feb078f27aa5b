"""The forest against the library's and against a plain one, and what must not change a score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from common.outliers import depth, outliers, scores


def cloud(seed: int, count: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def test_agrees_with_the_library() -> None:
    """With enough trees both are close to the mean over all trees."""
    points = cloud(0, 60)
    points[7] += 4
    [mine] = scores([points], [1], trees=3000)
    library = -IsolationForest(n_estimators=3000, random_state=0).fit(points).score_samples(points)
    assert np.abs(mine - library).max() < 0.02
    assert mine.argmax() == library.argmax() == 7


def test_agrees_with_the_library_on_samples_of_a_large_group() -> None:
    points = cloud(1, 700)
    [mine] = scores([points], [1], trees=600)
    library = -IsolationForest(n_estimators=600, random_state=0).fit(points).score_samples(points)
    assert np.corrcoef(mine, library)[0, 1] > 0.98
    assert abs(mine.mean() - library.mean()) < 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.randoms())
def test_order_and_company_change_nothing(seed: int, count: int, rng) -> None:
    points, others = cloud(seed, count), [cloud(seed + 1, 9), cloud(seed + 2, 1)]
    [alone] = scores([points], [seed])
    order = list(range(count))
    rng.shuffle(order)
    among = scores([others[0], points[order], others[1]], [3, seed, 4])[1]
    assert np.array_equal(among, alone[order])
    assert ((alone > 0) & (alone < 1)).all()
    [marked] = outliers([points], [seed], share=0.2)
    [again] = outliers([points[order]], [seed], share=0.2)
    assert np.array_equal(again, marked[order])
    assert marked.sum() <= int(0.2 * count) and (alone[marked] > 0.5).all()


def test_mean_depth() -> None:
    assert depth(np.array([0, 1, 2, 3])) == pytest.approx([0, 0, 1, 5 / 3])


def test_finds_what_lies_apart_and_leaves_equals_alone() -> None:
    points = cloud(3, 50, 16) * 0.1
    points[[4, 30]] += 1.0
    [marked] = outliers([points], [0], share=0.1)
    assert marked[[4, 30]].all() and marked.sum() <= 5
    same = np.ones((12, 16))
    few = outliers([same, points[:5], points[:1], points[:0]], [0, 1, 2, 3], share=0.1)
    assert [int(m.sum()) for m in few] == [0, 0, 0, 0]
