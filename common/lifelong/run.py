"""A lifetime: one policy through a sequence of tasks, tested on all of them after each.

    test all | train the first | test all | train the second | test all ...

A training is a run of the engine's loop on one task, from the policy that the one before left; its
experiences are the candidates in the order of their proposal, each worth what the judge gave it. A
test is the loop's measure on the task's test split, which no stage of any loop sees; its
experiences are the questions. All of it goes into a log of the published format as it happens.

The engine knows no domain: a domain offers a :class:`Course`, named by ``Domain.lifelong``.

Killed anywhere, a lifetime continues at the block that was not finished, and its training at the
unit of work that was not (:mod:`common.loop`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from common.artifacts import disk_errors
from common.errors import UserError
from common.lifelong.writer import LogWriter
from common.lock import alone
from common.loop import Loop
from common.records import identity
from common.stages import Context, Measure, Policy, Progress
from common.store import Store
from common.tracking import Nothing

METRIC = "performance"
"""The column of the log."""


class Course(Protocol):
    """What a domain gives a lifetime."""

    @property
    def score(self) -> str:
        """The judge's score of a candidate that is its performance."""

    @property
    def metric(self) -> str:
        """The metric whose items are the performances of a test."""

    @property
    def rounds(self) -> int:
        """How many rounds a training has."""

    def config(self, task: str) -> Mapping[str, Any]:
        """What is stored with the run of a training on ``task``."""

    def policy(self) -> Policy:
        """The policy that a lifetime begins with, made afresh."""

    def loop(self, task: str, policy: Any) -> Loop:
        """The loop on ``task`` around ``policy``, with train, dev and test tasks."""


@dataclass(frozen=True)
class Lifetime:
    """Where a lifetime is lived: its runs are called ``NAME.BLOCK-TASK``, its log is ``folder``.

    ``note`` is told of each block before it begins; ``begun`` is called when no mistake stood in
    the way, so that from there on there is something to continue.
    """

    course: Course
    name: str
    folder: Path
    store: Store
    seed: int
    recipe: str
    about: Mapping[str, Any]
    progress: Progress
    note: Callable[[str], None]
    begun: Callable[[], None]

    def live(self, tasks: Sequence[str], tests: bool = True) -> None:
        """Train on ``tasks`` in their order; without ``tests`` only that.

        Raises:
            UserError: the folder holds another lifetime.
        """
        about = identity([*tasks], tests, self.seed, [self.course.config(t) for t in tasks])
        done = self._finished(about)
        policy = self.course.policy()
        loops = {task: self.course.loop(task, policy) for task in tasks}
        log = LogWriter(self.folder, (METRIC,), {"seed": self.seed, "tasks": [*tasks]})
        self.begun()
        plan: list[str | None] = []
        for one in tasks:
            plan += [None, one] if tests else [one]
        plan += [None] if tests else []
        for number, task in enumerate(plan):
            fresh = number >= done
            if fresh:
                what = f"train on {task}" if task is not None else "test on all tasks"
                self.note(f"{self.name}, block {number + 1} of {len(plan)}: {what}")
            if task is not None:
                found = self._train(loops[task], number, task)
                if fresh:
                    log.begin("train")
                    for value, params in found:
                        log.add(label(task), {METRIC: value}, params)
            elif fresh:
                log.begin("test")
                for one, loop in loops.items():
                    for question, value in self._test(loop, policy).items():
                        log.add(label(one), {METRIC: value}, {"question": question})
            if fresh:
                self._finish(about, number + 1)

    def _train(self, loop: Loop, number: int, task: str) -> list[tuple[float, dict[str, Any]]]:
        """Run, or continue, the training of a block; each candidate's value and what it is."""
        run = f"{self.name}.{number}-{slug(task)}"
        replace(loop, tasks=[t for t in loop.tasks if t.split != "test"]).run(
            self.course.rounds,
            self.store,
            run,
            seed=self.seed,
            recipe=self.recipe,
            config={**self.course.config(task), "lifetime": dict(self.about)},
            progress=self.progress,
        )
        return [
            (c.scores[self.course.score], {"round": c.round, "question": c.task})
            for c in self.store.candidates(run)
        ]

    def _test(self, loop: Loop, policy: Policy) -> Mapping[str, float]:
        """The performance on each test task of a loop."""
        tasks = [task for task in loop.tasks if task.split == "test"]
        several = loop.measure if isinstance(loop.measure, Sequence) else [loop.measure]
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        ctx = Context(self.seed, 0, self.store.artifacts, Nothing(), self.progress, work)
        measures: Sequence[Measure] = several
        found = [metric for m in measures for metric in m.measure(policy, tasks, ctx)]
        shutil.rmtree(work)
        return next(metric.items for metric in found if metric.name == self.course.metric)

    def _finished(self, about: str) -> int:
        """How many blocks are whole; what there is of a further one is removed."""
        path, done = self.folder / "finished.json", 0
        if path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            if there["about"] != about:
                raise UserError(
                    f"the lifetime {self.name!r} has other tasks or settings",
                    "give another --name",
                )
            done = int(there["blocks"])
        for block in self.folder.glob("worker-*/*-*"):
            if int(block.name.partition("-")[0]) >= done:
                shutil.rmtree(block)
        return done

    def _finish(self, about: str, blocks: int) -> None:
        path = self.folder / "finished.json"
        with disk_errors(path):
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps({"about": about, "blocks": blocks}), encoding="utf-8")
            os.replace(partial, path)


@contextlib.contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes out of a lifetime's folder, until this one ends in whatever way.

    Raises:
        UserError: another process is at it.
    """
    path = folder / "lock"
    with disk_errors(path):
        file = path.open("ab")
    with file:
        busy = f"the lifetime {name!r} is under way in another process"
        alone(file, busy, "let it finish, or give another --name")
        yield


def label(task: str) -> str:
    """A task as logs name it, ``LABEL_VARIANT``."""
    kind, _, rest = task.partition(":")
    return f"{kind}_{rest or 'default'}"


def slug(task: str) -> str:
    """A task as files and runs are named."""
    return re.sub(r"[^A-Za-z0-9]+", "-", task)[-40:].strip("-")
