"""Meta-rewarding (arXiv 2407.19594): a model that judges its own answers, and its own judgements.

One model plays three parts. The *actor* answers a prompt K times. The *judge* reads each answer N
times and gives it points by a rubric of five; an answer's reward is the mean. The *meta-judge*
reads two judgements of one answer, in both orders, and says which is better; battles become ratings
(:mod:`common.elo`). No reference answer is looked at. Replaces **propose** (answers, judgements and
meta-judgements are all candidates), **judge** and **select**:

* *Actor pairs.* Of answers as good as the best, the shortest over the longest of those as bad as
  the worst: chosen is the shortest with a reward in [(1 - rho) max + rho min, max], rejected the
  longest in [min, (1 - rho) min + rho max]. A larger rho holds length back more.
* *Judge pairs.* Of the answer whose points vary most, the judgement rated highest over the lowest.

Judges collapse: by the paper's second round nearly every answer had full points, and the meta-judge
took the higher score 98% of the time. The entropy of the points and the meta-judge's position bias
are watched; past their limits the judge is no longer trained, and the notes say so. Nor is it after
``judge_rounds`` rounds, the paper's two.

Deviations: the rubric and the meta-judge's question are in words of our own; ties and judgements
without a score are left out of the ratings and the mean; N is smaller. The paper first teaches the
judge on human evaluations, which none of these models has seen.

    upspiral text improve --method meta-rewarding --task gsm8k --model Qwen/Qwen2.5-7B-Instruct
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from common.elo import Battle, Winner, battle_matrix, position_bias, position_weights, ratings
from common.errors import UserError
from common.pairing import distinct, pair
from common.policies import Generator, Sample
from common.pool import by_task, of_round
from common.records import Candidate, Lessons, Preference, Task, identity
from common.stages import Context, Judge, Proposer
from text.evaluator import CRITERIA, POINTS

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

JUDGEMENT, META = "judgement", "meta-judgement"
RUBRIC = f"""Judge the answer to a question with points, one for each of these that holds:
{CRITERIA}

Question: {{question}}

Answer: {{answer}}

Give your reasons in a few sentences, then end with the line "Score: " and the points, 0 to 5."""
WHICH = """Two judges gave points from 0 to 5 to the same answer, one for each of: it is about the
question; it deals with most of it; it can be used; it is clear and complete; it is all correct.
Say which judge kept to these points better and gave the better reasons.

Question: {question}

Answer: {answer}

Judge A: {first}

Judge B: {second}

Give your reasons in a sentence, then end with the line "Better: A" or "Better: B"."""
_SCORE = re.compile(r"score\W{0,6}(\d+(?:\.\d+)?)", re.IGNORECASE)
_BETTER = re.compile(r"better\W{0,6}\b([AB])\b", re.IGNORECASE)


def points(judgement: str) -> float | None:
    """The last score that a judgement gives, None without one in 0 to 5."""
    found = _SCORE.findall(judgement)
    return float(found[-1]) if found and float(found[-1]) <= POINTS else None


def better(judgement: str) -> Winner | None:
    """Which of two judgements the meta-judge found better, None if it did not say."""
    found = _BETTER.findall(judgement)
    if not found:
        return None
    return "first" if found[-1].upper() == "A" else "second"


@dataclass(frozen=True)
class SelfJudged:
    """Propose: answers, ``judge.n`` judgements of each, and what the meta-judge says of them.

    Judgements are candidates of the same task with ``parent`` their answer and ``answer`` their
    points; meta-judgements have the two judgements in ``meta``. The meta-judge reads the judgements
    of the answer whose points vary most, two by two in both orders, at most ``battles`` twos.
    """

    actor: Proposer
    judge: Sample = Sample(n=5, temperature=0.8, top_p=0.95)
    battles: int = 10

    def __post_init__(self) -> None:
        if self.judge.n < 2 or self.battles < 1:
            raise UserError(
                f"{self.judge.n} judgements of an answer, {self.battles} battles of them",
                "give at least two judgements, at least one battle",
            )

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        by_id = {task.id: task for task in tasks}
        answers = self.actor.propose(policy, tasks, ctx)
        asked = [Task(c.id, judge_prompt(by_id[c.task], c), language=c.language) for c in answers]
        judged = self._asked(policy, asked, answers, self.judge, JUDGEMENT, ctx)
        judged = [replace(c, answer=_text(points(c.output))) for c in judged]
        asked, parents, two = [], [], []
        for answer in disputed(answers, judged):
            task, mine = by_id[answer.task], [c for c in judged if c.parent == answer.id]
            scored = [c for c in mine if c.answer is not None]
            for one, other in list(itertools.combinations(scored, 2))[: self.battles]:
                for first, second in ((one, other), (other, one)):
                    name = identity("meta", first.id, second.id)
                    asked.append(Task(name, meta_prompt(task, answer, first, second)))
                    parents.append(answer)
                    two.append({"first": first.id, "second": second.id})
        said = self._asked(policy, asked, parents, replace(self.judge, n=1), META, ctx)
        meta = [
            replace(c, answer=better(c.output), meta={**c.meta, **which})
            for c, which in zip(said, two, strict=True)
        ]
        return [*answers, *judged, *meta]

    def _asked(
        self,
        policy: Generator,
        asked: Sequence[Task],
        parents: Sequence[Candidate],
        sample: Sample,
        strategy: str,
        ctx: Context,
    ) -> list[Candidate]:
        """What the policy says to ``asked``, filed under the tasks of ``parents``."""
        said = sample.propose(policy, asked, ctx) if asked else []
        return [
            replace(c, id=identity(strategy, c.id), task=parents[i // sample.n].task,
                    parent=parents[i // sample.n].id, strategy=strategy)
            for i, c in enumerate(said)
        ]  # fmt: skip


def judge_prompt(task: Task, answer: Candidate) -> str:
    return RUBRIC.format(question=_question(task), answer=answer.output)


def meta_prompt(task: Task, answer: Candidate, first: Candidate, second: Candidate) -> str:
    return WHICH.format(
        question=_question(task), answer=answer.output, first=first.output, second=second.output
    )


def _question(task: Task) -> str:
    return str(task.meta.get("question", task.prompt))


def _text(score: float | None) -> str | None:
    return None if score is None else f"{score:g}"


def _scores(judgements: Sequence[Candidate]) -> list[float]:
    return [float(c.answer) for c in judgements if c.answer is not None]


def disputed(answers: Sequence[Candidate], judged: Sequence[Candidate]) -> list[Candidate]:
    """Of each task the answer whose points vary most, if any vary; the first of equals."""
    by_answer: dict[str, list[Candidate]] = {}
    for c in judged:
        by_answer.setdefault(c.parent or "", []).append(c)
    spread = {c.id: float(np.std(_scores(by_answer.get(c.id, [])) or [0.0])) for c in answers}
    found: dict[str, Candidate] = {}
    for c in answers:
        if spread[c.id] > 0 and (c.task not in found or spread[c.id] > spread[found[c.task].id]):
            found[c.task] = c
    return list(found.values())


@dataclass(frozen=True)
class AnswersOnly:
    """Judge: ``inner`` on answers; judgements are no answers and get no score of it."""

    inner: Judge

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        answers = [c for c in candidates if not is_judgement(c)]
        scores = dict(
            zip([c.id for c in answers], self.inner.judge(tasks, answers, ctx), strict=True)
        )
        return [scores.get(c.id, {}) for c in candidates]


def is_judgement(candidate: Candidate) -> bool:
    return candidate.strategy in (JUDGEMENT, META)


class MeanPoints:
    """Judge: ``judged``, the mean of the points that an answer's judgements gave it."""

    def judge(
        self,
        tasks: Mapping[str, Task],  # noqa: ARG002
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        given: dict[str, list[float]] = {}
        for c in candidates:
            if c.strategy == JUDGEMENT and c.answer is not None:
                given.setdefault(c.parent or "", []).append(float(c.answer))
        return [
            {"judged": float(np.mean(given[c.id]))}
            if c.id in given
            else {"points": float(c.answer)}
            if c.strategy == JUDGEMENT and c.answer is not None
            else {}
            for c in candidates
        ]


@dataclass(frozen=True)
class ActorAndJudge:
    """Select: pairs for the actor by length tiers, and for the judge by ratings while it is sound.

    ``rho`` is by round, the last for all later ones. ``longest`` is the most characters of a chosen
    judgement. The judge is sound while the entropy of its points (nats) is at least ``entropy`` and
    the meta-judge's position bias (0 to 1) at most ``bias``, in this round and all before.
    """

    rho: Sequence[float] = (0.0, 0.32, 0.32, 0.4)
    judge_rounds: int = 2
    longest: int = 1100
    entropy: float = 0.5
    bias: float = 0.6

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = list(of_round(pool, ctx.round))
        rho = self.rho[min(ctx.round, len(self.rho)) - 1]
        pairs = actor_pairs(tasks, mine, rho, ctx.round)
        notes: dict[str, Any] = {"actor_pairs": len(pairs), "rho": rho, **watch(mine)}
        why = self._unsound(pool, ctx.round)
        judging = [] if why else judge_pairs(tasks, mine, self.longest, ctx.round)
        notes |= {"judge_pairs": len(judging), "judge_training": why or "on"}
        return Lessons(tuple(distinct([*pairs, *judging])), notes=notes)

    def _unsound(self, pool: Sequence[Candidate], now: int) -> str:
        """Why the judge is not trained, "" if it is."""
        for number in range(1, now + 1):
            seen = watch(list(of_round(pool, number)))
            if seen["entropy"] < self.entropy:
                return (
                    f"stopped in round {number}: the points hardly differ "
                    f"(entropy {seen['entropy']:.2f} nats, mean {seen['points']:.2f} of {POINTS})"
                )
            if seen["position_bias"] > self.bias:
                return (
                    f"stopped in round {number}: the meta-judge goes by position "
                    f"(bias {seen['position_bias']:.2f})"
                )
        return f"ended after round {self.judge_rounds}" if now > self.judge_rounds else ""


def actor_pairs(
    tasks: Mapping[str, Task], pool: Sequence[Candidate], rho: float, round: int = 0
) -> list[Preference]:
    """The shortest of each task's best answers over the longest of its worst."""
    pairs = []
    for task, group in by_task(c for c in pool if "judged" in c.scores):
        scores = [c.scores["judged"] for c in group]
        high, low = max(scores), min(scores)
        good = [
            c for c in group
            if c.scores["judged"] >= (1 - rho) * high + rho * low and c.meta.get("finished", True)
        ]  # fmt: skip
        bad = [c for c in group if c.scores["judged"] <= (1 - rho) * low + rho * high]
        if high == low or not good:
            continue
        chosen = min(good, key=lambda c: (len(c.output), c.id))
        rejected = max(bad, key=lambda c: (len(c.output), c.id))
        margin = chosen.scores["judged"] - rejected.scores["judged"]
        if margin > 0 and chosen.output != rejected.output:
            pairs.append(pair(tasks[task], chosen, rejected, margin, "actor", round))
    return pairs


def judge_pairs(
    tasks: Mapping[str, Task], pool: Sequence[Candidate], longest: int, round: int = 0
) -> list[Preference]:
    """The judgement of each task's disputed answer that is rated best over the one rated worst."""
    by_id = {c.id: c for c in pool}
    fought: dict[str, list[Candidate]] = {}
    for c in pool:
        if c.strategy == META and c.answer is not None:
            fought.setdefault(c.parent or "", []).append(c)
    weights = position_weights(_battles([c for some in fought.values() for c in some]))
    pairs = []
    for parent in sorted(fought):
        names = sorted({str(c.meta[side]) for c in fought[parent] for side in ("first", "second")})
        number = {name: i for i, name in enumerate(names)}
        found = ratings(battle_matrix(len(names), _battles(fought[parent], number), weights))
        best, worst = by_id[names[int(found.argmax())]], by_id[names[int(found.argmin())]]
        gap = float(found.max() - found.min())
        fits = best.meta.get("finished", True) and len(best.output) <= longest
        if gap > 1e-6 and fits and best.output != worst.output:
            task = tasks[by_id[parent].task]
            asked = replace(task, prompt=judge_prompt(task, by_id[parent]))
            pairs.append(pair(asked, best, worst, gap, "judge", round))
    return pairs


def _battles(said: Sequence[Candidate], number: Mapping[str, int] | None = None) -> list[Battle]:
    at = number or {}
    return [
        Battle(at.get(c.meta["first"], 0), at.get(c.meta["second"], 0), c.answer)  # type: ignore[arg-type]
        for c in said
    ]


def watch(pool: Sequence[Candidate]) -> dict[str, float]:
    """What a round shows of its judge: ``entropy`` of the points (nats), their mean, how many
    judgements had ``readable`` points, the meta-judge's ``position_bias`` and how often it took the
    judgement with ``higher_points``."""
    judged = [c for c in pool if c.strategy == JUDGEMENT]
    given = _scores(judged)
    counts = np.array(list(Counter(given).values()), dtype=float)
    p = counts / counts.sum() if len(counts) else counts
    said = [c for c in pool if c.strategy == META and c.answer is not None]
    by_id = {c.id: c for c in judged}
    gaps = [
        (float(by_id[c.meta["first"]].answer or 0) - float(by_id[c.meta["second"]].answer or 0))
        * (1 if c.answer == "first" else -1)
        for c in said
    ]
    told = [gap > 0 for gap in gaps if gap]
    return {
        "entropy": float(0.0 - (p * np.log(p)).sum()) if len(p) else 0.0,
        "points": float(np.mean(given)) if given else 0.0,
        "readable": len(given) / len(judged) if judged else 0.0,
        "position_bias": position_bias(_battles(said)),
        "higher_points": float(np.mean(told)) if told else 0.5,
    }


@dataclass(frozen=True)
class MetaRewarding:
    """Answers that the model judges itself, and judgements that it judges too.

    ``judgements`` of at most ``judge_tokens`` tokens an answer, ``battles`` of them for each
    question, and what :class:`ActorAndJudge` says of the others.
    """

    judgements: int = 3
    judge_tokens: int = 96
    battles: int = 5
    judge_rounds: int = 2
    entropy: float = 0.5
    bias: float = 0.6

    def loop(self, parts: Parts) -> Loop:
        judge = Sample(self.judgements, 0.8, 0.95, max_new_tokens=self.judge_tokens)
        return parts.loop(
            propose=SelfJudged(parts.propose, judge, self.battles),
            judge=[AnswersOnly(parts.judge), MeanPoints()],
            select=ActorAndJudge(
                judge_rounds=self.judge_rounds, entropy=self.entropy, bias=self.bias
            ),
            learn=parts.preference(),
        )
