"""Every method as a user drives it, on a tiny model: it runs, says what it did, and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.loop import Loop
from common.store import Store
from tests.common.toy import quiet
from tests.text.tiny import checkpoint, task, upspiral
from text.improve import ImproveConfig
from text.methods import METHODS, method
from text.setup import build, with_settings

SET = ["train=12", "dev=6", "test=6", "samples=6", "measured=2", "shots=0", "max_new_tokens=8",
       "learning_rate=3e-3", "epochs=2", "batch_size=8", "max_length=400"]  # fmt: skip
OWN = {
    "dive": ["measure=distinct-n", "drop=0"],  # the others need sentence embeddings
    "bstar": ["temperatures=0.7,1.0"],
    "smart": ["attempts=2"],
    "sharpening-sft": ["kind=majority", "mu=2", "most=12"],
    "sharpening-dpo": ["kind=logprob", "exponent=1.5"],
    "meta-rewarding": ["judgements=2", "judge_tokens=12"],
    "pit": ["iterations=1", "rollouts=8", "steps=1"],
    "language-imbalance": ["answers=3"],
    "sra-mcts": ["iterations=2", "branch=2"],
}
SHOWS = {
    "dive": "outliers",
    "bstar": "balance_dev",
    "smart": "first_accuracy",
    "sharpening-sft": "answer_coverage",
    "sharpening-dpo": "log_coverage",
    "meta-rewarding": "judge_training",
    "language-imbalance": "off_target",
    "sra-mcts": "tasks_with_lessons",
}
WEAK = ("smart", "meta-rewarding", "language-imbalance", "sra-mcts")
"""What they ask for is beyond a model of 14 words, so there may be nothing to learn."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    return tmp_path


def bilingual(folder: Path) -> str:
    """A task of which half the questions are said to be Spanish."""
    path = folder / "both.jsonl"
    rows = [
        {"prompt": f"say twice {i}", "answer": "2", "language": "es" if i % 2 else "en"}
        for i in range(60)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return f"jsonl:{path}"


def words(settings: list[str]) -> list[str]:
    return [word for one in settings for word in ("--set", one)]


# Feedback has tasks and measures of its own: test_feedback.py.
ANSWERING = sorted(set(METHODS) - {"vanilla", "feedback-sft", "feedback-dpo"})


@pytest.mark.parametrize("name", ANSWERING)
def test_it_runs_and_says_what_it_did(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    work = task(home)
    if name == "language-imbalance":
        pytest.importorskip("lingua")
        work = bilingual(home)
    if name == "sra-mcts":
        work = "code-basics"
    code, told, said = upspiral(
        monkeypatch, "improve", "--recipe", "tiny", "--method", name, "--model",
        str(checkpoint(home / "model")), "--task", work, "--name", "m", "--rounds", "1",
        *words([*SET, *OWN[name]]),
    )  # fmt: skip
    assert code == 0, said
    assert told["method"] == name and [r["round"] for r in told["rounds"]] == [0, 1]
    for side in ("starter", "final"):
        assert {"accuracy", "accuracy_se", "strict", "n"} <= told["test"][side].keys()
    assert told["sampled_tokens"] > 0
    store = Store()
    notes = store.rounds("m")[1].notes
    if name in SHOWS:
        assert SHOWS[name] in notes["select"], notes
    if name not in WEAK:
        assert told["trained_tokens"] > 0, notes
        assert store.rounds("m")[1].notes["learn"]["tokens"] > 0
    assert "Traceback" not in said and Path(told["report"]).exists()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("name", ["bstar", "sharpening-dpo", "pit"])
def test_killed_and_resumed_it_ends_the_same(home: Path, name: str) -> None:
    settings = [*SET, *OWN[name], "train=6", "samples=4"]
    base = ImproveConfig(method=name, model=str(checkpoint(home / "model")), task=task(home))

    def loop() -> Loop:
        return build(with_settings(base, settings))

    whole = loop().run(1, Store(home / "a"), name, shard_size=3, progress=quiet)
    for stage in ("round 1 propose", "round 1 judge"):

        def stop(done: int, total: int, what: str, stage: str = stage) -> None:
            if what == stage and done == 1:
                raise KilledError

        store = Store(home / stage)
        with pytest.raises(KilledError):
            loop().run(1, store, name, shard_size=3, progress=stop)
        again = loop().run(1, store, name, shard_size=3, progress=quiet)
        assert again.state == whole.state
        assert again.rounds[1].notes["pool"] == whole.rounds[1].notes["pool"]
        assert again.test["final"] == whole.test["final"]


def test_preferences_of_a_file_teach_pit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "given.jsonl"
    rows: list[dict[str, Any]] = [
        {"prompt": f"say twice {i}", "chosen": "The answer is 2.", "rejected": "so so 3."}
        for i in range(6)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    code, _, said = upspiral(
        monkeypatch, "improve", "--recipe", "tiny", "--method", "pit", "--model",
        str(checkpoint(home / "model")), "--task", task(home), "--name", "m", "--rounds", "1",
        *words([*SET, *OWN["pit"], f"data={path}"]),
    )  # fmt: skip
    assert code == 0, said
    assert {p.source for p in Store().preferences("m", 1)} == {"file"}
    code, told, said = upspiral(
        monkeypatch, "refine", "--run", "m", "say twice 3", "--steps", "3", "--temperature", "0.9"
    )
    assert code == 0, said
    gaps = [step["gap"] for step in told["steps"]]
    assert gaps[0] is None and 1 <= len(gaps) <= 4
    assert all(gap > 0 for gap in gaps[1:-1])  # the first that is not ends it
    assert sum(step["best"] for step in told["steps"]) == 1
    code, _, said = upspiral(monkeypatch, "refine", "--run", "none", "say twice 3")
    assert code == 2 and "no run of pit" in said


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("dive", {"measure": "novelty"}, "measure"),
        ("dive", {"alpha": 2.0}, "alpha"),
        ("bstar", {"temperatures": "hot"}, "no numbers"),
        ("smart", {"only": "guess"}, "no strategy"),
        ("sharpening-sft", {"kind": "vote"}, "no self-reward"),
        ("sharpening-dpo", {"exponent": 1.0}, "exponent"),
        ("meta-rewarding", {"judgements": 1}, "judgements"),
        ("pit", {"data": "nothing.jsonl"}, "cannot read"),
        ("language-imbalance", {}, "in several languages|nothing to learn across"),
    ],
)
def test_mistakes_are_named(home: Path, name: str, settings: dict[str, Any], says: str) -> None:
    from text.setup import parts

    made = ImproveConfig(model=str(checkpoint(home / "model")), task=task(home), train=4, dev=4,
                         test=4, shots=0)  # fmt: skip
    with pytest.raises(UserError, match=says):
        method(name, settings).loop(parts(made))
