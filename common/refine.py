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
Revise = Callable[[Task, Candidate, Critique], str | Candidate | None]
"""None: there is nothing more to try."""
Accept = Callable[[Candidate, Critique], bool]


def refine(
    task: Task,
    draft: Draft,
    critique: Critic,
    revise: Revise,
    accept: Accept,
    budget: int,
    from_best: bool = False,
) -> Refinement:
    """Draft an answer to ``task`` and revise it until ``accept`` says so.

    Each step is a candidate whose ``parent`` is the one it revises, with ``scores["critique"]``
    and ``meta["critique"]``; ``strategy`` is ``draft`` or ``revise``. A revision starts from the
    latest step, good or bad: from the best one a deterministic reviser would go in circles. One
    that remembers what it tried takes ``from_best``: each revision is of the best step so far, the
    latest of equals. When nothing is accepted the best is the highest score, the earliest of equals
    (the latest with ``from_best``); a NaN is never best unless all are.

    Args:
        budget: how many candidates may be critiqued, the draft included; at least 1.

    Raises:
        ValueError: the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} does not allow a draft")
    trace: list[Candidate] = []
    said: list[Critique] = []
    made: str | Candidate | None = draft(task)
    base = None
    while made is not None:
        step = _step(task, made, len(trace), base)
        said.append(critique(task, step))
        step = replace(
            step,
            scores={**step.scores, "critique": said[-1].score},
            meta={**step.meta, "critique": said[-1].text},
        )
        trace.append(step)
        if accept(step, said[-1]):
            return Refinement(step, tuple(trace), True)
        if len(trace) == budget:
            break
        at = _best(trace, latest=True) if from_best else len(trace) - 1
        base = trace[at]
        made = revise(task, base, said[at])
    return Refinement(trace[_best(trace, latest=from_best)], tuple(trace), False)


def _step(task: Task, made: str | Candidate, at: int, base: Candidate | None) -> Candidate:
    if isinstance(made, str):
        made = Candidate("", task.id, 0, made, language=task.language)
    parent = base.id if base else None
    return replace(
        made,
        id=identity(task.id, "refine", at, parent, made.output, made.artifact),
        task=task.id,
        parent=parent,
        strategy="revise" if base else "draft",
    )


def _best(trace: list[Candidate], latest: bool) -> int:
    """Which step has the highest score, the latest or the earliest of equals."""
    return max(range(len(trace)), key=lambda n: (_rank(trace[n]), n if latest else -n))


def _rank(step: Candidate) -> float:
    score = step.scores["critique"]
    return score if score == score else float("-inf")
