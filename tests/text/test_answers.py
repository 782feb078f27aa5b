"""Answers: found, compared, judged; in both readings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.records import Candidate, Task
from tests.common.tiny import context
from text.answers import (
    PHRASES,
    AnswerJudge,
    canonical,
    correct,
    flexible,
    kind_of,
    phrase,
    same,
    strict,
)


@pytest.mark.parametrize(
    ("output", "kind", "free", "exact"),
    [
        ("14 + 9 = 23. The answer is 23.", "number", "23", "23"),
        ("14 + 9 = 23", "number", "23", None),
        ("The answer is 14. Not 15.", "number", "14", None),
        ("The answer is $1,200.50.", "number", "2401/2", "2401/2"),
        ("so 5\n#### 1,200", "number", "1200", None),
        (r"So \boxed{\frac{3}{4}} of 7", "number", "3/4", None),
        ("The answer is 5. No, the answer is 6.", "number", "6", None),
        ("The answer is five.", "number", None, None),
        ("4 apples. The answer is many", "number", "4", None),
        ("Final answer: 7 apples", "number", "7", None),
        ("The answer is 12 km.", "number", "12", "12"),
        ("", "number", None, None),
        ("The answer is (B).", "choice", "B", "B"),
        ("I think C. is right, not A", "choice", "A", None),
        ("Answer: D) because", "choice", "D", None),
        ("It is red. The answer is True.", "boolean", "true", "true"),
        ("so it is not true. False", "boolean", "false", None),
        ("The answer is no.", "boolean", "false", "false"),
        (r"Hence \boxed{x^2 + \frac{1}{2}} holds", "text", r"x^2+\frac{1}{2}", None),
        ("The answer is New  York.", "text", "newyork", "newyork"),
        ("New York", "text", None, None),
        ("3 + 4 = 7. The answer is 3 * (4 + 5).", "expression", "3*(4+5)", "3*(4+5)"),
        ("try 3 × 4 = 12", "expression", "3*4", None),
    ],
)
def test_two_readings(output: str, kind: str, free: str | None, exact: str | None) -> None:
    found = flexible(output, kind), strict(output, kind)  # type: ignore[arg-type]
    assert found == (free, exact)


@given(
    st.sampled_from(sorted(PHRASES)),
    st.fractions(max_denominator=100),
    st.text("abc de+=", max_size=20),
)
def test_what_is_stated_is_found_in_every_language(
    language: str, value: object, before: str
) -> None:
    output = f"{before} {phrase(str(value), language)}"
    assert strict(output, language=language) == str(value)
    assert flexible(output, language=language) == str(value)
    assert strict(output + " 5", language=language) != str(value) or str(value) == "5"


@given(st.text(max_size=60), st.sampled_from(["number", "choice", "boolean", "text", "expression"]))
def test_a_strict_answer_is_canonical_and_any_output_is_survived(output: str, kind: str) -> None:
    for found in (flexible(output, kind), strict(output, kind)):  # type: ignore[arg-type]
        assert found is None or canonical(found, kind) is not None  # type: ignore[arg-type]


NOTATIONS = st.sampled_from(
    ["12", "12.0", "$12", "12 km", "1/2", "0.5", "50%", r"\frac{1}{2}", "x", "1,000", "1000"]
)


@given(NOTATIONS, NOTATIONS, st.sampled_from(["number", "text"]))
def test_same_is_symmetric(left: str, right: str, kind: str) -> None:
    assert same(left, right, kind) == same(right, left, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "right", "kind", "equal"),
    [
        ("12.0", "$12", "number", True),
        ("50%", "0.5", "number", True),
        ("50%", "50", "number", True),
        ("50%", "50%", "number", True),
        ("0.5", "50", "number", False),
        ("x", "x", "number", False),
        (r"\dfrac{\pi}{2}", r"\frac{\pi}{2}", "text", True),
        (r"\left( 1, 2 \right)", "(1,2)", "text", True),
        ("0.5", r"\frac12", "text", True),
        ("Paris", "paris.", "text", True),
        ("(b)", "B", "choice", True),
        ("yes", "True", "boolean", True),
    ],
)
def test_same(left: str, right: str, kind: str, equal: bool) -> None:
    assert same(left, right, kind) is equal  # type: ignore[arg-type]


def test_the_judge_gives_both_readings(tmp_path: Path) -> None:
    tasks = {
        "a": Task("a", "?", reference="23", meta={"kind": "number"}),
        "c": Task("c", "?", reference="24", meta={"kind": "expression", "numbers": [2, 3, 4]}),
    }
    said = [
        ("a", "14 + 9 = 23. The answer is 23.", None, (1, 1)),
        ("a", "It is 23", None, (1, 0)),
        ("a", "It is 24", "23", (1, 0)),  # the proposer found an answer already
        ("a", "The answer is 22.", None, (0, 0)),
        ("c", "The answer is 2 * 3 * 4.", None, (1, 1)),
        ("c", "The answer is 4 * 6.", None, (0, 0)),
    ]
    pool = [Candidate(str(i), t, 1, out, answer=a) for i, (t, out, a, _) in enumerate(said)]
    scores = AnswerJudge().judge(tasks, pool, context(tmp_path))
    assert [(s["correct"], s["strict"]) for s in scores] == [wanted for *_, wanted in said]


def test_mistakes() -> None:
    with pytest.raises(UserError, match="no reference"):
        correct(Task("a", "?"), "5")
    with pytest.raises(UserError, match="wants a 'poem'"):
        kind_of(Task("a", "?", meta={"kind": "poem"}))
    assert not correct(Task("a", "?", reference="5"), None)
