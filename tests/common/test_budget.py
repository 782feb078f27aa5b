"""What runs spend in tokens, and runs that end when it is spent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from common.budget import Budget, spent
from common.learners.data import tokens_seen
from common.records import Round
from tests.common import toy


def turn(index: int, sampled: int, trained: float) -> Round:
    notes = {"pool": {"sampled_tokens": sampled}, "learn": {"tokens": trained}}
    return Round(index, True, "s", notes=notes if index else {})


def test_a_budget_ends_a_run_before_it_is_passed() -> None:
    history = [turn(0, 0, 0), turn(1, 100, 50.0), turn(2, 100, 80.0)]
    assert spent(history) == (200, 130) and spent(history).total == 330
    assert not Budget(510)(history) and Budget(509)(history)  # the last round took 180
    more = Round(3, True, "s", notes={"learn": {"tokens": 5, "sampled_tokens": 7}})
    assert spent([more]) == (7, 5)


def test_a_run_ends_when_it_is_told_to_and_stays_ended(tmp_path: Path) -> None:
    budget = Budget(2 * 64 * 6)  # a round samples 64 candidates of 6 tokens
    result = toy.run(tmp_path, rounds=5, until=budget)
    assert [r.index for r in result.rounds] == [0, 1, 2] and result.test.keys() == {
        "starter",
        "final",
    }
    assert spent(result.rounds).total <= budget.tokens
    again = toy.run(tmp_path, rounds=5, until=budget)
    assert again.rounds == result.rounds and again.test == result.test
    first = toy.run(tmp_path, "first", rounds=5, until=Budget(1))
    assert [r.index for r in first.rounds] == [0, 1]  # the first round is always run


@dataclass(frozen=True)
class Passes:
    epochs: float = 2.0
    steps: int | None = None
    batch_size: int = 4
    grad_accum: int = 3


def test_tokens_that_training_takes() -> None:
    assert tokens_seen([3, 5], Passes()) == 16
    assert tokens_seen([3, 5], Passes(steps=10)) == pytest.approx(4 * 10 * 12)
