"""What the scripts here share: sides timed in turns, and a last line that ``run.py`` reads.

A claim is a ratio of two sides measured in one run, taken turn by turn, so that what else the
machine does hits both. Seconds by the clock: benchmarks are for cores that are free.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["x", "s", "share", "GiB"]


@dataclass(frozen=True)
class Result:
    """One figure: the median of ``n`` turns, and the least and the most among them.

    ``unit`` is ``x`` for times as fast (or as much) as ``against``, ``s`` for seconds, ``share``
    for a part of a bound. ``aim`` is what it should reach, or with ``better="lower"`` not pass.
    """

    claim: str
    ratio: float
    spread: tuple[float, float]
    n: int
    against: str
    aim: float | None = None
    unit: Unit = "x"
    better: Literal["higher", "lower"] = "higher"

    @property
    def missed(self) -> bool:
        """Whether there is an aim and this is on the wrong side of it."""
        if self.aim is None:
            return False
        return self.ratio < self.aim if self.better == "higher" else self.ratio > self.aim


def of(claim: str, values: Sequence[float], against: str, **about: Any) -> Result:
    """The result whose turns gave ``values``."""
    spread = min(values), max(values)
    return Result(claim, statistics.median(values), spread, len(values), against, **about)


def seconds(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes, by the clock."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turns(sides: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each side in each turn; every second turn goes through them backwards."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in list(sides) if turn % 2 == 0 else reversed(list(sides)):
            found[name].append(seconds(sides[name]))
            print(f"turn {turn + 1} of {turns}: {name} {found[name][-1]:.2f} s", flush=True)
    return found


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times as long the one side took as the other, turn by turn."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def threads() -> int:
    """Threads for the work that is measured: all cores, unless OMP_NUM_THREADS says otherwise."""
    return int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))


def tell(*results: Result) -> None:
    """Print ``results`` to be read, and as the last line for ``run.py``."""
    for one in results:
        low, high = one.spread
        aim = "" if one.aim is None else f", aim {one.aim:g}{' MISSED' if one.missed else ''}"
        print(f"== {one.claim}: {one.ratio:.3g} {one.unit} ({low:.3g} to {high:.3g}, n={one.n}) "
              f"against {one.against}{aim}")  # fmt: skip
    print(json.dumps([dataclasses.asdict(one) for one in results]))
    sys.stdout.flush()
