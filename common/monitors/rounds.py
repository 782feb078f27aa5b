"""Monitors: known ways for a loop to go wrong, named when they are seen.

A monitor looks at the rounds so far and says what it sees, or nothing; it decides nothing. The
figures come from what the learner returned (``Round.notes["learn"]``) and from the round's
metrics on dev.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from common.records import Metric, Round


class Monitor(Protocol):
    def check(self, history: Sequence[Round], current: Round) -> str | None:
        """One line on what ``current`` shows against the rounds before it, or None."""


@dataclass(frozen=True)
class CollapseMonitor:
    """Preference collapse: the pairs are told apart almost at once and the outcome worsens.

    Seen when golden completions are preferred over sampled ones (arXiv 2409.12403: reward
    accuracy 99.8% after 20 steps, then a higher word error rate): chosen and rejected differ by
    a trait that has nothing to do with quality, and optimising it further does harm. The early
    reward accuracy (the second tenth of the steps) must reach ``accuracy_at_least`` and ``metric``
    be worse than in the last kept round, by ``standard_errors`` of the current round's.
    """

    metric: str = "wer"
    accuracy_at_least: float = 0.98
    standard_errors: float = 0.0

    def check(self, history: Sequence[Round], current: Round) -> str | None:
        learn = _learn(current)
        accuracy = learn.get("reward_accuracy_early", learn.get("reward_accuracy"))
        pair = _against_last_kept(history, current, self.metric)
        if accuracy is None or pair is None or accuracy < self.accuracy_at_least:
            return None
        before, now = pair
        worse = now.value - before.value if now.better == "lower" else before.value - now.value
        if worse <= self.standard_errors * now.se or worse <= 0:
            return None
        margin = learn.get("reward_margin")
        return (
            f"preference collapse in round {current.index}: reward accuracy {accuracy:.3f} early in"
            f" training{'' if margin is None else f' (margin {margin:.2f})'} while {self.metric}"
            f" went from {before.value:.3f} to {now.value:.3f} (se {now.se:.3f}, n {now.n})"
        )


@dataclass(frozen=True)
class DriftMonitor:
    """A metric that should stay where it was (length, entropy, speed) has moved.

    ``current`` over the first round of the run that has ``metric`` must stay within a factor of
    ``1 + at_most``.
    """

    metric: str = "length"
    at_most: float = 0.25

    def check(self, history: Sequence[Round], current: Round) -> str | None:
        now = _metric(current, self.metric)
        first = next((m for r in history if (m := _metric(r, self.metric)) is not None), None)
        if now is None or first is None or first.value <= 0:
            return None
        ratio = now.value / first.value
        if 1 / (1 + self.at_most) <= ratio <= 1 + self.at_most:
            return None
        return (
            f"{self.metric} drift in round {current.index}: {first.value:.3f} at the start, "
            f"{now.value:.3f} now ({ratio:.2f} times)"
        )


def _learn(current: Round) -> Mapping[str, Any]:
    learn = current.notes.get("learn", {})
    return learn if isinstance(learn, Mapping) else {}


def _metric(current: Round, name: str) -> Metric | None:
    return next((m for m in current.metrics if m.name == name and m.split == "dev"), None)


def _against_last_kept(
    history: Sequence[Round], current: Round, name: str
) -> tuple[Metric, Metric] | None:
    now = _metric(current, name)
    kept = (_metric(r, name) for r in reversed(history) if r.kept and r.index < current.index)
    before = next((m for m in kept if m is not None), None)
    return None if now is None or before is None else (before, now)
