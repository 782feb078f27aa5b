"""``upspiral text evaluate``: it measures what runs measured, of each method in its own form."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import text.setup
from common.commands import runs
from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Candidate, Task
from common.store import Store
from tests.text.tiny import checkpoint, task, upspiral
from text.commands.evaluate import Evaluate
from text.methods import METHODS

SET = ["shots=0", "max_new_tokens=8", "sampling=float32"]
LEARN = ["train=24", "dev=8", "test=8", "samples=8", "measured=4", "learning_rate=5e-3",
         "epochs=4", "batch_size=8"]  # fmt: skip


def sets(*given: str) -> list[str]:
    return [word for one in given for word in ("--set", one)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_run_and_its_model_come_to_what_the_run_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(checkpoint(home / "model"))
    words = ["--model", model, "--task", task(home), "--rounds", "1", *sets(*SET, *LEARN)]
    code, told, said = upspiral(
        monkeypatch, "improve", "--recipe", "tiny", "--name", "v", "--seed", "1", *words
    )
    assert code == 0, said
    measured = {
        side: {m.name: m for m in metrics}
        for side, metrics in runs.tests_of(Store(), Store().runs()[0]).items()
    }
    out = home / "evaluation"
    command = ["evaluate", "--models", model, "last", "--questions", "8", "--seed", "1",
               "--out", str(out)]  # fmt: skip
    code, told, said = upspiral(monkeypatch, *command)
    assert code == 0, said
    assert told["models"].keys() == {model, "last"} and told["samples"] == 4
    for name, side in ((model, "starter"), ("last", "final")):
        assert told["models"][name].keys() == measured[side].keys()
        for metric, fact in told["models"][name].items():
            assert fact["mean"] == pytest.approx(measured[side][metric].value)
            assert fact["se"] == pytest.approx(measured[side][metric].se)
    gain = told["models"]["last"]["accuracy"]["against_first"]
    assert gain["mean"] == pytest.approx(
        measured["final"]["accuracy"].value - measured["starter"]["accuracy"].value
    )
    saved = json.loads((out / "evaluation.json").read_text())
    assert saved["models"] == told["models"]
    assert saved["values"]["last"]["accuracy"] == measured["final"]["accuracy"].items
    assert "| accuracy | last | 8 |" in (out / "evaluation.md").read_text()
    ET.fromstring((out / "evaluation.svg").read_text())
    # Asked again nothing is sampled anew; a model of the same weights is asked in the same way.
    monkeypatch.setattr(HFPolicy, "generate", None)
    assert upspiral(monkeypatch, *command)[1] == told


def test_what_was_done_before_an_interrupt_is_not_done_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text.setup, "BATCH", 8)
    generate, calls = HFPolicy.generate, [0]

    def interrupted(self: Any, tasks: Sequence[Task], **options: Any) -> list[Candidate]:
        assert len(tasks) == 2
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return generate(self, tasks, **options)

    monkeypatch.setattr(HFPolicy, "generate", interrupted)
    command = ["evaluate", "--models", str(checkpoint(home / "model")), "--task", task(home),
               "--questions", "8", "--out", str(home / "e"), *sets(*SET)]  # fmt: skip
    code, told, said = upspiral(monkeypatch, *command)
    assert code == 130 and "upspiral text evaluate --models" in said
    code, told, said = upspiral(monkeypatch, *command)
    assert code == 0 and calls[0] == 2 + 1 + 2
    whole = upspiral(monkeypatch, *command, "--out", str(home / "other"))[1]
    assert whole["models"] == told["models"] and calls[0] == 5 + 4


@pytest.mark.parametrize("name", [m for m in METHODS if not m.startswith(("sra", "feedback"))])
def test_every_method_measures_a_task_without_train_questions(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = "arithmetic-multilingual" if name == "language-imbalance" else "arithmetic"
    model = str(checkpoint(home / "model"))
    command = ["evaluate", "--models", model, "--task", work, "--questions", "4", "--samples", "2",
               "--out", str(home / "e"), *sets(*SET, f"method={name}")]  # fmt: skip
    code, told, said = upspiral(monkeypatch, *command)
    assert code == 0, said
    assert {"accuracy", "pass@2"} <= told["models"][model].keys()


@pytest.mark.parametrize(("arm", "planned"), [("direct", False), ("cot", True)])
def test_code_is_asked_for_as_the_arm_practised_it(
    arm: str, planned: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    generate = HFPolicy.generate

    def watched(self: Any, tasks: Sequence[Task], **options: Any) -> list[Candidate]:
        seen.extend(task.prompt for task in tasks)
        return generate(self, tasks, **options)

    monkeypatch.setattr(HFPolicy, "generate", watched)
    model = str(checkpoint(home / "model"))
    code, told, said = upspiral(
        monkeypatch, "evaluate", "--models", model, "--task", "humaneval", "--questions", "3",
        "--samples", "2", "--out", str(home / "e"),
        *sets("shots=1", "max_new_tokens=4", "method=sra-mcts", f"arm={arm}"),
    )  # fmt: skip
    assert code == 0, said
    assert told["questions"] == len(seen) == 3 and "pass@2" in told["models"][model]
    assert all(("# 1." in prompt) == planned for prompt in seen)


def test_a_mistyped_model_is_told_before_any_work(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, said = upspiral(monkeypatch, "evaluate", "--models", "smollm2", "lats",
                             "--out", str(home / "e"))  # fmt: skip
    assert code == 2 and "no model 'lats'" in said and "resume" not in said
    assert not (home / "e").exists()


def test_mistakes(home: Path) -> None:
    for changes, said in (
        ({"models": ()}, "no models"),
        ({"questions": 1}, "1 questions"),
        ({"samples": 0}, "0 samples"),
        ({"task": "sudoku"}, "no task|unknown task"),
        ({"set": ("bogus=1",)}, "no setting 'bogus=1'"),
    ):
        with pytest.raises(UserError, match=said):
            Evaluate(**changes).configs()  # type: ignore[arg-type]
