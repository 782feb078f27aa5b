"""What ways to code have in common: code drawn up to a budget, and the judge of public examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from common.policies import Generator, Sample
from common.records import Candidate, Task, identity
from common.stages import Context
from text.programs import answer_of, public_of, run_tests

ARMS = ("search", "direct", "cot", "best-of-n")
MOST = 256
"""Candidates of a task, however short they are."""


def drawn(
    policy: Generator,
    tasks: Sequence[Task],
    sample: Sample,
    ctx: Context,
    spent: Mapping[str, int],
    tokens: int,
    strategy: str,
) -> list[Candidate]:
    """``sample.n`` candidates a task; with ``tokens`` as many more, ``sample.n`` at a time, until
    it has spent them. ``spent`` is what tasks have spent before."""
    used = {task.id: spent.get(task.id, 0) for task in tasks}
    found: list[Candidate] = []
    first, going = 0, list(tasks)
    while going:
        made = policy.generate(
            going,
            n=sample.n,
            seeds=lambda task, i, first=first: ctx.seed_for(  # type: ignore[misc]
                strategy, ctx.round, task.id, first + i
            ),
            round=ctx.round,
            temperature=sample.temperature,
            top_p=sample.top_p,
            max_new_tokens=sample.max_new_tokens,
            stop=sample.stop,
            progress=ctx.progress,
        )
        for i, c in enumerate(made):
            number = first + i % sample.n
            name = identity(strategy, ctx.round, c.task, number)
            found.append(replace(c, id=name, strategy=strategy))
            used[c.task] += c.tokens
        first += sample.n
        going = [task for task in going if used[task.id] < tokens and first < MOST]
    order = {task.id: at for at, task in enumerate(tasks)}
    return sorted(found, key=lambda c: order[c.task])


def likelihood(candidate: Candidate) -> float:
    """The policy's own log-probability of a token, in nats."""
    return candidate.logprob / max(1, candidate.tokens)


@dataclass(frozen=True)
class DirectCode:
    """Propose: write the code at once, as the prompt of the tasks shows it; ``tokens`` a task."""

    sample: Sample
    tokens: int = 0
    strategy: str = "direct"

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        by_id = {task.id: task for task in tasks}
        made = drawn(policy, tasks, self.sample, ctx, {}, self.tokens, self.strategy)
        return [replace(c, answer=answer_of(c.output, by_id[c.task])) for c in made]


@dataclass(frozen=True)
class PublicExamples:
    """Judge: ``public``, the share of the task's public examples that an answer passes, and
    ``passes``, whether it passes them all; 0 for a task without any. Looks at no reference."""

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        programs = [(c.answer or "", public_of(tasks[c.task])) for c in candidates]
        return [
            {"public": tested.share, "passes": float(tested.all)} for tested in run_tests(programs)
        ]
