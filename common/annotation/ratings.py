"""Blind A/B ratings: in which order and on which side, how they count, and how raters agree.

An item is a :class:`~common.records.Comparison`. Each rater gets the items in an order of their
own, each system left in half of them, both drawn from the seed and the rater's name: neither the
place nor the side of a stimulus says which system made it.

Ratings become preferences too (:func:`preferences`), as in reinforcement learning from human
feedback (arXiv 1706.03741), where a tie teaches nothing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.pairing import distinct
from common.records import Comparison, Preference, Rating, Task, identity

Verdict = Literal["win", "tie", "lose"]
VALUE: dict[Verdict, float] = {"lose": 0.0, "tie": 0.5, "win": 1.0}
"""What an answer is worth to the contender, from worst to best."""
LONGEST_NAME = 60


class Shown(NamedTuple):
    """A comparison as one rater sees it; ``swapped``: the contender stands on the left."""

    comparison: Comparison
    swapped: bool

    @property
    def systems(self) -> tuple[str, str]:
        """What is on the left and on the right."""
        first, second = (stimulus.system for stimulus in self.comparison.stimuli)
        return (second, first) if self.swapped else (first, second)

    @property
    def artifacts(self) -> tuple[str, str]:
        """The artifacts on the left and on the right."""
        first, second = (stimulus.artifact for stimulus in self.comparison.stimuli)
        return (second, first) if self.swapped else (first, second)


def order(comparisons: Iterable[Comparison], rater: str, seed: int) -> list[Shown]:
    """``comparisons`` in this rater's order and with this rater's sides.

    Each system stands on the left as often as on the right, give or take one. The result does not
    depend on the order that the comparisons come in.
    """

    def drawn(what: str, comparison: Comparison) -> str:
        return identity(what, seed, rater, comparison.id)

    by_side = sorted(comparisons, key=lambda c: drawn("side", c))
    # Of an odd number, the one in the middle goes where a coin sends it.
    coin = int(identity("coin", seed, rater), 16) & 1
    swapped = {c.id for c in by_side[: (len(by_side) + coin) // 2]}
    ranked = sorted(by_side, key=lambda c: drawn("order", c))
    return [Shown(c, c.id in swapped) for c in ranked]


def rater_name(typed: str) -> str:
    """The name that answers are kept under: without regard to case and spaces.

    Raises:
        UserError: it is empty, too long, or holds signs that cannot be seen.
    """
    name = " ".join(typed.split()).casefold()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UserError("this cannot be a name", f"type one of 1 to {LONGEST_NAME} characters")
    return name


def latest(ratings: Iterable[Rating]) -> list[Rating]:
    """The last answer of each rater to each item."""
    return list({(r.test, r.item, r.rater): r for r in ratings}.values())


def verdict(comparison: Comparison, rating: Rating) -> Verdict:
    """Whether the contender won, in the eyes of this rater."""
    if rating.answer == "tie":
        return "tie"
    preferred = rating.left if rating.answer == "left" else rating.right
    return "win" if preferred == comparison.stimuli[1].system else "lose"


class Share(NamedTuple):
    """A share of the items with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """How the contender of a test fared against the baseline.

    ``preference`` is wins and half of the ties. ``left`` is the share of answers for a side that
    were for the left one: far from a half, raters prefer a place and not a sound. ``alpha`` is
    None where no item has two raters, or all gave the same answer.
    """

    test: str
    baseline: str
    contender: str
    items: int
    raters: int
    ratings: int
    win: Share
    tie: Share
    lose: Share
    preference: Share
    left: Share
    alpha: float | None
    alpha_items: int
    checks: Mapping[str, int]
    """Raters by how their (last) check of headphones went."""

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference shown``, by the interval of the preference."""
        if self.preference.low <= 0.5 <= self.preference.high:
            return "no difference shown"
        return "better" if self.preference.low > 0.5 else "worse"


def outcomes(comparisons: Sequence[Comparison], ratings: Iterable[Rating]) -> list[Outcome]:
    """What each test came to that anybody has answered, in the order of the comparisons.

    A share is the mean over items of the share among that item's raters. Its interval is Wilson's
    (1927) with the number of *items* for n. With one rater that is the usual interval. With more
    it is conservative for texts like these and these raters: the shares of the items lie in [0, 1]
    with mean p, so their variance is p (1 - p) at most, which is what Wilson's interval takes it
    for. That other raters might judge otherwise is not in it.
    """
    by_test: dict[str, dict[str, Comparison]] = defaultdict(dict)
    for comparison in comparisons:
        by_test[comparison.test][comparison.id] = comparison
    counted: dict[str, list[Rating]] = defaultdict(list)
    for rating in latest(ratings):
        if rating.item in by_test[rating.test]:
            counted[rating.test].append(rating)
    return [
        _outcome(name, items, counted[name]) for name, items in by_test.items() if counted[name]
    ]


def _outcome(test: str, items: Mapping[str, Comparison], ratings: Sequence[Rating]) -> Outcome:
    said: dict[str, dict[str, Verdict]] = defaultdict(dict)
    for rating in ratings:
        said[rating.item][rating.rater] = verdict(items[rating.item], rating)
    n = len(said)

    def share(value: Mapping[Verdict, float]) -> Share:
        means = [sum(value.get(v, 0.0) for v in by.values()) / len(by) for by in said.values()]
        return wilson(sum(means) / n, n)

    sides = Counter(r.answer for r in ratings if r.answer != "tie")
    decided = sum(sides.values())
    first, second = next(iter(items.values())).stimuli
    checks = {r.rater: str(r.meta.get("headphones", "not asked")) for r in ratings}
    return Outcome(
        test=test,
        baseline=first.system,
        contender=second.system,
        items=n,
        raters=len({r.rater for r in ratings}),
        ratings=len(ratings),
        win=share({"win": 1.0}),
        tie=share({"tie": 1.0}),
        lose=share({"lose": 1.0}),
        preference=share(VALUE),
        left=wilson(sides["left"] / decided if decided else 0.5, decided),
        alpha=alpha(np.array([[[*by.values()].count(v) for v in VALUE] for by in said.values()])),
        alpha_items=sum(len(by) > 1 for by in said.values()),
        checks=dict(Counter(checks.values())),
    )


def wilson(share: float, n: int) -> Share:
    """Wilson's 95% score interval for a ``share`` of ``n``; all of [0, 1] when n is 0."""
    if n == 0:
        return Share(share, 0.0, 1.0)
    from scipy.special import ndtri

    z2 = float(ndtri(0.975)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    return Share(share, max(0.0, centre - half), min(1.0, centre + half))


def alpha(counts: NDArray[np.float64]) -> float | None:
    """Krippendorff's alpha for ordinal values; ``counts[u, v]`` raters gave item u the value v.

    1 is agreement, 0 is what chance gives, and less is disagreement (Krippendorff, "Computing
    Krippendorff's Alpha-Reliability", 2011, sections D and E). None where it is not defined:
    no item has two raters, or all that they said is one value.
    """
    counts = counts[counts.sum(1) > 1]
    pairable = counts.sum(1)[:, None, None]
    same = np.einsum("uv,vw->uvw", counts, np.eye(counts.shape[1]))
    coincidences = ((counts[:, :, None] * counts[:, None, :] - same) / (pairable - 1)).sum(0)
    totals = coincidences.sum(0)
    if np.count_nonzero(totals) < 2:
        return None
    # Between two values lie half of each one's own answers and all of those in between.
    place = np.cumsum(totals) - totals / 2
    distance = (place[:, None] - place[None, :]) ** 2
    expected = (totals[:, None] * totals[None, :] * distance).sum() / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected)


def preferences(
    comparisons: Iterable[Comparison],
    ratings: Iterable[Rating],
    tasks: Mapping[str, Task],
    round: int = 0,
) -> list[Preference]:
    """Lessons from people: the output that more than half of an item's raters preferred.

    Ties count among the raters, and the margin is the share that agreed, above a half and 1 at
    most. Only comparisons of ``tasks`` count (give the train tasks), and only those of two
    different outputs. The source is ``human``; a pair is never repeated.
    """
    by_item: dict[str, list[Rating]] = defaultdict(list)
    for rating in latest(ratings):
        by_item[rating.item].append(rating)
    found: list[Preference] = []
    for comparison in sorted(comparisons, key=lambda c: c.id):
        heard = by_item[comparison.id]
        votes = Counter(verdict(comparison, rating) for rating in heard)
        ranked: list[tuple[Verdict, int]] = [("win", 1), ("lose", 0)]
        for said, index in ranked:
            chosen, rejected = (comparison.stimuli[i].output for i in (index, 1 - index))
            if not chosen or not rejected or chosen == rejected or comparison.task not in tasks:
                continue
            if 2 * votes[said] > len(heard):
                name = identity("preference", round, "human", comparison.task, chosen, rejected)
                prompt = tasks[comparison.task].prompt
                share = votes[said] / len(heard)
                found.append(
                    Preference(
                        name, comparison.task, round, prompt, chosen, rejected, share, "human"
                    )
                )
    return distinct(found)
