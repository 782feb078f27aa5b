"""Chain of hindsight (arXiv 2302.02676): learn from good and bad alike, told which is which.

    loss = -log p(chosen | good, prompt) - log p(rejected | bad, prompt),  the mean over tokens

The label stands before the prompt. Both responses of a preference are imitated, each under its own
label; afterwards the policy speaks under the good one. SpeechAlign (arXiv 2404.05600) compares it
with DPO, as a quality label in the prompt of a codec language model. Replaces: learn.

Deviations from the paper: each response is a sequence of its own, as SpeechAlign has it; the
paper's sequences chain several responses with feedback on each, which needs past tokens masked at
random lest one response is copied from another, and twice the context. The paper also regularises
with pre-training text; here a small learning rate has to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import UserError
from common.learners.sft import SFT
from common.policies.local import HFPolicy
from common.records import Demonstration, Lessons, identity
from common.stages import Context


@dataclass(frozen=True)
class Hindsight:
    """Learn from the preferences of a round which responses are called good and which bad.

    A word of a label that the tokenizer cannot spell becomes a new symbol of the policy, which
    rules an adapter out (``sft.lora``): it would be saved without the symbol's embedding. ``sft``
    is how the labelled responses are learnt; its epochs and steps count responses, two a pair.
    """

    good: str = "Give a good answer."
    bad: str = "Give a bad answer."
    sft: SFT = SFT()

    def __post_init__(self) -> None:
        if not self.good.split() or not self.bad.split() or self.good == self.bad:
            raise UserError(
                f"the labels {self.good!r} and {self.bad!r} do not tell good from bad",
                "give two different labels",
            )

    def learn(self, policy: HFPolicy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Train on ``lessons.preferences``; nothing is done when there are none.

        Returns what :class:`SFT` does, and ``pairs``. Raises :class:`UserError` when a label needs
        a new symbol and the policy has, or is to get, an adapter.
        """
        labelled = [
            Demonstration(
                id=identity("hindsight", pair.id, label),
                task=pair.task,
                round=pair.round,
                prompt=f"{label} {pair.prompt}",
                completion=completion,
            )
            for pair in lessons.preferences
            for label, completion in ((self.good, pair.chosen), (self.bad, pair.rejected))
        ]
        figures = {"steps": 0.0}
        if labelled:
            policy.add_symbols([*self.good.split(), *self.bad.split()])
            with policy.conditioned(""):
                figures |= self.sft.learn(policy, Lessons(demonstrations=tuple(labelled)), ctx)
        if figures["steps"]:
            policy.condition = self.good
        return {**figures, "pairs": float(len(lessons.preferences))}
