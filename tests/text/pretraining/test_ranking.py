"""Measures of a ranking against worked examples, and ties against all their orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.pretraining.ranking import MEASURES, evaluate, measures


def test_a_worked_example() -> None:
    found = measures([5, 4, 3, 2, 1], [False, True, False, True, False])
    assert found["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found["mrr"] == pytest.approx(1 / 2)
    assert found["p@1"] == 0 and found["hr@5"] == 1
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


def plain(right: list[bool]) -> dict[str, float]:
    """The measures of an order without ties, by their definitions."""
    places = [i for i, r in enumerate(right, 1) if r]
    gains = sum(1 / math.log2(1 + i) for i in places)
    ideal = sum(1 / math.log2(1 + i) for i in range(1, len(places) + 1))
    return {
        "map": sum((n + 1) / i for n, i in enumerate(places)) / len(places),
        "mrr": 1 / places[0],
        "p@1": float(right[0]),
        "hr@5": float(any(right[:5])),
        "ndcg": gains / ideal,
    }


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=6))
def test_equals_are_ordered_by_chance(pairs: list[tuple[int, bool]]) -> None:
    right = [r for _, r in pairs]
    if all(right) or not any(right):
        with pytest.raises(ValueError, match="one that is right"):
            measures([s for s, _ in pairs], right)
        return
    found = measures([s for s, _ in pairs], right)
    orders = [plain([r for _, r in order]) for order in itertools.permutations(pairs)
              if all(a[0] >= b[0] for a, b in itertools.pairwise(order))]  # fmt: skip
    for name in MEASURES:
        assert found[name] == pytest.approx(np.mean([order[name] for order in orders]))


def test_groups_that_cannot_be_ranked_are_left_out() -> None:
    groups = {
        "a": ([0.2, 0.1], [True, False]),
        "b": ([0.2, 0.1], [False, True]),
        "c": ([0.2, 0.1], [True, True]),
        "d": ([0.2], [False]),
    }
    found = {m.name: m for m in evaluate(groups)}
    assert found["p@1"].value == 0.5 and found["p@1"].n == 2 and found["p@1"].se == 0.5
    assert found["map"].items == {"a": 1.0, "b": 0.5}
    with pytest.raises(ValueError, match="no group"):
        evaluate({"c": groups["c"]})
