"""Lifetimes of reasoning: one language model through several tasks, by any of the methods.

upspiral lifelong run --tasks arithmetic,countdown,logic --method vanilla
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common.loop import Loop
from common.policies.local import HFPolicy
from text.improve import ImproveConfig
from text.setup import build, load_policy, stored


@dataclass(frozen=True)
class Course:
    """A :class:`common.lifelong.run.Course` of trainings as ``upspiral text improve`` does them."""

    settings: ImproveConfig
    score: str = "correct"
    metric: str = "accuracy"

    @property
    def rounds(self) -> int:
        return self.settings.rounds

    def config(self, task: str) -> Mapping[str, Any]:
        return stored(replace(self.settings, task=task))

    def policy(self) -> HFPolicy:
        return load_policy(
            self.settings.model,
            self.settings.chat,
            self.settings.sampling,
            self.settings.base_url,
            self.settings.restart,
        )

    def loop(self, task: str, policy: HFPolicy) -> Loop:
        return build(replace(self.settings, task=task), policy=policy)


def course(
    tasks: Sequence[str],
    recipe: str,
    method: str | None,
    model: str | None,
    rounds: int | None,
    settings: Sequence[str],
) -> Course:
    """The course of ``upspiral lifelong run`` with its flags.

    Raises:
        UserError: no such task, recipe, method or setting.
    """
    from text import methods
    from text.commands.improve import Improve
    from text.tasks import about

    config = Improve(recipe, method, None, model, rounds, set=tuple(settings)).config()
    methods.method(config.method, config.settings)  # mistakes before a model is loaded
    for task in tasks:
        about(task)
    return Course(config)
