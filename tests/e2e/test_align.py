"""Alignment of the starter as a user drives it: a tiny run in full; one killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common import registry
from common.errors import UserError
from speech.align import RECIPES
from speech.corpora import load
from speech.tasks import tasks
from speech.text import normalise

COMMAND = [sys.executable, "-m", "common.cli"]
ALIGN = ["speech", "align", "--recipe", "tiny", "--seed", "5", "--json"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    try:
        prompts = registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    home = tmp_path_factory.mktemp("home")
    return {**os.environ, "UPSPIRAL_HOME": str(home), "UPSPIRAL_PROMPTS": str(prompts)}


def run(environment: dict[str, str], *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def whole(environment: dict[str, str]) -> dict[str, Any]:
    return run(environment, *ALIGN, "--name", "whole")


def test_the_json_is_what_is_promised(whole: dict[str, Any]) -> None:
    assert whole["run"] == "whole" and whole["seed"] == 5
    assert [r["round"] for r in whole["rounds"]] == [0, 1]
    wanted = {"kept", "wer", "wer_se", "cer", "speaker_similarity", "dnsmos", "n", "seconds"}
    for row in whole["rounds"]:
        assert wanted <= row.keys() and row["n"] == 3 and 0 <= row["wer"] <= 1
        assert 1 <= row["dnsmos"] <= 5 and -1 <= row["speaker_similarity"] <= 1
    assert whole["rounds"][1]["pairs"] >= 1
    assert {"starter", "final"} == whole["test"].keys()


def test_the_report_plays_before_after_and_recording(
    environment: dict[str, str], whole: dict[str, Any]
) -> None:
    page = Path(whole["report"]).read_text(encoding="utf-8")
    versions = sum(r["kept"] for r in whole["rounds"]) + 1  # and the recording
    assert page.count("<audio") == 3 * versions
    assert "data:audio/ogg;base64," in page and "round 1" in page.lower()
    assert "All 3 test texts, most word errors of the final policy first" in page
    assert "Gap to the recordings" not in page  # tiny is for seconds
    exported = Path(environment["UPSPIRAL_HOME"]) / "pairs.parquet"
    found = run(environment, "runs", "export", "whole", "--out", str(exported), "--json")
    assert found["pairs"] == whole["rounds"][1]["pairs"]
    shown = run(environment, "runs", "show", "whole", "--json")
    assert shown["status"] == "done" and len(shown["rounds"]) == 2


def test_a_killed_run_resumes_to_the_same_figures(
    environment: dict[str, str], whole: dict[str, Any]
) -> None:
    process = subprocess.Popen(
        [*COMMAND, *ALIGN, "--name", "killed"],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "round 1 propose" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed = run(environment, "runs", "resume", "killed", "--json")

    def figures(found: dict[str, Any]) -> list[Any]:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in found["rounds"]]

    assert figures(resumed) == figures(whole)
    assert resumed["test"] == whole["test"]


def test_no_text_of_test_is_practised_or_tuned_on() -> None:
    corpus = load("prompts")
    for name in ("starter", "demo"):
        found = tasks(RECIPES[name](), corpus)
        texts = {
            split: {normalise(t.reference or "") for t in found if t.split == split}
            for split in ("train", "dev", "test")
        }
        assert not texts["test"] & (texts["train"] | texts["dev"])
        assert not texts["train"] & texts["dev"]
        assert len(texts["test"]) >= 60
        assert len(texts["train"]) == RECIPES[name]().texts
        recorded = {normalise(u.text) for u in corpus.split("test")}
        assert texts["test"] <= recorded


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "tni"], "unknown recipe"),
        (["--rounds", "0"], "rounds=0"),
        (["--set", "pairs=best"], "no pairs"),
        (["--set", "samples=1"], "samples=1"),
        (["--set", "bta=1"], "no setting"),
        (["--set", "beta=much"], "is no float"),
        (["--recipe", "tiny", "--policy", "nobody/nothing"], "nobody/nothing"),
    ],
)
def test_a_mistake_is_one_line(environment: dict[str, str], words: list[str], said: str) -> None:
    done = subprocess.run(
        [*COMMAND, "speech", "align", *words],
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and said in lines[0], done.stderr
