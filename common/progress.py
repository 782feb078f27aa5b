"""Progress with the time left: a bar on a terminal, elsewhere a line a shard. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

    from common.stages import Progress


def progress(stream: TextIO | None = None) -> Progress:
    """The kind of progress that suits ``stream`` (stderr by default)."""
    stream = stream or sys.stderr
    return Bars(stream) if stream.isatty() else Lines(stream)


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""


class Lines:
    """A line for the first shard, the last, and those between that come a second or more apart.

    The time left assumes that the rest goes as fast as what was seen, which after a resume is not
    all that is done.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._first: dict[str, tuple[float, int]] = {}
        self._last: dict[str, float] = {}

    def __call__(self, done: int, total: int, what: str) -> None:
        now = self._clock()
        begun, before = self._first.setdefault(what, (now, done))
        if what in self._last and done < total and now - self._last[what] < 1:
            return
        self._last[what] = now
        text = f"{what}: {done}/{total}"
        if now > begun:
            text += f", {duration(now - begun)}"
        if before < done < total:
            text += f", about {duration((now - begun) / (done - before) * (total - done))} left"
        print(text, file=self._stream, flush=True)
        if done >= total:  # the same name may come again in the next round
            del self._first[what], self._last[what]


class Bars:
    """rich's bars, one for each thing under way; they vanish when all are done."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, done: int, total: int, what: str) -> None:
        if what not in self._tasks:
            self._bars.start()
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)
        if done >= total:
            self._bars.remove_task(self._tasks.pop(what))
            self._bars.console.print(f"{what}: {done}/{total}", highlight=False)
        if not self._tasks:
            self._bars.stop()

    def close(self) -> None:
        """Give the terminal back; called when the command ends, however it ends."""
        self._bars.stop()


def duration(seconds: float) -> str:
    """``7 s``, ``3 min 20 s``, ``2 h 5 min``: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
