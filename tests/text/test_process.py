"""Steps of a solution, and the score of its worst one."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.learners.reward import RewardModel
from common.records import Candidate, Task
from tests.common.tiny import context, tiny_policy
from text.process import ProcessReward, steps


def test_steps_end_with_lines_and_sentences() -> None:
    assert steps("14 + 9 = 23. The answer is 23.") == [
        "14 + 9 = 23.", "14 + 9 = 23. The answer is 23."
    ]  # fmt: skip
    assert steps("a = 1.5\nb = 2\n\nDone") == [
        "a = 1.5",
        "a = 1.5\nb = 2",
        "a = 1.5\nb = 2\n\nDone",
    ]
    assert steps("") == [""] and steps("one") == ["one"]


@given(st.text(max_size=60))
def test_the_last_step_is_the_whole(text: str) -> None:
    found = steps(text)
    assert found[-1] == text.strip()
    assert all(b.startswith(a) for a, b in itertools.pairwise(found))


def test_it_is_the_least_over_steps(tmp_path: Path) -> None:
    policy = tiny_policy()
    model = RewardModel.from_policy(policy)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.model.score.weight)
    tasks = {"t": Task("t", "w1 go")}
    some = [Candidate("a", "t", 1, "w2 w3\nw4\nw5 w6"), Candidate("b", "t", 1, "w7")]
    found = ProcessReward(model).judge(tasks, some, context(tmp_path))
    for c, row in zip(some, found, strict=True):
        rewards = model.score(["w1 go"] * len(steps(c.output)), steps(c.output))
        assert row["process"] == pytest.approx(2 / (1 + math.exp(-min(rewards))) - 1, abs=1e-5)
