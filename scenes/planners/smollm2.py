"""The planner that a small language model is: SmolLM2-135M with an adapter trained for it.

It writes the scene of a text in the form of :mod:`scenes.planners.compact`. Several are drawn and
the first is taken whose words come from the text, since a small model likes to invent: a check that
needs no reference. :mod:`scenes.planners.train` trains the adapter.

    upspiral scenes plan "a lamp on a table" --planner smollm2 --adapter FOLDER
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
    """``drawn`` forms a text; the first is the likeliest one, the others are drawn by chance."""

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
                "train one with upspiral scenes train-planner --out FOLDER",
            )
        return cls(HFPolicy.load("smollm2", lora=adapter), drawn)

    def plan(self, text: str) -> Plan:
        """The scene graph of ``text``; see :class:`scenes.planners.Planner`."""
        if not text.strip():
            raise UserError("an empty text", EXAMPLE)
        return self.plans([text])[0]

    def plans(self, texts: Sequence[str]) -> list[Plan]:
        """As :meth:`plan`, of many texts at once, which is faster.

        Raises:
            UserError: none of the forms of a text can be read.
        """
        asked = [prompt(text) for text in texts]
        forms = [[f] for f in self._said(asked, 1, 0.0)]
        poor = [n for n, (form,) in enumerate(forms) if invented(form, texts[n])]
        if poor and self.drawn > 1:
            more = self._said([asked[n] for n in poor], self.drawn - 1, self.temperature)
            for k, n in enumerate(poor):
                forms[n] += more[k * (self.drawn - 1) : (k + 1) * (self.drawn - 1)]
        return [self._best(text, said) for text, said in zip(texts, forms, strict=True)]

    def _said(self, asked: Sequence[str], n: int, temperature: float) -> list[str]:
        seeds = [int(identity(text, i), 16) >> 17 for text in asked for i in range(n)]
        groups = self.policy.sample(
            asked, n=n, seeds=seeds, temperature=temperature, max_new_tokens=LENGTH
        )
        end = self.policy.tokenizer.eos_token
        return [self.policy.decode(one.ids).replace(end, "") for g in groups for one in g]

    def _best(self, text: str, forms: Sequence[str]) -> Plan:
        """The plan of the form that invents least, the earliest of equals."""
        plans: list[tuple[int, Plan]] = []
        problem = ""
        for form in forms:
            try:
                plan = compact.read(form, " ".join(text.split()))
            except UserError as error:
                problem = problem or error.message
                continue
            words = invented(form, text)
            notes = tuple(f"{w} is not in the text" for w in words)
            plans.append((len(words) + len(plan.notes), plan._replace(notes=plan.notes + notes)))
        if not plans:
            raise UserError(
                f"the model made no scene of {text[:60]!r}: {problem}", "try --planner rules"
            )
        return min(plans, key=lambda found: found[0])[1]


def invented(form: str, text: str) -> list[str]:
    """Words for things in a form that are not in the text, in one number or the other."""
    there = {singular(t.text) for t in lexer.read(text) if t.kind == "word"}
    there |= {w for t in lexer.read(text) for w in t.text.split()}
    things = form.partition(";")[0].split(",")
    words = [w for item in things for w in item.strip().lower().partition(" ")[2].split()]
    return [w for w in words if w not in there and singular(w) not in there]
