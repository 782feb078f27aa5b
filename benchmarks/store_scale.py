"""Does the store slow down as it grows? Append a round's pool, and read one, at 10^3 to 10^6 rows.

Run: ``python benchmarks/store_scale.py [LARGEST]``. At each size a round of 1,000 candidates is
appended in shards of 100 and read back, several times; what is printed is the median time per
round, and at the end the ratio of the largest size to the smallest. Correctness comes first: each
pool that was read is compared with what was appended.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from claim import of, tell

from common.records import Candidate, identity
from common.store import Store

POOL, SHARD, REPEATS = 1000, 100, 7


class Times(NamedTuple):
    """Medians in seconds for one pool."""

    append: float
    select: float


def pool(round: int) -> list[Candidate]:
    """A round's candidates, of the size of a codec language model's: 150 tokens of text."""
    output = " ".join(f"<c{(round * 31 + i * 17) % 1024}>" for i in range(150))
    return [
        Candidate(
            identity(round, i), f"task-{i // 8}", round, output, -200.0, 150, {"wer": i / POOL}
        )
        for i in range(POOL)
    ]


def fill(store: Store, first: int, last: int) -> None:
    """Append the rounds from ``first`` up to ``last``, ten at a time."""
    for start in range(first, last, 10):
        store.add("bench", [c for r in range(start, min(start + 10, last)) for c in pool(r)])


def measure(store: Store, rounds: int) -> Times:
    """Times at ``rounds`` full rounds; adds and keeps REPEATS more."""
    appends, selects = [], []
    for new in range(rounds, rounds + REPEATS):
        made = pool(new)
        begun = time.perf_counter()
        for i in range(0, POOL, SHARD):
            store.add("bench", made[i : i + SHARD])
        appends.append(time.perf_counter() - begun)
        old = (new * 7919) % rounds  # somewhere in the store, not what has just been written
        begun = time.perf_counter()
        found = store.candidates("bench", old)
        selects.append(time.perf_counter() - begun)
        if found != pool(old) or store.candidates("bench", new) != made:
            raise SystemExit("the store gave back another pool than it was given")
    return Times(statistics.median(appends), statistics.median(selects))


def main(largest: int = 10**6) -> None:
    """Print the table and the ratios."""
    results: dict[int, Times] = {}
    with tempfile.TemporaryDirectory() as home:  # warm imports and caches, which the first pays
        store = Store(Path(home))
        fill(store, 0, 1)
        measure(store, 1)
        store.close()
    with tempfile.TemporaryDirectory() as home:
        store, filled, size = Store(Path(home)), 0, POOL
        print(f"{'stored':>9}  append {POOL} [ms]  read a pool of {POOL} [ms]")
        while size <= largest:
            fill(store, filled, size // POOL)
            results[size] = measure(store, size // POOL)
            filled = size // POOL + REPEATS
            append, select = results[size]
            print(f"{size:>9}  {append * 1e3:>16.1f}  {select * 1e3:>24.1f}", flush=True)
            size *= 10
        store.close()
    first, last = min(results), max(results)
    told = []
    for name in Times._fields:
        ratio = getattr(results[last], name) / getattr(results[first], name)
        print(f"{name}: {ratio:.2f} times the time at {first} stored when {last} are")
        told.append(of(f"store, {name} a round when {last} are stored", [ratio],
                       f"when {first} are", aim=1.25, better="lower"))  # fmt: skip
    tell(*told)


if __name__ == "__main__":
    main(*(int(float(word)) for word in sys.argv[1:2]))
