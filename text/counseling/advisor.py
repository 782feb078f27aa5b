"""A policy that gives feedback: its verdict, feedback that fits the schema, and its self-score.

The verdict on a response is the probability of the appropriateness token, P(" true") right after
``{"perfect":``; above 1/2 the response is appropriate. Feedback to one that is not begins with
``{"perfect": false,`` and is the model's from there. What does not fit the schema, an invented area
included, is drawn again, each time with another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from common.errors import UserError
from common.policies.likelihood import branches, next_tokens
from common.policies.local import HFPolicy
from common.policies.stops import before
from common.stages import Progress
from text.counseling.schema import Feedback, parse
from text.counseling.tasks import asking, with_response
from text.prompts import STOPS

PERFECT = '{"perfect":'
ATTEMPTS = 5
"""How often a feedback is drawn before it is given up."""
Seed = Callable[[int, int, int], int]
"""The seed of (item, sample, attempt)."""


class Advice(NamedTuple):
    """A feedback that was drawn; None with what is wrong in ``problem`` if no attempt was valid.

    ``tokens`` and ``logprob`` are the last attempt's, ``spent`` the tokens of all.
    """

    feedback: Feedback | None
    text: str
    problem: str
    attempts: int
    tokens: int
    spent: int
    logprob: float


class Verdict(NamedTuple):
    """The tokens that stand before a verdict, and the two that are one."""

    opening: list[int]
    true: int
    false: int


class Advisor:
    """``policy`` as it is now; ``shots`` examples before each question."""

    def __init__(
        self,
        policy: HFPolicy,
        *,
        shots: int = 0,
        temperature: float = 0.8,
        top_p: float = 1.0,
        max_new_tokens: int = 256,
        attempts: int = ATTEMPTS,
        progress: Progress | None = None,
    ) -> None:
        if attempts < 1 or temperature <= 0:
            raise UserError(
                f"attempts={attempts}, temperature={temperature:g}",
                "give 1 attempt or more, and a temperature above 0: each draws anew",
            )
        self.policy, self.shots, self.progress = policy, shots, progress
        self.temperature, self.top_p = temperature, top_p
        self.max_new_tokens, self.attempts = max_new_tokens, attempts

    @property
    def _lead(self) -> str:
        return "" if self.policy.chat else " "

    def prompts(self, contexts: Sequence[str]) -> list[str]:
        return [asking(context, self.policy.chat, self.shots) for context in contexts]

    def appropriate(self, contexts: Sequence[str]) -> list[float]:
        """P(" true") for the last response in each of ``contexts``."""
        verdict = self._verdict()
        asked = [self.policy.encode_prompt(p) + verdict.opening for p in self.prompts(contexts)]
        found = next_tokens(
            self.policy.model,
            asked,
            [verdict.true, verdict.false],
            self.policy.tokenizer.pad_token_id,
            min(self.policy.batch_size, 16),  # contexts are long
            self.progress,
        )
        return [float(value) for value in np.exp(found[:, 0])]

    def scores(self, contexts: Sequence[str], feedbacks: Sequence[Feedback]) -> list[float]:
        """The self-score of each feedback: how appropriate its alternative is in its context."""
        said = [
            with_response(c, f.alternative or "") for c, f in zip(contexts, feedbacks, strict=True)
        ]
        return self.appropriate(said)

    def advise(
        self, contexts: Sequence[str], perfect: Sequence[bool], n: int, seed: Seed
    ) -> list[list[Advice]]:
        """``n`` feedbacks to the last response in each of ``contexts``, given the verdicts."""
        left = [(item, sample) for item in range(len(contexts)) for sample in range(n)]
        found: dict[tuple[int, int], Advice] = {}
        prompts = self.prompts(contexts)
        for attempt in range(self.attempts):
            for verdict in (True, False):
                some = [one for one in left if perfect[one[0]] is verdict]
                if some:
                    drawn = self._draw([prompts[i] for i, _ in some], verdict,
                                       [seed(i, s, attempt) for i, s in some])  # fmt: skip
                    for one, advice in zip(some, drawn, strict=True):
                        spent = found[one].spent if one in found else 0
                        found[one] = advice._replace(
                            attempts=attempt + 1, spent=spent + advice.tokens
                        )
            left = [one for one in left if found[one].feedback is None]
            if not left:
                break
        return [[found[item, sample] for sample in range(n)] for item in range(len(contexts))]

    def _draw(self, prompts: Sequence[str], perfect: bool, seeds: Sequence[int]) -> list[Advice]:
        opening = f"{PERFECT} {str(perfect).lower()},"
        stop = () if self.policy.chat else STOPS
        drawn = self.policy.sample(
            prompts,
            seeds=seeds,
            opening=self._lead + opening,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            stop=stop,
            progress=self.progress,
        )
        found = []
        for [one] in drawn:
            text = opening + before(self.policy.decode(one.ids), stop)
            feedback, problem = None, ""
            try:
                feedback = parse(text)
            except ValueError as error:
                problem = str(error)
            found.append(Advice(feedback, text, problem, 1, one.tokens, one.tokens,
                                one.logprob_sum))  # fmt: skip
        return found

    def _verdict(self) -> Verdict:
        said = [f"{self._lead}{PERFECT} {word}," for word in ("true", "false")]
        opening, (true, false) = branches(self.policy.tokenizer, said)
        return Verdict(opening, true, false)
