"""Claim: a lifetime of ten million experiences is measured in under a minute, within 2 GiB.

    python benchmarks/lifelong.py
    python benchmarks/lifelong.py --rows 1000000

The physical floor is reading the bytes of the same files, in the same run. Correctness first: the
metrics of a log that is written here must be those of the same regimes computed without a file.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from claim import Result, tell

from common.lifelong import Lifetime, Preprocessing, measure, prepare, read
from common.lifelong.curves import Regime

TASKS = ("a", "b", "c", "d")
HEADING = (
    "block_num\texp_num\tworker_id\tblock_type\tblock_subtype\ttask_name\ttask_params\t"
    "exp_status\ttimestamp\tperformance\n"
)


def make(folder: Path, rows: int) -> tuple[Regime, ...]:
    """A log of ``rows`` experiences in 40 blocks, and its regimes."""
    random = np.random.default_rng(0)
    folder.mkdir()
    (folder / "logger_info.json").write_text('{"metrics_columns": ["performance"]}')
    blocks, made, number = 40, [], 0
    for block in range(blocks):
        train = block % 2 == 1
        kind = "train" if train else "test"
        place = folder / f"worker-0/{block}-{kind}"
        place.mkdir(parents=True)
        tasks = [TASKS[block // 2 % len(TASKS)]] if train else TASKS
        with (place / "data-log.tsv").open("w") as file:
            file.write(HEADING)
            for task in tasks:
                n = rows // blocks // len(tasks)
                values = np.round(np.sqrt(np.arange(1, n + 1)) + random.normal(0, 3, n), 6)
                file.write(
                    "".join(
                        f'{block}\t{number + i}\t0\t{kind}\twake\t{task}\t"{{""level"": 1}}"\t'
                        f"complete\t20260101T000000.000000\t{value!r}\n"
                        for i, value in enumerate(values.tolist())
                    )
                )
                numbers = np.arange(number, number + n)
                made.append(Regime(block, train, True, task, values, numbers))
                number += n
    return tuple(made)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rows", type=int, default=10_000_000)
    chosen = flags.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "life"
        made = make(folder, chosen.rows)
        files = sorted(folder.glob("*/*/data-log.tsv"))
        begun = time.perf_counter()
        size = sum(len(file.read_bytes()) for file in files)
        floor = time.perf_counter() - begun
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        log = read(folder)
        reading = time.perf_counter() - begun
        plain = Preprocessing(smooth=False, normalise=False)
        found, expected = measure(prepare(log, how=plain)), measure(Lifetime(made, {}))
        for name, value in expected.metrics.items():
            ours = found.metrics[name]
            assert ours == value or abs((ours or 0) - (value or 0)) < 1e-9, name
        begun = time.perf_counter()
        measure(prepare(log))
        measuring = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{len(log):,} experiences, {size / 1e6:.0f} MB")
    print(f"read in {reading:.1f} s, measured in {measuring:.1f} s")
    print(f"peak memory {peak / 2**20:.2f} GiB; making the log took {before / 2**20:.2f}")
    print(f"ratio to reading the bytes ({floor:.1f} s): {(reading + measuring) / floor:.1f}")
    spent = reading + measuring
    about = f"a lifetime of {len(log):,} experiences read and measured"
    tell(Result(about, spent / floor, (spent / floor,) * 2, 1, "reading the bytes", better="lower"))


if __name__ == "__main__":
    main()
