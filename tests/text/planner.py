"""A policy that plays all roles of SRA-MCTS on one kind of problem, and problems of the kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.records import Candidate, Split, Task
from tests.text.simulated import Simulated

SECRET = 31337
"""Stands in hidden tests only."""
STEPS = ("Multiply it by two.", "Add one.", "Return it.", "Think of a number.")


def problem(number: int, split: Split = "train", public: bool = True) -> Task:
    """Return n times two plus one, under a name of its own."""
    name = f"twice_{number}"
    head = f'def {name}(n):\n    """Double n and add one."""'
    hidden = json.dumps([f"assert {name}({SECRET}) == {2 * SECRET + 1}"])
    examples = [f"assert {name}(2) == 5", f"assert {name}(0) == 1"] if public else []
    meta = {"kind": "code", "family": "code", "entry": name, "public": examples, "question": head}
    return Task(f"p{number}", head, split, hidden, "en", meta)


def say(task: Task, rng: np.random.Generator, temperature: float) -> str:
    """What is said to a prompt, by what it ends with."""
    last = task.prompt.rpartition("\n")[2]
    plan = [step for step in STEPS if f". {step}" in task.prompt.rpartition("Double n")[2]]
    good = plan[:2] == list(STEPS[:2])
    if last == "It lacks:":
        return " <end>" if good else f" More. ({rng.integers(9)})"
    if last == "Score:":
        return f" {min(10, 3 * len(plan) + 4 * good)}"
    if last == "Verdict:":
        return " solved" if good else " It is not solved."
    if last.rstrip(".").isdigit():
        return f" {STEPS[rng.integers(len(STEPS))]}"
    if good and (temperature == 0 or rng.random() < 0.8):
        return "\n    return 2 * n + 1\n"
    return "\n    return n\n"


class Player(Simulated):
    """The policy; its prompts are kept, call by call. It has a state, as the loop wants it."""

    def __init__(self, says: Any = say) -> None:
        super().__init__(says)
        self.calls: list[list[str]] = []

    def generate(self, tasks: Sequence[Task], **options: Any) -> list[Candidate]:  # type: ignore[override]
        self.calls.append([task.prompt for task in tasks])
        assert all(task.reference is None or task.split != "train" for task in tasks)
        return super().generate(tasks, **options)

    @property
    def prompts(self) -> list[str]:
        return [prompt for call in self.calls for prompt in call]

    def fingerprint(self) -> str:
        return "player"

    def save(self, folder: Path) -> None:
        (folder / "player").write_text("")

    def restore(self, folder: Path) -> None: ...
