"""Ratings from battles of two, by maximum likelihood, with the judge's position bias weighed out.

    B_mn = w1 [m shown first beat n] + w2 [m shown second beat n]
    ratings = argmax over e of  sum B_mn log sigmoid(e_m - e_n) - prior / 2 |e|^2

A judge that likes what it reads first lets the first win too often; a win there weighs
w1 = second / (first + second), one in the second place w2 = first / (first + second), first and
second being how many battles were won in each place (arXiv 2407.19594, section 2.2). Ratings are in
nats; times 400 / ln 10 they are on chess's scale.

The prior is small and no part of the paper. Without it whoever won every battle has an infinite
rating, and those that never met cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Winner = Literal["first", "second", "tie"]


class Battle(NamedTuple):
    """Numbers of the two players in the order in which they were shown, and who won."""

    first: int
    second: int
    winner: Winner


class Weights(NamedTuple):
    """What a win in each place counts; a half each where nobody won."""

    first: float
    second: float


def position_weights(battles: Sequence[Battle]) -> Weights:
    """The weights that make both places win equally often in sum."""
    first = sum(b.winner == "first" for b in battles)
    second = sum(b.winner == "second" for b in battles)
    if not first + second:
        return Weights(0.5, 0.5)
    return Weights(second / (first + second), first / (first + second))


def position_bias(battles: Sequence[Battle]) -> float:
    """How far the share of wins in the likelier place is above a half, times two: 0 to 1."""
    weights = position_weights(battles)
    return abs(weights.first - weights.second)


def battle_matrix(
    players: int, battles: Sequence[Battle], weights: Weights | None = None
) -> Floats:
    """B, (players, players): row beat column. A tie is half a win for each, in its place.

    ``weights`` are those of ``battles`` unless they are given, as of more battles than these.
    """
    weights = position_weights(battles) if weights is None else weights
    wins = np.zeros((players, players))
    for first, second, winner in battles:
        if winner != "second":
            wins[first, second] += weights.first * (0.5 if winner == "tie" else 1)
        if winner != "first":
            wins[second, first] += weights.second * (0.5 if winner == "tie" else 1)
    return wins


def ratings(wins: NDArray[Any], prior: float = 1e-3, steps: int = 100) -> Floats:
    """The ratings of most likelihood, (players,), by Newton's method; their mean is 0.

    Raises ``ValueError`` unless ``wins`` is square and not negative and ``prior`` is above 0.
    """
    won = np.asarray(wins, dtype=np.float64)
    if won.ndim != 2 or won.shape[0] != won.shape[1] or (won < 0).any() or prior <= 0:
        raise ValueError(
            "wins must be a square matrix without negative numbers, the prior positive"
        )
    met = won + won.T
    found = np.zeros(len(won))

    def likelihood(e: Floats) -> float:
        gap = e[:, None] - e[None, :]
        return float(-(won * np.logaddexp(0, -gap)).sum() - prior / 2 * (e**2).sum())

    for _ in range(steps):
        gap = found[:, None] - found[None, :]
        p = 1 / (1 + np.exp(-np.clip(gap, -500, 500)))
        gradient = (won * (1 - p)).sum(1) - (won * (1 - p)).sum(0) - prior * found
        curve = met * p * (1 - p)
        hessian = np.diag(curve.sum(1) + prior) - curve
        step = np.linalg.solve(hessian, gradient)
        size, now = 1.0, likelihood(found)
        while likelihood(found + size * step) < now and size > 1e-8:
            size /= 2
        found = found + size * step
        if np.abs(size * step).max(initial=0.0) < 1e-10:
            break
    return found - found.mean() if len(found) else found
