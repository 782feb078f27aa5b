"""Progress without a terminal, durations, and where figures go."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from common.errors import UserError
from common.progress import Bars, Lines, duration, progress
from common.tracking import Accelerate, Nothing, tracker


def test_lines_say_what_is_left_from_what_was_seen() -> None:
    now = [100.0]
    stream = io.StringIO()
    show = Lines(stream, clock=lambda: now[0])
    show(4, 10, "propose")  # a resumed run: four were done before
    now[0] = 104.0
    show(6, 10, "propose")
    now[0] = 104.5
    show(7, 10, "propose")  # too soon for another line
    now[0] = 112.0
    show(10, 10, "propose")
    assert stream.getvalue().splitlines() == [
        "propose: 4/10",
        "propose: 6/10, 4 s, about 8 s left",
        "propose: 10/10, 12 s",
    ]
    show(1, 2, "propose")
    assert stream.getvalue().splitlines()[-1] == "propose: 1/2"


def test_without_a_terminal_there_are_lines_and_bars_close_twice() -> None:
    stream = io.StringIO()
    assert isinstance(progress(stream), Lines)
    bars = Bars(stream)
    bars(1, 2, "judge")
    bars(2, 2, "judge")
    bars.close()
    bars.close()
    assert "judge: 2/2" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tensorboard_holds_what_was_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track = tracker("tensorboard", "run-1", tmp_path)
    assert isinstance(track, Accelerate)
    assert not list(tmp_path.iterdir())  # nothing is opened before the first figure
    track.log({"loss": 0.5}, step=3)
    track.close()
    events = EventAccumulator(str(tmp_path / "run-1"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(3, 0.5)]


def test_no_tracker_and_one_that_is_not_installed(tmp_path: Path) -> None:
    assert isinstance(tracker("none", "run-1", tmp_path), Nothing)
    with pytest.raises(UserError, match="mlflow is not installed"):
        tracker("mlflow", "run-1", tmp_path).log({"loss": 1.0}, step=0)
