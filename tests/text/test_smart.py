"""Strategies of known accuracy: what is drawn, what is learnt, what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common import sandbox
from common.errors import UserError
from common.policies import Sample
from common.records import Candidate, Task
from tests.common.tiny import context
from tests.text.simulated import Simulated
from text.answers import AnswerJudge
from text.improve import Accuracy
from text.smart import (
    Attempts,
    FirstSuccess,
    Refinement,
    Strategy,
    answered,
    bound_prompt,
    code_of,
    free_prompt,
    named,
    run_program,
    strategies,
    trajectories,
)

KNOWN = strategies()
NAMES = [s.name for s in KNOWN]
TASKS = {
    f"t{i}": Task(
        f"t{i}",
        "",
        reference=str(i + 10),
        meta={"question": f"What is {i} + 10?", "family": "words"},
    )
    for i in range(40)
}
TASKS = {name: replace(t, prompt=free_prompt(t, KNOWN)) for name, t in TASKS.items()}
SKILL = {"direct": 0.1, "chain-of-thought": 0.6, "least-to-most": 0.3, "program-of-thought": 0.9}


def solver(task: Task, rng: np.random.Generator, temperature: float) -> str:
    """Left alone it mostly answers directly, which it does badly."""
    asked = task.prompt.rsplit("Answer:", 1)[1].strip(" :")
    name = asked or rng.choice(NAMES, p=[0.7, 0.1, 0.1, 0.1])
    truth = int(task.prompt.rsplit("What is ", 1)[1].split(" ")[0]) + 10
    value = truth if rng.random() < SKILL[name] else truth + int(rng.integers(1, 9))
    text = f"x = {value}; print(x)" if name == "program-of-thought" else f"The answer is {value}."
    return f" {text}" if asked else f" {name}: {text}"


def printed(code: str) -> str | None:
    return code.split("=")[1].split(";")[0].strip()


def pool(folder: Path, n: int = 3, attempts: int = 3) -> list[Candidate]:
    ctx = context(folder)
    stage = Attempts(Sample(n=n), KNOWN, attempts, run=printed)
    found = stage.propose(Simulated(solver), list(TASKS.values()), ctx)
    scores = AnswerJudge().judge(TASKS, found, ctx)
    return [replace(c, scores=s) for c, s in zip(found, scores, strict=True)]


def test_attempts_use_every_strategy_once_and_know_their_name(tmp_path: Path) -> None:
    found = pool(tmp_path, attempts=9)
    assert len({c.id for c in found}) == len(found) == 40 * 3 * 4
    for path in trajectories(found):
        assert [c.meta["attempt"] for c in path] == [1, 2, 3, 4]
        assert sorted(c.strategy for c in path) == sorted(NAMES)
        assert [c.parent for c in path[1:]] == [c.id for c in path[:-1]]
        assert all(named(c.output, KNOWN).name == c.strategy for c in path)  # type: ignore[union-attr]
    by_name = {
        name: np.mean([c.scores["correct"] for c in found if c.strategy == name]) for name in NAMES
    }
    assert by_name == pytest.approx(SKILL, abs=0.15)
    stage = Attempts(Sample(n=3), KNOWN, 9, run=printed)
    apart = [
        c for t in TASKS.values() for c in stage.propose(Simulated(solver), [t], context(tmp_path))
    ]
    assert {c.id: c.output for c in apart} == {c.id: c.output for c in found}


def test_what_is_learnt_is_the_first_success_as_a_first_answer(tmp_path: Path) -> None:
    found = pool(tmp_path)
    lessons = FirstSuccess(keep=99).select(TASKS, found, context(tmp_path))
    expected = {}
    for path in trajectories(found):
        right = [c for c in path if c.scores["correct"]]
        if right:
            expected[right[0].task, right[0].output] = right[0]
    learnt = {(d.task, d.completion): d for d in lessons.demonstrations}
    assert learnt.keys() == expected.keys()
    for key, d in learnt.items():
        assert d.source == expected[key].strategy
        assert d.prompt == TASKS[d.task].prompt  # the free one, which names no strategy
    notes = lessons.notes
    paths = trajectories(found)
    assert notes["first_accuracy"] == pytest.approx(
        np.mean([path[0].scores["correct"] for path in paths])
    )
    assert notes["refined_accuracy"] > notes["first_accuracy"] + 0.3
    assert sum(notes["first_strategy"].values()) == pytest.approx(1)
    assert notes["first_strategy"]["direct"] > 0.5
    assert notes["tokens_first"] < notes["tokens_to_success"] < sum(c.tokens for c in found)
    assert notes["learnt_from_later_attempts"] > 0.5
    few = FirstSuccess(keep=1).select(TASKS, found, context(tmp_path)).demonstrations
    assert len({d.task for d in few}) == len(few)
    # The best strategy is learnt far more often than it was tried first.
    programs = np.mean([d.source == "program-of-thought" for d in lessons.demonstrations])
    assert programs > notes["first_strategy"]["program-of-thought"] + 0.15


def test_refinement_is_measured_beside_first_attempts(tmp_path: Path) -> None:
    ctx, tasks = context(tmp_path), list(TASKS.values())

    def measured(attempts: int) -> dict[str, dict[str, float]]:
        stage = Attempts(Sample(n=5), KNOWN, attempts, run=printed)
        return {
            m.name: dict(m.items) for m in Refinement(stage).measure(Simulated(solver), tasks, ctx)
        }

    firsts = Accuracy(Attempts(Sample(n=5), KNOWN, 1, run=printed))
    alone = {m.name: dict(m.items) for m in firsts.measure(Simulated(solver), tasks, ctx)}
    thrice, all_of_them = measured(3), measured(4)
    assert {name: thrice[name] for name in alone} == alone  # the same first attempts
    assert measured(1)["refined"] == alone["accuracy"]
    for task in TASKS:
        assert alone["accuracy"][task] <= thrice["refined"][task] <= all_of_them["refined"][task]
    failing = np.prod([1 - skill for skill in SKILL.values()])
    assert np.mean(list(all_of_them["refined"].values())) == pytest.approx(1 - failing, abs=0.04)


def test_names_that_the_model_made_up_are_not_learnt(tmp_path: Path) -> None:
    task = TASKS["t7"]
    stage = Attempts(Sample(n=1), KNOWN[:2], 3)
    found = stage.propose(
        Simulated(lambda *_: " golden: The answer is 17."), [task], context(tmp_path)
    )
    scores = AnswerJudge().judge(TASKS, found, context(tmp_path))
    found = [replace(c, scores=s) for c, s in zip(found, scores, strict=True)]
    assert [c.strategy for c in found[:1]] == ["unnamed"] and len(found) == 3
    [lesson] = FirstSuccess().select(TASKS, found, context(tmp_path)).demonstrations
    assert lesson.completion == found[1].output and lesson.source == found[1].strategy


def test_one_strategy_is_rest(tmp_path: Path) -> None:
    chain = tuple(s for s in KNOWN if s.name == "chain-of-thought")
    tasks = {n: replace(t, prompt=free_prompt(t, chain)) for n, t in TASKS.items()}
    assert "least-to-most" not in tasks["t0"].prompt

    def only(task: Task, rng: np.random.Generator, temperature: float) -> str:
        return f" chain-of-thought: The answer is {int(task.id[1:]) + 10}."

    found = Attempts(Sample(n=2), chain, 3).propose(
        Simulated(only), list(tasks.values()), context(tmp_path)
    )
    assert len(found) == 80 and {c.meta["attempt"] for c in found} == {1}
    assert {c.answer for c in found if c.task == "t3"} == {"13"}


@pytest.mark.skipif(bool(sandbox.problem("bubblewrap")) and bool(sandbox.problem("landlock")),
                    reason="no wall works here")  # fmt: skip
def test_programs_run_in_the_sandbox() -> None:
    assert run_program("x = 16 * 4; print(x - 6)") == "58"
    assert run_program("print(1 / 0)") is None
    assert run_program("while True: pass") is None
    assert run_program("import socket; print(socket.socket())") is None
    assert run_program("x = 1") is None
    task = replace(TASKS["t0"], reference="9")
    drawn = [
        Candidate("a", "t0", 1, " program-of-thought: print(45 / 5)"),
        Candidate("b", "t0", 1, " program-of-thought: print(9"),
        Candidate("c", "t0", 1, " I think 9"),
    ]
    found = answered([task], drawn, KNOWN)
    assert [c.answer for c in found] == ["9", "", "9"]
    assert [c.strategy for c in found] == ["program-of-thought"] * 2 + ["unnamed"]


def test_prompts_and_code() -> None:
    task = TASKS["t1"]
    bound = bound_prompt(task, KNOWN[1])
    assert bound.endswith("Question: What is 1 + 10?\nAnswer: chain-of-thought:")
    assert bound.count("chain-of-thought:") == len(KNOWN[1].shots) + 1
    assert all(task.prompt.count(f"{name}:") == 1 for name in NAMES)
    assert task.prompt.startswith("Strategies: direct, chain-of-thought, ")
    assert free_prompt(task, KNOWN, chat=True).endswith("What is 1 + 10?")
    program = KNOWN[3]
    assert code_of("program-of-thought: print(1)", program) == "print(1)"
    assert code_of("Program-of-thought:\n```python\nprint(2)\n```\nDone", program) == "print(2)\n"


def test_strategies_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps([{"name": "guess", "shots": [["1+1?", "2"]]}]))
    assert strategies(path) == (Strategy("guess", (("1+1?", "2"),)),)
    one = {"name": "a", "shots": [["a", "b"]]}
    wrong = [[], [{"name": "a", "shots": []}], [{"shots": [["a", "b"]]}], [one, one]]
    for text in ("{", *map(json.dumps, wrong)):
        path.write_text(text)
        with pytest.raises(UserError, match="strateg"):
            strategies(path)
    with pytest.raises(UserError, match="attempts"):
        Attempts(Sample(), KNOWN, 0)
