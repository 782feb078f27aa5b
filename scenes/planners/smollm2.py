"""The planner that a small language model is: SmolLM2-135M with an adapter trained for it.

It writes the scene of a text in the form of :mod:`scenes.planners.compact`. Where the likeliest
form has words that are not in the text, or places what it did not list, others are drawn and the
one with the least of that is taken: a check that needs no reference.
:mod:`scenes.planners.train` trains the adapter.

    upspiral scenes plan "half a dozen chairs encircle an oval table" --planner smollm2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import identity
from scenes.assets.words import singular
from scenes.planners import Plan, compact
from scenes.planners import tokens as lexer
from scenes.planners.rules import EXAMPLE

LENGTH = 160
"""Tokens of the longest form: twenty things and what lies where."""


def prompt(text: str) -> str:
    """What the model goes on from; the space before the form belongs to the form."""
    return f"Text: {' '.join(text.split())}\nScene:"


def completion(form: str) -> str:
    return f" {form}"


@dataclass
class SmolLM2:
    """Up to ``drawn`` forms a text: the likeliest one, and others at ``temperature``."""

    policy: HFPolicy
    drawn: int = 4
    temperature: float = 0.7

    @classmethod
    def load(cls, adapter: Path, drawn: int = 4) -> SmolLM2:
        """The starter model with the adapter in a folder.

        Raises:
            UserError: there is none.
        """
        if not (adapter / "adapter_config.json").exists():
            raise UserError(
                f"there is no adapter in {adapter}",
                "train one with upspiral scenes train planner --out FOLDER",
            )
        return cls(HFPolicy.load("smollm2", lora=adapter), drawn)

    def plan(self, text: str) -> Plan:
        """The scene graph of ``text``; see :class:`scenes.planners.Planner`.

        Raises:
            UserError: none of the forms that were drawn can be read.
        """
        if not text.strip():
            raise UserError("an empty text", EXAMPLE)
        plan, problem = self._read(text, self._said(text, 1, 0.0))
        if self.drawn > 1 and (plan is None or plan.notes):
            others, _ = self._read(text, self._said(text, self.drawn - 1, self.temperature))
            if others is not None and (plan is None or len(others.notes) < len(plan.notes)):
                plan = others
        if plan is None:
            raise UserError(
                f"the model made no scene of {text[:60]!r}: {problem}", "try --planner rules"
            )
        return plan

    def _said(self, text: str, n: int, temperature: float) -> list[str]:
        seeds = [int(identity(text, i), 16) >> 17 for i in range(n)]
        (group,) = self.policy.sample(
            [prompt(text)], n=n, seeds=seeds, temperature=temperature, max_new_tokens=LENGTH
        )
        end = self.policy.tokenizer.eos_token
        return [self.policy.decode(one.ids).replace(end, "") for one in group]

    def _read(self, text: str, forms: Sequence[str]) -> tuple[Plan | None, str]:
        """The plan of the form with the least to be noted, the earliest of equals; or a problem."""
        plans: list[Plan] = []
        problem = ""
        for form in forms:
            try:
                plan = compact.read(form, " ".join(text.split()))
            except UserError as error:
                problem = problem or error.message
                continue
            notes = tuple(f"{word} is not in the text" for word in invented(form, text))
            plans.append(plan._replace(notes=plan.notes + notes))
        return min(plans, key=lambda plan: len(plan.notes), default=None), problem


def invented(form: str, text: str) -> list[str]:
    """Words for things in a form that are not in the text, in one number or the other."""
    there = {singular(t.text) for t in lexer.read(text) if t.kind == "word"}
    there |= {w for t in lexer.read(text) for w in t.text.split()}
    things = form.partition(";")[0].split(",")
    words = [w for item in things for w in item.strip().lower().partition(" ")[2].split()]
    return [w for w in words if w not in there and singular(w) not in there]
