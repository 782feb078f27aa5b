"""Self-rewards, coverage and adaptive N on discrete policies whose closed forms are known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.learners.margin import SquaredMargin
from common.learners.sft import SFT
from common.policies import Sample
from common.pool import by_task
from common.records import Candidate, Task
from tests.common.tiny import context, tiny_policy
from tests.text.simulated import Simulated
from text.sharpening import (
    Adaptive,
    BestSample,
    SamplePairs,
    SelfReward,
    Sharpened,
    coverage,
    self_rewards,
)

CHANCE = np.array([0.08, 0.4, 0.3, 0.22])
"""Of the answers a, b, c, d; b is y*."""


def discrete(task: Task, rng: np.random.Generator, temperature: float) -> tuple[str, float]:
    which = rng.choice(len(CHANCE), p=CHANCE)
    return "abcd"[which], float(np.log(CHANCE[which]))


def answered(tasks: object, drawn: list[Candidate]) -> list[Candidate]:
    return [replace(c, answer=c.output or None) for c in drawn]


def many(count: int) -> list[Task]:
    return [Task(f"t{i:04}", f"w{i} go") for i in range(count)]


def drawn(count: int, n: int, folder: Path, seed: int = 7) -> list[Candidate]:
    return answered(
        None, Sample(n=n).propose(Simulated(discrete), many(count), context(folder, seed=seed))
    )


def test_the_three_rewards() -> None:
    rows = [("x", -4.0, 8, "1"), ("y", -3.0, 3, "2"), ("z", -9.0, 9, "1"), ("", -1.0, 1, None)]
    samples = [
        Candidate(f"c{i}", "t", 1, text, logprob, tokens, answer=answer)
        for i, (text, logprob, tokens, answer) in enumerate(rows)
    ]
    assert self_rewards("logprob", samples) == [-4, -3, -9, -1]
    assert self_rewards("normalised", samples) == [-0.5, -1, -1, -1]
    assert self_rewards("majority", samples) == [0.5, 0.25, 0.5, 0.0]
    with pytest.raises(UserError, match="no self-reward"):
        self_rewards("vote", samples)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_best_of_n_has_its_closed_form(tmp_path: Path, n: int) -> None:
    """P(the best of N is y) = F(y)^N - F(y-)^N, F over answers by their probability."""
    tasks = many(1500)
    policy = Sharpened(Simulated(discrete), "logprob", n)  # type: ignore[arg-type]
    found = Sample(n=1).propose(policy, tasks, context(tmp_path))
    order = np.argsort(CHANCE)
    below = np.concatenate([[0.0], np.cumsum(CHANCE[order])])
    expected = dict(zip("abcd", np.zeros(4), strict=True))
    for place, which in enumerate(order):
        expected["abcd"[which]] = float(below[place + 1] ** n - below[place] ** n)
    seen = Counter(c.output for c in found)
    for answer, p in expected.items():
        assert abs(seen[answer] / 1500 - p) < 4 * math.sqrt(max(p * (1 - p), 1e-3) / 1500)
    # SFT-sharpening imitates the same choice.
    pool = drawn(1500, n, tmp_path)
    judged = [
        replace(c, scores=s)
        for c, s in zip(pool, SelfReward("logprob").judge({}, pool, context(tmp_path)), strict=True)
    ]
    lessons = BestSample().select({t.id: t for t in tasks}, judged, context(tmp_path))
    assert len(lessons.demonstrations) == 1500
    share = np.mean([d.completion == "b" for d in lessons.demonstrations])
    assert abs(share - expected["b"]) < 4 * math.sqrt(expected["b"] * 0.6 / 1500)


def test_coverage_of_a_known_policy(tmp_path: Path) -> None:
    found = coverage(dict(by_task(drawn(400, 64, tmp_path))))
    assert found.log_solutions == pytest.approx(math.log(1 / 0.4), abs=1e-6)  # all saw y*
    assert found.answers == pytest.approx(1 / 0.4, rel=0.06)
    few = coverage(dict(by_task(drawn(400, 2, tmp_path))))
    assert few.log_solutions > found.log_solutions
    assert found.samples(delta=0.1, epsilon=0.1) == math.ceil(found.answers * math.log(20) / 0.1)
    assert math.isnan(coverage({}).answers)


@pytest.mark.parametrize("mu", [1.0, 2.0, 4.0])
def test_adaptive_sampling_misses_the_likeliest_rarely(tmp_path: Path, mu: float) -> None:
    policy, tasks = Simulated(discrete), many(1200)
    stage = Adaptive(Sample(n=1), answered, "logprob", mu, most=512)
    found = dict(by_task(stage.propose(policy, tasks, context(tmp_path))))
    missed = np.mean([all(c.output != "b" for c in group) for group in found.values()])
    assert missed <= math.exp(-mu) + 4 * math.sqrt(math.exp(-mu) / 1200)
    assert all(len(g) * max(math.exp(c.logprob) for c in g) >= mu for g in found.values())
    # Draws are those that one large call would have made.
    whole = {c.id: c.output for c in drawn(1200, 16, tmp_path)}
    mine = {c.id: c.output for g in found.values() for c in g}
    assert all(whole[name] == text for name, text in mine.items() if name in whole)
    assert len(mine) == sum(map(len, found.values()))


def test_adaptive_majority_and_limits(tmp_path: Path) -> None:
    stage = Adaptive(Sample(n=2), answered, "majority", 3.0, most=5)
    found = dict(by_task(stage.propose(Simulated(discrete), many(60), context(tmp_path))))
    sizes = {len(group) for group in found.values()}
    assert sizes <= {4, 5} and 5 in sizes  # 2, 2 more, then what is left
    for group in found.values():
        top = max(Counter(c.answer for c in group).values())
        assert top >= 3 or len(group) == 5
    with pytest.raises(UserError, match="mu"):
        Adaptive(Sample(n=8), answered, most=4)


def test_pairs_for_the_regression_are_random_and_carry_the_margin(tmp_path: Path) -> None:
    ctx, tasks = context(tmp_path), {t.id: t for t in many(200)}
    pool = drawn(200, 6, tmp_path)
    judged = [
        replace(c, scores=s)
        for c, s in zip(pool, SelfReward("logprob").judge(tasks, pool, ctx), strict=True)
    ]
    lessons = SamplePairs(2).select(tasks, judged, ctx)
    assert {"log_coverage", "answer_coverage"} == set(lessons.notes)
    by_id = {c.id: c for c in judged}
    used: Counter[str] = Counter()
    for p in lessons.preferences:
        chosen, rejected = by_id[p.chosen_id or ""], by_id[p.rejected_id or ""]
        assert p.margin == pytest.approx(chosen.logprob - rejected.logprob) and p.margin >= 0
        used.update([chosen.id, rejected.id])
    assert max(used.values()) == 1
    # Two random samples differ with the chance that the policy gives to that.
    once = SamplePairs(1).select(tasks, judged, ctx).preferences
    differ = 1 - float((CHANCE**2).sum())
    assert abs(len(once) / 200 - differ) < 4 * math.sqrt(differ * (1 - differ) / 200)
    assert SamplePairs(1).select(tasks, judged[::-1], ctx).preferences == once


def judged_samples(folder: Path, seed: int) -> tuple[dict[str, Task], list[Candidate]]:
    tasks, ctx = {t.id: t for t in many(9)}, context(folder, seed=seed)
    pool = Sample(n=16, max_new_tokens=12).propose(tiny_policy(), list(tasks.values()), ctx)
    scores = SelfReward("logprob").judge(tasks, pool, ctx)
    return tasks, [replace(c, scores=s) for c, s in zip(pool, scores, strict=True)]


def gains(policy, pairs) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """log pi/pi_base(y) - log pi/pi_base(y') and log pi_base(y) - log pi_base(y') of each pair."""
    prompts = [p.prompt for p in pairs]
    rows = [
        np.subtract(made.logprobs(prompts, [p.chosen for p in pairs]).sums,
                    made.logprobs(prompts, [p.rejected for p in pairs]).sums)
        for made in (policy, tiny_policy())
    ]  # fmt: skip
    return rows[0] - rows[1], rows[1]


def test_both_kinds_sharpen_a_tiny_model(tmp_path: Path) -> None:
    """What the base finds likelier becomes likelier still, on pairs that were not learnt from."""
    tasks, pool = judged_samples(tmp_path / "a", seed=7)
    held_out = SamplePairs(8).select(tasks, judged_samples(tmp_path / "b", 8)[1], context(tmp_path))
    for select, learn in (
        (BestSample(), SFT(steps=20, batch_size=9, learning_rate=3e-3)),
        (SamplePairs(8), SquaredMargin(beta=1.0, steps=60, batch_size=16, learning_rate=3e-3)),
    ):
        policy = tiny_policy()
        lessons = select.select(tasks, pool, context(tmp_path))
        learn.learn(policy, lessons, context(tmp_path / "c"))
        gained, margin = gains(policy, held_out.preferences)
        assert np.corrcoef(gained, margin)[0, 1] > 0.1, type(select).__name__
        assert gained.mean() > 0
