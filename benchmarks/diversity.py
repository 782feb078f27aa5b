"""DIVE's selection at the size of a run: 100,000 candidates, and against the plain way to do it.

    python benchmarks/diversity.py [--sizes 10000 100000] [--out diversity.svg]

The pool is made up: questions with 100 solutions of 60 words, half of them right, and vectors of
384 numbers, as sentence embeddings have; computing embeddings is not selection and not timed. The
plain way fits scikit-learn's isolation forest for each question and sign and evaluates the measure
anew for every candidate at every greedy step. It is timed on ``--plain`` questions and compared per
candidate, in processor time, which a busy machine changes less. Checked first: both drop the
outlier that was planted, and choose the same subsets.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np
from claim import of, tell
from sklearn.ensemble import IsolationForest

from common.diversity import Measure, greedy, objective
from common.outliers import outliers
from common.records import Candidate, Task, identity
from common.stages import Context
from text.dive import Diverse

SOLUTIONS, LENGTH, WIDTH, PAIRS = 100, 60, 384, 5
Vectors = dict[str, np.ndarray]


class Nothing:
    def log(self, values: object, step: int) -> None: ...


def made_up(questions: int, seed: int = 0) -> tuple[dict[str, Task], list[Candidate], Vectors]:
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{i}" for i in range(2000)])
    tasks, pool, vectors = {}, [], {}
    for q in range(questions):
        tasks[f"q{q}"] = Task(f"q{q}", f"question {q}")
        own = rng.choice(vocabulary, 120)
        centre = rng.normal(size=WIDTH).astype(np.float32)
        spread = 0.5 * rng.normal(size=(SOLUTIONS, WIDTH)).astype(np.float32)
        spread[:2] *= 4  # an outlier on each side
        for s in range(SOLUTIONS):
            text = " ".join(rng.choice(own, LENGTH))
            vectors[text] = centre + spread[s]
            scores = {"correct": float(s % 2)}
            pool.append(Candidate(identity(q, s), f"q{q}", 1, text, scores=scores))
    return tasks, pool, vectors


def context(folder: str) -> Context:
    return Context(0, 1, None, Nothing(), lambda *_: None, Path(folder))  # type: ignore[arg-type]


def plainly(measure: Measure, texts: list[str], rows: np.ndarray, count: int) -> list[int]:
    """Greedy by evaluating f(S + y) from nothing for every y."""
    chosen = [0]
    while len(chosen) < count:
        values = np.full(len(texts), -np.inf)
        for item in set(range(len(texts))) - set(chosen):
            made = objective(measure, texts, rows)
            for one in (*chosen, item):
                made.add(one)
            values[item] = made.value
        chosen.append(int(values.argmax()))
    return chosen


def check(vectors: Vectors) -> None:
    texts = sorted(vectors)[:30]
    rows = np.stack([vectors[t] for t in texts])
    for measure in get_args(Measure):
        quick = greedy(objective(measure, texts, rows), PAIRS, 0)
        assert quick == plainly(measure, texts, rows, PAIRS), f"{measure}: another subset"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    flags.add_argument("--plain", type=int, default=4, help="questions of the plain way")
    flags.add_argument("--out", type=Path)
    chosen = flags.parse_args()
    tasks, pool, vectors = made_up(max(chosen.sizes) // SOLUTIONS)
    check(vectors)

    some = [c for c in pool if c.task in {f"q{q}" for q in range(chosen.plain)}]
    sides = [
        [c.output for c in some if c.task == task and c.scores["correct"] == sign]
        for task in dict.fromkeys(c.task for c in some)
        for sign in (0.0, 1.0)
    ]
    groups = [np.stack([vectors[t] for t in texts]) for texts in sides]
    begun = time.process_time()
    odd = [-IsolationForest(random_state=0).fit(rows).score_samples(rows) for rows in groups]
    forest = (time.process_time() - begun) / len(some)
    for scores, marked in zip(odd, outliers(groups, range(len(groups))), strict=True):
        assert marked[scores.argmax()], "the planted outlier stays"
    begun = time.process_time()
    for texts, rows in zip(sides, groups, strict=True):
        plainly("embedding", texts, rows, PAIRS)
    steps = (time.process_time() - begun) / len(some)

    rows_: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for measure in get_args(Measure):
            for size in chosen.sizes:
                part = {c.output: vectors[c.output] for c in pool[:size]}
                stage = Diverse(measure, PAIRS, known=part)
                begun, worked = time.perf_counter(), time.process_time()
                lessons = stage.select(tasks, pool[:size], context(folder))
                spent, worked = time.perf_counter() - begun, time.process_time() - worked
                assert len(lessons.preferences) == PAIRS * size // SOLUTIONS
                rows_.setdefault(measure, []).append(worked)
                print(
                    f"{measure}, {size} candidates: {spent:.1f} s, {worked:.1f} s of processor",
                    flush=True,
                )
    for measure, times in rows_.items():
        growth = np.polyfit(np.log(chosen.sizes), np.log(times), 1)[0] if len(times) > 1 else 1.0
        print(
            f"== {measure}: {times[-1]:.1f} s of processor for {chosen.sizes[-1]}, "
            f"grows as n^{growth:.2f}"
        )
    ours_ = rows_["embedding"][-1] / chosen.sizes[-1]
    print(
        f"== embedding: {ours_ * 1e6:.0f} us a candidate; the plain way {forest * 1e6:.0f} us for "
        f"forests, {steps * 1e6:.0f} us for subsets: {(forest + steps) / ours_:.0f} times less time"
    )
    if chosen.out:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.subplots()
        for measure, times in rows_.items():
            axes.loglog(chosen.sizes, times, marker="o", label=measure)
        axes.set(xlabel="candidates", ylabel="seconds of processor", title="DIVE's selection")
        axes.legend(fontsize=8, frameon=False)
        figure.savefig(chosen.out, metadata={"Date": None})
    about = f"DIVE's selection from {chosen.sizes[-1]} candidates, embeddings"
    tell(
        of(about, [(forest + steps) / ours_], "a forest a side, the measure anew each step", aim=20)
    )


if __name__ == "__main__":
    main()
