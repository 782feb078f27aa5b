"""The loop: propose, judge, select, learn, measure; then the gate keeps the round or rolls back.

Round 0 measures the starting policy on dev. Each later round proposes for the train tasks, judges,
selects lessons from the pool of this and earlier rounds, learns, and measures on dev; a round that
the gate does not keep leaves the policy as the last kept round did. The test split is measured
once, after the last round, for the starter and for the final policy.

Each stage of each shard is a unit that is committed with its records in one transaction. A unit
reads what earlier ones wrote back from the store and takes the policy as it was saved, never as it
happens to be in memory: so a resumed run and an uninterrupted one go through the same states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.artifacts import disk_errors
from common.gate import Gate
from common.records import Round, Task
from common.shards import Executor, hash_of
from common.stages import Judge, Learner, Measure, Policy, Progress, Proposer, Selector, Tracker
from common.store import Store
from common.turns import Monitor, Result, Turns

__all__ = ["Loop", "Monitor", "Result"]


@dataclass
class Loop:
    """A method: a policy, its tasks, and a choice for each stage.

    ``judge`` and ``measure`` may be several; their scores and metrics are merged. Without a
    ``gate`` every round is kept that no monitor objects to.
    """

    policy: Policy
    tasks: Sequence[Task]
    propose: Proposer
    judge: Judge | Sequence[Judge]
    select: Selector
    learn: Learner
    measure: Measure | Sequence[Measure]
    gate: Gate | None = None
    monitors: Sequence[Monitor] = field(default_factory=tuple)

    def run(
        self,
        rounds: int,
        store: Store,
        run: str,
        seed: int = 0,
        recipe: str = "",
        config: Mapping[str, Any] | None = None,
        shard_size: int = 16,
        tracker: Tracker | None = None,
        progress: Progress | None = None,
        until: Callable[[Sequence[Round]], bool] | None = None,
        executor: Executor | None = None,
    ) -> Result:
        """Run, or continue, ``run``; the policy ends as the last kept round left it.

        A run that was killed, interrupted or failed continues from its last finished unit, with
        the shard size that it was begun with. One that is done only returns its result.

        Args:
            rounds: how many rounds after the starter; the same whenever the run is continued.
            recipe: what to call the configuration in lists, such as ``speech/align:starter``.
            config: stored with the run, for whoever continues or reports it.
            shard_size: train tasks in a unit of work. Results do not depend on it, provided that
                stages take their seeds from ``Context.seed_for`` and the identity of each item.
            until: asked with the rounds so far before each round but the first; true ends the run.
                It must depend on nothing else, as :class:`common.budget.Budget`.
            executor: proposes and judges, shard by shard, somewhere else
                (:class:`common.executor.Ray`); without one, all is done in this process.

        Raises:
            UserError: as :meth:`Store.lease`, and when the disk is full or the store is locked.
            ValueError: there are no train or dev tasks, two tasks share an id, or a stage broke
                its contract.
        """
        if rounds < 1 or shard_size < 1:
            raise ValueError("a run has at least one round, and a shard at least one task")
        plan = {"rounds": rounds, "tasks": _check(self.tasks)}
        lease = store.lease(run, recipe, config, seed, plan)
        status = "failed"
        try:
            with disk_errors(store.home):
                turns = Turns(self, store, lease, rounds, seed, tracker, progress, executor)
                result = turns.all(shard_size, until)
            status = "done"
            return result
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            lease.close(status)


def _check(tasks: Sequence[Task]) -> str:
    """A hash of the tasks, once they are found fit for a run."""
    splits = {task.split for task in tasks}
    for needed in ("train", "dev"):
        if needed not in splits:
            raise ValueError(f"there are no {needed} tasks")
    if len({task.id for task in tasks}) < len(tasks):
        raise ValueError("two tasks share an id, within a split or across splits")
    return hash_of(tasks)
