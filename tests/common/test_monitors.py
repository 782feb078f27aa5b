"""Monitors on rounds as a loop leaves them."""

from __future__ import annotations

from typing import Any

import pytest

from common.monitors import CollapseMonitor, DriftMonitor
from common.records import Metric, Round


def turn(index: int, wer: float, *, kept: bool = True, length: float = 10.0, **learn: Any) -> Round:
    metrics = (
        Metric(name="wer", value=0.01, se=0.0, n=9, split="test", better="lower"),
        Metric(name="wer", value=wer, se=0.02, n=60, better="lower"),
        Metric(name="length", value=length, se=1.0, n=60),
    )
    return Round(index=index, kept=kept, state="s", metrics=metrics, notes={"learn": learn})


HISTORY = [turn(0, 0.20), turn(1, 0.15), turn(2, 0.40, kept=False)]


def test_collapse_is_named_with_its_figures() -> None:
    told = CollapseMonitor().check(
        HISTORY, turn(3, 0.19, reward_accuracy_early=0.998, reward_margin=3.0)
    )
    assert told is not None
    for part in ("preference collapse", "round 3", "0.998", "3.00", "0.150", "0.190", "n 60"):
        assert part in told


@pytest.mark.parametrize(
    ("wer", "learn"),
    [
        (0.14, {"reward_accuracy_early": 1.0}),  # it got better
        (0.15, {"reward_accuracy_early": 1.0}),  # it stayed
        (0.19, {"reward_accuracy_early": 0.8, "reward_accuracy": 1.0}),  # learnt, not at once
        (0.19, {}),  # no preferences
    ],
)
def test_no_collapse(wer: float, learn: dict[str, Any]) -> None:
    assert CollapseMonitor().check(HISTORY, turn(3, wer, **learn)) is None


def test_collapse_edges() -> None:
    late = turn(3, 0.19, reward_accuracy=1.0)
    assert CollapseMonitor().check(HISTORY, late) is not None
    assert CollapseMonitor(standard_errors=3).check(HISTORY, late) is None
    assert CollapseMonitor(metric="mos").check(HISTORY, late) is None
    assert CollapseMonitor().check([], late) is None
    up = [Metric(name="acc", value=v, se=0.0, n=5) for v in (0.5, 0.3)]
    before, after = (Round(index=i, kept=True, state="", metrics=(m,),
                           notes={"learn": {"reward_accuracy": 1.0}})
                     for i, m in enumerate(up))  # fmt: skip
    assert CollapseMonitor(metric="acc").check([before], after) is not None


def test_drift() -> None:
    monitor = DriftMonitor(metric="length", at_most=0.25)
    assert monitor.check(HISTORY, turn(3, 0.1, length=12.4)) is None
    assert monitor.check(HISTORY, turn(3, 0.1, length=8.1)) is None
    assert "1.30 times" in (monitor.check(HISTORY, turn(3, 0.1, length=13.0)) or "")
    assert "length drift" in (monitor.check(HISTORY, turn(3, 0.1, length=7.0)) or "")
    assert monitor.check([], turn(0, 0.1)) is None
