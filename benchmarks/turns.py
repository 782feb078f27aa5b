"""A turn of the agent in a sandbox that stays, against a sandbox of its own for each turn.

    python benchmarks/turns.py --times 20

The same policy answers the same questions both ways. Printed: that the answers are the same, the
milliseconds of a turn (medians, alternating), and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

from claim import of, ratios, tell

from text.godel.cell import Cell

POLICY = """
from fractions import Fraction


def solve(question, ask):
    return str(sum(Fraction(1, int(question) + n) for n in range(1, 20)))
"""


def nothing(name: str, _: Mapping[str, Any]) -> Any:
    raise KeyError(name)


def turn(cell: Cell) -> tuple[list[str], float]:
    """The answers, and the seconds they took."""
    request = {"do": "solve", "policy": POLICY, "questions": ["1", "2", "3"], "width": 1}
    began = time.perf_counter()
    ended = cell.turn(request, nothing, 30)
    seconds = time.perf_counter() - began
    assert ended.final is not None, ended.why
    return [row["answer"] for row in ended.final["answers"]], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    staying, fresh = [], []
    with Cell() as cell:
        expected, _ = turn(cell)
        for _ in range(times):
            answers, seconds = turn(cell)
            assert answers == expected
            staying.append(seconds)
            began = time.perf_counter()
            with Cell() as other:
                answers, _ = turn(other)
            assert answers == expected
            fresh.append(time.perf_counter() - began)
    one, two = statistics.median(staying), statistics.median(fresh)
    print(f"{times} turns each, the same answers")
    print(f"stays: {1000 * one:.1f} ms, of its own: {1000 * two:.1f} ms, ratio {two / one:.1f}")
    tell(of("a turn in a sandbox that stays", ratios(fresh, staying), "a sandbox a turn"))


if __name__ == "__main__":
    main()
