"""Best-of-N against the closed form of the largest of N draws; its state; its learner."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.learners.reward import RewardModel, RewardTraining
from common.policies import Sample
from common.policies.best_of import BestOf, FitReward
from common.policies.local import HFPolicy
from common.records import Lessons, Task
from tests.common.test_reward import planted
from tests.common.tiny import WORDS, context, tiny_policy

TASK = Task("t", "w1 w2 go")
END = 1


def wrapped(best_of: int, spread: float = 1.0, **training: Any) -> BestOf:
    """A tiny policy and a reward model with a random head (of zeros if ``spread`` is 0)."""
    policy = tiny_policy()
    reward = RewardModel.from_policy(policy, RewardTraining(batch_size=64, **training))
    torch.manual_seed(5)
    torch.nn.init.normal_(reward.model.score.weight, std=spread)
    return BestOf(policy, reward, best_of)


def distribution(made: BestOf) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Probability and reward of all that the policy can say in two tokens, ordered by reward."""
    policy, size = made.policy, len(WORDS)
    prompt = policy.encode_prompt(TASK.prompt)
    with torch.no_grad():
        first = policy.model(torch.tensor([prompt])).logits[0, -1].softmax(-1).double()
        then = policy.model(torch.tensor([[*prompt, a] for a in range(size)])).logits[:, -1]
    second = then.softmax(-1).double()
    said, chance = [""], [float(first[END])]
    for a, b in itertools.product(range(size), range(size)):
        if a != END:
            said.append(policy.decode([a] if b == END else [a, b]))
            chance.append(float(first[a] * second[a, b]))
    assert sum(chance) == pytest.approx(1, abs=1e-5)
    reward = np.array(made.reward.score([TASK.prompt] * len(said), said))
    order = np.argsort(reward)
    return np.array(chance)[order], reward[order]


def largest_of(n: int, chance: np.ndarray[Any, Any], reward: np.ndarray[Any, Any]) -> float:
    """E[max of n draws] = sum over rewards r, in order, of r (F(r)^n - F(r-)^n)."""
    below = np.concatenate([[0.0], np.cumsum(chance) / chance.sum()])
    return float(np.sum(reward * np.diff(below**n)))


def test_the_mean_reward_is_that_of_the_largest_of_n_draws() -> None:
    closed = []
    for best_of in (1, 2, 8):
        made = wrapped(best_of)
        chance, reward = distribution(made)
        closed.append(largest_of(best_of, chance, reward))
        found = made.generate([TASK], n=1000, seeds=lambda task, index: index, max_new_tokens=2)
        got = np.array([c.meta["reward"] for c in found])
        se = got.std(ddof=1) / math.sqrt(len(got))
        assert abs(got.mean() - closed[-1]) < 4 * se, best_of
        assert se < 0.1 * reward.std()
    assert closed[1] - closed[0] > 8 * se, "the samples could tell N from another N"
    assert closed[2] - closed[1] > 8 * se


def test_it_picks_the_best_of_the_policys_own_samples(tmp_path: Path) -> None:
    made, ctx = wrapped(4), context(tmp_path)
    tasks = [Task(f"t{i}", f"w{i} go") for i in range(3)]
    found = Sample(n=2, max_new_tokens=6).propose(made, tasks, ctx)
    drawn = Sample(n=8, max_new_tokens=6).propose(made.policy, tasks, ctx)
    assert [c.task for c in found] == ["t0", "t0", "t1", "t1", "t2", "t2"]
    assert len({c.id for c in [*found, *drawn]}) == len(found) + len(drawn)
    prompts = {task.id: task.prompt for task in tasks}
    for k, one in enumerate(found):
        group = drawn[4 * k : 4 * k + 4]
        rewards = [made.reward.score([prompts[c.task]], [c.output])[0] for c in group]
        best = group[int(np.argmax(rewards))]
        assert (one.output, one.logprob, one.tokens) == (best.output, best.logprob, best.tokens)
        assert one.meta["reward"] == pytest.approx(max(rewards), abs=1e-4)
        assert one.strategy == "best-of-n" and one.round == ctx.round
    assert made.generate([], n=2, seeds=lambda task, index: 0) == []
    # More draws can only raise the best, for a single sample's draws are the first of them.
    more = Sample(n=1, max_new_tokens=6).propose(wrapped(8), tasks, ctx)
    fewer = Sample(n=1, max_new_tokens=6).propose(made, tasks, ctx)
    for a, b in zip(fewer, more, strict=True):
        assert a.meta["reward"] <= b.meta["reward"] + 1e-4


def test_an_unfitted_reward_says_what_the_policy_says(tmp_path: Path) -> None:
    made, ctx = wrapped(3, spread=0.0), context(tmp_path)
    before = made.fingerprint()
    assert FitReward().learn(made, Lessons(), ctx) == {"pairs": 0.0, "steps": 0.0}
    assert made.fingerprint() == before
    tasks = [Task(f"t{i}", f"w{i} go") for i in range(4)]
    said = Sample(n=1, max_new_tokens=6).propose(made, tasks, ctx)
    alone = Sample(n=1, max_new_tokens=6).propose(made.policy, tasks, ctx)
    assert [c.output for c in said] == [c.output for c in alone]


def test_fitting_changes_the_reward_alone_and_the_state_comes_back(tmp_path: Path) -> None:
    made = wrapped(6, spread=0.0, steps=40, learning_rate=5e-3)
    policy, start = made.policy.fingerprint(), made.fingerprint()
    made.save(tmp_path / "start")
    figures = FitReward().learn(made, Lessons(tuple(planted(96, seed=1))), context(tmp_path / "w"))
    assert figures["loss_first"] == pytest.approx(math.log(2), abs=1e-6)
    assert figures["reward_accuracy"] > 0.9
    learnt = made.fingerprint()
    assert learnt != start and made.policy.fingerprint() == policy
    # The planted preference is for w1; with the same random numbers it is said more often.
    tasks = [Task(f"t{i}", f"w{i % 4} go") for i in range(40)]
    ctx = context(tmp_path / "w")
    ones = [
        np.array([c.output.split().count("w1")
                  for c in Sample(n=1, max_new_tokens=6).propose(one, tasks, ctx)])
        for one in (made, made.policy)
    ]  # fmt: skip
    gain = ones[0] - ones[1]
    assert gain.mean() > 4 * gain.std(ddof=1) / math.sqrt(len(gain))
    made.save(tmp_path / "learnt")
    held = made.reward
    made.restore(tmp_path / "start")
    assert made.fingerprint() == start and made.reward is held
    made.restore(tmp_path / "learnt")
    assert made.fingerprint() == learnt
    assert HFPolicy.load(tmp_path / "learnt", device="cpu").fingerprint() == policy
    again = wrapped(6)
    again.restore(tmp_path / "learnt")
    assert again.fingerprint() == learnt


def test_the_rest_is_the_policys(tmp_path: Path) -> None:
    made = wrapped(2)
    assert made.logprobs(["w1 go"], ["w2"]) == made.policy.logprobs(["w1 go"], ["w2"])
    assert made.tokenizer is made.policy.tokenizer
    with pytest.raises(AttributeError):
        made.no_such_thing  # noqa: B018
    with pytest.raises(UserError, match="best of 0"):
        BestOf(made.policy, made.reward, 0)
