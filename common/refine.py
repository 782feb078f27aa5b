"""Refine: the loop's idea at inference time, without learning.

draft -> critique -> revise -> critique -> ... until a candidate is accepted or the budget is
spent. SceneCraft's inner loop, self-refinement and PIT's inference are this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    [found] = refine_all(
        [task],
        lambda tasks: [draft(tasks[0])],
        lambda steps: [critique(*steps[0])],
        lambda bases: [revise(*bases[0])],
        accept,
        budget,
        from_best,
    )
    return found


def refine_all(
    tasks: Sequence[Task],
    draft: Callable[[Sequence[Task]], Sequence[str | Candidate]],
    critique: Callable[[Sequence[tuple[Task, Candidate]]], Sequence[Critique]],
    revise: Callable[
        [Sequence[tuple[Task, Candidate, Critique]]], Sequence[str | Candidate | None]
    ],
    accept: Accept,
    budget: int,
    from_best: bool = False,
) -> list[Refinement]:
    """As :func:`refine`, of several tasks side by side: a model works in batches.

    The callables get those that are still under way and answer in their order.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} does not allow a draft")
    traces: list[list[Candidate]] = [[] for _ in tasks]
    said: list[list[Critique]] = [[] for _ in tasks]
    accepted = [False] * len(tasks)
    bases: dict[int, Candidate | None] = dict.fromkeys(range(len(tasks)))
    made: Sequence[str | Candidate | None] = draft(tasks) if tasks else []
    while True:
        under_way = zip(list(bases.items()), made, strict=True)
        steps = {
            n: _step(tasks[n], text, len(traces[n]), base)
            for (n, base), text in under_way
            if text is not None
        }
        if not steps:
            break
        critiques = critique([(tasks[n], step) for n, step in steps.items()])
        for (n, step), given in zip(steps.items(), critiques, strict=True):
            step = replace(
                step,
                scores={**step.scores, "critique": given.score},
                meta={**step.meta, "critique": given.text},
            )
            traces[n].append(step)
            said[n].append(given)
            accepted[n] = accept(step, given)
        bases, asked = {}, []
        for n in steps:
            if not accepted[n] and len(traces[n]) < budget:
                at = _best(traces[n], latest=True) if from_best else len(traces[n]) - 1
                bases[n] = traces[n][at]
                asked.append((tasks[n], traces[n][at], said[n][at]))
        made = revise(asked) if asked else []
    return [
        Refinement(t[-1] if done else t[_best(t, latest=from_best)], tuple(t), done)
        for t, done in zip(traces, accepted, strict=True)
    ]


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
