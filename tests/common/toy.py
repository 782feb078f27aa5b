"""A small real loop that the engine's tests run: an evolution strategy fits a noisy line.

The policy is a weight vector. Proposals are perturbed weights, judged by their error at one noisy
training point each; better and worse ones make preferences, and learning steps along their mean
difference, with checkpoints. As a script it serves runs in forked processes (see ``serve``).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.gate import Gate
from common.loop import Loop, Result
from common.records import (
    Candidate,
    Demonstration,
    Lessons,
    Metric,
    Preference,
    Split,
    Task,
    identity,
)
from common.stages import Context
from common.store import Store

WIDTH = 6
TRUE = np.linspace(-1.0, 1.0, WIDTH)


def tasks(train: int = 16, dev: int = 12, test: int = 12) -> list[Task]:
    """Points x with noisy targets w*·x + e, w* = TRUE."""
    rng = np.random.default_rng(7)
    splits: list[Split] = ["train"] * train + ["dev"] * dev + ["test"] * test
    made = []
    for number, split in enumerate(splits):
        x = rng.normal(size=WIDTH)
        y = float(TRUE @ x + rng.normal(scale=0.05))
        made.append(Task(f"{split}-{number}", json.dumps(x.tolist()), split, repr(y)))
    return made


class Weights:
    def __init__(self) -> None:
        self.w = np.zeros(WIDTH)

    def fingerprint(self) -> str:
        return identity(self.w.tolist())

    def save(self, folder: Path) -> None:
        np.save(folder / "w.npy", self.w)

    def restore(self, folder: Path) -> None:
        self.w = np.load(folder / "w.npy")


class Perturb:
    """n perturbed weights a task. ``pause`` seconds a task stand for a slow model."""

    def __init__(self, n: int = 4, pause: float = 0.0) -> None:
        self.n, self.pause = n, pause

    def propose(self, policy: Weights, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        assert all(task.reference is None for task in tasks)
        made = []
        for number in range(self.n):  # by sample, then by task, as a batched sampler would
            for task in tasks:
                seed = ctx.seed_for("perturb", ctx.round, task.id, number)
                w = policy.w + 0.3 * np.random.default_rng(seed).normal(size=WIDTH)
                name = identity(task.id, ctx.round, number)
                note = ctx.artifacts.put(w.tobytes(), ".bin") if number == 0 else None
                made.append(
                    Candidate(name, task.id, 0, json.dumps(w.tolist()), -1.5, 6, artifact=note)
                )
        time.sleep(self.pause * len(tasks))
        return made


class Error:
    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        return [{"error": _error(json.loads(c.output), tasks[c.task])} for c in candidates]


class Longest:
    """A second judge, whose scores are merged with the first's; numpy's own number type."""

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        return [{"norm": np.float32(np.linalg.norm(json.loads(c.output)))} for c in candidates]


class BestOverWorst:
    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        groups: dict[str, list[Candidate]] = {}
        for candidate in pool:
            if candidate.round == ctx.round:
                groups.setdefault(candidate.task, []).append(candidate)
        pairs, best = [], []
        for task, group in groups.items():
            group = sorted(group, key=lambda c: c.scores["error"])
            good, bad = group[0], group[-1]
            margin = bad.scores["error"] - good.scores["error"]
            prompt = tasks[task].prompt
            name = identity(good.id, bad.id)
            pairs.append(Preference(name, task, 0, prompt, good.output, bad.output, margin))
            best.append(Demonstration(name, task, 0, prompt, good.output))
        return Lessons(tuple(pairs), tuple(best), {"widest": max(p.margin for p in pairs)})


class Step:
    """Steps along the mean of chosen - rejected, with a checkpoint after each step."""

    def __init__(self, rate: float = 1.3, steps: int = 5, pause: float = 0.0) -> None:
        self.rate, self.steps, self.pause = rate, steps, pause

    def learn(self, policy: Weights, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        checkpoint, first = ctx.workdir / "checkpoint.json", 0
        if checkpoint.exists():
            left = json.loads(checkpoint.read_text())
            policy.w, first = np.array(left["w"]), left["step"]
        pairs = lessons.preferences
        gap = np.mean([np.subtract(json.loads(p.chosen), json.loads(p.rejected)) for p in pairs], 0)
        for step in range(first, self.steps):
            policy.w = policy.w + self.rate * gap
            half = checkpoint.with_suffix(".half")
            half.write_text(json.dumps({"w": policy.w.tolist(), "step": step + 1}))
            half.rename(checkpoint)
            time.sleep(self.pause)
        return {"step": float(np.linalg.norm(gap)), "pairs": float(len(pairs))}


class SquaredError:
    """Counts the measurements of each split in ``seen``."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def measure(self, policy: Weights, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        self.seen.append(tasks[0].split)
        items = {task.id: _error(policy.w.tolist(), task) for task in tasks}
        values = np.array(list(items.values()))
        se = float(values.std(ddof=1) / np.sqrt(len(values)))
        return [Metric("error", float(values.mean()), se, len(values), better="lower", items=items)]


def _error(w: list[float], task: Task) -> float:
    assert task.reference is not None
    return (float(np.dot(w, json.loads(task.prompt))) - float(task.reference)) ** 2


def loop(pause: float = 0.0, **changes: Any) -> Loop:
    """The toy loop; ``changes`` replace its fields."""
    made = Loop(
        policy=Weights(),
        tasks=tasks(),
        propose=Perturb(pause=pause),
        judge=[Error(), Longest()],
        select=BestOverWorst(),
        learn=Step(pause=pause),
        measure=SquaredError(),
        gate=Gate("error"),
    )
    return replace(made, **changes)


def quiet(done: int, total: int, what: str) -> None:
    """Progress that says nothing."""


def run(home: Path, name: str = "toy", made: Loop | None = None, **more: Any) -> Result:
    """Run the toy loop in a store under ``home``."""
    store = Store(home)
    more = {"rounds": 3, "shard_size": 2, "progress": quiet, **more}
    try:
        return (made or loop()).run(store=store, run=name, **more)
    finally:
        store.close()


def everything(home: Path, name: str = "toy", store: Store | None = None) -> dict[str, Any]:
    """All that a run left but for times, as plain data."""
    store = store or Store(home)
    rounds = [replace(r, seconds=0.0) for r in store.rounds(name)]
    units = {
        (r.index, *key): unit.payload
        for r in rounds
        for key, unit in store.units(name, r.index).items()
    }
    kinds = [
        rounds,
        store.tasks(name),
        store.candidates(name),
        store.preferences(name),
        store.demonstrations(name),
        store.metrics(name, "dev"),
        store.metrics(name, "test"),
    ]
    left = {f"{i}": [asdict(record) for record in kind] for i, kind in enumerate(kinds)}
    found = {**left, "units": units, "status": store.run(name).status}
    store.close()
    return found


def serve() -> None:
    """Fork a run for each line ``HOME NAME PAUSE`` on stdin, and tell of it on stdout.

    ``pid N`` when it begins, ``unit`` when one more unit is about to be committed, ``end CODE``
    when the process is gone. Forks start at once, where a new interpreter takes a second.
    """
    from common.lease import Lease

    with tempfile.TemporaryDirectory() as folder:  # imports and caches, once for all forks
        run(Path(folder), rounds=1)
    for line in sys.stdin:
        home, name, pause = line.split()
        pid = os.fork()
        if pid == 0:
            commit = Lease.commit

            def told(self: Lease, *given: Any, commit: Any = commit, **named: Any) -> None:
                os.write(1, b"unit\n")
                commit(self, *given, **named)

            Lease.commit = told  # type: ignore[method-assign]
            code = 1
            try:
                run(Path(home), name, loop(float(pause)), rounds=2)
                code = 0
            finally:
                os._exit(code)
        os.write(1, f"pid {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"end {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve()
