"""The stages that the two methods replace: propose, judge and select."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.pairing import best_worst, chosen
from common.policies import candidate_id
from common.policies.local import HFPolicy
from common.pool import of_round
from common.records import Candidate, Demonstration, Lessons, Preference, Task, identity
from common.stages import Context
from text.counseling.advisor import Advice, Advisor
from text.counseling.schema import parse
from text.counseling.tasks import completion, with_response
from text.prompts import question

SELF, INDEPENDENT = "self_score", "independent"
"""Scores of alternatives: by the start of the run, and by who shares nothing with it."""
STRATEGY = "feedback"
Advisors = Callable[[HFPolicy, Context], Advisor]
"""The advisor that a policy is in a stage."""


class Silent:
    """Propose: nothing, where all lessons are given."""

    def propose(
        self,
        policy: Any,  # noqa: ARG002
        tasks: Sequence[Task],  # noqa: ARG002
        ctx: Context,  # noqa: ARG002
    ) -> list[Candidate]:
        return []


@dataclass(frozen=True)
class Feedbacks:
    """Propose: ``n`` feedbacks to each response that the start finds inappropriate.

    With ``every`` also one to each that it finds appropriate. ``Candidate.answer`` is the
    alternative, ``meta["problem"]`` why the last attempt was invalid.
    """

    advisor: Advisors
    n: int
    every: bool = False

    def propose(self, policy: HFPolicy, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        contexts = [question(task) for task in tasks]
        with policy.at_start():
            verdicts = self.advisor(policy, ctx).appropriate(contexts)
        advisor = self.advisor(policy, ctx)
        found = []
        for perfect in (False, True) if self.every else (False,):
            some = [(t, v) for t, v in zip(tasks, verdicts, strict=True) if (v > 0.5) is perfect]
            asked = [task for task, _ in some]
            drawn = advisor.advise(
                [question(task) for task in asked],
                [perfect] * len(asked),
                1 if perfect else self.n,
                seeds("feedback", asked, ctx, ctx.round),
            )
            for (task, verdict), group in zip(some, drawn, strict=True):
                for index, advice in enumerate(group):
                    found.append(candidate(task, index, advice, verdict, policy.chat, ctx))
        return found


def candidate(
    task: Task, index: int, advice: Advice, verdict: float, chat: bool, ctx: Context
) -> Candidate:
    said = advice.feedback
    return Candidate(
        id=candidate_id(task, ctx.round, index, STRATEGY),
        task=task.id,
        round=ctx.round,
        output=completion(said, chat) if said else advice.text,
        logprob=advice.logprob,
        tokens=advice.tokens,
        answer=said.alternative if said else None,
        strategy=STRATEGY,
        meta={
            "finished": said is not None,
            "perfect": verdict,
            "attempts": advice.attempts,
            "spent": advice.spent,
            "problem": advice.problem,
        },
    )


def seeds(what: str, tasks: Sequence[Task], ctx: Context, round: int) -> Any:
    return lambda item, sample, attempt: ctx.seed_for(what, round, tasks[item].id, sample, attempt)


@dataclass(frozen=True)
class Alternatives:
    """Judge: how appropriate each alternative is in its context, under ``name``.

    Feedback that is not valid, or to an appropriate response, has none and gets no score.
    """

    name: str
    judged: Callable[[Sequence[str], Context], list[float]]

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        with_one = [c for c in candidates if c.answer is not None]
        said = [with_response(question(tasks[c.task]), c.answer or "") for c in with_one]
        found = dict(zip([c.id for c in with_one], self.judged(said, ctx), strict=True))
        return [{self.name: found[c.id]} if c.id in found else {} for c in candidates]


@dataclass(frozen=True)
class Valid:
    """Judge: ``valid``, whether a feedback fits the schema."""

    def judge(
        self,
        tasks: Mapping[str, Task],  # noqa: ARG002
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        return [{"valid": float(_fits(c.output))} for c in candidates]


def _fits(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class BestOverWorst:
    """Select: each response's best feedback over its worst by the self-score, or an ablation."""

    lessons: str = "pairs"

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = list(of_round(pool, ctx.round, lambda c: bool(c.scores.get("valid"))))
        pairs = best_worst(tasks, [c for c in mine if SELF in c.scores], key=SELF, round=ctx.round)
        by_id = {c.id: c for c in mine}
        notes: dict[str, Any] = {"pairs": len(pairs), **_agreement(pairs, by_id)}
        if self.lessons == "pairs":
            return Lessons(tuple(pairs), notes=notes)
        if self.lessons == "best":
            return Lessons(demonstrations=tuple(chosen(pairs)), notes=notes)
        first = {c.task: c for c in sorted(mine, key=lambda c: c.id, reverse=True)}
        some = tuple(
            Demonstration(identity("all", c.id), task, ctx.round, tasks[task].prompt, c.output)
            for task, c in sorted(first.items())
        )
        return Lessons(demonstrations=some, notes=notes)


def _agreement(pairs: Sequence[Preference], by_id: Mapping[str, Candidate]) -> dict[str, float]:
    """How often the independent judge would have preferred the same one."""
    sides = [(by_id[p.chosen_id or ""], by_id[p.rejected_id or ""]) for p in pairs]
    gaps = [best.scores[INDEPENDENT] - worst.scores[INDEPENDENT] for best, worst in sides]
    if not gaps:
        return {}
    return {"independent_agrees": sum(gap > 0 for gap in gaps) / len(gaps)}
