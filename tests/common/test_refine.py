"""Refine on a real task: Newton's method towards a square root, and a reviser that drifts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records import Candidate, Task
from common.refine import Critique, refine

TASK = Task("root", "2.0", language="de")


def draft(task: Task) -> str:
    return task.prompt


def error(task: Task, candidate: Candidate) -> Critique:
    x = float(candidate.output)
    return Critique(-abs(x * x - float(task.prompt)), f"off by {x * x - float(task.prompt):+.3g}")


def newton(task: Task, candidate: Candidate, said: Critique) -> str:
    x = float(candidate.output)
    return repr((x + float(task.prompt) / x) / 2)


def close(candidate: Candidate, said: Critique) -> bool:
    return said.score > -1e-9


def test_it_revises_until_accepted() -> None:
    found = refine(TASK, draft, error, newton, close, budget=10)
    assert found.accepted and float(found.best.output) == pytest.approx(math.sqrt(2))
    assert len(found.trace) == 5 and found.best is found.trace[-1]  # Newton from 2: quadratic
    assert [step.parent for step in found.trace] == [None, *(s.id for s in found.trace[:-1])]
    assert [s.strategy for s in found.trace] == ["draft"] + ["revise"] * 4
    assert len({step.id for step in found.trace}) == 5
    assert found.trace[0].meta["critique"] == "off by +2" and found.trace[0].language == "de"


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=8))
def test_out_of_budget_gives_the_best_step(scores: list[float]) -> None:
    left = iter(scores)
    found = refine(
        TASK,
        draft,
        lambda task, candidate: Critique(next(left)),
        lambda task, candidate, said: candidate,
        lambda candidate, said: False,
        budget=len(scores),
    )
    assert not found.accepted and len(found.trace) == len(scores)
    real = [score for score in scores if not math.isnan(score)]
    if real:
        assert found.best.scores["critique"] == max(real)


def test_a_candidate_keeps_what_its_maker_knows() -> None:
    made = Candidate("x", "other", 0, "1.0", logprob=-2.5, tokens=3, scores={"own": 1.0})
    found = refine(TASK, lambda task: made, error, newton, close, budget=1)
    assert (found.best.logprob, found.best.tokens, found.best.task) == (-2.5, 3, "root")
    assert found.best.scores == {"own": 1.0, "critique": -1.0}


def test_a_reviser_that_has_nothing_more_to_try_ends_it() -> None:
    found = refine(TASK, draft, error, lambda *_: None, close, budget=9)
    assert not found.accepted and len(found.trace) == 1 and found.best is found.trace[0]


@given(st.lists(st.floats(allow_infinity=False, allow_nan=False), min_size=2, max_size=8))
def test_from_best_each_revision_is_of_the_best_so_far(scores: list[float]) -> None:
    left, revised = iter(scores), list[Candidate]()

    def revise(task: Task, candidate: Candidate, said: Critique) -> Candidate:
        assert said.score == candidate.scores["critique"]
        revised.append(candidate)
        return candidate

    found = refine(
        TASK,
        draft,
        lambda task, candidate: Critique(next(left)),
        revise,
        lambda candidate, said: False,
        budget=len(scores),
        from_best=True,
    )
    for n, base in enumerate(revised, 1):
        best = max(scores[:n])
        latest = max(k for k in range(n) if scores[k] == best)
        assert base.id == found.trace[latest].id == found.trace[n].parent
    assert found.best.scores["critique"] == max(scores)


def test_no_budget() -> None:
    with pytest.raises(ValueError):
        refine(TASK, draft, error, newton, close, budget=0)
