"""The two methods of ``text improve``: learn from experts, then from one's own judgement.

``feedback-sft`` replaces **select**: the lessons are experts' feedback and their alternatives as
responses that are appropriate; nothing is sampled for them. Its gate is ``accuracy``, the share of
held-out responses whose verdict is right and whose feedback fits the schema.

``feedback-dpo`` replaces **propose** (several feedbacks to each response that the start of the run
finds inappropriate), **judge** (the self-score by the start, an independent judge beside it) and
**select** (best over worst); it learns with the existing DPO. Its start should be a run of the
first. Its gate is the self-score, and neither the independent judge nor the share of valid feedback
may fall. Ablations of the paper: ``lessons=best`` imitates the best, ``lessons=all`` whatever fits.

The paper's settings are ``samples=10 temperature=0.8 beta=0.5 nll_weight=0 reference=start``, and
``measured=10``, each after a ``--set``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from common.errors import UserError
from common.gate import Gate
from common.pairing import Fixed
from common.policies.local import HFPolicy
from common.records import Lessons, Task
from common.stages import Context
from text.counseling.advisor import Advisor
from text.counseling.independent import Independent
from text.counseling.measures import Agreement, Quality
from text.counseling.stages import (
    INDEPENDENT,
    SELF,
    Advisors,
    Alternatives,
    BestOverWorst,
    Feedbacks,
    Silent,
    Valid,
)
from text.counseling.tasks import ABOUT, asking, demonstrations
from text.prompts import question

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts


class Verdicts(Protocol):
    """Whoever says how appropriate responses are."""

    def appropriate(self, contexts: Sequence[str]) -> list[float]: ...


def _prepared(parts: Parts, tokens: int) -> tuple[list[Task], Advisors]:
    """The tasks with the prompts that feedback is asked by, and how the policy is asked.

    Raises:
        UserError: the run's task is another.
    """
    config = parts.config
    if any(task.meta.get("family") != ABOUT["family"] for task in parts.tasks):
        raise UserError(
            f"{config.method} gives feedback on conversations, not on {config.task}",
            "--task counseling, or --task counseling:FILE",
        )
    asked = [replace(t, prompt=asking(question(t), parts.policy.chat)) for t in parts.tasks]

    def advisor(policy: HFPolicy, ctx: Context) -> Advisor:
        return Advisor(
            policy,
            temperature=config.temperature,
            top_p=config.top_p,
            max_new_tokens=tokens,
            progress=ctx.progress,
        )

    return asked, advisor


@dataclass(frozen=True)
class FeedbackSFT:
    """Experts' feedback, imitated; with ``augment`` their alternatives as good responses too.

    A feedback has at most ``tokens``, whatever answers of other tasks have.
    """

    augment: bool = True
    tokens: int = 256

    def loop(self, parts: Parts) -> Loop:
        asked, advisor = _prepared(parts, self.tokens)
        taught = demonstrations(
            [task for task in asked if task.split == "train"], parts.policy.chat, self.augment
        )
        held = [task for task in asked if task.split != "train"]
        if not taught or not all(any(t.reference for t in held if t.split == s) for s in
                                 ("dev", "test")):  # fmt: skip
            raise UserError(
                f"{parts.config.task} has no experts' feedback in train, dev and test",
                "give conversations with feedback; docs/multilevel-feedback.md has the form",
            )
        notes = dict(Counter(d.source for d in taught))
        return parts.loop(
            tasks=asked,
            propose=Silent(),
            judge=[],
            select=Fixed(Lessons(demonstrations=tuple(taught), notes=notes)),
            learn=parts.sft(),
            measure=Agreement(advisor),
            gate=Gate("accuracy"),
            monitors=[],
        )


@dataclass(frozen=True)
class FeedbackDPO:
    """Best over worst feedback by the self-score.

    ``lessons``: pairs, or the paper's ablations best and all. ``judge``: embeddings, or a model or
    run whose verdict stands beside the self-score. ``tokens`` as of :class:`FeedbackSFT`.
    """

    lessons: str = "pairs"
    judge: str = "embeddings"
    tokens: int = 256

    def loop(self, parts: Parts) -> Loop:
        if self.lessons not in ("pairs", "best", "all"):
            raise UserError(f"no lessons {self.lessons!r}", "use pairs, best or all")
        asked, advisor = _prepared(parts, self.tokens)
        policy = parts.policy

        def by_start(said: Sequence[str], ctx: Context) -> list[float]:
            with policy.at_start():
                return advisor(policy, ctx).appropriate(said)

        other = self._judge(parts, asked)
        judges = [
            Alternatives(SELF, by_start),
            Alternatives(INDEPENDENT, lambda said, _: other.appropriate(said)),
        ]
        unlabelled = [t for t in asked if t.split == "train" and t.reference is None]
        if unlabelled:  # those with an expert's feedback have taught the start
            asked = [t for t in asked if t.split != "train" or t.reference is None]
        measured = parts.config.measured
        return parts.loop(
            tasks=asked,
            propose=Feedbacks(advisor, parts.config.samples, self.lessons == "all"),
            judge=[Valid(), *judges],
            select=BestOverWorst(self.lessons),
            learn=parts.preference() if self.lessons == "pairs" else parts.sft(),
            measure=Quality(advisor, judges, measured),
            gate=Gate(SELF, guards=(INDEPENDENT, "valid")),
            monitors=[],
        )

    def _judge(self, parts: Parts, asked: Sequence[Task]) -> Verdicts:
        if self.judge == "embeddings":
            return Independent([task for task in asked if task.split == "train"])
        from text.setup import load_policy

        return Advisor(load_policy(self.judge, parts.config.chat))
