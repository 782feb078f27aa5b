from __future__ import annotations

import os
import signal
import time

import pytest

from common.executor import Executor, WorkerDiedError


def square(x: int) -> int:
    time.sleep(0.002 * (x % 3))  # so that they end out of order
    return x * x


def pid(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def fail(x: int) -> int:
    if x == 3:
        raise LookupError(f"no {x}")
    return x


def die(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_in_process() -> None:
    seen: list[tuple[int, int, str]] = []
    with Executor() as executor:
        found = executor.map(square, range(5), lambda *now: seen.append(now), "squares")
        assert found == [x * x for x in range(5)]
        assert executor.map(square, []) == []
        assert set(executor.map(pid, range(2))) == {os.getpid()}
        with pytest.raises(LookupError, match="no 3"):
            executor.map(fail, range(5))
    assert seen == [(i, 5, "squares") for i in range(1, 6)]


def test_a_pool_keeps_order_reports_progress_and_survives_failure_and_death() -> None:
    seen: list[tuple[int, int, str]] = []
    with Executor(2) as executor:
        found = executor.map(square, range(20), lambda *now: seen.append(now), "squares")
        assert found == [x * x for x in range(20)]
        assert [done for done, _, _ in seen] == list(range(1, 21))
        assert os.getpid() not in executor.map(pid, range(4))
        with pytest.raises(LookupError, match="no 3"):
            executor.map(fail, range(5))
        with pytest.raises(WorkerDiedError, match="during render.*fewer workers"):
            executor.map(die, range(6), what="render")
        assert executor.map(square, [7]) == [49]


def test_negative_workers() -> None:
    with pytest.raises(ValueError):
        Executor(-1)
