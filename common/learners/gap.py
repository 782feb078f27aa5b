"""A gap reward model: how much better one answer is than another (PIT, arXiv 2310.00898).

r(x, y1, y2) reads a prompt and two answers, and of preferred answers y_w and rejected ones y_l

    r(w, l)  >=  r(w, w), r(l, l)  >=  r(l, w)

is learnt as five comparisons of a pair of answers with another, each by -log sigmoid of the
difference: (w,l) over (w,w), over (l,l) and over (l,w); (w,w) over (l,w); (l,l) over (l,w). A pair
of answers is one text, so this is :class:`common.learners.reward.RewardModel` on five preferences
for each one; the loss is their mean, a fifth of the paper's sum.

Only differences of r are learnt, so where "no better" lies is not. :meth:`GapModel.gap` is
r(x, y1, y2) - r(x, y2, y2), against handing y2 back as it is; that it is 0 for y1 = y2 is a
deviation from the paper, which does not say when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.learners.reward import RewardModel
from common.records import Preference, identity
from common.stages import Context

BETWEEN = "\n\n===\n\n"
"""Stands between the two answers of a pair."""


def joined(new: str, old: str) -> str:
    """A pair of answers as one text."""
    return f"{new}{BETWEEN}{old}"


def comparisons(preferences: Sequence[Preference]) -> list[Preference]:
    """The five comparisons of each preference."""
    found = []
    for one in preferences:
        w, l = one.chosen, one.rejected  # noqa: E741  # the paper's names
        wl, ww, ll, lw = joined(w, l), joined(w, w), joined(l, l), joined(l, w)
        for better, worse in ((wl, ww), (wl, ll), (wl, lw), (ww, lw), (ll, lw)):
            name = identity("gap", one.id, better, worse)
            found.append(replace(one, id=name, chosen=better, rejected=worse, margin=0.0))
    return found


class GapModel:
    """``model`` on pairs of answers."""

    def __init__(self, model: RewardModel) -> None:
        self.model = model

    def fit(self, preferences: Sequence[Preference], ctx: Context) -> Mapping[str, float]:
        """Train on the five comparisons of ``preferences``; as :meth:`RewardModel.fit`."""
        return self.model.fit(comparisons(preferences), ctx)

    def gap(self, prompts: Sequence[str], new: Sequence[str], old: Sequence[str]) -> list[float]:
        """How much better each new answer is than the old one; 0 for the same text."""
        pairs = [joined(a, b) for a, b in zip(new, old, strict=True)]
        same = [joined(b, b) for b in old]
        rewards = self.model.score([*prompts, *prompts], [*pairs, *same])
        return [
            0.0 if a == b else r - zero
            for a, b, r, zero in zip(
                new, old, rewards[: len(pairs)], rewards[len(pairs) :], strict=True
            )
        ]

    def fingerprint(self) -> str:
        """A hash of the weights."""
        return self.model.fingerprint()

    def save(self, folder: Path) -> None:
        """Write the weights."""
        self.model.save(folder)

    def restore(self, folder: Path) -> None:
        """Take the weights that :meth:`save` wrote."""
        self.model.restore(folder)
