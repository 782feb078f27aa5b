"""Policies whose accuracy is known, in place of models that are too weak for a method to matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from common.policies import Seeds, candidate_id
from common.records import Candidate, Task
from common.stages import Progress


class Simulated:
    """Says what ``say(task, rng, temperature)`` returns; its log-probability if it gives one."""

    def __init__(self, say: Callable[[Task, np.random.Generator, float], Any]) -> None:
        self.say = say
        self.drawn = 0

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        n: int,
        seeds: Seeds,
        round: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 256,
        progress: Progress | None = None,
        **more: Any,
    ) -> list[Candidate]:
        found = []
        for task in tasks:
            for index in range(n):
                said = self.say(task, np.random.default_rng(seeds(task, index)), temperature)
                text, logprob = said if isinstance(said, tuple) else (said, 0.0)
                self.drawn += 1
                name, tokens = candidate_id(task, round, index), len(text.split()) + 1
                made = Candidate(name, task.id, round, text, logprob, tokens)
                found.append(replace(made, language=task.language, meta={"finished": True}))
        return found
