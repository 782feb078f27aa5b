"""The command: a run from its beginning to its report, its folder, and mistakes of the user."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from common.store import Store
from tests.common.loopback import serving
from tests.text.godel import call
from tests.text.tiny import upspiral
from text.godel import folder


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
    assert code == 2 and "holds the run games" in err and f"--resume {out}" in err
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
    assert not (tmp_path / "out").exists()  # nothing is left of what did not begin


SMALL = ["--iterations", "1", "--validation", "2", "--test", "2", "--seconds", "2"]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of one step, in a home of its own."""
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    (tmp_path / "small.md").write_text(f"---- 1\n{call('self_inspect')}\n")
    return ["evolve", "--model", f"scripted:{tmp_path / 'small.md'}", *SMALL]


def test_a_folder_or_a_name_that_is_taken_stays_as_it_is(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine/best/policy.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    code, _, err = upspiral(monkeypatch, *small, "--out", str(tmp_path / "mine"))
    assert code == 2 and "mine holds files and no run — name a new or an empty --out" in err
    assert mine.read_text() == "mine" and len(list((tmp_path / "mine").iterdir())) == 1
    (tmp_path / "a").mkdir()  # an empty one will do
    assert upspiral(monkeypatch, *small, "--out", str(tmp_path / "a"), "--name", "one")[0] == 0
    for more in ([], ["--test", "3"]):
        words = [*small, "--out", str(tmp_path / "b"), "--name", "one", *more]
        code, _, err = upspiral(monkeypatch, *words)
        assert code == 2 and "there is a run one already" in err and "runs resume one" in err
        assert not (tmp_path / "b").exists()
    code, told, _ = upspiral(monkeypatch, "evolve", "--resume", str(tmp_path / "a"))
    assert code == 0 and told["run"] == "one"


def test_of_two_runs_that_begin_at_once_one_has_the_folder(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.begin

    def late(place: Path, run: str) -> None:
        if run == "two":  # both have found the folder empty
            before(place, "one")
        before(place, run)

    monkeypatch.setattr(folder, "begin", late)
    code, _, err = upspiral(monkeypatch, *small, "--out", str(tmp_path / "a"), "--name", "two")
    assert code == 2 and "holds the run one" in err and "resume with" not in err
    assert folder.run_of(tmp_path / "a") == "one" and len(list((tmp_path / "a").iterdir())) == 1
    raced: list[bool] = []
    both = threading.Barrier(2)

    def claim(name: str) -> None:
        both.wait()
        try:
            before(tmp_path / "b", name)
            raced.append(True)
        except Exception:
            raced.append(False)

    (tmp_path / "b").mkdir()
    threads = [threading.Thread(target=claim, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(raced) == [False, True]


def test_what_cannot_be_gone_on_with_or_shown_is_said(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = str(tmp_path / "a")
    assert upspiral(monkeypatch, *small, "--out", a, "--name", "one")[0] == 0
    for words, message in (
        (["--resume", a, "--task", "logic", "--max-drop", "0.5"],
         "--resume with --task, --max-drop — leave out --task, --max-drop"),
        (["--resume", a, "--out", "b"], "--resume with --out"),
        (["--resume", a, "--budget-tokens", "9"], "run one is done"),
        (["--resume", a, "--diff", a, "0", "1"], "--diff with --resume"),
        (["--resume", str(tmp_path)], "is no folder of an evolution"),
        (["--diff", a, "0", "b"], "has no version b — there are 0 to 0"),
        (["--diff", a, "0", "1"], "has no version 1 — there are 0 to 0"),
        (["--diff", str(tmp_path), "0", "1"], "has no version 0 — name the --out of an evolution"),
    ):  # fmt: skip
        code, _, err = upspiral(monkeypatch, "evolve", *words)
        assert code == 2 and message in err and len(err.strip().splitlines()) == 1, err


def test_a_server_that_is_gone_or_has_moved(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a"
    gone = [*small, "--model", "served:m", "--out", str(place), "--name", "one"]
    code, _, err = upspiral(monkeypatch, *gone, "--base-url", "http://127.0.0.1:9/v1")
    assert code == 2 and "no server answers" in err and "resume with" not in err
    assert not place.exists() and not Store().runs()
    with serving() as first:

        def say(body: dict[str, Any]) -> Any:
            if "improves itself" in body["messages"][0]["content"]:
                first.script = ["drop"] * 9
                return call("call_llm", prompt="are you there?")
            return "no idea"

        first.otherwise = say
        code, told, err = upspiral(monkeypatch, *gone, "--base-url", first.url)
    assert code == 1 and "no server answers" in err and "resume with: upspiral runs resume" in err
    assert "no budget: each of 1 steps may ask the model 54 times and the solver 880 times" in err
    with serving() as second:
        second.otherwise = lambda body: call("self_inspect")
        words = ["--base-url", second.url, "--budget-tokens", "100000"]
        code, told, err = upspiral(monkeypatch, "evolve", "--resume", str(place), *words)
    assert code == 0 and told["run"] == "one" and second.seen and "no budget" not in err
    assert json.loads((place / "run.json").read_text())["run"] == "one"


def test_help_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    from common import cli

    said = io.StringIO()
    monkeypatch.setattr(sys, "stdout", said)
    cli.main(["text", "evolve", "--help"])
    words = " ".join(said.getvalue().split())
    assert "After Ctrl-C" in words and "--resume agent" in words
