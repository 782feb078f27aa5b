"""Programs: found in what a model says, and tested where they can do no harm."""

from __future__ import annotations

import pytest

from common import sandbox
from common.errors import UserError
from common.records import Candidate, Task
from text import programs
from text.answers import AnswerJudge, correct
from text.improve import ImproveConfig, answered, sampler
from text.programs import TOGETHER, Verdict, answer_of, code_of, run_tests, strict_code

HEAD = 'def double(n):\n    """Return n times two."""'
BODY = "    return n * 2\n"
WHOLE = f"{HEAD}\n{BODY}"
TESTS = ["assert double(2) == 4", "assert double(-1) == -2"]


OUTPUTS = (
    "\n    return n * 2",
    "\n    return n * 2\n\ndef other():\n    pass",
    "    return n * 2\nprint(double(2))",
    " return n * 2",
    "return n * 2",
    "  n = n * 2\n    return n",
    "```python\n    return n * 2\n```",
    "Here it is:\n```python\ndef double(n):\n    return n * 2\n```\nIt doubles.",
    "```\nx = 1\n```\nor better\n```py\ndef double(n):\n    return n * 2\n```",
    "def double(n):\n    return n * 2\n",
    "\n    # 1. Multiply.\n    return n * 2\n# done",
)


def test_the_program_is_found() -> None:
    found = run_tests([(code_of(output, HEAD, "double"), TESTS) for output in OUTPUTS])
    assert all(one.all for one in found), [(o, v.why) for o, v in zip(OUTPUTS, found, strict=True)]


def test_helpers_before_the_function_stay() -> None:
    head = f"import math\n\ndef half(n):\n    return n / 2\n\n{HEAD}"
    fenced = "```python\ndef double(n):\n    return math.floor(half(n) * 4)\n```"
    for output in (fenced, "\n    return math.floor(half(n) * 4)"):
        assert run_tests([(code_of(output, head, "double"), TESTS)])[0].all


def test_strict_takes_an_output_as_it_stands() -> None:
    assert strict_code("\n    return n * 2", HEAD) == f"{HEAD}\n\n    return n * 2"
    assert strict_code("```python\nx = 1\n```", HEAD) == "x = 1\n"
    task = Task("t", HEAD, "dev", '["assert double(2) == 4"]', meta={"kind": "code",
                                                                    "entry": "double"})  # fmt: skip
    outputs = ["\n    return n * 2", "\n    return n * 2\nThat is all.", "\n    return n"]
    made = [Candidate(str(i), "t", 0, output) for i, output in enumerate(outputs)]
    made = answered([task], made)
    scores = AnswerJudge().judge({"t": task}, made, None)  # type: ignore[arg-type]
    assert [s["correct"] for s in scores] == [1, 1, 0]
    assert [s["strict"] for s in scores] == [1, 0, 0]
    assert correct(task, made[0].answer) and not correct(task, made[2].answer)


def test_a_program_cannot_take_another_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SECONDS", 0.5)
    hostile = [
        "def double(n):\n    while True: pass\n",
        "def double(n):\n    raise SystemExit(0)\n",
        "def double(n):\n    return double(n)\n",
        "x = [0] * 10**10\ndef double(n):\n    return n * 2\n",
        "def double(n):\n    return eval('__imp' + 'ort__')('os')._exit(0)\n",
        "def double(n)\n",
        "",
        "class Yes:\n    def __eq__(self, other): return True\ndef double(n):\n    return Yes()\n",
        "import os\ndef double(n):\n    return n * 2\n",
    ]
    jobs = [(WHOLE, TESTS), *((code, TESTS) for code in hostile), (WHOLE, TESTS)]
    found = run_tests(jobs)
    assert found[0] == found[-1] == Verdict((True, True))
    for code, tested in zip(hostile, found[1:-1], strict=True):
        assert not any(tested.passed) and tested.why, code
    assert "took more than" in found[1].why
    assert "import of os" in found[-2].why


def test_values_compare_by_type() -> None:
    same = [("0.1 + 0.2", "0.3"), ("2.0", "2"), ("[1, (2,)]", "[1, (2,)]"), ("{1, 2}", "{2, 1}"),
            ("{'a': [1.0]}", "{'a': [1]}"), ("None", "None"), ("-0.0", "0")]  # fmt: skip
    other = [("1", "True"), ("(1,)", "[1]"), ("'1'", "1"), ("[True]", "[1]"), ("None", "False"),
             ("[1]", "[1, 1]"), ("{1: 2}", "{1: 3}"), ("float('nan')", "0")]  # fmt: skip
    jobs = [
        (f"def f():\n    return {value}\n", [f"assert f() == {wanted}"])
        for value, wanted in same + other
    ]
    found = [verdict.all for verdict in run_tests(jobs)]
    assert found == [True] * len(same) + [False] * len(other)


def test_every_program_gets_its_verdict_in_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [(f"def double(n):\n    return n * {k % 3}\n", TESTS) for k in range(3 * TOGETHER)]
    runs = 0
    run = sandbox.run

    def counted(*args: object, **given: object) -> sandbox.Ran:
        nonlocal runs
        runs += 1
        return run(*args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(sandbox, "run", counted)
    assert [tested.all for tested in run_tests(jobs)] == [k % 3 == 2 for k in range(len(jobs))]
    assert runs == 1  # three different programs
    assert run_tests([(WHOLE, [])]) == [Verdict(())] and not Verdict(()).all


def test_a_job_that_is_cut_off_is_done_again_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = sandbox.run

    def cut(source: str, **given: object) -> sandbox.Ran:
        jobs = given["files"]["jobs.json"]  # type: ignore[index]
        if jobs.count(b"def double") > 1:
            return run("raise SystemExit(3)")
        return run(source, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(sandbox, "run", cut)
    found = run_tests([(WHOLE, TESTS), ("def double(n):\n    return n\n", TESTS)])
    assert [tested.all for tested in found] == [True, False]


def test_a_question_without_a_head_says_so() -> None:
    task = Task("t", HEAD, meta={"kind": "code"})
    assert run_tests([(answer_of("\n    return n * 2", task), TESTS)])[0].all
    with pytest.raises(UserError, match="no head of a function"):
        answer_of("return 2", Task("t", "What is two?", meta={"kind": "code"}))


def test_code_ends_where_the_next_function_begins() -> None:
    assert "\ndef " in sampler(ImproveConfig(task="code-basics")).stop
    assert sampler(ImproveConfig(task="arithmetic")).stop == ("\n",)
    assert sampler(ImproveConfig(task="code-basics", chat=True)).stop == ()
