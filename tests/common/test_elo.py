"""Ratings against closed forms and a known tournament; the weights against a biased judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.elo import Battle, Weights, battle_matrix, position_bias, position_weights, ratings


def tournament(true: np.ndarray, rounds: int, bias: float, seed: int = 0) -> list[Battle]:
    """Every ordered pair ``rounds`` times; the judge adds ``bias`` nats to what it reads first."""
    rng = np.random.default_rng(seed)
    made = []
    for first in range(len(true)):
        for second in range(len(true)):
            if first != second:
                p = 1 / (1 + math.exp(-(true[first] + bias - true[second])))
                wins = rng.random(rounds) < p
                made += [Battle(first, second, "first" if w else "second") for w in wins]
    return made


def test_two_players_have_the_closed_form() -> None:
    found = ratings(np.array([[0.0, 30.0], [10.0, 0.0]]), prior=1e-9)
    assert found[0] - found[1] == pytest.approx(math.log(3), abs=1e-6)


def test_a_known_tournament() -> None:
    true = np.array([-1.5, -0.5, 0.0, 0.7, 1.3])
    found = ratings(battle_matrix(5, tournament(true, 2000, bias=0.0)))
    assert found == pytest.approx(true - true.mean(), abs=0.1)


def test_weights_take_out_the_position_bias() -> None:
    """Who is mostly shown first gains from a biased judge, unless its wins are weighed."""
    true = np.zeros(2)
    rng = np.random.default_rng(1)
    battles = [b for b in tournament(true, 3000, bias=1.0) if b.first == 0 or rng.random() < 0.2]
    assert position_bias(battles) == pytest.approx(2 / (1 + math.exp(-1)) - 1, abs=0.05)
    even = ratings(battle_matrix(2, battles, Weights(0.5, 0.5)))
    weighed = ratings(battle_matrix(2, battles))
    assert even[0] - even[1] > 0.4
    assert abs(weighed[0] - weighed[1]) < 0.25 * (even[0] - even[1])
    weights = position_weights(battles)
    first = sum(b.winner == "first" for b in battles)
    assert weights.first * first == pytest.approx(weights.second * (len(battles) - first))


matrices = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)
)


@settings(max_examples=80, deadline=None)
@given(matrices)
def test_the_likelihood_is_stationary_and_ties_change_nothing(rows: list[list[int]]) -> None:
    wins = np.array(rows, dtype=float)
    np.fill_diagonal(wins, 0)
    found = ratings(wins, prior=0.1)
    assert np.isfinite(found).all() and found.mean() == pytest.approx(0, abs=1e-9)
    p = 1 / (1 + np.exp(-(found[:, None] - found[None, :])))
    gradient = (wins * (1 - p)).sum(1) - (wins * (1 - p)).sum(0) - 0.1 * found
    assert np.abs(gradient).max() < 1e-6
    assert ratings(wins.T, prior=0.1) == pytest.approx(-found, abs=1e-6)
    assert ratings(wins + wins.T, prior=0.1) == pytest.approx(0 * found, abs=1e-6)


def test_the_undefeated_and_mistakes() -> None:
    found = ratings(battle_matrix(3, [Battle(0, 1, "first"), Battle(1, 0, "second")]))
    assert np.isfinite(found).all() and found[0] > found[2] > found[1]
    assert position_weights([]) == (0.5, 0.5) and position_bias([]) == 0
    tie = battle_matrix(2, [Battle(0, 1, "tie")])
    assert tie[0, 1] == tie[1, 0] == 0.25
    with pytest.raises(ValueError, match="square"):
        ratings(np.zeros((2, 3)))
