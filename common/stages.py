"""The five stages as protocols: propose, judge, select, learn, measure.

A method is a loop that replaces as few of them as it can. A stage sees a :class:`Context`, which
is all it may know of the run: seeds that depend only on the identity of the work, artifacts
addressed by content, and a place for progress and tracking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from common.records import Candidate, Lessons, Metric, Task, identity


class Artifacts(Protocol):
    """Files addressed by the hash of their content."""

    def put(self, data: bytes, suffix: str = "") -> str:
        """Store ``data`` (written, then renamed) and return its address."""

    def path(self, address: str) -> Path:
        """Where the artifact lies. Raises ``KeyError`` when it is unknown."""


class Tracker(Protocol):
    """Where figures of a run go while it runs (TensorBoard by default)."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...


class Progress(Protocol):
    """Progress with time left on a terminal; a line per shard elsewhere. Always on stderr."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


@dataclass(frozen=True)
class Context:
    """What a stage may know of the run."""

    seed: int
    round: int
    artifacts: Artifacts
    tracker: Tracker
    progress: Progress
    workdir: Path
    """Scratch folder of this unit of work: checkpoints of a stage go here, outliving a crash."""
    spared: list[float] = field(default_factory=list, compare=False)
    """Seconds of work that was remembered, not done again (:mod:`common.memo`)."""

    def seed_for(self, *what: object) -> int:
        """A 63-bit seed from the run's seed and the identity of ``what``, nothing else.

        Results then do not depend on batch size, worker count or interruption.
        """
        return int(identity(self.seed, *what), 16) >> 17


@runtime_checkable
class Policy(Protocol):
    """Something with a state that proposes: weights, a library of skills, or its own logic."""

    def fingerprint(self) -> str:
        """A hash of the state: equal states have equal fingerprints."""

    def save(self, folder: Path) -> None:
        """Write the state into ``folder`` (it exists and is empty)."""

    def restore(self, folder: Path) -> None:
        """Take the state that :meth:`save` wrote. Used by resume and by the gate's roll-back."""


class Proposer(Protocol):
    def propose(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        """Candidates for ``tasks``, whose ``reference`` is blanked before they come here."""


class Judge(Protocol):
    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        """Scores by name for each candidate, in order; several judges are told apart by names."""


class Selector(Protocol):
    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        """Lessons from the judged candidates of this and earlier rounds.

        They may be more than memory holds; :func:`common.pool.by_task` takes one task at a time.
        """


class Learner(Protocol):
    def learn(self, policy: Any, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Change ``policy`` in place; return what is worth recording (losses, margins)."""


class Measure(Protocol):
    def measure(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        """Metrics of ``policy`` on ``tasks`` (dev during the run, test once when it ends)."""
