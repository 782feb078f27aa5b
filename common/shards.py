"""Propose and judge, shard by shard: the work of a round that any process can do.

A shard names its tasks and the saved policy; whoever holds the same loop and sees the same
artifacts does it with the same result, since all randomness is in the items
(:meth:`common.stages.Context.seed_for`). :class:`common.turns.Turns` does shards itself, or hands
them to an :class:`Executor` and commits what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from common.records import Candidate, Task, identity
from common.stages import Artifacts, Context, Judge, Policy
from common.tables import Record

if TYPE_CHECKING:
    from common.loop import Loop


class Work(NamedTuple):
    """What a unit of work leaves."""

    records: Sequence[Record] = ()
    scores: Mapping[str, Mapping[str, float]] | None = None
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Shard:
    """A few train tasks of a round, to be proposed for or judged."""

    stage: Literal["propose", "judge"]
    round: int
    number: int
    tasks: tuple[str, ...]
    """Ids of train tasks."""
    state: str
    """Where the policy that proposes is saved."""
    pool: tuple[Candidate, ...] = ()
    """What is judged."""
    fingerprint: str | None = None
    """Of that policy, so that a machine on which it comes back otherwise is found out."""


class Done(NamedTuple):
    """A shard's work, and the seconds that it took."""

    shard: Shard
    work: Work
    seconds: float


class Executor(Protocol):
    """Where shards are done, if not in the process of the loop."""

    def map(self, shards: Iterable[Shard]) -> Iterator[Done]:
        """The work of each shard, in any order, as soon as it is there.

        ``shards`` is read no further than there are hands for it, so that the pools of all shards
        are never in memory together.
        """

    def close(self) -> None:
        """Let go of the processes."""


class Replica:
    """A loop's policy and the stages that work shard by shard.

    ``prints`` are the fingerprints of saved policies, as far as they are known: a policy that does
    not come back as it was saved is found out.
    """

    def __init__(self, loop: Loop, artifacts: Artifacts) -> None:
        self.policy: Policy = loop.policy
        self.artifacts = artifacts
        self.prints: dict[str, str] = {}
        self.held: str | None = None  # the saved state that the policy in memory equals
        self.train = {t.id: t for t in loop.tasks if t.split == "train"}
        self._propose = loop.propose
        self._judges = loop.judge if isinstance(loop.judge, Sequence) else [loop.judge]
        self._order = {name: position for position, name in enumerate(self.train)}

    def hold(self, state: str) -> None:
        """Make the policy what was saved as ``state``."""
        if self.held != state:
            self.held = None
            self.policy.restore(self.artifacts.path(state))
            if self.prints.get(state) not in (None, self.policy.fingerprint()):
                raise RuntimeError(f"the policy does not come back as it was saved in {state}")
            self.held = state

    def do(self, shard: Shard, ctx: Context) -> Work:
        """The work of ``shard``.

        Raises:
            ValueError: a stage broke its contract.
        """
        if shard.stage == "judge":
            return Work(scores=judged(self._judges, self.train, shard.pool, ctx))
        if shard.fingerprint is not None:
            self.prints[shard.state] = shard.fingerprint
        self.hold(shard.state)
        tasks = [replace(self.train[name], reference=None) for name in shard.tasks]
        found = self._propose.propose(self.policy, tasks, ctx)
        known, ids = set(shard.tasks), set[str]()
        for candidate in found:
            if candidate.task not in known:
                raise ValueError(f"a candidate is for {candidate.task!r}, no task of its shard")
            if candidate.id in ids or not candidate.id:
                raise ValueError(f"candidate id {candidate.id!r} is empty or comes twice")
            ids.add(candidate.id)
        # By task, so that the pool's order does not depend on how tasks were cut into shards.
        found = sorted(found, key=lambda candidate: self._order[candidate.task])
        return Work([replace(candidate, round=ctx.round) for candidate in found])


def judged(
    judges: Sequence[Judge],
    tasks: Mapping[str, Task],
    pool: Sequence[Candidate],
    ctx: Context,
) -> dict[str, dict[str, float]]:
    """The scores of all judges for each candidate of ``pool``, by its id.

    Raises:
        ValueError: a judge forgot a candidate, or two give a score of one name.
    """
    scores: dict[str, dict[str, float]] = {c.id: dict(c.scores) for c in pool}
    for judge in judges:
        said = judge.judge(tasks, pool, ctx)
        if len(said) != len(pool):
            raise ValueError(f"{len(pool)} candidates were judged, {len(said)} scores came")
        for candidate, new in zip(pool, said, strict=True):
            both = scores[candidate.id].keys() & new.keys()
            if both:
                raise ValueError(f"two judges give a score named {min(both)!r}")
            scores[candidate.id].update(new)
    return scores


def workdir(scratch: Path, round: int, stage: str, number: int) -> Path:
    """The folder of a unit of work under a run's ``scratch``, made if it is not there."""
    folder = scratch / f"{round:03d}-{stage}-{number:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hash_of(tasks: Sequence[Task]) -> str:
    """A hash of tasks, by which two processes know that they work on the same."""
    return identity([[t.id, t.split, t.prompt, t.reference, t.language] for t in tasks])
