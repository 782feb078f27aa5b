"""The skill library: what it takes and refuses, how it goes back, and two processes at once."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from common.errors import UserError
from common.skills import Skill, SkillLibrary, SkillRefusedError, problem
from common.stages import Policy

ROOT = Path(__file__).parents[2]


def letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """How often each letter comes, to length one, (n, 26)."""
    found = np.array([[t.lower().count(chr(97 + k)) for k in range(26)] for t in texts], np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def library(folder: Path, prelude: str = "") -> SkillLibrary:
    return SkillLibrary(folder, prelude, encoder=letters)


def times(factor: float, *examples: str, name: str = "times") -> Skill:
    source = f'def {name}(x, by={factor}):\n    """The product of x and {factor}."""\n'
    return Skill(name, source + "    return x * by\n", examples, {"origin": "test"})


def test_a_version_is_taken_only_if_the_stored_examples_pass(tmp_path: Path) -> None:
    lib = library(tmp_path)
    first = lib.add(times(2, "assert times(1) > 1"))
    assert (first.version, first.signature, first.about) == (
        1, "times(x, by=2)", "The product of x and 2.",
    )  # fmt: skip
    with pytest.raises(SkillRefusedError, match=r"example 1 .*AssertionError"):
        lib.add(times(0.5))
    assert lib["times"] == first
    second = lib.add(times(3, "assert times(2) == 6"))
    assert second.version == 2
    assert second.examples == ("assert times(1) > 1", "assert times(2) == 6")
    assert [s.version for s in lib.history("times")] == [1, 2]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def times(x):\n    return x", "docstring"),
        ("def other(x):\n    '''An x.'''\n    return x", "defines no function times"),
        ("def times(x:\n", "no valid Python"),
        ("import os\ndef times(x):\n    '''An x.'''\n    return x", "import of os"),
        ("print(1)\ndef times(x):\n    '''An x.'''\n    return x", "only functions and constants"),
        ("def times(x):\n    '''An x.'''\n    return x.__class__", "__class__"),
    ],
)
def test_what_is_no_skill_is_refused_without_being_run(
    tmp_path: Path, source: str, why: str
) -> None:
    with pytest.raises(SkillRefusedError, match=why):
        library(tmp_path).add(Skill("times", source))
    assert list(library(tmp_path)) == []
    assert problem(Skill("../times", source)).startswith("'../times' is no name")


def test_sources_and_examples_run_behind_the_wall_only(tmp_path: Path) -> None:
    lib = library(tmp_path / "lib")
    secret = tmp_path / "secret"
    secret.write_text("here")
    reads = times(2, f"assert open({str(secret)!r}).read() == 'here'")
    with pytest.raises(SkillRefusedError, match="No such file|Permission denied"):
        lib.add(reads)
    with pytest.raises(SkillRefusedError, match="ended before"):  # it may not end well too early
        lib.add(times(2, "raise SystemExit(0)", "assert False"))


def test_the_prelude_is_there_for_skills_and_examples(tmp_path: Path) -> None:
    source = 'def root(x):\n    """The square root of x."""\n    return math.sqrt(x)\n'
    lib = library(tmp_path, "import math")
    assert lib.add(Skill("root", source, ("assert root(math.pi**2) == math.pi",))).version == 1


def test_a_version_whose_held_out_score_falls_is_refused(tmp_path: Path) -> None:
    lib = library(tmp_path)
    lib.add(times(2), score=0.5)
    with pytest.raises(SkillRefusedError, match=r"falls from 0\.5 to 0\.4"):
        lib.add(times(3), score=0.4)
    with pytest.raises(SkillRefusedError):
        lib.add(times(3), score=float("nan"))
    assert (lib["times"].version, lib["times"].score) == (1, 0.5)
    assert lib.add(times(3), score=0.5).version == 2
    lib.scored(0.7)
    assert [s.score for s in lib.history("times")] == [0.5, 0.7]


def test_uses_are_counted_for_the_version_in_use(tmp_path: Path) -> None:
    lib = library(tmp_path)
    lib.add(times(2))
    lib.used({"times": 3, "nobody": 1})
    lib.add(times(3))
    lib.used({"times": 1})
    print_before = lib.fingerprint()
    lib.used({"times": 1})
    assert [s.uses for s in lib.history("times")] == [3, 2]
    assert lib.fingerprint() == print_before


def test_search_finds_by_meaning(tmp_path: Path) -> None:
    lib = SkillLibrary(tmp_path)  # the real encoder
    for name, about in [
        ("near", "The two objects stand close to each other."),
        ("mirrored", "Objects are arranged symmetrically about an axis."),
        ("taller", "One object has a greater height than the other."),
    ]:
        lib.add(Skill(name, f'def {name}(p):\n    """{about}"""\n    return p\n'))
    assert [lib.search(q, 1)[0][0].name for q in (
        "adjacent things, at a small distance", "the same on the left and on the right",
        "a cupboard that is higher than a chair",
    )] == ["near", "mirrored", "taller"]  # fmt: skip


def test_an_exported_package_can_be_imported(tmp_path: Path) -> None:
    lib = library(tmp_path / "lib", "import math")
    lib.add(times(2))
    lib.add(Skill("root", 'def root(x):\n    """A root."""\n    return math.sqrt(x)\n'))
    lib.export(tmp_path / "exported_skills")
    sys.path.insert(0, str(tmp_path))
    try:
        package = importlib.import_module("exported_skills")
        assert (package.times(4), package.root(9.0)) == (8, 3.0)
        assert package.__all__ == ["root", "times"]
    finally:
        sys.path.remove(str(tmp_path))
    with pytest.raises(UserError, match="is there already"):
        lib.export(tmp_path / "exported_skills")
    with pytest.raises(UserError, match="cannot be imported"):
        lib.export(tmp_path / "two words")


def test_a_file_that_is_no_library_is_told(tmp_path: Path) -> None:
    (tmp_path / "skills.db").write_text("not a database at all, " * 100)
    with pytest.raises(UserError, match="library of skills"):
        library(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no folder"):
        library(tmp_path / "file")


NAMES = st.sampled_from(["times", "plus", "root"])


class Histories(RuleBasedStateMachine):
    """The library against a dictionary that does the same in memory."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.lib = library(self.folder / "lib")
        assert isinstance(self.lib, Policy)
        self.all: dict[str, list[float]] = {}
        self.current: dict[str, float] = {}
        self.saved: list[tuple[Path, dict[str, float], str]] = []

    @rule(name=NAMES, factor=st.integers(1, 4))
    def add(self, name: str, factor: float) -> None:
        taken = self.lib.add(times(factor, name=name))
        known = self.all.setdefault(name, [])
        if factor not in known:
            known.append(factor)
        self.current[name] = factor
        assert taken.version == known.index(factor) + 1

    @rule(name=NAMES)
    def rollback(self, name: str) -> None:
        known = self.all.get(name, [])
        at = known.index(self.current[name]) if name in self.current else 0
        if at == 0:
            with pytest.raises(KeyError):
                self.lib.rollback(name)
            return
        self.current[name] = known[at - 1]
        assert self.lib.rollback(name).version == at

    @rule()
    def save(self) -> None:
        folder = self.folder / f"state-{len(self.saved)}"
        folder.mkdir()
        self.lib.save(folder)
        self.saved.append((folder, dict(self.current), self.lib.fingerprint()))

    @precondition(lambda self: self.saved)
    @rule(n=st.integers(0, 9), elsewhere=st.booleans())
    def restore(self, n: int, elsewhere: bool) -> None:
        folder, current, fingerprint = self.saved[n % len(self.saved)]
        if elsewhere:  # into an empty library, as on another machine
            other = library(self.folder / f"other-{time.monotonic_ns()}")
            other.restore(folder)
            assert other.fingerprint() == fingerprint
            return
        self.lib.restore(folder)
        self.current = dict(current)
        assert self.lib.fingerprint() == fingerprint

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "lib"):
            return
        found = {s.name: s.source for s in self.lib}
        assert found == {n: times(f, name=n).source for n, f in self.current.items()}
        for name, known in self.all.items():
            assert [s.source for s in self.lib.history(name)] == [
                times(f, name=name).source for f in known
            ]

    def teardown(self) -> None:
        if hasattr(self, "lib"):
            self.lib.database.close()
            self.temporary.cleanup()


def test_any_history_of_changes_can_be_gone_back() -> None:
    run_state_machine_as_test(
        Histories, settings=settings(max_examples=15, stateful_step_count=15, deadline=None)
    )


WORKER = """
import sys
from pathlib import Path
from tests.common.test_skills import library, times
lib = library(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    lib.add(times(n + 1000 * int(sys.argv[2])))
    lib.add(times(n, name=f"own_{sys.argv[2]}"))
    lib.used({"times": 1})
"""


def worker(folder: Path, number: int, count: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(number), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_use_it_at_once_and_lose_nothing(tmp_path: Path) -> None:
    workers = [worker(tmp_path, number, 20) for number in (1, 2)]
    for process in workers:
        go(process)
    assert [process.wait(60) for process in workers] == [0, 0]
    lib = library(tmp_path)
    shared = lib.history("times")
    assert [s.version for s in shared] == list(range(1, 41))
    assert {s.source for s in shared} == {
        times(n + 1000 * w).source for n in range(20) for w in (1, 2)
    }
    assert sum(s.uses for s in shared) == 40
    assert [len(lib.history(f"own_{w}")) for w in (1, 2)] == [20, 20]


def test_killed_anywhere_it_is_as_after_a_whole_change(tmp_path: Path) -> None:
    for attempt in range(6):
        process = worker(tmp_path, attempt, 10_000)
        go(process)
        time.sleep(0.05 + 0.04 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        lib = library(tmp_path)
        for skill in lib:
            versions = [s.version for s in lib.history(skill.name)]
            assert versions == list(range(1, len(versions) + 1))
            assert skill.version in versions and problem(skill) == ""
        lib.add(times(-1.0 - attempt))
        assert lib["times"].source == times(-1.0 - attempt).source
        lib.database.close()


def test_the_saved_state_is_plain_json(tmp_path: Path) -> None:
    lib = library(tmp_path / "lib")
    lib.add(times(2, "assert times(1) == 2"), score=0.5)
    (tmp_path / "state").mkdir()
    lib.save(tmp_path / "state")
    rows = json.loads((tmp_path / "state/skills.json").read_text())
    assert rows == [{
        "name": "times", "source": times(2).source, "examples": ["assert times(1) == 2"],
        "provenance": {"origin": "test"}, "score": 0.5,
    }]  # fmt: skip
