"""``upspiral text search`` and ``tree`` as a user drives them, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import text.setup
from common.records import Candidate, Task
from common.search import Log, read_trees
from tests.text.planner import SECRET, Player
from tests.text.tiny import upspiral
from text.commands.search import read


def problems(folder: Path, count: int = 3) -> str:
    """A file of HumanEval's schema, as ``--task`` has it."""
    rows = [
        {"task_id": f"HumanEval/{n}", "entry_point": f"twice_{n}",
         "prompt": f'def twice_{n}(n):\n    """Double n and add one.\n\n    >>> twice_{n}(2)\n'
                   f'    5\n    """\n',
         "test": f"def check(candidate):\n    assert candidate({SECRET}) == {2 * SECRET + 1}\n"}
        for n in range(count)
    ]  # fmt: skip
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"humaneval:{path}"


class Blind(Player):
    """Sees to it that no hidden test is there to be seen."""

    def generate(self, tasks: Sequence[Task], **options: Any) -> list[Candidate]:  # type: ignore[override]
        assert all(task.reference is None for task in tasks)
        return super().generate(tasks, **options)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(text.setup, "load_policy", lambda *args: Blind())
    return tmp_path


def words(home: Path, out: str, *more: str) -> list[str]:
    return ["search", "--task", problems(home), "--iterations", "10", "--samples", "2",
            "--out", str(home / out), *more]  # fmt: skip


def test_search_and_tree(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told, said = upspiral(monkeypatch, *words(home, "plans", "--score"))
    assert code == 0, said
    assert told["problems"] == 3 and told["public"] == told["solved"] == 3
    assert told["correct"] == 1 and told["n"] == 3 and told["tokens"] > 0
    rows = read(home / "plans" / "plans.jsonl")
    assert all("return 2 * n + 1" in row["code"] and row["plan"] for row in rows)
    for path in (home / "plans").rglob("*"):  # what a search leaves holds no hidden test
        assert not path.is_file() or str(SECRET) not in path.read_text()
    code, again, said = upspiral(monkeypatch, *words(home, "plans", "--score"))
    assert again == told and "problems 1" not in said  # nothing is left to do
    code, listed, said = upspiral(monkeypatch, "tree", str(home / "plans"))
    assert [p["name"] for p in listed["problems"]] == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]
    picture = home / "tree.svg"
    code, tree, said = upspiral(
        monkeypatch, "tree", str(home / "plans"), "1", "--svg", str(picture)
    )
    assert code == 0 and tree["name"] == "HumanEval/1" and tree["finished"]
    assert "└─" in said and "passed the check" in said and "the final check passed:" in said
    assert "return 2 * n + 1" in said and picture.read_text().startswith("<svg")
    assert len(tree["nodes"]) > 3 and tree["nodes"][0]["parent"] is None


def test_mistakes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(*given: str) -> str:
        code, told, _ = upspiral(monkeypatch, *given)
        assert code == 2
        return str(told["error"])

    assert "asks for no code" in error("search", "--task", "arithmetic")
    assert "count=0" in error("search", "--count", "0")
    assert "iterations=0" in error("search", "--iterations", "0")
    for one in ("brunch=2", "arm=direct", "task=humaneval"):
        assert f"no setting {one!r}" in error("search", "--set", one)
    assert "no train problems" in error(*words(home, "x", "--split", "train"))
    assert "is a file" in error(*words(home, "problems.jsonl"))
    upspiral(monkeypatch, *words(home, "plans"))
    assert "other settings" in error(*words(home, "plans", "--set", "branch=2"))
    assert "no run yet" in error("tree", "nowhere")
    for path in ("some/where", "."):
        assert f"no search in the folder {path!r}" in error("tree", path)
    assert "unknown problem 'seven'" in error("tree", str(home / "plans"), "seven")
    assert "may be HumanEval/0" in error("tree", str(home / "plans"), "Human")
    for name, given in (
        ("plans", words(home, "plans")),
        ("problems", ["tree", str(home / "plans")]),
    ):
        file = home / "plans" / f"{name}.jsonl"
        before = file.read_text()
        for wrong in ('{"x": 1}\n', "[1]\n", "x\n"):
            file.write_text(wrong)
            assert f"{name}.jsonl' cannot be read" in error(*given)
        file.write_text(before)
    (home / "plans" / "steps.jsonl").write_text("x\n")
    assert "no log of a search" in error("tree", str(home / "plans"))
    assert "no log of a search" in error(*words(home, "plans"))


def test_plans_are_of_the_search_that_found_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that somebody deleted, as an error had told them to, leave no plans of before."""
    code, told, said = upspiral(monkeypatch, *words(home, "plans", "--seed", "1"))
    (home / "plans" / "steps.jsonl").unlink()
    code, again, said = upspiral(monkeypatch, *words(home, "plans", "--seed", "2"))
    assert code == 0, said
    code, fresh, said = upspiral(monkeypatch, *words(home, "fresh", "--seed", "2"))
    assert {**again, "out": ""} == {**fresh, "out": ""} and again["tokens"] != told["tokens"]


def test_a_problem_that_shows_no_examples_is_not_counted_as_failed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(problems(home, 2).partition(":")[2])
    rows = path.read_text().replace(">>> twice_0(2)\\n    5", "")
    path.write_text(rows)
    given = ["search", "--task", f"humaneval:{path}", "--iterations", "2", "--out", str(home / "o")]
    code, _, said = upspiral(monkeypatch, *given)
    assert code == 0 and "of 1 answers pass all public examples; 1 without any" in said


def test_a_search_that_is_killed_loses_the_step_in_flight_only(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, killed with SIGKILL at several steps, with no chance to tidy up."""
    code, calm, said = upspiral(monkeypatch, *words(home, "calm"))
    assert code == 0, said
    total = (home / "calm" / "steps.jsonl").read_text().count("\n") - 1
    for number, after in enumerate((1, total // 2, total - 1)):
        out = f"killed{number}"
        logged = _killed(monkeypatch, words(home, out), after)
        kept = sum(len(tree.steps) for tree in read_trees(home / out / "steps.jsonl").values())
        assert logged >= after and kept >= logged  # what was said to be kept is there
        assert kept < total or after == total - 1
        code, told, said = upspiral(monkeypatch, *words(home, out))
        assert code == 0, said
        assert {**told, "out": ""} == {**calm, "out": ""}
        plans = [(home / name / "plans.jsonl").read_text() for name in (out, "calm")]
        assert plans[0] == plans[1]
        trees = [read_trees(home / name / "steps.jsonl") for name in (out, "calm")]
        assert {n: t.steps for n, t in trees[0].items()} == {
            n: t.steps for n, t in trees[1].items()
        }


def _killed(monkeypatch: pytest.MonkeyPatch, given: list[str], after: int) -> int:
    """Start the command in a process, kill it when ``after`` steps are kept; how many were."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        keep = Log.__call__

        def told(self: Log, *what: Any) -> None:
            keep(self, *what)
            os.write(theirs, b".")

        Log.__call__ = told  # type: ignore[method-assign]
        try:
            upspiral(monkeypatch, *given)
        finally:
            os._exit(0)
    os.close(theirs)
    logged = 0
    while logged < after and os.read(ours, 1):
        logged += 1
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    while os.read(ours, 1):
        logged += 1
    os.close(ours)
    assert os.waitstatus_to_exitcode(status) in (-signal.SIGKILL, 0)
    return logged
