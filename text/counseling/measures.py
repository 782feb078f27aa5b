"""What the two methods measure: agreement with experts, and the quality of alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Metric, Task
from common.stages import Context
from common.two_sample import auroc
from text.counseling import quality
from text.counseling.quality import by_response
from text.counseling.schema import Feedback
from text.counseling.stages import INDEPENDENT, Advisors, Alternatives, candidate, seeds
from text.counseling.tasks import reference
from text.prompts import question


@dataclass(frozen=True)
class Agreement:
    """Measure: does the policy say of held-out responses what experts say?

    ``accuracy`` (the verdict is right and the feedback fits the schema), ``appropriate`` (the
    verdict alone), ``auroc`` of its probability, ``valid``, ``areas`` (F1 of good and bad areas
    together) and ``attempts`` a feedback. Every policy has the same random numbers.
    """

    advisor: Advisors

    def measure(self, policy: HFPolicy, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        known = {task.id: said for task in tasks if (said := reference(task))}
        asked = [task for task in tasks if task.id in known]
        advisor = self.advisor(policy, ctx)
        contexts = [question(task) for task in asked]
        verdicts = advisor.appropriate(contexts)
        perfect = [verdict > 0.5 for verdict in verdicts]
        drawn = advisor.advise(contexts, perfect, 1, seeds("agreement", asked, ctx, 0))
        rows: dict[str, dict[str, float]] = {}
        for task, verdict, [advice] in zip(asked, perfect, drawn, strict=True):
            said, right = advice.feedback, verdict is known[task.id].perfect
            rows[task.id] = {
                "accuracy": float(right and said is not None),
                "appropriate": float(right),
                "valid": float(said is not None),
                "areas": _f1(said, known[task.id]),
                "attempts": float(advice.attempts),
            }
        found = [
            Metric.of(name, {task: row[name] for task, row in rows.items()},
                      "lower" if name == "attempts" else "higher")
            for name in ("accuracy", "appropriate", "valid", "areas", "attempts")
        ]  # fmt: skip
        return [*found, *_auroc("auroc", verdicts, asked)]


def _f1(said: Feedback | None, known: Feedback) -> float:
    """F1 of (good or bad, area) pairs; 1 where neither names any."""
    if said is None:
        return 0.0
    a, b = (
        {("good", x) for x in f.goodareas} | {("bad", x) for x in f.badareas or ()}
        for f in (said, known)
    )
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0


def _auroc(name: str, scores: Sequence[float], labelled: Sequence[Task]) -> list[Metric]:
    """The area, with Hanley and McNeil's standard error (1982); nothing where it is not defined."""
    truth = [bool((said := reference(task)) and said.perfect) for task in labelled]
    good, bad = truth.count(True), truth.count(False)
    if not good or not bad:
        return []
    value = auroc(truth, scores)
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (good - 1) * (q1 - value**2) + (bad - 1) * (q2 - value**2)
    se = (max(0.0, spread) / (good * bad)) ** 0.5
    return [Metric(name, value, se, len(labelled), better="neither")]


@dataclass(frozen=True)
class Quality:
    """Measure: the scores of alternatives to held-out responses, on average and at their worst.

    The responses are those that the start of the run finds inappropriate, the same for every
    policy, and so are the random numbers. Feedback that no attempt made valid scores 0 in the
    mean. Standard errors are over responses.
    """

    advisor: Advisors
    judges: Sequence[Alternatives]
    n: int

    def measure(self, policy: HFPolicy, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        contexts = {task.id: question(task) for task in tasks}
        with policy.at_start():
            verdicts = self.advisor(policy, ctx).appropriate(list(contexts.values()))
        asked = [task for task, verdict in zip(tasks, verdicts, strict=True) if verdict <= 0.5]
        if len(asked) < 2:
            raise UserError(
                f"the start finds {len(asked)} of {len(tasks)} held-out responses inappropriate",
                "give more conversations, or a start that was taught by experts: feedback-sft",
            )
        advisor = self.advisor(policy, ctx)
        mine = [contexts[task.id] for task in asked]
        drawn = advisor.advise(mine, [False] * len(asked), self.n,
                               seeds("quality", asked, ctx, 0))  # fmt: skip
        said = [
            replace(candidate(task, index, advice, 0.0, policy.chat, ctx),
                    id=f"{task.id}#{index}")
            for task, group in zip(asked, drawn, strict=True)
            for index, advice in enumerate(group)
        ]  # fmt: skip
        by_id = {task.id: task for task in asked}
        found = [
            Metric.of("valid", by_response({c.id: float(c.answer is not None) for c in said})),
            Metric.of("attempts", by_response({c.id: c.meta["attempts"] for c in said}), "lower"),
        ]
        for judge in self.judges:
            scores = judge.judge(by_id, said, ctx)
            each = {c.id: s.get(judge.name, 0.0) for c, s in zip(said, scores, strict=True)}
            found += quality.metrics(judge.name, each)
        labelled = [task for task in tasks if task.reference]
        own = advisor.appropriate([question(task) for task in labelled]) if labelled else []
        found += _auroc("auroc", own, labelled)
        for judge in self.judges:
            if judge.name == INDEPENDENT and labelled:
                judged = judge.judged([question(task) for task in labelled], ctx)
                found += _auroc("independent_auroc", judged, labelled)
        return found
