"""The gate and the paired interval, against scipy and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from common.gate import Gate, bootstrap_interval, paired_interval
from common.records import Metric

values = st.floats(-100, 100, allow_nan=False)
pairs = st.lists(st.tuples(values, values), min_size=2, max_size=30)


def items(numbers: list[float]) -> dict[str, float]:
    return {f"task-{i}": number for i, number in enumerate(numbers)}


def metric(numbers: list[float], name: str = "wer", better: str = "lower") -> Metric:
    mean = sum(numbers) / len(numbers)
    return Metric(name, mean, 0.0, len(numbers), better=better, items=items(numbers))  # type: ignore[arg-type]


def test_the_interval_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(0.3, 2, size=40)
    found = paired_interval(items(a.tolist()), items(b.tolist()), 0.9)
    wanted = stats.ttest_rel(b, a).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-12)
    assert found.se == pytest.approx(stats.sem(b - a), rel=1e-12)
    assert found.mean == pytest.approx((b - a).mean()) and found.n == 40


def test_the_interval_in_closed_form() -> None:
    # Differences 1, 2, 3: mean 2, sd 1; t(0.975, 2) = 4.302652729911275 (any table).
    found = paired_interval(items([0, 0, 0]), items([1, 2, 3]))
    half = 4.302652729911275 / math.sqrt(3)
    assert found == pytest.approx((2, 2 - half, 2 + half, 1 / math.sqrt(3), 3), rel=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    draws, hits = 2000, 0
    for _ in range(draws):
        found = paired_interval(items([0.0] * 10), items(rng.normal(0.5, 1, 10).tolist()), 0.9)
        hits += found.low <= 0.5 <= found.high
    assert abs(hits / draws - 0.9) < 4 * math.sqrt(0.9 * 0.1 / draws)


@given(pairs)
def test_the_interval_mirrors_when_sides_are_swapped(both: list[tuple[float, float]]) -> None:
    a, b = (items([pair[side] for pair in both]) for side in (0, 1))
    there, back = paired_interval(a, b), paired_interval(b, a)
    assert there.mean == -back.mean
    assert there.low == pytest.approx(-back.high) and there.se == back.se


def test_one_task_says_nothing_of_the_spread() -> None:
    found = paired_interval({"a": 1.0}, {"a": 2.0})
    assert found.mean == 1 and found.low == -math.inf and found.high == math.inf


def test_the_bootstrap_of_shares_is_binomial() -> None:
    # A resample of 0s and 1s has a binomial number of 1s: its quantiles are the interval's ends.
    zeros, gains = items([0.0] * 40), items([1.0] * 10 + [0.0] * 30)
    found = bootstrap_interval(zeros, gains, 0.9, resamples=100_000)
    exact = stats.binom(40, 0.25)
    assert (found.low * 40, found.high * 40) == (exact.ppf(0.05), exact.ppf(0.95))
    assert found.se == pytest.approx(exact.std() / 40, rel=0.02)
    assert found.mean == 0.25 and found.n == 40


def test_the_bootstrap_of_two_in_closed_form() -> None:
    # Resamples of differences 0 and 1 have the means 0, 1/2, 1/2, 1.
    for confidence, low, high in ((0.95, 0, 1), (0.4, 0.5, 0.5)):
        found = bootstrap_interval(items([0, 0]), items([0, 1]), confidence)
        assert (found.low, found.high) == (low, high)


def test_the_bootstrap_is_students_when_tasks_are_many_and_normal() -> None:
    rng = np.random.default_rng(2)
    a, b = items(rng.normal(size=400).tolist()), items(rng.normal(0.3, 2, size=400).tolist())
    student, found = paired_interval(a, b), bootstrap_interval(a, b, seed=5)
    assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=0.02)
    assert found == bootstrap_interval(a, b, seed=5) != bootstrap_interval(a, b, seed=6)


def test_the_bootstrap_at_its_edges() -> None:
    same = bootstrap_interval(items([1, 2, 3]), items([2, 3, 4]))
    assert (same.low, same.mean, same.high, same.se) == (1, 1, 1, 0)
    assert bootstrap_interval({"a": 1.0}, {"a": 2.0}).high == math.inf
    with pytest.raises(ValueError):
        bootstrap_interval({"a": 1.0}, {"b": 1.0})


@pytest.mark.parametrize(
    ("a", "b"), [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 1.0}, {"a": math.nan})]
)
def test_what_cannot_be_paired_is_refused(a: dict[str, float], b: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        paired_interval(a, b)


@given(pairs, st.sampled_from([0.5, 0.8, 0.95]), st.sampled_from(["higher", "lower"]))
def test_a_gate_never_keeps_both_ways(
    both: list[tuple[float, float]], confidence: float, better: str
) -> None:
    old, new = (metric([pair[side] for pair in both], better=better) for side in (0, 1))
    gate = Gate("wer", confidence=confidence)
    assert not (gate.decide([old], [new]).keep and gate.decide([new], [old]).keep)
    assert not gate.decide([old], [old]).keep


@given(pairs, st.sampled_from([0.6, 0.9, 0.95]))
def test_confidence_is_scipys_one_sided_test(
    both: list[tuple[float, float]], confidence: float
) -> None:
    a, b = ([pair[side] for pair in both] for side in (0, 1))
    gains = np.subtract(b, a)
    if gains.std() < 1e-6:
        return
    p = stats.ttest_1samp(gains, 0, alternative="greater").pvalue
    if abs(p - (1 - confidence)) < 1e-9:
        return
    kept = Gate("f1", confidence).decide([metric(a, "f1", "higher")], [metric(b, "f1", "higher")])
    assert kept.keep == (p < 1 - confidence)


def test_direction_and_threshold() -> None:
    worse, better = metric([0.5, 0.6, 0.9]), metric([0.4, 0.5, 0.9])
    decision = Gate("wer").decide([worse], [better])
    assert decision.keep and decision.gain is not None
    assert decision.gain.mean == pytest.approx(0.2 / 3)
    assert "0.6667 -> 0.6" in decision.reason
    assert not Gate("wer").decide([better], [worse]).keep
    assert not Gate("wer", min_gain=0.07).decide([worse], [better]).keep
    assert Gate("wer", min_gain=0.06).decide([worse], [better]).keep


def test_guards_allow_one_standard_error() -> None:
    old, new = metric([0.5, 0.6]), metric([0.4, 0.5])
    before = metric([3.0, 3.0, 3.0, 3.0], "dnsmos", "higher")
    noisy = metric([2.0, 3.9, 2.2, 3.7], "dnsmos", "higher")  # mean fall 0.05, se 0.50
    steady = metric([2.9, 2.8, 2.9, 2.8], "dnsmos", "higher")  # mean fall 0.15, se 0.03
    gate = Gate("wer", guards=["dnsmos"])
    assert gate.decide([old, before], [new, noisy]).keep
    decision = gate.decide([old, before], [new, steady])
    assert not decision.keep and "dnsmos worse than at the start by 0.15" in decision.reason


def test_guards_are_held_to_the_start_of_the_run() -> None:
    """A lucky round does not bar the next one, and small losses do not add up."""
    gate, items = Gate("wer", guards=("dnsmos",)), 0.1 * np.arange(20)

    def after(wer: float, shift: float, seed: int = 0) -> list[Metric]:
        noise = 0.3 * np.random.default_rng(seed).normal(size=20) if seed else 0.0
        values = items + shift + noise - np.mean(noise)
        return [metric([wer] * 20), metric([*values], "dnsmos", "higher")]

    start, lucky, usual = after(0.5, 0.0), after(0.4, 0.2, 1), after(0.3, 0.01, 2)
    assert gate.decide(start, lucky, start).keep
    assert not gate.decide(lucky, usual).keep
    assert gate.decide(lucky, usual, start).keep
    slightly, again = after(0.4, -0.04, 3), after(0.3, -0.09, 3)
    assert gate.decide(start, slightly, start).keep
    decision = gate.decide(slightly, again, start)
    assert not decision.keep and "dnsmos worse than at the start by 0.09" in decision.reason


def test_values_that_are_not_finite_send_the_round_back() -> None:
    decision = Gate("wer").decide([metric([1.0, 1.0])], [metric([0.0, math.nan])])
    assert not decision.keep and "not finite" in decision.reason


def test_mistakes_of_configuration() -> None:
    with pytest.raises(ValueError, match="what is measured is: wer"):
        Gate("cer").decide([metric([1.0])], [metric([1.0])])
    with pytest.raises(ValueError, match="no items"):
        Gate("wer").decide([Metric("wer", 1, 0, 3)], [metric([1.0])])
    with pytest.raises(ValueError, match="no direction"):
        Gate("wer").decide([replace(metric([1.0]), better="neither")], [metric([1.0])])
    with pytest.raises(ValueError, match="confidence"):
        Gate("wer", confidence=95)
