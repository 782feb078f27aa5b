"""Points by a model for answers without a reference: mathematics, a server, and whole runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.policies.likelihood import teacher_forced
from common.policies.local import HFPolicy
from common.policies.served import ServedError
from common.records import Candidate, Task
from common.store import Store
from tests.common.loopback import Server, serving
from tests.common.tiny import context
from tests.text.tiny import checkpoint, upspiral
from text.evaluator import BASE, CHAT, Likely, Served, asking, unanswered

TASKS = {"t": Task("t", "say it", meta={"kind": "text"})}
ANSWERS = [Candidate(f"c{i}", "t", 0, text) for i, text in enumerate(("1.", "so is 2."))]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as one:
        yield one


@pytest.mark.parametrize("chat", [False, True])
def test_likely_points_are_the_mean_by_the_digits_probabilities(tmp_path: Path, chat: bool) -> None:
    policy = HFPolicy.load(checkpoint(tmp_path / "model", more="012345"))
    if chat:
        policy.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %} so"
    scores = Likely(policy).judge(TASKS, ANSWERS, context(tmp_path))
    digits = [[policy.tokenizer.convert_tokens_to_ids(str(k))] for k in range(6)]
    for scored, answer in zip(scores, ANSWERS, strict=True):
        asked = asking(TASKS["t"], answer, CHAT if chat else BASE)
        assert f"Question: say it\n\nAnswer: {answer.output}\n" in asked
        ids = policy.encode_prompt(asked)
        p = np.exp(teacher_forced(policy.model, [ids] * 6, digits, 0).sums)
        assert scored["points"] == pytest.approx(float(p / p.sum() @ np.arange(6)), abs=1e-3)
    assert scores[0] != scores[1]
    assert Likely(policy).judge(TASKS, [], context(tmp_path)) == []


def test_a_served_evaluator_is_asked_again_until_its_points_fit(
    server: Server, tmp_path: Path
) -> None:
    server.otherwise = lambda body: {
        "content": '{"reasons": "fine", "points": 4}'
        if "Answer: 1." in body["messages"][0]["content"]
        else '{"points": 9}'
    }
    judge = Served("big", server.url)
    assert judge.judge(TASKS, ANSWERS[:1], context(tmp_path)) == [{"points": 4.0}]
    with pytest.raises(ServedError, match="no valid Opinion"):
        judge.judge(TASKS, ANSWERS[1:], context(tmp_path))
    assert [body["model"] for body in server.seen] == ["big"] * 4


def instructions(folder: Path) -> str:
    path = folder / "instructions.jsonl"
    rows = [{"prompt": f"say twice {i}", "language": "en"} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return f"x-alpaca:{path}"


def improve(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str
) -> tuple[int, dict[str, Any], str]:
    monkeypatch.setenv("UPSPIRAL_HOME", str(folder / "home"))
    words = ["--set", "max_new_tokens=6", "--set", "learning_rate=1e-2", *more]
    return upspiral(
        monkeypatch, "improve", "--recipe", "tiny", "--model", str(checkpoint(folder / "model")),
        "--task", instructions(folder), *words,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["sharpening-sft", "sharpening-dpo", "meta-rewarding"])
def test_instructions_are_measured_in_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    evaluator = str(checkpoint(tmp_path / "other", 2, "012345"))
    code, told, said = improve(
        monkeypatch, tmp_path, "--method", method, "--evaluator", evaluator, "--name", "one"
    )
    assert code == 0, said
    for side in ("starter", "final"):
        assert 0 < told["test"][side]["points"] < 5 and told["test"][side]["n"] == 4
    names = {m.name for m in Store().rounds("one")[0].metrics}
    assert "points" in names and not names & {"accuracy", "strict"}


def test_a_servers_points_decide_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    server.otherwise = lambda body: {"content": '{"points": 3}'}
    code, _, said = improve(
        monkeypatch, tmp_path, "--method", "sharpening-sft", "--evaluator", "served:big",
        "--evaluator-url", server.url, "--name", "one",
    )  # fmt: skip
    assert code == 0, said
    assert [r.kept for r in Store().rounds("one")] == [True, False]  # no round is better than 3


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, wrong in (
        ((), "tasks without a reference answer"),
        (("--evaluator", "m"), "vanilla learns from right and wrong"),
        (("--evaluator", "m", "--method", "pit"), "pit learns from right and wrong"),
        (("--evaluator", str(tmp_path / "model")), "would evaluate itself"),
        (
            ("--evaluator", "no/such", "--method", "sharpening-sft"),
            "cannot load the language model",
        ),
        (("--evaluator", "served:m"), "no address of 'served:m'"),
        (("--evaluator-url", "http://127.0.0.1:9/v1"), "the address of no evaluator"),
    ):
        code, _, said = improve(monkeypatch, tmp_path, *more)
        assert code == 2 and wrong in said, said
    assert not Store().runs()
    with_tests = Task("c", "write it", meta={"kind": "code"})
    assert unanswered([*TASKS.values(), with_tests]) and not unanswered([with_tests])
