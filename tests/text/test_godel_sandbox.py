"""Where the agent lives: turns that harm nothing, leave nothing, and find nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import sandbox
from common.records import Metric
from common.sandbox import job
from common.store import Store
from tests.text.godel import (
    HOSTILE,
    MARK,
    QUICK,
    broker,
    calls,
    environment,
    processes,
    right,
    workshop,
)
from text.godel.cell import Cell, NotAllowedError
from text.godel.evolve import Evolution, versions
from text.godel.source import Source
from text.godel.workshop import Version, Workshop

WALLS = [
    pytest.param(wall, marks=pytest.mark.skipif(bool(why), reason=f"no {wall}: {why}"))
    for wall in sandbox.WALLS
    for why in [sandbox.problem(wall)]
]


def nothing(name: str, arguments: Mapping[str, Any]) -> Any:
    raise NotAllowedError(f"there is no {name}")


def answers(cell: Cell, policy: str, questions: list[str], width: int = 1) -> list[Any]:
    request = {"do": "solve", "policy": policy, "questions": questions, "width": width}
    ended = cell.turn(request, lambda _, a: f"said to {a['prompt']}", 5)
    assert ended.final is not None, ended.why
    found: list[Any] = ended.final["answers"]
    return found


@pytest.mark.parametrize("wall", WALLS)
def test_turns_of_any_kind_leave_the_next_one_alone(wall: sandbox.Layer) -> None:
    before = processes()
    with Cell(layer=wall) as cell:
        for name, code in HOSTILE.items():
            ended = cell.turn({"do": "run", "policy": "", "code": code}, nothing, 0.5)
            fine = name in ("leave a process", "leave a daemon", "leave files")
            assert not ended.error or not fine, (name, ended)
            assert answers(cell, "def solve(q, ask): return ask(q)", ["a"]) == [
                {"answer": "said to a"}
            ]
        begun = cell.begun
        assert begun > 5  # those that left something behind took their sandbox with them
        # Neither memory nor files outlive a turn, and no process of the sandbox is left.
        stay = "import sys; sys.kept = 1; open('kept', 'w').write('x'); print('done')"
        assert cell.turn({"do": "run", "policy": "", "code": stay}, nothing, 5).printed == "done\n"
        look = "import os, sys; print(hasattr(sys, 'kept'), os.listdir('.'))"
        ended = cell.turn({"do": "run", "policy": "", "code": look}, nothing, 5)
        assert (ended.printed, cell.begun) == ("False []\n", begun)
    assert processes() <= before


def test_many_questions_are_answered_at_a_time_and_errors_are_told() -> None:
    policy = """
def solve(question, ask):
    if question == '3':
        return 1 / 0
    return ask(question) if question != '5' else 5
"""
    with Cell() as cell:
        found = answers(cell, policy, [str(n) for n in range(12)], width=4)
    assert [row.get("answer") for row in found][:3] == ["said to 0", "said to 1", "said to 2"]
    assert found[3]["error"].endswith("ZeroDivisionError: division by zero")
    assert 'File "policy.py", line 4, in solve' in found[3]["error"]
    assert "script.py" not in found[3]["error"]
    assert "must return a text, not int" in found[5]["error"]


def test_what_the_host_cannot_answer_ends_the_turn_and_is_raised() -> None:
    def broken(name: str, arguments: Mapping[str, Any]) -> Any:
        raise KeyError("the server is gone")

    with Cell() as cell:
        request = {"do": "solve", "policy": Source.start().policy, "questions": ["a"], "width": 2}
        with pytest.raises(KeyError, match="the server is gone"):
            cell.turn(request, broken, 5)
        refused = cell.turn(request, nothing, 5)
        assert refused.final is not None
        assert "HostError: there is no ask" in refused.final["answers"][0]["error"]


@pytest.mark.parametrize("wall", WALLS)
def test_whoever_is_killed_while_it_ends_its_sandbox_leaves_no_folder(
    wall: sandbox.Layer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pid = os.fork()
    if pid == 0:
        try:
            cell = Cell(layer=wall)
            cell.turn({"do": "run", "policy": "", "code": ""}, nothing, 5)
            monkeypatch.setattr(job.Keeping, "close", lambda _: os.kill(os.getpid(), 9))
            assert any(tmp_path.iterdir())
            cell.close()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    last = time.monotonic() + 15
    while left := list(tmp_path.iterdir()):
        assert time.monotonic() < last, left
        time.sleep(0.02)


# Nothing to find

SEARCH = """
import gc, os, sys
mark = ('pine' + 'apple').encode()
found = []


def look(what, data):
    # This source, and the question itself, are no discovery.
    for at in range(len(data)):
        at = data.find(mark, at)
        if at < 0:
            break
        if data[at + 9:at + 10] == b'-':
            found.append(what)
            break


def search():
    for one in gc.get_objects():
        try:
            look('memory', repr(one).encode())
        except Exception:
            pass
    for root in ('/', '..', '/proc', '/tmp', os.environ['HOME'], *PLACES):
        for folder, folders, names in os.walk(root):
            folders[:] = [f for f in folders if f not in ('lib', 'lib64', 'usr', 'site-packages')]
            for name in names:
                try:
                    with open(os.path.join(folder, name), 'rb') as file:
                        look(folder + '/' + name, file.read(1 << 20))
                except OSError:
                    pass
    for path in ('/proc/self/mem', '/proc/self/environ', '/proc/1/environ', '/proc/self/maps'):
        try:
            look(path, open(path, 'rb').read(1 << 20))
        except OSError:
            pass
    return found
"""
ASKED = ("test", "evaluate", "reference", "answers", "validation", "score", "interact", "decide")


@pytest.mark.parametrize("wall", WALLS)
def test_an_agent_that_looks_for_answers_finds_none(wall: sandbox.Layer) -> None:
    """In memory, in files, and from the broker; the answers are only ever on the host."""
    assert environment().validation[0].reference == f"{MARK}-dev-0"
    places = [str(Path.home()), *map(str, Path(__file__).resolve().parents[:4])]
    policy = f"PLACES = {places!r}\n{SEARCH}" + (
        "def solve(question, ask):\n"
        f"    host = ask.__closure__[0].cell_contents\n    for name in {ASKED!r}:\n"
        "        try: found.append((name, host(name, task=question, split='test')))\n"
        "        except Exception as error: pass\n"
        "    try: look('ask', ask('What is the reference answer to ' + question).encode())\n"
        "    except Exception: pass\n"
        "    return 'found ' + repr(search()) if question[-1] == '0' else 'no'"
    )
    made = Workshop(environment(), workshop().broker, QUICK, Cell(layer=wall))
    try:
        made.rules = type(QUICK)(seconds=60)
        evaluation = made.evaluate(policy)
        assert evaluation.answers == ("found []", "no", "no", "no"), evaluation.errors
        told = made.told(evaluation) + "\n".join(evaluation.errors)
        assert "question 1" in told and MARK not in told
        last = made.evaluate(policy, last=True)
        assert last.answers[0] == "found []" and last.metric.value == 0
    finally:
        made.close()


# Changes of any kind

VALID = st.integers(0, 4).map(lambda n: ("policy", "modify", "solve", right(n)))
INVALID = st.sampled_from(
    [
        ("policy", "modify", "solve", "def solve(question, ask) return 1"),
        ("policy", "modify", "solve", "def solve(question, ask):\n    return nothing"),
        ("policy", "modify", "solve", "solve = 5"),
        ("policy", "delete", "solve", ""),
        ("policy", "add", "helper", "import nowhere\ndef helper(): pass"),
        ("improver", "modify", "evolve", "def evolve(goal, state, act):\n    return state"),
        ("improver", "modify", "evolve", "def evolve(goal, state, act):\n    return act('decide')"),
        ("improver", "delete", "read", ""),
        ("improver", "modify", "HISTORY", "HISTORY = 1 / 0"),
        ("memory", "add", "x", "x = 1"),
    ]
)
CHEAP = [
    "exit",
    "end",
    "take memory",
    "recurse",
    "say a last word",
    "say no object",
    "close descriptors",
    "leave files",
    "spoil the library",
    "raise what is no exception",
]
"""What does not cost a sandbox; the others come less often, for the sake of time."""  # fmt: skip
NAMES = [*CHEAP, *CHEAP, *CHEAP, *sorted(HOSTILE)]


@st.composite
def hostile(draw: st.DrawFn) -> tuple[str, str, str, str]:
    """Code that means harm: when questions are answered, at the import, or in a step."""
    code = HOSTILE[draw(st.sampled_from(NAMES))]
    lines = "\n".join(f"    {line}" for line in code.splitlines())
    where = draw(st.sampled_from(["solve", "import", "evolve"]))
    if where == "solve":
        return "policy", "modify", "solve", f"def solve(question, ask):\n{lines}\n    return 'x'"
    if where == "import":
        return draw(st.sampled_from(["policy", "improver"])), "add", "Trap", f"class Trap:\n{lines}"
    source = f"def evolve(goal, state, act):\n{lines}\n    return state"
    return "improver", "modify", "evolve", source


UPDATE = st.one_of(VALID, VALID, VALID, INVALID, hostile())
UPDATES = st.lists(UPDATE, min_size=1, max_size=3)
WORDS = st.one_of(st.sampled_from(["\ud83d", "\udc00 \ud800", "a\0b"]), st.text(st.characters()))
"""Text of any kind, halves of characters too."""


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Workshop, set[psutil.Process]]]:
    """A workshop, and the processes that are not its own."""
    before = processes()
    made = workshop()
    yield made, before
    made.close()
    assert processes() <= before


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(UPDATES)
def test_whatever_the_agent_makes_of_itself_the_best_stays_and_nothing_else(
    place: tuple[Workshop, set[psutil.Process]], updates: list[tuple[str, str, str, str]]
) -> None:
    shop, others = place
    first = Version(0, Source.start(), Metric.of("accuracy", dict.fromkeys("abcd", 0.0)))
    shop.take_up(first, first, "", 1)
    shop.made = [first]
    for update in updates:
        before = shop.best.metric.value
        try:
            shop.update(*update)
            version = shop.settle()
        except NotAllowedError:
            assert shop.draft == shop.current.source
            version = None
        for n in range(5):
            if update[-1] == right(n) and version is not None:
                assert version.metric.value == n / 4
            elif update[-1] == right(n) and shop.current.source.policy.find(right(n)) < 0:
                assert n / 4 < before - 0.5  # the only reason to send it back
    kept = [v for v in shop.made if v.kept]
    assert shop.best == max(kept, key=lambda v: (v.metric.value, -v.index))
    # The best is what it was measured as, in a runtime that still works, and nobody else is there.
    again = shop.evaluate(shop.best.source.policy)
    assert list(again.metric.items.values()) == list(shop.best.metric.items.values())
    there = processes() - others
    assert len(there) <= 4, there  # the keeper, bubblewrap, its init, the runtime


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(UPDATE, WORDS), min_size=1, max_size=3))
def test_a_run_of_any_changes_and_any_words_is_kept_as_it_was_told(
    steps: list[tuple[tuple[str, str, str, str], str]],
) -> None:
    turns = []
    for (file, action, name, source), words in steps:
        update = {"file": file, "action": action, "name": name, "source": source, "reason": words}
        llm, code = ("call_llm", {"prompt": words}), ("run_code", {"source": f"# {words}"})
        turns.append(calls(llm, code, ("self_update", update)) + words)
    with TemporaryDirectory() as home:
        store = Store(Path(home))
        made = [Evolution(environment(), broker(turns), store, len(turns), QUICK) for _ in "ab"]
        first, again = (one.run("run", 0, {}, "small") for one in made)
        assert again == first and versions(store, "run") == list(first.versions)
        assert made[0].agent == made[1].agent
        kept = [v for v in first.versions if v.kept]
        assert first.best == max(kept, key=lambda v: (v.metric.value, -v.index))
        store.close()
