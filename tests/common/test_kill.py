"""Kill a real run at 25 moments, resume it, and compare it with one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.common import toy

KILLS = 25


class Server:
    """``toy.serve`` in a process of its own."""

    def __init__(self) -> None:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.common.toy"],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.ask: IO[str] = self.process.stdin
        self.answers: IO[str] = self.process.stdout

    def start(self, home: Path, pause: float = 0.0) -> int:
        self.ask.write(f"{home} toy {pause}\n")
        pid, number = self.answers.readline().split()
        assert pid == "pid"
        return int(number)

    def end(self, pid: int, after: int | None = None, delay: float = 0.0) -> tuple[int, int]:
        """Units that the run began to commit, and its exit code.

        It is killed ``delay`` seconds after it began to commit its unit number ``after``.
        """
        units = 0
        while True:
            if units == after:
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
                after = None
            word, *rest = self.answers.readline().split()
            if word == "end":
                return units, int(rest[0])
            units += 1


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.ask.close()
    made.process.wait(10)
    made.answers.close()


def test_a_run_killed_at_any_moment_ends_as_if_undisturbed(tmp_path: Path, server: Server) -> None:
    paces = []
    for home in (tmp_path / "calm", tmp_path / "calm-2", tmp_path / "calm-3"):
        pid = server.start(home)
        began = time.monotonic()
        units, code = server.end(pid)
        paces.append((time.monotonic() - began) / units)
        assert code == 0
    pace = min(paces)  # of one run that something held up, signals would come after the end
    calm = toy.everything(tmp_path / "calm")
    assert {r["kept"] for r in calm["0"]} == {True, False}, "the toy should exercise roll-back"
    rng = random.Random(20)
    killed = 0
    for number in range(KILLS):
        home = tmp_path / f"killed-{number}"
        # Spread over the run, and within a unit over commit, artifacts and the next one's work.
        after, delay = number * units // KILLS, rng.random() * 1.5 * pace
        seen, code = server.end(server.start(home), after, delay)
        killed += code == -signal.SIGKILL
        assert seen < units or number == KILLS - 1
        assert server.end(server.start(home))[1] == 0
        assert toy.everything(home) == calm, f"killed {delay} s after unit {after}"
    assert killed >= KILLS - 1  # the last may have reached its end before the signal did


def test_a_run_killed_again_and_again_ends_as_if_undisturbed(
    tmp_path: Path, server: Server
) -> None:
    assert server.end(server.start(tmp_path / "calm"))[1] == 0
    rng = random.Random(21)
    for _ in range(60):
        code = server.end(server.start(tmp_path / "killed"), rng.randrange(6, 24), 0.0)[1]
        if code == 0:
            break
    assert code == 0
    assert toy.everything(tmp_path / "killed") == toy.everything(tmp_path / "calm")


def test_two_runs_at_once_on_one_store(tmp_path: Path) -> None:
    one, two = Server(), Server()
    try:
        one.ask.write(f"{tmp_path / 'both'} a 0.005\n")
        two.ask.write(f"{tmp_path / 'both'} b 0.005\n")
        for server in (one, two):
            assert server.answers.readline().startswith("pid")
        assert one.end(0)[1] == two.end(0)[1] == 0
    finally:
        for server in (one, two):
            server.ask.close()
            server.process.wait(10)
            server.answers.close()
    toy.run(tmp_path / "alone", "a", rounds=2)
    alone = toy.everything(tmp_path / "alone", "a")
    assert toy.everything(tmp_path / "both", "a") == alone
    assert toy.everything(tmp_path / "both", "b") == alone


def test_a_run_under_way_is_refused_and_a_dead_one_taken_over(
    tmp_path: Path, server: Server
) -> None:
    from common.errors import UserError
    from common.store import Store

    pid = server.start(tmp_path, 0.05)
    while server.answers.readline().split()[0] != "unit":
        pass
    time.sleep(0.2)
    store = Store(tmp_path)
    assert store.run("toy").status == "running"
    with pytest.raises(UserError, match=f"process {pid}"):
        toy.run(tmp_path, rounds=2)
    server.end(pid, after=0)
    assert store.run("toy").status == "interrupted"
    toy.run(tmp_path, rounds=2)
    assert store.run("toy").status == "done"
    store.close()
