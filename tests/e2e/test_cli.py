"""The command as a user drives it: exit codes, streams, JSON, mistakes in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.records import Metric, Preference, Round, Task
from common.store import Store

HEAVY = ("torch", "transformers", "sqlalchemy", "matplotlib", "numpy")


def upspiral(
    home: Path, *words: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "common.cli", *words],
        env={**os.environ, "UPSPIRAL_HOME": str(home), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A store with two runs: an old one that was cut off, and a new one that is done."""
    store = Store(tmp_path)
    items = {f"t{i}": 0.1 * i for i in range(5)}
    better = {task: value - 0.05 - 0.001 * len(task) for task, value in items.items()}
    store.lease("old", recipe="nowhere/align:demo").close("failed")
    lease = store.lease("new", recipe="nowhere/align:demo", seed=3)
    store.add(
        "new",
        [
            Task("t0", "hello"),
            Preference("p0", "t0", 1, "hello", "good", "bad", 0.5),
            Round(0, True, "aa"),
            Round(1, True, "bb", "wer fell", pairs=1, seconds=2.0),
            Metric("wer", 0.2, 0.1, 5, "dev", 0, "lower", items),
            Metric("wer", 0.15, 0.1, 5, "dev", 1, "lower", better),
            Metric("wer", 0.2, 0.1, 5, "test", 0, "lower", items),
            Metric("wer", 0.15, 0.1, 5, "test", 1, "lower", better),
        ],
    )
    lease.close("done")
    store.close()
    return tmp_path


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from common.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    for words in (["--help"], ["runs", "--help"], ["runs", "lst"], ["nothing"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        loaded = set(done.stdout.splitlines()[-1].split())
        assert not loaded & {*HEAVY, "tyro"}, words


def test_overview_and_group_help(tmp_path: Path) -> None:
    for words in ([], ["--help"], ["help"]):
        done = upspiral(tmp_path, *words)
        assert done.returncode == 0
        assert "upspiral doctor" in done.stdout
    assert "$ upspiral runs list" in upspiral(tmp_path, "runs", "--help").stdout


def test_command_help_has_an_example(tmp_path: Path) -> None:
    done = upspiral(tmp_path, "runs", "export", "--help")
    assert done.returncode == 0
    assert "upspiral runs export last --out pairs.parquet" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rusn"], "did you mean 'runs'"),
        (["runs", "lst"], "did you mean 'list'"),
        (["data", "get", "promts"], "did you mean 'prompts'"),
        (["data", "get"], "see: upspiral data get --help"),
        (["runs", "show", "nwe"], "did you mean 'new'"),
        (["runs", "list", "--all"], "Unrecognized options: --all"),
        (["runs", "report", "new", "--out", "no/such/folder.html"], "is not there"),
        (["runs", "resume", "old"], "unknown domain 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line_and_2(home: Path, words: list[str], said: str) -> None:
    done = upspiral(home, *words)
    assert done.returncode == 2, done.stderr
    assert said in one_line(done)
    assert done.stdout == ""


def test_runs_from_list_to_report(home: Path, tmp_path: Path) -> None:
    done = upspiral(home, "runs", "list", "--json")
    assert done.returncode == 0
    runs = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert [(r["run"], r["status"]) for r in runs] == [("new", "done"), ("old", "failed")]
    assert set(runs[0]) == {"run", "recipe", "status", "started"}

    shown = json.loads(upspiral(home, "runs", "show", "last", "--json").stdout.splitlines()[-1])
    assert shown["seed"] == 3
    assert [r["wer"] for r in shown["rounds"]] == [0.2, 0.15]
    assert shown["test"]["final"] == {"wer": 0.15, "wer_se": 0.1, "n": 5}
    assert "wer: -0.052, 95%" in upspiral(home, "runs", "show", "new").stdout

    page = tmp_path / "page.html"
    assert upspiral(home, "runs", "report", "new", "--out", str(page)).returncode == 0
    assert "wer fell" in page.read_text(encoding="utf-8")

    pairs = tmp_path / "pairs.parquet"
    done = upspiral(home, "runs", "export", "last", "--out", str(pairs), "--json")
    assert json.loads(done.stdout)["pairs"] == 1
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(pairs)["chosen"].to_pylist() == ["good"]


def test_a_failure_is_1_with_its_details_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder belongs")
    done = upspiral(tmp_path, "data", "list", "--json")
    assert done.returncode == 1
    assert "FileExistsError" in json.loads(done.stdout)["error"]
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in one_line(done)
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_home_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = upspiral(tmp_path / "file/home", "runs", "list", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["remedy"].startswith("set UPSPIRAL_HOME")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "common.cli", "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141
