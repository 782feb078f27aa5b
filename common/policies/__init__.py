"""Policies: local transformers models, served ones, and the proposer that samples from either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.records import Candidate, Task, identity
from common.stages import Context, Progress

Seeds = Callable[[Task, int], int]
"""The seed of sample ``index`` of a task."""


class Generator(Protocol):
    """What a policy must offer to be sampled from."""

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        n: int,
        seeds: Seeds,
        round: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 256,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Candidate]: ...


def candidate_id(task: Task, round: int, index: int, strategy: str = "sample") -> str:
    """The same whatever the run's seed: a redone unit of work writes the same rows."""
    return identity("candidate", task.id, round, strategy, index)


@dataclass(frozen=True)
class Sample:
    """Propose by drawing ``n`` completions a task. Temperature 0 is greedy (use ``n=1``).

    A completion ends before the first of the texts in ``stop``, which it does not hold.
    """

    n: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        """``n`` candidates for each task, task by task. Seeds: run, round, task and index."""
        return policy.generate(
            tasks,
            n=self.n,
            seeds=lambda task, index: ctx.seed_for("sample", ctx.round, task.id, index),
            round=ctx.round,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
            progress=ctx.progress,
        )
