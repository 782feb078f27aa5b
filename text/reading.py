"""A policy as a reader: what it writes after a prompt, and which of a few words would come next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.policies.likelihood import branches, next_tokens
from common.policies.local import HFPolicy
from common.policies.stops import before
from common.stages import Progress

STOP = ("\n\n",)
"""Where a text ends: after its paragraph."""


class ModelReader:
    """``policy`` as verifiers need it (:class:`text.verification_gap.Reader`)."""

    def __init__(
        self,
        policy: HFPolicy,
        temperature: float = 0.7,
        top_p: float = 0.9,
        max_new_tokens: int = 96,
        progress: Progress | None = None,
    ) -> None:
        self.policy, self.progress = policy, progress
        self.temperature, self.top_p = temperature, top_p
        self.max_new_tokens = max_new_tokens

    def write(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """One text for each prompt, sampled with its seed."""
        found = self.policy.sample(
            prompts,
            seeds=seeds,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            stop=STOP,
            progress=self.progress,
        )
        return [before(self.policy.decode(one.ids), STOP) for [one] in found]

    def choose(self, prompts: Sequence[str], options: Sequence[str]) -> NDArray[np.float64]:
        """Log-probability, in nats, that each option comes next: (prompts, options).

        Of an option only the token counts by which it differs from the others, after what all
        begin with.

        Raises:
            UserError: the tokenizer does not tell the options apart.
        """
        opening, firsts = branches(self.policy.tokenizer, options)
        known = {prompt: [*self.policy.encode_prompt(prompt), *opening] for prompt in set(prompts)}
        return next_tokens(
            self.policy.model,
            [known[prompt] for prompt in prompts],
            firsts,
            self.policy.tokenizer.pad_token_id,
            self.policy.batch_size,
            self.progress,
        )
