"""What a run of a loop goes through: its rounds, unit by unit, and what comes out of it."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from common.lease import Lease
from common.monitors.pool import figures
from common.pool import Pool
from common.records import Candidate, Lessons, Metric, Round, Split
from common.shards import Executor, Replica, Shard, Work, workdir
from common.stages import Context, Progress, Tracker
from common.store import Store
from common.tables import Record

if TYPE_CHECKING:
    from common.loop import Loop


class Monitor(Protocol):
    """Looks at a round after it was measured, for what the gate's metric does not show."""

    def check(self, history: Sequence[Round], current: Round) -> str | None:
        """What is wrong with ``current``, in a line, which rolls it back; or None.

        ``history`` is all earlier rounds from the starter on. ``current.notes["learn"]`` is what
        the learner returned.
        """


@dataclass(frozen=True)
class Result:
    """What a run came to. ``rounds[0]`` is the starter; ``state`` addresses the final policy.

    ``test`` holds the metrics of ``starter`` and ``final``; it is empty without test tasks.
    """

    run: str
    seed: int
    rounds: tuple[Round, ...]
    state: str
    test: Mapping[str, tuple[Metric, ...]]


class Turns:
    """One run of a loop: `all` is the whole of it."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        lease: Lease,
        rounds: int,
        seed: int,
        tracker: Tracker | None,
        progress: Progress | None,
        executor: Executor | None = None,
    ) -> None:
        from common.progress import progress as default_progress
        from common.tracking import Nothing

        self.loop, self.store, self.lease = loop, store, lease
        self.run, self.rounds, self.seed = lease.run, rounds, seed
        self.tracker = tracker or Nothing()
        self.progress = progress or default_progress()
        self.scratch = store.folder(self.run) / "work"
        self.replica = Replica(loop, store.artifacts)
        self.executor = executor
        self.measures = loop.measure if isinstance(loop.measure, Sequence) else [loop.measure]
        self.shards: list[tuple[str, ...]] = []

    def all(
        self, shard_size: int, until: Callable[[Sequence[Round]], bool] | None = None
    ) -> Result:
        """Every round that is not there yet, or as many as ``until`` allows, then the test."""
        begun = self._unit(0, "begin", lambda _: self._begin(shard_size))
        size = begun["shard_size"]
        names = tuple(self.replica.train)
        self.shards = [names[i : i + size] for i in range(0, len(names), size)]
        history = self.store.rounds(self.run)
        for index in range(1, len(history) + 1):
            for unit in self.store.units(self.run, index, "learn").values():
                self.replica.prints[unit.payload["state"]] = unit.payload["fingerprint"]
        self.replica.prints[begun["state"]] = begun["fingerprint"]
        if not history:
            history.append(self._starter(begun))
        while len(history) <= self.rounds:
            if until is not None and len(history) > 1 and until(history):
                break
            history.append(self._turn(history))
        final = [r for r in history if r.kept][-1]
        test = self._test(history[0], final)
        self.replica.hold(final.state)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return Result(self.run, self.seed, tuple(history), final.state, test)

    def _begin(self, shard_size: int) -> Work:
        self.replica.held = None
        return Work(self.loop.tasks, payload={"shard_size": shard_size, **self._save()})

    def _starter(self, begun: Mapping[str, Any]) -> Round:
        metrics = self._measure(0, begun["state"], "dev")
        if self.loop.gate is not None:  # a gate that cannot decide says so before any learning
            self.loop.gate.decide(metrics, metrics)
        return self._close(Round(0, True, begun["state"], "the starter", metrics=metrics))

    def _turn(self, history: Sequence[Round]) -> Round:
        index, kept = len(history), [r for r in history if r.kept][-1]
        self._each_shard(index, "propose", kept.state)
        self._each_shard(index, "judge", kept.state)
        selected = self._unit(index, "select", self._select)
        lessons = Lessons(
            tuple(self.store.preferences(self.run, index)),
            tuple(self.store.demonstrations(self.run, index)),
            selected.get("notes", {}),
        )
        this = Round(
            index,
            False,
            kept.state,
            pairs=len(lessons.preferences),
            demonstrations=len(lessons.demonstrations),
            notes={
                "pool": figures(Pool(self.store, self.run, index, index)),
                **({"select": lessons.notes} if lessons.notes else {}),
            },
        )
        if not lessons:
            same = tuple(replace(metric, round=index) for metric in kept.metrics)
            reason = "no lessons: the policy and its figures are as they were"
            return self._close(replace(this, reason=reason, metrics=same), same)
        learned = self._unit(index, "learn", lambda ctx: self._learn(kept, lessons, ctx))
        this = replace(
            this,
            metrics=self._measure(index, learned["state"], "dev"),
            notes={**this.notes, "learn": learned["values"]},
        )
        keep, reason = True, "no gate: every round is kept"
        if self.loop.gate is not None:
            decision = self.loop.gate.decide(kept.metrics, this.metrics, history[0].metrics)
            keep, reason = decision.keep, decision.reason
            gain = decision.gain._asdict() if decision.gain else None
            this = replace(this, notes={**this.notes, "gate": gain})
        this = replace(this, kept=keep, reason=reason)
        said = [m.check(history, this) for m in self.loop.monitors]
        warnings = [text for text in said if text]
        if warnings:
            reason = "; ".join([*warnings, reason])
            notes = {**this.notes, "monitors": warnings}
            this = replace(this, kept=False, reason=reason, notes=notes)
        return self._close(replace(this, state=learned["state"] if this.kept else kept.state))

    def _select(self, ctx: Context) -> Work:
        pool = Pool(self.store, self.run, 1, ctx.round)
        lessons = self.loop.select.select(self.replica.train, pool, ctx)
        records: list[Record] = [replace(p, round=ctx.round) for p in lessons.preferences]
        records += [replace(d, round=ctx.round) for d in lessons.demonstrations]
        self._track(ctx.round, "pool", _means(pool.of(ctx.round)) | {"size": len(pool)})
        return Work(records, payload={"notes": lessons.notes} if lessons.notes else None)

    def _learn(self, kept: Round, lessons: Lessons, ctx: Context) -> Work:
        self.replica.hold(kept.state)
        self.replica.held = None
        values = dict(self.loop.learn.learn(self.loop.policy, lessons, ctx))
        self._track(ctx.round, "learn", values)
        return Work(payload={"values": values, **self._save()})

    def _measure(self, round: int, state: str, split: Split, shard: int = 0) -> tuple[Metric, ...]:
        tasks = [task for task in self.loop.tasks if task.split == split]

        def work(ctx: Context) -> Work:
            self.replica.hold(state)
            found = [
                replace(metric, round=round, split=split)
                for measure in self.measures
                for metric in measure.measure(self.loop.policy, tasks, ctx)
            ]
            names = [metric.name for metric in found]
            if len(set(names)) < len(names):
                raise ValueError(f"two metrics share a name: {', '.join(names)}")
            self._track(round, split, {metric.name: metric.value for metric in found})
            return Work(found)

        stage = "measure" if split == "dev" else split
        self._unit(round, stage, work, shard)
        return tuple(self.store.metrics(self.run, split, round))

    def _test(self, starter: Round, final: Round) -> dict[str, tuple[Metric, ...]]:
        if not any(task.split == "test" for task in self.loop.tasks):
            return {}
        # When every round was rolled back, both are one policy, one unit and one measurement.
        return {
            "starter": self._measure(starter.index, starter.state, "test"),
            "final": self._measure(final.index, final.state, "test"),
        }

    def _close(self, this: Round, records: Sequence[Record] = ()) -> Round:
        """Store a round as finished, and return it as the store gives it back."""
        units = self.store.units(self.run, this.index)
        this = replace(this, seconds=sum(unit.seconds for unit in units.values()))
        self._unit(this.index, "gate", lambda _: Work([this, *records]))
        return self.store.rounds(self.run)[-1]

    def _each_shard(self, round: int, stage: Literal["propose", "judge"], state: str) -> None:
        done = self.store.units(self.run, round, stage)
        what = f"round {round} {stage}"
        left = [n for n in range(len(self.shards)) if (stage, n) not in done]
        ready = len(self.shards) - len(left)

        def shards() -> Iterator[Shard]:
            for number in left:  # one by one: a pool is read when it is needed
                judging = stage == "judge"
                pool = self.store.candidates(self.run, round, number) if judging else []
                found = self.replica.prints.get(state)
                yield Shard(stage, round, number, self.shards[number], state, tuple(pool), found)

        if self.executor is not None and left:
            for shard, work, seconds in self.executor.map(shards()):
                self._commit(round, stage, shard.number, work, seconds)
                ready += 1
                self.progress(ready, len(self.shards), what)
            return
        self.progress(ready, len(self.shards), what)
        for shard in shards():
            self._do(round, stage, partial(self.replica.do, shard), shard.number)
            ready += 1
            self.progress(ready, len(self.shards), what)

    def _unit(
        self, round: int, stage: str, work: Callable[[Context], Work], shard: int = 0
    ) -> Mapping[str, Any]:
        """The payload of a unit, which is done now if it was not before."""
        if (stage, shard) not in self.store.units(self.run, round, stage):
            self._do(round, stage, work, shard)
        payload: Mapping[str, Any] = self.store.units(self.run, round, stage)[stage, shard].payload
        return payload

    def _do(self, round: int, stage: str, work: Callable[[Context], Work], shard: int) -> None:
        began = time.monotonic()
        folder = workdir(self.scratch, round, stage, shard)
        ctx = Context(
            seed=self.seed,
            round=round,
            artifacts=self.store.artifacts,
            tracker=self.tracker,
            progress=self.progress,
            workdir=folder,
        )
        left = work(ctx)
        seconds = time.monotonic() - began + sum(ctx.spared)
        self._commit(round, stage, shard, left, seconds)

    def _commit(self, round: int, stage: str, shard: int, left: Work, seconds: float) -> None:
        self.lease.commit(round, stage, shard, left.records, left.scores, left.payload, seconds)
        shutil.rmtree(workdir(self.scratch, round, stage, shard), ignore_errors=True)

    def _save(self) -> dict[str, str]:
        """Save the policy as an artifact, and go on with what was saved."""
        policy = self.loop.policy
        with self.store.artifacts.staging() as folder:
            target = folder / "state"
            target.mkdir()
            policy.save(target)
            state = self.store.artifacts.put_folder(target, move=True)
        self.replica.hold(state)
        self.replica.prints[state] = policy.fingerprint()
        return {"state": state, "fingerprint": self.replica.prints[state]}

    def _track(self, round: int, where: str, values: Mapping[str, float]) -> None:
        self.tracker.log({f"{where}/{name}": value for name, value in values.items()}, round)


def _means(pool: Sequence[Candidate]) -> dict[str, float]:
    """The mean of each score over ``pool``."""
    sums: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for candidate in pool:
        for name, value in candidate.scores.items():
            sums[name] = sums.get(name, 0.0) + value
            counts[name] += 1
    return {name: total / counts[name] for name, total in sums.items()}
