"""A process reward: how good a solution is at its worst step (Math-Shepherd, arXiv 2312.08935).

A reward model reads the solution up to the end of each step; the score is the least over steps of
the probability p = sigmoid(reward) that the steps so far are good, as 2p - 1: B-STaR adds a fifth
of it, and its thresholds, below 1, then tell right solutions apart as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from common.learners.reward import RewardModel
from common.records import Candidate, Task
from common.stages import Context

_STEP = re.compile(r".*?(?:\n+|(?<=[.!?。])\s+|$)", re.DOTALL)
"""A step ends with its line, or with its sentence where a solution is one line."""


def steps(solution: str) -> list[str]:
    """The solution up to the end of each of its steps."""
    parts = [part for part in _STEP.findall(solution.strip()) if part.strip()]
    return [text.strip() for text in accumulate(parts)] or [""]


@dataclass(frozen=True)
class ProcessReward:
    """Judge: ``process``, in (-1, 1)."""

    model: RewardModel

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        every = [steps(c.output) for c in candidates]
        prompts = [
            tasks[c.task].prompt for c, own in zip(candidates, every, strict=True) for _ in own
        ]
        rewards = iter(self.model.score(prompts, [text for own in every for text in own]))
        least = [min(next(rewards) for _ in own) for own in every]
        return [{"process": math.tanh(value / 2)} for value in least]  # 2 sigmoid(value) - 1
