"""Vanilla self-improvement of a tiny model, as a user drives it: it learns, resumes, compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Candidate, Task
from common.store import Store
from tests.common.tiny import context
from tests.text.tiny import checkpoint, task, upspiral
from text.commands import improve as improve_command
from text.commands.compare import Compare, run_name
from text.commands.improve import Improve
from text.improve import RECIPES, Accuracy, ImproveConfig, Solve, answered, sampler
from text.methods import METHODS, method, settings_of
from text.setup import build, with_settings

SET = ["train=24", "dev=8", "test=8", "samples=8", "measured=4", "shots=0", "max_new_tokens=8",
       "learning_rate=5e-3", "epochs=4", "batch_size=8"]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    return tmp_path


def improve(home: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    words = [word for one in SET for word in ("--set", one)]
    model, work = str(checkpoint(home / "model")), task(home)
    return upspiral(
        monkeypatch, "improve", "--recipe", "tiny", "--model", model, "--task", work, *words, *more
    )


def test_vanilla_improves_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told, said = improve(home, monkeypatch, "--rounds", "2", "--name", "v", "--seed", "1")
    assert code == 0, said
    assert [r["round"] for r in told["rounds"]] == [0, 1, 2]
    for measured in (*told["rounds"], *told["test"].values()):
        assert {"accuracy", "accuracy_se", "strict", "strict_se", "pass@4", "n"} <= measured.keys()
        assert measured["n"] >= 5 and measured["strict"] <= measured["accuracy"]
    starter, final = (told["test"][side]["accuracy"] for side in ("starter", "final"))
    assert final > starter + 0.2, said
    assert told["sampled_tokens"] > 0 and told["trained_tokens"] > 0
    assert "test accuracy changed by" in said and "tokens:" in said
    page = Path(told["report"]).read_text()
    assert "<h2>Proposals</h2>" in page and "<h2>Cost</h2>" in page and "say twice" in page
    store = Store()
    candidates = store.candidates("v", 1)
    assert len(candidates) == 24 * 8 and any(c.answer == "2" for c in candidates)
    assert {"correct", "strict"} == candidates[0].scores.keys()
    assert store.rounds("v")[1].notes["pool"]["correct"]["pass@1"] > 0
    # Asked again, the finished run only says what it came to; its policy solves.
    code, again, _ = upspiral(monkeypatch, "runs", "resume", "v")
    assert code == 0
    assert again["test"] == told["test"] and again["rounds"] == told["rounds"]
    code, answer, _ = upspiral(
        monkeypatch, "solve", "--run", "v", "say twice 7", "--task", "gsm8k", "--samples", "8"
    )
    assert code == 0 and answer["answer"] in ("2", "3") and answer["votes"] >= 4
    assert len(answer["samples"]) == 8
    code, answer, _ = upspiral(
        monkeypatch,
        "solve",
        "--run",
        "v",
        "say twice 7",
        "--samples",
        "4",
        "--best-by",
        "normalised",
    )
    best = max(
        (s for s in answer["samples"] if s["answer"]), key=lambda s: s["logprob"] / s["tokens"]
    )
    assert code == 0 and answer["answer"] == best["answer"]


def test_methods_side_by_side(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for one in SET for word in ("--set", one)]
    model, work, out = str(checkpoint(home / "model")), task(home), str(home / "table")
    command = ["compare", "--methods", "vanilla,vanilla/pairs_per_task=1", "--recipe", "tiny",
               "--model", model, "--task", work, "--seeds", "2", "--out", out, *words]  # fmt: skip
    code, told, said = upspiral(monkeypatch, *command)
    assert code == 0, said
    both, one = told["methods"]["vanilla"], told["methods"]["vanilla/pairs_per_task=1"]
    assert len(both["runs"]) == len(one["runs"]) == 2 and not told["pending"]
    assert both["metrics"]["accuracy"]["starter"] == one["metrics"]["accuracy"]["starter"]
    assert both["sampled_tokens"] == one["sampled_tokens"] > 0  # proposed once
    assert both["trained_tokens"] > one["trained_tokens"] > 0
    table = (home / "table" / "table.md").read_text()
    assert table.startswith("## overview") and "tokens trained" in table.splitlines()[2]
    assert "## accuracy" in table and "## strict" in table and "## cost" in table
    assert (home / "table" / "accuracy.svg").exists()
    code, again, said = upspiral(monkeypatch, *command)
    assert again == told and "[1/4]" not in said


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, whole, said = improve(home, monkeypatch, "--rounds", "2", "--name", "whole")
    assert code == 0, said
    generate, calls = HFPolicy.generate, 0

    def broken(self: HFPolicy, *args: Any, **kw: Any) -> list[Candidate]:
        nonlocal calls
        calls += 1
        if calls == 4:  # the starter was measured, round 1 is under way
            raise KeyboardInterrupt
        return generate(self, *args, **kw)

    monkeypatch.setattr(HFPolicy, "generate", broken)
    code, told, said = improve(home, monkeypatch, "--rounds", "2", "--name", "cut")
    assert code == 130 and told["run"] == "cut" and "upspiral runs resume cut" in said
    code, told, said = upspiral(monkeypatch, "runs", "resume", "cut")
    assert code == 0, said

    def figures(run: dict[str, Any]) -> Any:
        rounds = [{k: v for k, v in r.items() if k != "seconds"} for r in run["rounds"]]
        return rounds, run["test"], run["sampled_tokens"], run["trained_tokens"]

    assert figures(told) == figures(whole)


def test_measuring_counts_both_readings(home: Path) -> None:
    config = ImproveConfig(model=str(checkpoint(home / "model")), task=task(home), shots=0,
                           train=4, dev=4, test=4, measured=3, max_new_tokens=8)  # fmt: skip
    loop = build(config)
    dev = [t for t in loop.tasks if t.split == "dev"]
    first, second = (
        {m.name: m for m in loop.measure.measure(loop.policy, dev, context(home / "w", round=r))}  # type: ignore[union-attr]
        for r in (1, 2)
    )
    assert first == second  # the same random numbers each round
    assert first.keys() == {"accuracy", "strict", "finished", "length", "logprob", "pass@3",
                            "strict_pass@3", "best_by_logprob", "distinct_n",
                            "answer_entropy"}  # fmt: skip
    assert first["pass@3"].value >= first["accuracy"].value >= first["strict"].value
    assert first["length"].better == "neither" and first["strict_pass@3"].better == "higher"


def test_accuracy_by_hand(tmp_path: Path) -> None:
    tasks = [Task("a", "?", "dev", "2"), Task("b", "?", "dev", "3")]
    outputs = {"a": ["The answer is 2.", "It is 2"], "b": ["The answer is 2.", ""]}

    class Said:
        def generate(self, tasks: Any, **options: Any) -> list[Candidate]:
            return [
                Candidate(f"{t.id}{i}", t.id, 0, out, -float(i), 2, meta={"finished": i == 0})
                for t in tasks
                for i, out in enumerate(outputs[t.id])
            ]

    solve = Solve(sampler(ImproveConfig(samples=2)))
    found = {m.name: m for m in Accuracy(solve).measure(Said(), tasks, context(tmp_path))}
    assert found["accuracy"].items == {"a": 1.0, "b": 0.0}
    assert found["strict"].items == {"a": 0.5, "b": 0.0}
    assert found["finished"].value == 0.5 and found["pass@2"].value == 0.5
    pool = answered(tasks, Said().generate(tasks))
    assert [c.answer for c in pool] == ["2", "2", "2", None]


def test_settings_reach_the_run_and_its_method() -> None:
    config = with_settings(ImproveConfig(), ["samples=3", "pairs_per_task=5"])
    assert config.samples == 3 and config.settings == {"pairs_per_task": 5}
    assert method(config.method, config.settings).pairs_per_task == 5  # type: ignore[attr-defined]
    assert Improve(set=("beta=0.2",), rounds=7).config().rounds == 7
    configs = Compare(methods=("vanilla", "vanilla/pairs_per_task=1"), budget_tokens=2e6).configs()
    assert {c.budget_tokens for c in configs.values()} == {2_000_000}
    assert len({run_name("c", c, 0) for c in configs.values()}) == 2


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_settings_and_a_page_of_help(name: str) -> None:
    assert name in (Path(improve_command.__file__).read_text())  # where --help has it from
    made = method(name, settings_of(name))
    assert type(made).__doc__ and callable(made.loop)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_fit_together(name: str) -> None:
    config = RECIPES[name]()
    assert config.train * config.samples >= 8 and config.measured >= 2
    assert json.dumps(vars(config))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": ("beat=0.2",)}, "no setting 'beat=0.2'"),
        ({"set": ("rounds=many",)}, "rounds=many is no int"),
        ({"set": ("rounds=0",)}, "rounds=0"),
        ({"set": ("temperature=0",)}, "temperature=0"),
        ({"set": ("pairs_per_task=0",)}, "pairs_per_task=0"),
        ({"method": "vanila", "set": ("x=1",)}, "did you mean 'vanilla'"),
        ({"method": "nowhere:Mine", "set": ("x=1",)}, "no method 'nowhere:Mine'"),
        ({"recipe": "big"}, "unknown recipe 'big'"),
    ],
)
def test_mistakes(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Improve(**changes).config()


def test_a_mistyped_task_leaves_no_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, told, said = upspiral(monkeypatch, "improve", "--task", "arithmetics")
    assert code == 2 and told["error"] == "unknown task 'arithmetics'"
    assert "did you mean 'arithmetic'" in said and "resume" not in said
    assert not Store().runs()


def test_mistakes_of_a_comparison() -> None:
    for changes, said in (
        ({"methods": ("vanila",)}, "did you mean 'vanilla'"),
        ({"methods": ()}, "no methods"),
        ({"seeds": 0}, "0 seeds"),
        ({"budget_tokens": -1.0}, "-1 tokens"),
    ):
        with pytest.raises(UserError, match=said):
            Compare(**changes).configs()  # type: ignore[arg-type]
