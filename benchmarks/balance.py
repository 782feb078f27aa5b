"""B-STaR's scan of thresholds at 1,000,000 rewards, and against the scan as it was released.

    python benchmarks/balance.py [--sizes 10000 100000 1000000] [--out balance.svg]

The released scan goes through 200 thresholds; for each it raises the cap of samples a query from 1
to 64 until enough are kept, and counts every query anew each time. It is written here as it is
described, without its other defects, and run at ``--plain`` rewards, where the ratio is taken in
seconds of processor. Checked first: both choose the same threshold, cap and balance.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from claim import of, tell

from text.bstar import N_STAR, THRESHOLDS, Choice, choose, scan

SAMPLES, CAPS = 64, 64


class Made(NamedTuple):
    """Samples of many queries: rewards spread around being right or not."""

    queries: np.ndarray
    rewards: np.ndarray
    correct: np.ndarray
    texts: np.ndarray
    total: int


def made_up(count: int, seed: int = 0) -> Made:
    rng = np.random.default_rng(seed)
    total = count // SAMPLES
    queries = np.repeat(np.arange(total), SAMPLES)
    skill = np.repeat(rng.beta(1, 2, total), SAMPLES)
    texts = rng.integers(40, size=len(queries)) + 40 * queries
    # What is right and what a process score says belong to the text.
    seen = rng.random(40 * total)
    correct = seen[texts] < skill
    process = rng.uniform(-1, 1, 40 * total)[texts]
    return Made(queries, correct + process / 5, correct, texts, total)


def released(made: Made, keep: float) -> Choice:
    """Threshold by threshold, cap by cap, query by query."""
    by_query: list[list[tuple[float, bool, int]]] = [[] for _ in range(made.total)]
    for query, *rest in zip(made.queries, made.rewards, made.correct, made.texts, strict=True):
        by_query[query].append(tuple(rest))
    for rows in by_query:
        rows.sort(key=lambda row: -row[0])
    best = Choice(THRESHOLDS[0], CAPS, -1.0, 0)
    for threshold in THRESHOLDS:
        for cap in range(1, CAPS + 1):
            kept, summed = 0, 0.0
            for rows in by_query:
                selected = [row for row in rows if row[0] > threshold][:cap]
                if selected:
                    unique = len({text for _, right, text in selected if right})
                    summed += min(unique / N_STAR, 1) * unique / len(selected)
                kept += len(selected)
            if kept >= keep:
                break
        balance = summed / made.total
        if balance > best.balance + 1e-12:
            best = Choice(threshold, cap, balance, kept)
    return best


def quick(made: Made, keep: float) -> Choice:
    return choose(scan(*made[:4], total=made.total, caps=CAPS), keep)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    flags.add_argument("--plain", type=int, default=32_000)
    flags.add_argument("--out", type=Path)
    chosen = flags.parse_args()

    small = made_up(chosen.plain)
    keep = 9.0 * small.total
    begun = time.process_time()
    expected = released(small, keep)
    plain = time.process_time() - begun
    times = []
    for _ in range(5):
        begun = time.process_time()
        found = quick(small, keep)
        times.append(time.process_time() - begun)
    assert found.threshold == expected.threshold and found.cap == expected.cap, (found, expected)
    assert abs(found.balance - expected.balance) < 1e-9 and found.kept == expected.kept
    ours = float(np.median(times))

    spent = []
    for size in chosen.sizes:
        made = made_up(size)
        begun, worked = time.perf_counter(), time.process_time()
        best = quick(made, 9.0 * made.total)
        wall, worked = time.perf_counter() - begun, time.process_time() - worked
        spent.append(worked)
        print(
            f"{len(made.queries)} rewards: {wall:.2f} s, {worked:.2f} s of processor; threshold "
            f"{best.threshold:g}, cap {best.cap}, balance {best.balance:.3f}",
            flush=True,
        )
    if len(spent) > 1:
        growth = np.polyfit(np.log(chosen.sizes), np.log(spent), 1)[0]
        print(f"== grows as n^{growth:.2f}")
    print(
        f"== {len(small.queries)} rewards: {ours * 1e3:.1f} ms (median of 5), released scan "
        f"{plain:.1f} s: {plain / ours:.0f} times less time"
    )
    if chosen.out:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.loglog(chosen.sizes, spent, marker="o", label="one sort")
        axes.loglog([len(small.queries)], [plain], "x", label="released scan")
        axes.set(xlabel="rewards", ylabel="seconds of processor", title="B-STaR's scan")
        axes.legend(fontsize=8, frameon=False)
        figure.savefig(chosen.out, metadata={"Date": None})
    about = f"B-STaR's scan of {len(small.queries)} rewards"
    tell(of(about, [plain / one for one in times], "the released scan", aim=50))


if __name__ == "__main__":
    main()
