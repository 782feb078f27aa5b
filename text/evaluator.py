"""Another model's points for answers that no reference checks (``--evaluator``).

Instructions (``x-alpaca``, a file of yours without answers) have no right answer. Dev and test are
then measured by a model that takes no part in the run, so that what rewards is not what evaluates.
Points are by an additive rubric of five, as in meta-rewarding (arXiv 2407.19594).

| evaluator | points |
|---|---|
| a folder, a run, a hub name | the mean of 0 to 5 by the likelihood of each digit |
| ``served:NAME``, with ``--evaluator-url`` | the number in its answer, which fits a schema |

Points weighted by their likelihood are G-Eval's (arXiv 2303.16634): they tell more answers apart
than one number does, and nothing is drawn.

    upspiral text improve --method meta-rewarding --task x-alpaca:instructions.jsonl \\
        --model Qwen/Qwen2.5-1.5B-Instruct --set chat=true --evaluator Qwen/Qwen2.5-7B-Instruct
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, Field

from common.errors import UserError
from common.policies.local import HFPolicy
from common.policies.served import ServedPolicy, connect
from common.records import Candidate, Task
from common.stages import Context, Judge
from text.answers import kind_of
from text.prompts import question
from text.reading import ModelReader

POINTS = 5
CRITERIA = """- It has to do with the question and says something about it.
- It deals with a large part of what was asked.
- It answers what was asked and could be used as it is.
- It is clear, well ordered, complete, and says nothing beside the point.
- It is correct throughout and could hardly be better."""
WITHOUT_REFERENCES = (
    "meta-rewarding", "language-imbalance", "sharpening-sft", "sharpening-dpo", "pit",
)  # fmt: skip
"""Methods whose lessons need no right answers; ``pit`` takes preferences from a file."""
SERVED = "served:"
_ASKED = f"""Judge the answer to a question with points, one for each of these that holds:
{CRITERIA}

Question: {{question}}

Answer: {{answer}}

"""
BASE = f"Points, 0 to {POINTS}:"
CHAT = f"Answer with the points only, a digit from 0 to {POINTS}."
_JSON = f'Answer with JSON: {{"reasons": "a few sentences", "points": 0 to {POINTS}}}'


def asking(task: Task, answer: Candidate, form: str) -> str:
    """What asks for points for ``answer``, in the ``form`` at its end."""
    return _ASKED.format(question=question(task), answer=answer.output.strip()) + form


def unanswered(tasks: Sequence[Task]) -> bool:
    """Whether any of the tasks has an answer that should be checked and no reference for it."""
    return any(
        task.reference is None and kind_of(task) != "code" and task.meta.get("family") != "feedback"
        for task in tasks
    )


class Unchecked:
    """Judge: nothing, since there is no reference."""

    def judge(
        self,
        tasks: Mapping[str, Task],  # noqa: ARG002
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        return [{} for _ in candidates]


class Likely:
    """Judge: ``points``, 0 to 5, that a model expects of each answer.

    ``policy`` reads its chat template if it has one.
    """

    def __init__(self, policy: HFPolicy) -> None:
        self.policy = policy
        policy.chat = bool(policy.tokenizer.chat_template)

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        if not candidates:
            return []
        form, space = (CHAT, "") if self.policy.chat else (BASE, " ")
        prompts = [asking(tasks[c.task], c, form) for c in candidates]
        options = [f"{space}{k}" for k in range(POINTS + 1)]
        said_CK = ModelReader(self.policy, progress=ctx.progress).choose(prompts, options)
        p_CK = np.exp(said_CK - np.logaddexp.reduce(said_CK, axis=1, keepdims=True))
        return [{"points": float(p)} for p in p_CK @ np.arange(POINTS + 1)]


class Opinion(BaseModel):
    reasons: str = ""
    points: int = Field(ge=0, le=POINTS)


@dataclass(frozen=True)
class Served:
    """Judge: ``points``, 0 to 5, that the model of a server gives each answer."""

    model: str
    base_url: str

    @cached_property
    def _policy(self) -> ServedPolicy:
        return connect(self.model, self.base_url)

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        """Raises as :meth:`common.policies.served.ServedPolicy.ask` does."""
        done = 0

        def one(c: Candidate) -> dict[str, float]:
            nonlocal done
            asked = {"role": "user", "content": asking(tasks[c.task], c, _JSON)}
            said = self._policy.ask([asked], Opinion, temperature=0.0)
            done += 1
            ctx.progress(done, len(candidates), "answers evaluated")
            return {"points": float(said.points)}

        return self._policy.map(one, candidates)


def checked(name: str, url: str, model: str) -> None:
    """Refuse what cannot evaluate, before anything is sampled.

    Raises:
        UserError: the evaluator is the model itself, or an address is missing or left over.
    """
    if name == model:
        raise UserError(
            f"{name} would evaluate itself", "give --evaluator another model than --model"
        )
    if name.startswith(SERVED) and not url:
        raise UserError(f"no address of {name!r}", "give --evaluator-url http://HOST:PORT/v1, too")
    if url and not name.startswith(SERVED):
        raise UserError(
            f"{url} is the address of no evaluator", "give --evaluator served:NAME, too"
        )


def lessons_judge(method: str, settings: Mapping[str, object]) -> Judge:
    """What judges lessons from tasks without references.

    Raises:
        UserError: the method needs to know what is right.
    """
    if method not in WITHOUT_REFERENCES or (method == "pit" and not settings.get("data")):
        raise UserError(
            f"{method} learns from right and wrong, and these tasks have no reference answers",
            f"use --method {', '.join(WITHOUT_REFERENCES)} (pit with --set data=FILE)",
        )
    return Unchecked()
