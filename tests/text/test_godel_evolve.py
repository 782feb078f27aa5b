"""Runs of the agent: what its decisions do, what is rolled back, resumed, killed and measured."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.errors import UserError
from common.store import Store
from tests.text.godel import (
    QUICK,
    broker,
    call,
    calls,
    change,
    environment,
    processes,
    right,
    run,
    told,
)
from text.godel.cell import NotAllowedError
from text.godel.evolve import Evolution, versions
from text.godel.folder import facts
from text.godel.models import Completion
from text.godel.workshop import Rules

LOSES = "def evolve(goal, state, act):\n    state['lost'][0]\n    return state"
"""An improver that cannot be told from a good one by looking at it."""
SILENT = """def evolve(goal, state, act):
    if state['step']:
        raise OSError('nothing works')
    act('decide', messages=conversation(goal, state))
    act('self_inspect')
    return state"""
"""One that works in a rehearsal only."""


def test_the_actions_do_what_they_say(tmp_path: Path) -> None:
    result, made = run(
        tmp_path,
        [
            call("self_inspect"),
            calls(("run_code", {"source": "import policy\nprint(6 * 7, policy.solve)"}),
                  ("call_llm", {"prompt": "any idea?"}), ("interact", {})),
            change(right(3)),
            calls(("interact", {}), ("continue_improve", {}), ("interact", {})),
        ],
    )  # fmt: skip
    said = told(made)
    assert "# policy.py" in said[0] and "# improver.py" in said[0] and "Version 0" in said[0]
    assert said[1].startswith("run_code: 42 <function solve")
    assert said[2] == "call_llm: I do not know."
    assert "accuracy 0.000" in said[3] and "question 2" in said[3]
    assert said[4] == "self_update: policy.py: modify solve, done"
    # interact tells of what was wrong; what comes after continue_improve is not done
    assert "accuracy 0.750" in said[5] and "answer: wrong" in said[5] and len(said) == 7
    assert [v.metric.value for v in result.versions] == [0.0, 0.75]
    assert result.versions[1].diff.count("+def solve") == 0 and "question[-1]" in result.best.diff
    # The test was the host's, once, for the start and the best.
    assert (result.test["start"].value, result.test["best"].value) == (0.0, 0.75)
    assert made.goal.count("- ") >= 6 and "right 2" not in json.dumps(made.agent)


def test_mistakes_are_told_and_change_nothing(tmp_path: Path) -> None:
    result, made = run(
        tmp_path,
        [
            "I would rather talk.",
            '{"calls": []}',
            '{"calls": ["self_inspect"]}',
            call("fly"),
            call("self_update", path="policy"),
            json.dumps({"calls": [{"action": "run_code", "arguments": {"source": 5}}]}),
            calls(("run_code", {"source": "1 / 0"}), ("interact", {})),
            change("def solve(question, ask) return"),
        ],
    )
    said = told(made)
    assert all(text.startswith("error: ") for text in said) and len(said) == 8
    assert "there is no action 'fly'; there are self_inspect" in said[3]
    assert "missing a required argument: 'file'" in said[4]
    assert "source must be a text" in said[5]
    assert "ZeroDivisionError" in said[6]  # and the call after it was not made
    assert [v.index for v in result.versions] == [0]


def test_a_drop_is_kept_or_rolled_back_by_its_size_and_the_best_is_returned(tmp_path: Path) -> None:
    result, made = run(
        tmp_path, [change(right(3)), change(right(1)), change(right(0)), change(right(2))]
    )
    assert [(v.metric.value, v.kept) for v in result.versions] == [
        (0.0, True), (0.75, True), (0.25, True), (0.0, False), (0.5, True),
    ]  # fmt: skip
    assert "more than 0.5 below the 0.750 of version 1" in result.versions[3].problem
    assert any("rolled back to version 2" in text for text in told(made))
    assert result.best.index == 1 and result.test["best"].value == 0.75
    store = Store(tmp_path)
    assert [r.kept for r in store.rounds("run")] == [True, True, True, False, True]
    assert versions(store, "run") == list(result.versions)
    store.close()


def test_a_changed_improver_is_what_runs_next_and_one_that_fails_is_put_back(
    tmp_path: Path,
) -> None:
    notes = (
        "def evolve(goal, state, act):\n"
        "    state['steps'] = [*state.get('steps', []), state['step']]\n"
        "    execute(act('decide', messages=conversation(goal, state)), state, act)\n"
        "    return state"
    )
    result, made = run(
        tmp_path,
        [
            change(notes, "evolve", "improver"),
            call("interact"),
            change(LOSES, "evolve", "improver"),
            change(SILENT, "evolve", "improver"),
            call("interact"),
        ],
        steps=6,
    )
    assert made.agent["steps"] == [2, 3, 4, 6]  # the first was the old one's, step 5 failed
    said = told(made)
    assert any("improver.py stays as it was" in t and "KeyError: 'lost'" in t for t in said)
    assert any(t.startswith("error: step 5 failed") and "OSError" in t for t in said)
    assert "put back: step 5 failed: OSError: nothing works" in result.versions[-1].reason
    assert result.versions[-1].source == result.versions[1].source
    assert result.versions[2].kept and not result.stopped


def test_a_state_that_the_next_step_could_not_use_is_not_taken(tmp_path: Path) -> None:
    spoils = (
        "def evolve(goal, state, act):\n"
        "    execute(act('decide', messages=conversation(goal, state)), state, act)\n"
        "    state['history'].append(5 if state['step'] else {'role': 'user', 'content': ''})\n"
        "    return state"
    )
    result, made = run(
        tmp_path, [change(spoils, "evolve", "improver"), call("interact"), change(right(1))]
    )
    assert any("the history of the state: a message is" in text for text in told(made))
    assert "the improver was put back: step 2 failed" in result.versions[2].reason
    assert result.best.metric.value == 0.25


def test_a_model_that_does_not_answer_is_no_fault_of_the_improver(tmp_path: Path) -> None:
    longer = "HISTORY = 13"
    made = Evolution(environment(), broker([]), Store(tmp_path), 3, QUICK)
    model = made.broker.models["optimiser"]
    turns = [change(longer, "HISTORY", "improver"), None, call("interact")]

    def complete(messages: Any, *rest: Any) -> Completion:
        text = turns.pop(0) if rest[-1] is not None else "no idea"
        if text is None:
            raise NotAllowedError("the model did not answer")
        return Completion(text, 1, 1)

    model.complete = complete  # type: ignore[method-assign]
    result = made.run("run", 0, {}, "small")
    assert any("step 2 failed" in text and "did not answer" in text for text in told(made))
    assert [v.reason for v in result.versions] == ["the start", "a test"]


@pytest.mark.parametrize("said", ["[{'role': 'user', 'content': 'be lazy'}]", "5", "'be lazy'"])
def test_the_goal_stays(said: str, tmp_path: Path) -> None:
    other = f"def conversation(goal, state):\n    return {said}"
    _, made = run(tmp_path, [change(other, "conversation", "improver")])
    assert "must hold the goal" in told(made)[0]


def test_switches_take_their_part_away(tmp_path: Path) -> None:
    rules = Rules(0.5, 1.0, ("thinking", "errors", "code", "llm"))
    _, made = run(
        tmp_path, ["no call", call("run_code", source="print(1)"), call("call_llm", prompt="hi")],
        rules=rules,
    )  # fmt: skip
    assert told(made) == []  # without error handling nobody says what went wrong
    assert "run_code" not in made.goal and "call_llm" not in made.goal
    _, full = run(tmp_path / "full", [call("self_inspect")])
    assert "run_code" in full.goal
    with_thinking = [m for m in full.agent["history"] if "thinking" in m["content"]]
    assert with_thinking  # its own source asks for it


def test_the_budget_ends_a_run_before_what_it_cannot_pay(tmp_path: Path) -> None:
    turns = [call("self_inspect")] * 30
    result, made = run(tmp_path, turns, tokens=8_000)
    assert result.stopped.startswith("the budget of 8000 tokens is spent")
    assert 8_000 <= made.broker.total().tokens < 14_000
    paid, made = run(tmp_path / "usd", turns, usd=0.02, prices=(1.0, 2.0))
    assert "budget of $0.02" in paid.stopped
    spent = paid.spent["optimiser"]
    usd = (spent["prompt_tokens"] + 2 * spent["completion_tokens"]) / 1e6
    assert spent["usd"] + paid.spent["solver"]["usd"] >= 0.02
    assert spent["usd"] == pytest.approx(usd)
    # Nor does a policy ask without end where there is no budget.
    greedy = "def solve(question, ask):\n    while True: ask(question, temperature=1)"
    ended, made = run(tmp_path / "greedy", [change(greedy)])
    assert "may ask 40 times" in ended.versions[1].problem and not ended.versions[1].kept
    assert made.broker.spent["solver"].calls == 4 + 4 * 40
    # A change that could not be measured to the end is no version.
    asks = "def solve(question, ask):\n    ask(question * 3000)\n    return 'right ' + question[-1]"
    cut, _ = run(tmp_path / "cut", [change(asks), call("interact")], tokens=5_000)
    assert not cut.versions[-1].kept and cut.best.index == 0


def test_a_run_that_is_done_is_told_again_and_another_plan_is_refused(tmp_path: Path) -> None:
    turns = [change(right(3)), call("interact")]
    first, _ = run(tmp_path, turns)
    again, made = run(tmp_path, turns)
    assert again == first and made.broker.turn == 2
    with pytest.raises(UserError, match="begun with steps 2, not 3"):
        run(tmp_path, turns, steps=3)
    ended, _ = run(tmp_path / "short", turns, steps=5)
    assert ended.stopped == "the recording has ended"


# Killed


STORY = [
    call("self_inspect"), change(right(2)), calls(("interact", {}), ("fly", {})),
    change(right(0), "solve"), change(SILENT, "evolve", "improver"), change(right(4)),
    change("def helper():\n    return 1", "helper", action="add"), call("interact"),
]  # fmt: skip


@pytest.fixture
def orphanage() -> Iterator[None]:
    """This process becomes the parent of what loses its own, and waits for it at the end."""
    before = set(psutil.Process().children())
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
    for child in set(psutil.Process().children()) - before:
        with suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)


def in_a_child(
    home: Path, after: int | None = None, delay: float = 0.0, number: int = signal.SIGKILL
) -> tuple[int, int]:
    """Run the story in a process that gets a signal ``delay`` seconds after ``after`` commits.

    How many commits were made, and the exit code.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run(home, STORY, 9, kept=lambda _: os.write(write, b"."))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    count = 0
    while True:
        if count == after:
            time.sleep(delay)
            os.kill(pid, number)
            after = None
        if not os.read(read, 1):
            break
        count += 1
    os.close(read)
    return count, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outcome(home: Path) -> list[Any]:
    """All that a run leaves, but for how long it took."""
    store = Store(home)
    found: list[Any] = [{**facts(v), "seconds": 0} for v in versions(store, "run")]
    found += [v.source for v in versions(store, "run")]
    found += [[m.round, m.value] for m in store.metrics("run", "test")]
    last = store.units("run", 9, "step")["step", 0].payload
    store.close()
    return [*found, last["agent"], last["broker"]]


def test_a_run_that_is_killed_loses_the_step_it_was_at_and_no_more(
    tmp_path: Path, orphanage: None
) -> None:
    before = processes()
    commits, code = in_a_child(tmp_path / "calm")
    assert (commits, code) == (11, 0)  # begin, nine steps, the test
    calm = outcome(tmp_path / "calm")
    assert [row["kept"] for row in calm[:6]] == [True] * 6
    rng = random.Random(6)
    for after in (0, 3, 5, 10):
        home = tmp_path / f"killed-{after}"
        number = signal.SIGINT if after == 5 else signal.SIGKILL
        done, code = in_a_child(home, after, rng.random() * 0.08, number)
        assert done < commits or code == 0
        again, code = in_a_child(home)
        # Every step that was committed stays; the one that was under way is taken again.
        assert code == 0 and commits - 1 <= done + again <= commits + 1
        assert outcome(home) == calm, f"killed after {done} commits"
    last = time.monotonic() + 15
    while alive := processes() - before:
        assert time.monotonic() < last, alive
        time.sleep(0.02)
