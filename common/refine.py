"""Refine: the loop's idea at inference time, without learning.

draft -> critique -> revise -> critique -> ... until a candidate is accepted or the budget is
spent. SceneCraft's inner loop, self-refinement and PIT's inference are this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from common.records import Candidate, Task, identity


class Critique(NamedTuple):
    """What a critic says of a candidate: how good it is (higher is better), and what to change."""

    score: float
    text: str = ""


class Refinement(NamedTuple):
    """The best candidate and every step that led there, in order."""

    best: Candidate
    trace: tuple[Candidate, ...]
    accepted: bool


Draft = Callable[[Task], str | Candidate]
Critic = Callable[[Task, Candidate], Critique]
Revise = Callable[[Task, Candidate, Critique], str | Candidate]
Accept = Callable[[Candidate, Critique], bool]


def refine(
    task: Task, draft: Draft, critique: Critic, revise: Revise, accept: Accept, budget: int
) -> Refinement:
    """Draft an answer to ``task`` and revise it until ``accept`` says so.

    Each step is a candidate whose ``parent`` is the one it revises, with ``scores["critique"]``
    and ``meta["critique"]``; ``strategy`` is ``draft`` or ``revise``. A revision starts from the
    latest step, good or bad: from the best one a deterministic reviser would go in circles. When
    nothing is accepted the best is the highest score, the earliest of equals; a NaN is never best
    unless all are.

    Args:
        budget: how many candidates may be critiqued, the draft included; at least 1.

    Raises:
        ValueError: the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} does not allow a draft")
    trace: list[Candidate] = []
    made = draft(task)
    while True:
        step = _step(task, made, trace)
        said = critique(task, step)
        step = replace(
            step,
            scores={**step.scores, "critique": said.score},
            meta={**step.meta, "critique": said.text},
        )
        trace.append(step)
        if accept(step, said):
            return Refinement(step, tuple(trace), True)
        if len(trace) == budget:
            return Refinement(max(trace, key=_rank), tuple(trace), False)
        made = revise(task, step, said)


def _step(task: Task, made: str | Candidate, trace: list[Candidate]) -> Candidate:
    if isinstance(made, str):
        made = Candidate("", task.id, 0, made, language=task.language)
    parent = trace[-1].id if trace else None
    return replace(
        made,
        id=identity(task.id, "refine", len(trace), parent, made.output, made.artifact),
        task=task.id,
        parent=parent,
        strategy="revise" if trace else "draft",
    )


def _rank(step: Candidate) -> float:
    score = step.scores["critique"]
    return score if score == score else float("-inf")
