"""Does the store slow down as it grows, and does selecting from all of it fit into memory?

Run: ``python benchmarks/store_scale.py [LARGEST]``. At each size a round of 1,000 candidates is
appended in shards of 100 and read back, several times; what is printed is the median time per
round, and at the end the ratio of the largest size to the smallest. Then a process of its own
selects the best over the worst of every task from all that is stored, and says what memory it took
at most, all of Python and the pairs themselves included. Correctness comes first: each pool that
was read is compared with what was appended, and pairs of a small pool with those of a list.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from claim import of, tell

from common.pairing import best_worst
from common.pool import Pool
from common.records import Candidate, Preference, Task, identity
from common.store import Store

POOL, SHARD, REPEATS = 1000, 100, 31


class Times(NamedTuple):
    """Medians in seconds for one pool."""

    append: float
    select: float


def pool(round: int) -> list[Candidate]:
    """A round's candidates, of the size of a codec language model's: 150 tokens of text."""
    return [
        Candidate(
            identity(round, i),
            f"task-{round}-{i // 8}",
            round,
            " ".join(f"<c{(round * 31 + i + j * 17) % 1024}>" for j in range(150)),
            -200.0,
            150,
            {"wer": i / POOL},
        )
        for i in range(POOL)
    ]


def selected(candidates: Sequence[Candidate], rounds: int) -> list[Preference]:
    """Best over worst of each task of so many rounds."""
    names = (f"task-{r}-{i}" for r in range(rounds) for i in range(POOL // 8))
    tasks = {name: Task(name, f"question {name}") for name in names}
    return best_worst(tasks, candidates, key="wer", better="lower")


def alone(home: str, rounds: int, say: Any) -> None:
    """Select from all of the store; seconds, GiB at most, pairs."""
    begun, store = time.perf_counter(), Store(Path(home))
    pairs = selected(Pool(store, "bench", 0, rounds - 1), rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    say.put((time.perf_counter() - begun, peak, len(pairs)))
    store.close()


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
        few = Pool(store, "bench", 0, 2)
        if selected(few, 3) != selected(list(few), 3):
            raise SystemExit("a pool and a list of the same candidates gave different pairs")
        store.close()
        spawn = multiprocessing.get_context("spawn")
        said = spawn.Queue()
        process = spawn.Process(target=alone, args=(home, filled, said))
        process.start()
        spent, peak, pairs = said.get()
        process.join()
    print(f"{pairs} pairs of {filled * POOL} candidates in {spent:.0f} s, {peak:.2f} GiB at most")
    first, last = min(results), max(results)
    told = []
    for name in Times._fields:
        ratio = getattr(results[last], name) / getattr(results[first], name)
        print(f"{name}: {ratio:.2f} times the time at {first} stored when {last} are")
        told.append(of(f"store, {name} a round when {last} are stored", [ratio],
                       f"when {first} are", aim=1.25, better="lower"))  # fmt: skip
    told.append(of(f"selecting pairs from {last} candidates, memory", [peak],
                   "nothing: GiB at most", aim=2.0, unit="GiB", better="lower"))  # fmt: skip
    tell(*told)


if __name__ == "__main__":
    main(*(int(float(word)) for word in sys.argv[1:2]))
