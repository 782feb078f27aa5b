"""Two Ray workers against one: how much faster is a round proposed, and what does a shard cost?

    python benchmarks/ray_workers.py                     # 12 shards of 4 texts
    python benchmarks/ray_workers.py --shards 4 --texts 2 --turns 1 --out shards.json

The starter proposes for shards of practice texts through :class:`common.executor.Ray`, one thread a
worker. Workers are started and have done a shard each before the clock runs. Checked first: one
worker, two workers and this process give the same candidates. Efficiency is the time of one over
twice that of two; on two cores the run's own process takes its part of it, which is told as seconds
of this process a shard: handing out, taking back, and committing to the store. ``--out`` keeps what
was measured for ``studies/scaling.py``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from claim import Result, of, tell

from common.executor import Ray
from common.loop import Loop
from common.progress import silent
from common.shards import Replica, Shard, workdir
from common.stages import Context
from common.store import Store
from common.tracking import Nothing
from speech.align import AlignConfig
from speech.setup import build

RUN, SEED = "workers", 0
Said = dict[str, str]


class Took(NamedTuple):
    """Of the shards that were timed: seconds by the clock, of each shard, of this process."""

    clock: float
    shards: list[float]
    driver: float


def settings(shards: int, texts: int, samples: int) -> AlignConfig:
    """Texts for so many shards, and for the two that workers warm up with."""
    return AlignConfig(texts=max(2, (shards + 2) * texts), samples=samples, dev_texts=2,
                       test_texts=2, gap_texts=0)  # fmt: skip


def cut(loop: Loop, texts: int, state: str) -> list[Shard]:
    """The shards of a round."""
    names = [task.id for task in loop.tasks if task.split == "train"]
    return [
        Shard("propose", 1, number, tuple(names[start : start + texts]), state)
        for number, start in enumerate(range(0, len(names), texts))
    ]


def spread(
    config: AlignConfig, store: Store, shards: Sequence[Shard], workers: int
) -> tuple[Took, Said]:
    """What ``workers`` took for all but the first two shards, and what they proposed."""
    said: Said = {}
    seconds: list[float] = []
    lease = store.lease(f"{RUN}-{workers}-{time.time_ns()}", "", {}, SEED)
    with closing(Ray(partial(build, config), store.home, RUN, SEED, workers=workers)) as ray:
        while ray.ready < workers:  # an actor that is not up yet is no worker
            list(ray.map(shards[:2]))
        begun, worked = time.perf_counter(), time.process_time()
        for done in ray.map(shards[2:]):
            lease.commit(1, "propose", done.shard.number, done.work.records, None, None, 0.0)
            seconds.append(done.seconds)
            said |= {c.id: c.output for c in done.work.records}  # type: ignore[union-attr]
        took = time.perf_counter() - begun, time.process_time() - worked
    lease.close("done")
    return Took(took[0], seconds, took[1] / len(seconds)), said


def here(loop: Loop, store: Store, shards: Sequence[Shard]) -> Said:
    """The same by this process."""
    replica = Replica(loop, store.artifacts)
    said: Said = {}
    for shard in shards:
        folder = workdir(store.folder(RUN) / "work", 1, "propose", shard.number)
        ctx = Context(SEED, 1, store.artifacts, Nothing(), silent, folder)
        said |= {c.id: c.output for c in replica.do(shard, ctx).records}  # type: ignore[union-attr]
    return said


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--shards", type=int, default=12)
    flags.add_argument("--texts", type=int, default=4, help="of a shard")
    flags.add_argument("--samples", type=int, default=6, help="of a text")
    flags.add_argument("--turns", type=int, default=2)
    flags.add_argument("--out", type=Path)
    chosen = flags.parse_args()
    config = settings(chosen.shards, chosen.texts, chosen.samples)
    loop = build(config)
    took: dict[int, list[Took]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home))
        with store.artifacts.staging() as folder:
            (folder / "state").mkdir()
            loop.policy.save(folder / "state")
            state = store.artifacts.put_folder(folder / "state", move=True)
        shards = cut(loop, chosen.texts, state)[: chosen.shards + 2]
        expected = here(loop, store, shards[2:4])
        for turn in range(chosen.turns):
            for workers in (1, 2) if turn % 2 == 0 else (2, 1):
                found, said = spread(config, store, shards, workers)
                if any(said[name] != output for name, output in expected.items()):
                    raise SystemExit(f"{workers} workers propose otherwise than one process")
                took[workers].append(found)
                print(f"{workers} workers: {found.clock:.1f} s, {1e3 * found.driver:.1f} ms of "
                      "this process a shard", flush=True)  # fmt: skip
        store.close()
    every = [s for turns in took.values() for one in turns for s in one.shards]
    driver = [one.driver for turns in took.values() for one in turns]
    if chosen.out:
        about = {"shard_seconds": every, "driver_seconds": driver, "texts": chosen.texts,
                 "samples": chosen.samples}  # fmt: skip
        chosen.out.write_text(json.dumps(about) + "\n")
    efficiency = [a.clock / (2 * b.clock) for a, b in zip(took[1], took[2], strict=True)]
    share = sum(driver) / len(driver) / (sum(every) / len(every))
    tell(
        of(f"proposing {chosen.shards} shards by 2 Ray workers, efficiency", efficiency,
           "1 Ray worker", unit="share"),
        Result("the run's own process a shard", share, (share, share), 1, "a shard's time",
               unit="share", better="lower"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
