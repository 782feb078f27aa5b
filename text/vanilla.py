"""Iterated self-improvement as it is: the control for every other method.

Each round the policy answers every question several times, answers are checked against the
reference, and random pairs of a right and a wrong one are learnt by DPO with a likelihood anchor
(iterative RPO, arXiv 2404.19733; the vanilla ISI of arXiv 2501.00747):

    loss = dpo_weight * -log sigmoid(beta * (log-ratio of right - log-ratio of wrong))
         + nll_weight * -log p(right) / |right|

The reference is the policy that the round began with. Questions that were all answered right, or
all wrong, teach nothing. Replaces no stage: this is what the stages are by default. Where a ranker
judges (``--judge answer-selection:FOLDER``) nothing is right or wrong, and the answers it ranks
best are learnt over those it ranks worst.

    upspiral text improve --method vanilla --task arithmetic --model smollm2 --rounds 3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import UserError
from common.pairing import best_worst, right_over_wrong
from common.pool import of_round
from common.records import Candidate, Lessons, Task
from common.stages import Context, Selector

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts


@dataclass(frozen=True)
class RandomPairs:
    """Select: right over wrong answers of this round, at random."""

    pairs_per_task: int = 2
    key: str = "correct"

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        pairs = right_over_wrong(
            tasks,
            of_round(pool, ctx.round),
            key=self.key,
            pairs_per_task=self.pairs_per_task,
            seed=ctx.seed_for("pairs", ctx.round),
            round=ctx.round,
        )
        return Lessons(tuple(pairs))


@dataclass(frozen=True)
class RankedPairs:
    """Select: the best answers of this round over its worst, by a score."""

    key: str
    pairs_per_task: int = 2

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = of_round(pool, ctx.round)
        pairs = best_worst(
            tasks, mine, key=self.key, pairs_per_task=self.pairs_per_task, round=ctx.round
        )
        return Lessons(tuple(pairs))


@dataclass(frozen=True)
class Vanilla:
    """Random right over wrong answers, learnt by DPO with an anchor."""

    pairs_per_task: int = 2

    def __post_init__(self) -> None:
        if self.pairs_per_task < 1:
            raise UserError(f"pairs_per_task={self.pairs_per_task}", "give 1 or more")

    def loop(self, parts: Parts) -> Loop:
        select: Selector = RandomPairs(self.pairs_per_task)
        if parts.config.judge != "answers":
            select = RankedPairs("answer_selection", self.pairs_per_task)
        return parts.loop(select=select, learn=parts.preference())
