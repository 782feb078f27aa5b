"""A comparison as a user drives it: two arms, and once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common import registry
from common.errors import UserError

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    return tmp_path_factory.mktemp("place")


def upspiral(place: Path, *words: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "common.cli", "speech", *words, "--json"],
        cwd=place,
        env={
            **os.environ,
            "UPSPIRAL_HOME": str(place / "home"),
            "UPSPIRAL_PROMPTS": str(registry.get("prompts")),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


def test_two_arms_side_by_side(place: Path) -> None:
    compare = ["compare", "--what", "pairs", "--arms", "golden", "both", "--recipe", "tiny"]
    found, said = upspiral(place, *compare, "--seeds", "1")
    assert found["pending"] == [] and [*found["arms"]] == ["golden", "both"]
    assert "[2/2] both, seed 0, about" in said
    golden, both = (found["arms"][arm]["metrics"]["wer"] for arm in ("golden", "both"))
    # One seed, one starter: measured once, the same in both.
    assert golden["starter"] == both["starter"]
    for change in (golden, both):
        assert change["win"] + change["tie"] + change["lose"] == pytest.approx(1)
        assert change["interval"]["n"] == 3
    table = (place / "table" / "table.md").read_text()
    assert table.count("| golden |") == table.count("| both |") == 6  # overview, four metrics, cost
    assert json.loads((place / "table" / "table.json").read_text()) == found["arms"]
    assert (place / "table" / "wer.svg").read_text().startswith("<svg")
    # Both proposed from the starter: remembered, once for each unit of work.
    assert len([*(place / "home" / "runs" / "compare" / "memo").glob("*.json")]) < 8

    again, said = upspiral(place, *compare, "--seeds", "1")
    assert again["arms"] == found["arms"] and "seed 0" not in said


def test_a_run_that_another_process_began_meanwhile_is_left_to_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.commands import Output, arms
    from common.store import Store
    from speech.commands import compare

    monkeypatch.setenv("UPSPIRAL_HOME", str(place / "other"))
    monkeypatch.setenv("UPSPIRAL_PROMPTS", str(registry.get("prompts")))
    wanted = compare.Compare("pairs", ("golden",), "tiny", seeds=1, out=place / "busy")
    (config,) = wanted.configs().values()
    run = compare.run_name("compare", wanted.base(), config, 0)
    # Nobody was at the run when the comparison looked, and then somebody was.
    statuses = iter([None])
    look = arms.status_of
    monkeypatch.setattr(arms, "status_of", lambda store, name: next(statuses, look(store, name)))
    lease = Store().lease(run, config={})
    try:
        found = wanted.run(Output(sys.stdout))
    finally:
        lease.close("failed")
    assert found["pending"] == [run] and found["arms"] == {}
