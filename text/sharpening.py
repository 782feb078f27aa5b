"""Sharpening (arXiv 2412.01951): a model learns from what it itself finds likely.

No reference answer is looked at. The reward of an answer y to x is the model's own:

    logprob      r = log pi(y|x)
    normalised   r = log pi(y|x) / |y|
    majority     r = the share of the samples of x with the same answer

*SFT-sharpening* draws N answers and imitates the best. *RLHF-sharpening* maximises
E[r] - beta KL(pi || pi_base) by regression on pairs of answers (:mod:`common.learners.margin`); for
``logprob`` its optimum is proportional to pi_base^(1 + 1/beta). At inference the best of N is said
(:class:`Sharpened`). Replaces **judge** (the self-reward) and **select**; for RLHF also **learn**.

How many samples it takes is ruled by the coverage C = E_x[1 / pi(y*(x)|x)], y* the likeliest
answer: N of about C log(2/delta) / epsilon. With ``adaptive`` a question is sampled until k draws
with k * pi(best so far) >= mu; then y* was missed with probability e^-mu at most.

Deviations: the paper sharpens once and regresses on two samples; here a run has rounds, each with
the policy that it found as its base, and regresses on ``pairs`` disjoint pairs of the samples. A
whole solution is far too unlikely for an exact coverage, so it is estimated for answers, too.

    upspiral text improve --method sharpening-sft --task arithmetic
    upspiral text improve --method sharpening-dpo --task arithmetic
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from common.errors import UserError
from common.pairing import distinct, pair
from common.policies import Generator, Sample, candidate_id
from common.policies.best_of import BestOf
from common.policies.local import HFPolicy
from common.pool import by_task, of_round
from common.records import Candidate, Demonstration, Lessons, Preference, Task, identity
from common.stages import Context
from text.improve import answered

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

Kind = Literal["logprob", "normalised", "majority"]
SELF = "self"
"""The name of the self-reward among a candidate's scores."""
Answered = Callable[[Sequence[Task], Sequence[Candidate]], list[Candidate]]
"""Fills in what each candidate gives as its answer."""


def self_rewards(kind: Kind, samples: Sequence[Candidate]) -> list[float]:
    """The self-reward of each of one question's samples, of which majority counts the answers.

    No answer agrees with nothing: its majority is 0.
    """
    if kind == "logprob":
        return [c.logprob for c in samples]
    if kind == "normalised":
        return [c.logprob / max(1, c.tokens) for c in samples]
    if kind not in get_args(Kind):
        raise UserError(f"no self-reward {kind!r}", f"use {', '.join(get_args(Kind))}")
    votes = Counter(c.answer for c in samples if c.answer is not None)
    return [votes[c.answer] / len(samples) if c.answer is not None else 0.0 for c in samples]


@dataclass(frozen=True)
class SelfReward:
    """Judge: the policy's own reward of its samples, under ``self``."""

    kind: Kind = "normalised"

    def judge(
        self,
        tasks: Mapping[str, Task],  # noqa: ARG002
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        groups = dict(by_task(candidates))
        found = {
            c.id: reward
            for group in groups.values()
            for c, reward in zip(group, self_rewards(self.kind, group), strict=True)
        }
        return [{SELF: found[c.id]} for c in candidates]


@dataclass(frozen=True)
class BestSample:
    """Select for SFT-sharpening: of each question's samples the one with the highest self-reward.

    Samples that were cut at the length limit are not imitated. ``notes`` estimate the coverage.
    """

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        groups = dict(by_task(of_round(pool, ctx.round, lambda c: SELF in c.scores)))
        chosen = []
        for task, group in groups.items():
            ended = [c for c in group if c.meta.get("finished", True)]
            if ended:
                best = max(ended, key=lambda c: c.scores[SELF])  # the first of equals, by id
                name = identity("sharpening", ctx.round, best.id)
                prompt = tasks[task].prompt
                chosen.append(Demonstration(name, task, ctx.round, prompt, best.output))
        return Lessons(demonstrations=tuple(chosen), notes=coverage(groups).notes())


@dataclass(frozen=True)
class SamplePairs:
    """Select for RLHF-sharpening: pairs of samples with the difference of their self-rewards.

    The pairs of a question are disjoint and drawn at random, not by reward: the regression wants
    samples of the base policy. One that was cut at the length limit is none: the policy would have
    gone on.
    """

    pairs: int = 1

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        groups = dict(by_task(of_round(pool, ctx.round, lambda c: SELF in c.scores)))
        found: list[Preference] = []
        for task, group in groups.items():
            draw = random.Random(ctx.seed_for("sharpening", ctx.round, task))
            ended = [c for c in group if c.meta.get("finished", True)]
            some = draw.sample(ended, min(len(ended), 2 * self.pairs))
            for one, other in zip(some[::2], some[1::2], strict=False):
                high, low = sorted((one, other), key=lambda c: -c.scores[SELF])
                if high.output != low.output:
                    margin = high.scores[SELF] - low.scores[SELF]
                    found.append(pair(tasks[task], high, low, margin, "self", ctx.round))
        return Lessons(tuple(distinct(found)), notes=coverage(groups).notes())


class Coverage(NamedTuple):
    """Estimates of the coverage coefficient from samples of several questions.

    ``log_solutions`` (nats) is log E_x[1 / pi(y|x)] of the likeliest sample y: at least the true
    one, and equal once every y* was sampled. ``answers`` is E_x[(N + 1) / (K + 1)], K of N samples
    with the commonest answer: for a fixed answer it is 1/p but for a term (1 - p)^(N + 1) / p.
    """

    log_solutions: float
    answers: float

    def notes(self) -> dict[str, float]:
        return {"log_coverage": self.log_solutions, "answer_coverage": self.answers}

    def samples(self, delta: float = 0.1, epsilon: float = 0.1) -> int:
        """N for SFT-sharpening of answers, C log(2 / delta) / epsilon (theorem 4.1)."""
        return math.ceil(self.answers * math.log(2 / delta) / epsilon)


def coverage(groups: Mapping[str, Sequence[Candidate]]) -> Coverage:
    """The coverage coefficient, estimated from the samples of each question."""
    if not groups:
        return Coverage(math.nan, math.nan)
    best = np.array([max(c.logprob for c in group) for group in groups.values()])
    log_solutions = float(np.logaddexp.reduce(-best) - math.log(len(best)))
    shares = []
    for group in groups.values():
        votes = Counter(c.answer for c in group if c.answer is not None)
        shares.append((len(group) + 1) / (max(votes.values(), default=0) + 1))
    return Coverage(log_solutions, float(np.mean(shares)))


@dataclass(frozen=True)
class Adaptive:
    """Propose: draw for each question until the best answer so far is surely the likeliest.

    ``sample.n`` draws at first and twice as many each time, until k * pi(best) >= ``mu`` or there
    are ``most``. For logprob and normalised pi is the sample's own probability; for majority it is
    the share of its answer, so that a question ends when one answer came ``mu`` times.
    """

    sample: Sample
    answered: Answered
    kind: Kind = "majority"
    mu: float = 3.0
    most: int = 64

    def __post_init__(self) -> None:
        if not self.mu > 0 or self.most < self.sample.n:
            raise UserError(
                f"mu={self.mu:g}, most={self.most} of first {self.sample.n} samples",
                "give mu above 0 and most of at least the samples",
            )

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        found: dict[str, list[Candidate]] = {task.id: [] for task in tasks}
        left, done = list(tasks), 0
        while left and done < self.most:
            count = min(max(done, self.sample.n), self.most - done)
            for c in self._draw(policy, left, done, count, ctx):
                found[c.task].append(c)
            done += count
            left = [task for task in left if not self.enough(found[task.id])]
        return [c for task in tasks for c in found[task.id]]

    def enough(self, samples: Sequence[Candidate]) -> bool:
        """Whether so many draws would have shown a likelier answer."""
        if self.kind == "majority":
            return max(self_rewards("majority", samples)) * len(samples) >= self.mu
        best = samples[int(np.argmax(self_rewards(self.kind, samples)))]
        return len(samples) * math.exp(best.logprob) >= self.mu

    def _draw(
        self, policy: Generator, tasks: Sequence[Task], done: int, count: int, ctx: Context
    ) -> list[Candidate]:
        # The seeds and ids of samples number ``done`` and on, however many are drawn at once.
        shifted = _Shifted(policy, done)
        drawn = replace(self.sample, n=count).propose(shifted, tasks, ctx)
        return self.answered(tasks, drawn)


@dataclass(frozen=True)
class _Shifted:
    """A policy whose first sample is number ``by``."""

    policy: Generator
    by: int

    def generate(
        self, tasks: Sequence[Task], *, n: int, seeds: Any, **more: Any
    ) -> list[Candidate]:
        drawn = self.policy.generate(
            tasks, n=n, seeds=lambda task, index: seeds(task, index + self.by), **more
        )
        return [
            replace(c, id=candidate_id(tasks[i // n], c.round, i % n + self.by))
            for i, c in enumerate(drawn)
        ]


class Sharpened(BestOf):
    """A policy that says the best of N by its own reward: sharpening without learning."""

    def __init__(
        self,
        policy: HFPolicy,
        kind: Kind,
        best_of: int,
        answered: Answered = lambda _, drawn: [*drawn],
    ) -> None:
        super().__init__(policy, None, best_of)  # type: ignore[arg-type]  # it needs no other reward
        self.kind, self.answered = kind, answered

    def rate(self, tasks: Sequence[Task], drawn: Sequence[Candidate]) -> list[float]:
        found, every = [], self.answered(tasks, drawn)
        for start in range(0, len(every), self.best_of):
            found += self_rewards(self.kind, every[start : start + self.best_of])
        return found

    def fingerprint(self) -> str:
        return identity(self.policy.fingerprint(), self.kind, self.best_of)

    def save(self, folder: Path) -> None:
        self.policy.save(folder)

    def restore(self, folder: Path) -> None:
        self.policy.restore(folder)


@dataclass(frozen=True)
class SharpeningSFT:
    """The best of each question's samples, imitated. ``mu`` above 0 samples until that is sure."""

    kind: str = "normalised"
    mu: float = 0.0
    most: int = 64

    def loop(self, parts: Parts) -> Loop:
        kind = _kind(self.kind)
        changes: dict[str, Any] = {"judge": [parts.judge, SelfReward(kind)]}
        if self.mu:
            sampled = Adaptive(parts.sample, answered, kind, self.mu, self.most)
            changes["propose"] = sampled
        return parts.loop(select=BestSample(), learn=parts.sft(), **changes)


@dataclass(frozen=True)
class SharpeningDPO:
    """Regression on the self-rewards' differences. For ``logprob`` the optimum is pi_base to the
    power of ``exponent``, 1 + 1/beta."""

    kind: str = "logprob"
    exponent: float = 2.0
    pairs: int = 2

    def loop(self, parts: Parts) -> Loop:
        from common.learners.margin import SquaredMargin

        if not self.exponent > 1 or self.pairs < 1:
            raise UserError(
                f"exponent={self.exponent:g}, pairs={self.pairs}", "give more than 1, and 1 or more"
            )
        learn = SquaredMargin(beta=1 / (self.exponent - 1), reference="previous", **parts.shared())
        judges = [parts.judge, SelfReward(_kind(self.kind))]
        return parts.loop(judge=judges, select=SamplePairs(self.pairs), learn=learn)


def _kind(name: str) -> Kind:
    self_rewards(name, [])  # type: ignore[arg-type]  # whether there is one
    return name  # type: ignore[return-value]
