"""``text improve --base-url``: servers sample, this process learns, and they get its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.policies import engines
from common.store import Store
from tests.common.engine_server import engine
from tests.text.tiny import checkpoint, task, upspiral

SET = ["train=8", "dev=4", "test=4", "samples=4", "measured=2", "shots=0", "max_new_tokens=6",
       "learning_rate=2e-2", "epochs=4", "batch_size=8", "lora=4"]  # fmt: skip


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(engines, "RETRIES", 0)
    return checkpoint(tmp_path / "model")


def improve(
    monkeypatch: pytest.MonkeyPatch, model: Path, url: str, *more: str
) -> tuple[int, dict[str, Any], str]:
    words = [word for one in SET for word in ("--set", one)]
    return upspiral(
        monkeypatch, "improve", "--recipe", "tiny", "--model", str(model), "--rounds", "1",
        "--task", task(model.parent), *words, "--base-url", url, *more,
    )  # fmt: skip


def figures(told: dict[str, Any]) -> Any:
    rounds = [{k: v for k, v in r.items() if k != "seconds"} for r in told["rounds"]]
    return rounds, told["test"], told["sampled_tokens"]


def test_a_run_is_sampled_by_servers_and_goes_on_after_they_fail(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(model) as one, engine(model) as two:
        code, whole, said = improve(monkeypatch, model, f"{one.url},{two.url}", "--name", "whole")
        assert code == 0, said
        for server in (one, two):
            paths = [path for path, _ in server.seen]
            assert paths.count("/v1/completions") > 10
            assert paths.count("/v1/load_lora_adapter") == 1
        assert len(whole["rounds"]) == 2 and whole["rounds"][1]["pairs"] > 0
        drawn = Store().candidates("whole", 1)
        assert len(drawn) == 8 * 4 and all(c.logprob < 0 and c.tokens > 0 for c in drawn)
    with engine(model) as server:
        server.broken["/v1/load_lora_adapter"] = 500  # that of the first round
        code, told, said = improve(monkeypatch, model, server.url, "--name", "cut")
        assert code == 2 and "broken" in said and "upspiral runs resume cut" in said
        server.broken.clear()
        code, told, said = upspiral(monkeypatch, "runs", "resume", "cut")
        assert code == 0, said
        assert figures(told) == figures(whole)


def test_mistakes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, wrong in (
        (("--executor", "ray"), "servers sample already"),
        (("--method", "pit"), "pit samples while it learns"),
        (("--base-url", "host:8000"), "'host:8000' is not the address of a server"),
        (("--restart", "sh 'restart"), "cannot read the command"),
        (("--base-url", "", "--restart", "true"), "there is no server to restart"),
    ):
        code, _, said = improve(monkeypatch, model, "http://127.0.0.1:9/v1", *more)
        assert code == 2 and wrong in said, said
    assert not Store().runs()
    code, _, said = improve(monkeypatch, model, "http://127.0.0.1:9/v1", "--name", "none")
    assert code == 2 and "no server answers at http://127.0.0.1:9/v1" in said
    assert "upspiral runs resume none" in said
