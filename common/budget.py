"""What a run has spent in tokens, and a limit to it: methods are compared at equal cost.

Sampled tokens are those of the proposals (``meta["spent"]`` where a candidate took more than its
own); trained tokens are those that went through the model in learning, prompts included, once for
each pass. Measuring is the same for all methods and does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.records import Round


class Spent(NamedTuple):
    """Tokens."""

    sampled: int
    trained: int

    @property
    def total(self) -> int:
        return self.sampled + self.trained


def spent(rounds: Sequence[Round]) -> Spent:
    """What ``rounds`` took, whether they were kept or not.

    A learner that samples as it learns says so by ``sampled_tokens`` beside its ``tokens``.
    """
    learned = [r.notes.get("learn", {}) for r in rounds]
    sampled = sum(r.notes.get("pool", {}).get("sampled_tokens", 0) for r in rounds)
    sampled += sum(notes.get("sampled_tokens", 0) for notes in learned)
    return Spent(int(sampled), int(sum(notes.get("tokens", 0) for notes in learned)))


@dataclass(frozen=True)
class Budget:
    """Ends a run before the round that would pass ``tokens``, if it takes what the last one took.

    Given as ``until`` to :meth:`common.loop.Loop.run`. The first round is always run.
    """

    tokens: int

    def __call__(self, history: Sequence[Round]) -> bool:
        return spent(history).total + spent(history[-1:]).total > self.tokens
