"""The simulation of many workers, where it can be worked out by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "studies/scaling.py"
_spec = importlib.util.spec_from_file_location("scaling_study", FILE)
assert _spec is not None and _spec.loader is not None
scaling = importlib.util.module_from_spec(_spec)
sys.modules["scaling_study"] = scaling
_spec.loader.exec_module(scaling)
simulate: Callable[..., Any] = scaling.simulate


@pytest.mark.parametrize(
    ("shards", "workers", "driver", "seconds"),
    [
        (10, 1, 0.0, 20.0),
        (10, 4, 0.0, 6.0),  # three shards for the busiest
        (10, 50, 0.0, 2.0),
        (100, 100, 0.5, 52.0),  # all finish at once; one after the other is committed
        (1, 8, 0.5, 2.5),
        (10, 1, 0.5, 20.5),  # commits go on beside the work, but for the last
    ],
)
def test_equal_shards(shards: int, workers: int, driver: float, seconds: float) -> None:
    made = simulate([2.0] * shards, workers, driver)
    assert made.seconds == pytest.approx(seconds)
    assert made.busy == pytest.approx(2.0 * shards / workers / seconds)


def test_workers_that_wait_for_the_driver_begin_when_it_has_handed_out() -> None:
    """Shards shorter than a commit: the driver is never idle after the first."""
    assert simulate([0.1] * 50, 1, 1.0).seconds == pytest.approx(0.1 + 50 * 1.0, abs=0.3)
    assert simulate([0.1] * 50, 20, 1.0).seconds == pytest.approx(0.1 + 50 * 1.0)


@given(
    st.lists(st.floats(0.1, 5.0), min_size=1, max_size=40),
    st.integers(1, 12),
    st.floats(0.0, 1.0),
)
def test_no_spread_beats_its_bounds(durations: list[float], workers: int, driver: float) -> None:
    made = simulate(durations, workers, driver)
    assert made.seconds >= max(sum(durations) / workers, len(durations) * driver) - 1e-9
    assert made.seconds <= sum(durations) + len(durations) * driver + 1e-9
    assert 0 < made.busy <= 1 + 1e-9


def test_the_table_says_that_it_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = tmp_path / "shards.json"
    file.write_text(json.dumps({"shard_seconds": [4.0], "driver_seconds": [0.04]}))
    monkeypatch.setattr(sys, "argv", ["scaling.py", str(file), "--pool", "1000", "--learn", "40"])
    scaling.main()
    said = capsys.readouterr().out
    assert said.startswith("SIMULATED") and "about 100 workers" in said
    assert "| 1 | 4000 | 1.0 | 1.00 | 0.01 |" in said
