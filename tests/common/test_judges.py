"""Judges without a domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from common.errors import UserError
from common.judges import Chain, ExactAnswer, Weighted, final_answer
from common.records import Candidate, Task
from common.stages import Context
from tests.common.tiny import context

TASKS = {"a": Task(id="a", prompt="2+2", reference="4"), "b": Task(id="b", prompt="?")}


def said(output: str, task: str = "a", **more: object) -> Candidate:
    return Candidate(id=output, task=task, round=0, output=output, **more)  # type: ignore[arg-type]


class Length:
    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        return [{"length": float(len(c.output))} for c in candidates]


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("so 3 and 1 make 4.", "4"),
        ("it is 1,234.50 dollars", "1,234.50"),
        ("x = 7 #### -12", "-12"),
        (r"thus \boxed{x+1} for 3", "x+1"),
        ("no idea", None),
        ("#### ", None),
    ],
)
def test_final_answer(output: str, answer: str | None) -> None:
    assert final_answer(output) == answer


@pytest.mark.parametrize(
    ("output", "reference", "right"),
    [("is 4.0", "4", 1), ("5", "4", 0), ("$1,000", "1000", 1), ("nothing", "4", 0)],
)
def test_exact_answer(tmp_path: Path, output: str, reference: str, right: int) -> None:
    tasks = {"a": Task(id="a", prompt="", reference=reference)}
    [score] = ExactAnswer().judge(tasks, [said(output)], context(tmp_path))
    assert score == {"exact": right}


def test_exact_answer_prefers_the_given_answer_and_compares_words(tmp_path: Path) -> None:
    tasks = {"a": Task(id="a", prompt="", reference="New  York")}
    found = [said("in Paris 3", answer="new york"), said("New York")]
    scores = ExactAnswer(extract=str).judge(tasks, found, context(tmp_path))
    assert scores == [{"exact": 1.0}, {"exact": 1.0}]
    with pytest.raises(UserError, match="no reference"):
        ExactAnswer().judge(TASKS, [said("4", task="b")], context(tmp_path))


def test_chain_passes_scores_on(tmp_path: Path) -> None:
    judge = Chain(ExactAnswer(), Length(), Weighted({"exact": 2.0, "length": -0.5, "old": 1.0}))
    found = [said("4", scores={"old": 10.0}), said("five", scores={"old": 0.0})]
    assert judge.judge(TASKS, found, context(tmp_path)) == [
        {"exact": 1.0, "length": 1.0, "total": 11.5},
        {"exact": 0.0, "length": 4.0, "total": -2.0},
    ]


def test_mistakes_in_composition(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with pytest.raises(UserError, match="no score 'lenght'"):
        Chain(Length(), Weighted({"lenght": 1.0})).judge(TASKS, [said("4")], ctx)
    with pytest.raises(UserError, match="two judges"):
        Chain(Length(), Length()).judge(TASKS, [said("4")], ctx)
    with pytest.raises(UserError, match="weights"):
        Weighted({})
