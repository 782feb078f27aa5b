"""The generation-verification gap by hand, and for verifiers of known accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.monitors.gap import above, every, gap, tilted, top_share


def test_by_hand() -> None:
    worth = [[1, 0, 0, 1], [0, 0], [1, 1]]
    found = gap(worth, [[1, 0, 0, 0], [0, 0], [0.2, 0.4]])
    assert found.generator == pytest.approx((0.5 + 0 + 1) / 3)
    assert found.absolute.value == pytest.approx(0.5 / 3) and found.absolute.n == 3
    assert found.relative.value == pytest.approx(1 / 3)  # the first prompt gains all it could
    assert found.filtered == pytest.approx(found.generator + 0.5 / 3)
    assert found.kept == pytest.approx((0.25 + 0 + 0.75) / 3) and found.empty == 1
    assert found.absolute.se == pytest.approx(np.std([0.5, 0, 0], ddof=1) / math.sqrt(3))
    assert math.isinf(gap([[1, 0]], [[1, 1]]).absolute.se)


ONE = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6)


@given(st.lists(ONE, min_size=1, max_size=5))
def test_an_oracle_gains_all_and_a_blind_verifier_nothing(worth: list[list[float]]) -> None:
    oracle = gap(worth, above(0.5, worth))
    room = [1.0 if 0 < np.mean(w) < 1 else 0.0 for w in worth]
    assert oracle.relative.value == pytest.approx(np.mean(room))
    blind = gap(worth, [np.ones(len(w)) for w in worth])
    assert blind.absolute.value == pytest.approx(0) and blind.kept == 1
    wrong = gap(worth, above(0.5, [1 - np.array(w) for w in worth]))
    assert wrong.absolute.value <= 0


def test_a_verifier_of_known_accuracy() -> None:
    """With accuracy a on samples that are right with p, an accepted one is right with
    a p / (a p + (1 - a)(1 - p)), which many samples approach."""
    rng, p, a = np.random.default_rng(1), 0.3, 0.8
    worth = rng.random((200, 400)) < p
    accepted = np.where(rng.random(worth.shape) < a, worth, ~worth)
    found = gap(list(worth), list(accepted.astype(float)))
    expected = a * p / (a * p + (1 - a) * (1 - p))
    assert abs(found.filtered - expected) < 4 * found.absolute.se + 0.005


def test_filters() -> None:
    utilities = [[0.1, 0.9, 0.9, 0.3], [2.0]]
    assert [w.tolist() for w in above(0.3, utilities)] == [[0, 1, 1, 1], [1]]
    assert [w.tolist() for w in top_share(0.25, utilities)] == [[0, 1, 1, 0], [1]]
    [first, _] = tilted(0.5, utilities)
    assert first[0] == pytest.approx(math.exp(-0.8 / 0.5)) and first[1] == 1
    both = every(above(0.3, utilities), top_share(0.25, utilities))
    assert [w.tolist() for w in both] == [[0, 1, 1, 0], [1]]
    for bad in (lambda: top_share(0, utilities), lambda: tilted(0, utilities)):
        with pytest.raises(ValueError):
            bad()


def test_an_ensemble_of_independent_verifiers_is_better_than_each() -> None:
    rng = np.random.default_rng(2)
    worth = rng.random((300, 50)) < 0.3

    def verdicts() -> list[np.ndarray]:
        return above(0.5, list(np.where(rng.random(worth.shape) < 0.75, worth, ~worth)))

    one, other = verdicts(), verdicts()
    alone = [gap(list(worth), w).filtered for w in (one, other)]
    assert gap(list(worth), every(one, other)).filtered > max(alone) + 0.05


@pytest.mark.parametrize(
    ("worth", "weights"),
    [([], []), ([[]], [[]]), ([[1.0]], [[1.0, 0.0]]), ([[2.0]], [[1.0]]), ([[1.0]], [[-1.0]]),
     ([[1.0]], [[math.inf]])],
)  # fmt: skip
def test_what_has_no_gap_is_refused(worth: list[list[float]], weights: list[list[float]]) -> None:
    with pytest.raises(ValueError):
        gap(worth, weights)
