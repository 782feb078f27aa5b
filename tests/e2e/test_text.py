"""Reasoning loops as a user drives them: improve a tiny model, solve with it, see the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common import cli
from tests.text.tiny import checkpoint, task

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "text" not in cli.domains():
        pytest.skip("the domain is not installed: make setup")
    return tmp_path_factory.mktemp("place")


def upspiral(place: Path, *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "common.cli", *words, "--json"],
        cwd=place,
        env={**os.environ, "UPSPIRAL_HOME": str(place / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


def test_improve_then_solve_and_report(place: Path) -> None:
    model, work = str(checkpoint(place / "model")), task(place)
    settings = ["train=16", "samples=8", "learning_rate=5e-3", "epochs=4", "max_new_tokens=8"]
    words = [word for one in settings for word in ("--set", one)]
    told, said = upspiral(
        place, "text", "improve", "--recipe", "tiny", "--model", model, "--task", work, *words
    )
    assert [r["round"] for r in told["rounds"]] == [0, 1]
    for side in ("starter", "final"):
        assert 0 <= told["test"][side]["accuracy"] <= 1 and told["test"][side]["n"] > 1
        assert "accuracy_se" in told["test"][side]
    assert "round 1 propose" in said
    answer, _ = upspiral(place, "text", "solve", "say twice 3", "--run", "last", "--task", "gsm8k")
    assert len(answer["samples"]) == 5
    page, _ = upspiral(place, "runs", "report", "last", "--out", str(place / "r.html"))
    assert "<h2>Answers</h2>" in Path(page["report"]).read_text()
    wrong, said = upspiral(place, "text", "improve", "--method", "vanila", code=2)
    assert "did you mean 'vanilla'" in wrong["remedy"]
