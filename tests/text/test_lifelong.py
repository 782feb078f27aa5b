"""A tiny model's way through two tasks: its log, its metrics, and where it goes on when killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.commands.lifelong import Run, offered, split
from common.errors import UserError
from common.lifelong import measure, prepare, read
from common.lifelong.run import held
from common.policies.local import HFPolicy
from common.records import Candidate
from common.store import Store
from tests.text.tiny import checkpoint, upspiral

SET = ["train=12", "dev=6", "test=6", "samples=4", "measured=2", "shots=0", "max_new_tokens=8",
       "learning_rate=5e-3", "epochs=2", "batch_size=8"]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    checkpoint(tmp_path / "model")
    for answer in "23":
        rows = [{"prompt": f"say twice {i}", "answer": answer} for i in range(30)]
        (tmp_path / f"say-{answer}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def words(home: Path, name: str, *more: str) -> list[str]:
    tasks = ",".join(f"jsonl:{home}/say-{answer}.jsonl" for answer in "23")
    settings = [word for one in SET for word in ("--set", one)]
    return ["run", "--tasks", tasks, "--model", str(home / "model"), "--recipe", "tiny",
            "--name", name, *settings, *more]  # fmt: skip


def lifelong(monkeypatch: pytest.MonkeyPatch, *given: str) -> tuple[int, dict[str, Any], str]:
    return upspiral(monkeypatch, "lifelong", *given)


def test_a_lifetime_of_two_tasks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told, said = lifelong(monkeypatch, *words(home, "life", "--experts"))
    assert code == 0, said
    log = read(Path(told["log"]))
    # Three tests of 6 questions of each task, two trainings of 12 questions answered four times.
    assert len(log) == told["experiences"] == 3 * 2 * 6 + 2 * 12 * 4
    assert [row["after"] for row in told["tests"]] == [None, *log.tasks]
    first, second = log.tasks
    before, after = told["tests"][0][first], told["tests"][1][first]
    assert after["mean"] > before["mean"] + 0.2 and after["n"] == 6, said
    # Training is what the store has: the judge's scores of the candidates, in their order.
    store = Store()
    runs = sorted(run.run for run in store.runs())
    assert [run.partition("-")[0] for run in runs] == ["life.1", "life.3"] + ["life.expert.0"] * 2
    trained = [c.scores["correct"] for c in store.candidates(runs[0])]
    assert log.value[log.train & (log.block == 1)].tolist() == trained
    # What it says is what anybody measures from its log, experts included.
    experts = [read(Path(path)) for path in told["ste"]]
    assert told["metrics"] == measure(prepare(log, experts)).metrics
    # The first task is learnt by the starter in both, with the same random numbers.
    assert told["by_task"][first]["RP"] == pytest.approx(1.0)
    assert told["by_task"][second]["RP"] is not None and told["metrics"]["PM"] is not None
    assert "<svg" in Path(told["plot"]).read_text()
    # Its runs are runs of text like others: they can be shown and solved with.
    code, shown, said = upspiral(monkeypatch, "runs", "show", runs[1])
    assert code == 0 and shown["status"] == "done"
    code, answer, said = upspiral(monkeypatch, "solve", "--run", runs[1], "say twice 7")
    assert code == 0 and answer["samples"], said


def test_a_killed_lifetime_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, whole, said = lifelong(monkeypatch, *words(home, "whole"))
    assert code == 0, said
    generate = HFPolicy.generate
    for calls in (2, 4, 3):  # in the first test, in the first training, in what comes next
        left = calls

        def broken(self: HFPolicy, *args: Any, **kw: Any) -> list[Candidate]:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return generate(self, *args, **kw)

        with monkeypatch.context() as patched:
            patched.setattr(HFPolicy, "generate", broken)
            code, _, said = lifelong(monkeypatch, *words(home, "cut"))
        assert code == 130 and "upspiral lifelong run --tasks" in said and "--name cut" in said
    if (run := next((r.run for r in Store().runs() if r.run.startswith("cut.")), None)) is None:
        raise AssertionError("no training was begun")
    torn = next((home / "home/runs/cut/log").glob("*/*/data-log.tsv"))
    code, told, said = upspiral(monkeypatch, "runs", "resume", run)
    assert code == 0, said
    assert torn.exists() and told["metrics"] == whole["metrics"]
    ours, theirs = (read(Path(one["log"])) for one in (told, whole))
    assert ours.value.tolist() == theirs.value.tolist()
    assert ours.experience.tolist() == [*range(len(ours))]
    # Done, it only says again what it came to; with other settings the name is taken.
    code, again, _ = lifelong(monkeypatch, *words(home, "cut"))
    assert code == 0 and again == told
    code, _, said = lifelong(monkeypatch, *words(home, "cut", "--seed", "1"))
    assert code == 2 and "other tasks or settings" in said and "resume" not in said
    with held(home / "home/runs/cut", "cut"):  # as another process has it
        code, _, said = lifelong(monkeypatch, *words(home, "cut"))
    assert code == 2 and "'cut' is under way in another process" in said and "resume" not in said


def test_names_and_mistakes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert split(["a,b:steps=1-2,level=2", "c"]) == ["a", "b:steps=1-2,level=2", "c"]
    command = Run(tasks=("a", "b"), name="x", set=("samples=4",)).command()
    assert command.endswith("--tasks a b --recipe starter --seed 0 --name x --set samples=4")
    for given, message in (
        (["run"], "no tasks are named"),
        (["run", "--tasks", "arithmetics"], "unknown task 'arithmetics'"),
        (["run", "--tasks", "logic", "--method", "vanila"], "unknown method 'vanila'"),
        (["run", "--tasks", "logic", "--recipe", "big"], "unknown recipe 'big'"),
        (["run", "--tasks", "logic", "--name", "../x"], "'../x' cannot name a lifetime"),
        (["run", "--tasks", "logic", "--name", "x" * 41], "cannot name a lifetime"),
        (["run", "--tasks", f"jsonl:{home}/none.jsonl", "--model", f"{home}/model"], "none.jsonl"),
        (["run", "--tasks", "logic", "--model", f"{home}/none"], f"{home}/none"),
    ):
        code, told, said = lifelong(monkeypatch, *given)
        assert code == 2 and message in told["error"] and "resume" not in said, said
    assert not Store().runs()
    monkeypatch.setattr("common.cli.domains", dict)
    with pytest.raises(UserError, match="0 domains have lifetimes"):
        offered(None)
