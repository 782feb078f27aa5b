"""A SIMULATION of a round on up to 1,000 workers, from shard times measured on one machine.

    python benchmarks/ray_workers.py --out shards.json
    python studies/scaling.py shards.json --pool 3125 --learn 3600

No cluster was there to measure. What is simulated is what :class:`common.executor.Ray` does: each
worker has up to ``AHEAD`` shards, the run's own process takes finished ones one after the other,
commits each and hands out the next. A shard's time is drawn from those that were measured, and the
run's own process takes its measured time a shard. Left out: the network, disks that many share,
stragglers slower than any that were measured, and workers that die. So the figures are bounds from
above, and tell one thing: from how many workers on the process that commits is the bottleneck, and
when learning, which happens in one process, is what is left of a round.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.executor import AHEAD

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


class Spread(NamedTuple):
    """Seconds until the last shard is committed, and the share of workers' time that is work."""

    seconds: float
    busy: float


def simulate(durations: Sequence[float], workers: int, driver: float) -> Spread:
    """Shards of ``durations`` on ``workers``, each of which costs the one driver ``driver`` s."""
    waiting = list(reversed(durations))
    queued: list[list[tuple[float, float]]] = [[] for _ in range(workers)]  # when it came, its time
    for _ in range(AHEAD):
        for own in queued:
            if waiting:
                own.append((0.0, waiting.pop()))
    finishing = [(own.pop(0)[1], worker) for worker, own in enumerate(queued) if own]
    heapq.heapify(finishing)
    now = 0.0  # when the driver is free
    while finishing:
        end, worker = heapq.heappop(finishing)
        own = queued[worker]
        working = bool(own)
        if working:
            came, took = own.pop(0)
            heapq.heappush(finishing, (max(end, came) + took, worker))
        now = max(now, end) + driver
        if waiting:
            took = waiting.pop()
            if working:
                own.append((now, took))
            else:
                heapq.heappush(finishing, (now + took, worker))
    return Spread(now, sum(durations) / (workers * now))


def main() -> None:
    """Print the table."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("measured", type=Path, help="what ray_workers.py --out wrote")
    flags.add_argument("--pool", type=int, default=3125, help="shards of a round")
    flags.add_argument("--learn", type=float, default=3600, help="seconds of learning, one process")
    flags.add_argument("--slower", type=float, default=1.0, help="times a shard's measured time")
    chosen = flags.parse_args()
    found = json.loads(chosen.measured.read_text())
    driver = sum(found["driver_seconds"]) / len(found["driver_seconds"])
    times = [chosen.slower * s for s in found["shard_seconds"]]
    durations = random.Random(0).choices(times, k=chosen.pool)
    print(f"SIMULATED: {chosen.pool} shards of {sum(times) / len(times):.2f} s on average "
          f"(n={len(times)} measured), {1e3 * driver:.1f} ms of the run's own process each; "
          f"learning {chosen.learn:g} s")  # fmt: skip
    print("| workers | proposing, s | faster | busy | learning's share of the round |")
    print("|---|---|---|---|---|")
    one = simulate(durations, 1, driver).seconds
    for workers in WORKERS:
        made = simulate(durations, workers, driver)
        share = chosen.learn / (chosen.learn + made.seconds)
        print(f"| {workers} | {made.seconds:.0f} | {one / made.seconds:.1f} | {made.busy:.2f} | "
              f"{share:.2f} |")  # fmt: skip
    print(f"The process that commits is the bottleneck from about "
          f"{sum(times) / len(times) / driver:.0f} workers on.")  # fmt: skip


if __name__ == "__main__":
    main()
