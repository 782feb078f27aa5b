"""The command: a run from its beginning to its report, its folder, and mistakes of the user."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.text.tiny import upspiral


def test_game_of_24_is_rewritten_to_a_search_and_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded conversation of 30 steps, with everything that goes wrong in it."""
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    out = tmp_path / "agent"
    code, told, err = upspiral(
        monkeypatch, "evolve", "--task", "game24", "--model", "scripted:rewrite-to-search",
        "--out", str(out), "--seconds", "2", "--name", "games",
    )  # fmt: skip
    assert code == 0, err
    assert told["test"]["best"] == {"accuracy": 1.0, "accuracy_se": 0.0, "n": 100}
    assert told["test"]["start"]["accuracy"] < 0.1
    kept = [v["kept"] for v in told["versions"]]
    assert kept.count(False) == 3 and told["stopped"] == ""
    values = [v["accuracy"] for v in told["versions"] if v["kept"]]
    assert max(values) == 1.0 and any(b < a for a, b in itertools.pairwise(values))
    problems = " ".join(v["problem"] for v in told["versions"])
    assert "ran longer" in problems and "below the" in problems and "NameError" in problems
    conversation = (out / "conversation.md").read_text()
    for text in ("no JSON object", "missing a required argument", "no valid Python",
                 "the improver of the last step that worked was put back",
                 "AttributeError: module 'policy' has no attribute 'valu'",
                 "there is no action 'evaluate_on_test'", "[] ['script.py']"):  # fmt: skip
        assert text in conversation, text
    assert "def search" in (out / "best/policy.py").read_text()
    assert "notes" in (out / "best/improver.py").read_text()  # it patched its own improver
    code, shown, _ = upspiral(monkeypatch, "evolve", "--diff", str(out), "10", "15")
    assert code == 0 and "+def search(terms, target=24):" in shown["diff"]
    report = Path(told["report"]).read_text()
    assert "+def search(terms, target=24):" in report and "rolled back" in report
    code, again, _ = upspiral(monkeypatch, "evolve", "--resume", str(out))
    assert code == 0 and again["test"] == told["test"]
    code, _, err = upspiral(monkeypatch, "evolve", "--out", str(out))
    assert code == 2 and "holds a run already" in err
    code, shown, _ = upspiral(monkeypatch, "runs", "resume", "games")
    assert code == 0 and shown["best"] == told["best"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--iterations", "0"], "0 steps"),
        (["--without", "legs"], "unknown switch 'legs'"),
        (["--max-drop", "2"], "--max-drop 2"),
        (["--budget-usd", "1"], "--budget-usd without prices"),
        (["--model", "scripted:nothing"], "cannot read the recording 'nothing'"),
        (["--model", "served:big"], "a served model needs --base-url"),
        (["--task", "game25"], "did you mean 'game24'"),
        (["--test", "5000"], "test games, not 5000"),
        (["--diff", "{tmp}", "0", "1"], "has no version 0"),
        (["--resume", "{tmp}"], "is no folder of an evolution"),
        (["--task", "x-alpaca:{tmp}/a.jsonl"], "no data in"),
    ],
)
def test_mistakes_of_the_user_end_in_a_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    given = [word.replace("{tmp}", str(tmp_path)) for word in words]
    code, _, err = upspiral(monkeypatch, "evolve", "--out", str(tmp_path / "out"), *given)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1
