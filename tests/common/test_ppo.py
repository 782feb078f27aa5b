"""PPO: its parts against closed forms, known optima, steering, masks, and going on after a kill."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.errors import UserError
from common.learners.ppo import PPO, Experience, clipped_objective, clipped_value_loss, gae, whiten
from common.learners.reward import RewardTraining
from common.learners.rollouts import Rollouts, score
from common.policies.local import HFPolicy
from common.policies.packing import packable
from common.records import Demonstration, Lessons
from tests.common.test_reward import planted
from tests.common.tiny import WORDS, context, tiny_policy

GO = Lessons(demonstrations=(Demonstration(id="d", task="t", round=1, prompt="go", completion=""),))
"""One prompt, and nothing to imitate."""


class Even:
    """A steer for tests. After a prompt of n words 1 + n tokens may come, of every (1 + n)-th one;
    what the model gives to the end of the vocabulary goes to token 2 (mass is moved, not cut).
    Then comes the end, without an alternative, and after it nothing."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self.words = torch.tensor([len(prompt.split()) for prompt in prompts])

    def __call__(self, rows: Sequence[int], so_far: Tensor, logits: Tensor) -> Tensor:
        scores = torch.full_like(logits, -torch.inf)
        words, t = self.words[list(rows)], so_far.shape[1]
        scores[words + 1 == t, 1] = logits[words + 1 == t, 1]
        for n in words.unique().tolist():
            here = ((words == n) & (t < n + 1)).nonzero()
            keep = torch.arange(4, 20, 1 + n)
            scores[here, keep] = logits[here, keep]
            scores[here, 2] = logits[here[:, 0], 20:].logsumexp(-1, keepdim=True)
        return scores


def first(policy: HFPolicy, temperature: float = 1.0) -> Tensor:
    """The distribution of the first token after "go"."""
    with torch.no_grad():
        logits = policy.model(torch.tensor([policy.encode_prompt("go")])).logits[:, -1]
    if policy.steer is not None:
        logits = policy.steer(["go"])([0], torch.zeros(1, 0, dtype=torch.long), logits)
    return (logits[0] / temperature).softmax(-1)


def table(seed: int) -> dict[str, float]:
    """A reward for every word."""
    values = torch.rand(len(WORDS), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return dict(zip(WORDS, values.tolist(), strict=True))


def distance(p: Tensor, q: Tensor) -> float:
    """Total variation."""
    return float((p - q).abs().sum() / 2)


@pytest.mark.parametrize(("steered", "temperature"), [(False, 1.0), (True, 0.7)])
def test_a_bandit_reaches_its_optimum(tmp_path: Path, steered: bool, temperature: float) -> None:
    """pi*(a) = pi_ref(a) exp(r(a) / kl_coef) / Z, both of the distribution that is sampled."""
    policy, rewards, kl_coef = tiny_policy(), table(3), 0.4
    if steered:
        policy.steer = Even
    reference = first(policy, temperature)
    r = torch.tensor([rewards.get(word, 0.0) for word in WORDS])
    r[1] = rewards["<end>"]
    best = reference * (r / kl_coef).exp()
    best /= best.sum()
    assert distance(reference, best) > 0.3
    learner = PPO(
        reward=lambda prompts, texts: [rewards[text or "<end>"] for text in texts],
        normalise_reward=False, kl_coef=kl_coef, iterations=20, rollouts=256, batch_size=128,
        learning_rate=5e-3, value_learning_rate=1e-2, max_new_tokens=1, temperature=temperature,
    )  # fmt: skip
    figures = learner.learn(policy, GO, context(tmp_path))
    found = first(policy, temperature)
    assert distance(found, best) < 0.05
    # The figures are of the distribution that acted.
    kl = float(torch.special.xlogy(found, found / reference).nansum())
    assert figures["kl"] == pytest.approx(kl, abs=0.15)
    assert figures["entropy"] == pytest.approx(float(torch.special.entr(found).sum()), abs=0.1)
    assert figures["reward"] > figures["reward_first"] + 0.2
    assert figures["steps"] == 20 * 2 * 2 and figures["iterations"] == 20
    assert list(tmp_path.iterdir()) == []


def test_a_token_task_reaches_its_optimum(tmp_path: Path) -> None:
    """Two tokens, whose reward is theirs and their sum's: E[r] - kl_coef KL is at most
    kl_coef log Z, with Z = sum of pi_ref(y) exp(r(y) / kl_coef) over all 24 * 24 answers."""
    policy, kl_coef = tiny_policy(), 0.3
    generator = torch.Generator().manual_seed(5)
    size = len(WORDS)
    r = torch.rand(size, size, generator=generator) + torch.rand(size, 1, generator=generator)
    r[1] = r[1, 0]  # nothing follows the end

    def reward(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        spoken = [[WORDS.index(word) for word in text.split()] + [1] for text in texts]
        return [float(r[ids[0], ids[1] if len(ids) > 1 else 0]) for ids in spoken]

    def log_p() -> Tensor:
        prompt = policy.encode_prompt("go")
        every = torch.tensor([[*prompt, a] for a in range(size)])
        with torch.no_grad():
            logp = policy.model(every).logits[:, -2:].log_softmax(-1)
        both = logp[0, 0][:, None] + logp[:, 1]
        both[1] = -torch.inf
        both[1, 0] = logp[0, 0, 1]
        return both

    reference = log_p()
    bound = kl_coef * float((reference + r / kl_coef).logsumexp((0, 1)))

    def objective(logp: Tensor) -> float:
        p, ratio = logp.exp(), (logp - reference).nan_to_num(0.0, 0.0, 0.0)
        return float((p * (r - kl_coef * ratio)).sum())

    learner = PPO(
        reward=reward, normalise_reward=False, kl_coef=kl_coef, iterations=40, rollouts=256,
        batch_size=128, learning_rate=5e-3, value_learning_rate=1e-2, max_new_tokens=2,
    )  # fmt: skip
    start = objective(reference)
    learner.learn(policy, GO, context(tmp_path))
    reached = (objective(log_p()) - start) / (bound - start)
    assert 0.85 < reached <= 1


lists = st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.booleans()), min_size=1)


@given(lists, st.floats(0, 1))
def test_gae_is_the_sum_that_defines_it(steps: list[tuple[float, float, bool]], lam: float) -> None:
    """Over the open steps alone, as if the others were not there."""
    columns = [torch.tensor([part], dtype=torch.float64) for part in zip(*steps, strict=True)]
    rewards, values, decided = columns[0], columns[1], columns[2].bool()
    found = gae(rewards, values, decided, lam)
    kept = [(r, v) for r, v, is_open in steps if is_open]
    v = [value for _, value in kept] + [0.0]
    delta = [r + v[t + 1] - v[t] for t, (r, _) in enumerate(kept)]
    expected = [sum(lam**k * d for k, d in enumerate(delta[t:])) for t in range(len(kept))]
    assert found[decided].tolist() == pytest.approx(expected, abs=1e-9)
    assert (found[~decided] == 0).all()


def test_losses_have_the_closed_form() -> None:
    then = Experience(
        logp=torch.zeros(1, 5),
        open=torch.tensor([[True, True, True, True, False]]),
        values=torch.zeros(1, 5),
        advantages=torch.tensor([[1.0, 1.0, -1.0, -1.0, 9.0]]),
        returns=torch.tensor([[0.1, 1.0, -1.0, 0.0, 9.0]]),
    )
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5, 9.0]])
    loss, clipped = clipped_objective(ratio.log(), then, 0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8)) and clipped.item() == 4
    values = torch.tensor([[0.1, 1.0, 0.2, 0.4, 0.0]])
    # Errors 0, 0, 1.2 and 0.4; of the clipped values (at 0.1, 0.3, 0.2, 0.3): 0, 0.7, 1.2, 0.3.
    loss = clipped_value_loss(values, then, 0.3)
    assert loss.item() == pytest.approx((0 + 0.7**2 + 1.2**2 + 0.4**2) / 2)
    white = whiten(then.advantages, then.open)
    assert white[then.open].mean().abs() < 1e-6 and white[0, 4] == 0
    assert white[then.open].std(correction=0).item() == pytest.approx(1)


def rollouts_of(policy: HFPolicy, prompts: Sequence[str], **options: Any) -> Rollouts:
    return Rollouts.draw(policy, prompts, range(len(prompts)), **options)


def test_scores_are_those_of_sampling(tmp_path: Path) -> None:
    """Steered and at a temperature: the score of every token is that of a distribution which the
    steer, called step by step while sampling, has shown."""
    policy = tiny_policy()
    shown: dict[tuple[int, int], Tensor] = {}

    class Watched(Even):
        def __call__(self, rows: Sequence[int], so_far: Tensor, logits: Tensor) -> Tensor:
            scores = super().__call__(rows, so_far, logits)
            for row, one in zip(rows, scores, strict=True):
                shown[row, so_far.shape[1]] = (one / 0.7).log_softmax(-1)
            return scores

    policy.steer = Watched
    prompts = ["go", "w1 go", "w1 w2 go"] * 3
    rollouts = rollouts_of(policy, prompts, temperature=0.7, max_new_tokens=6)
    drawn = dict(shown)
    policy.steer = Even
    with torch.no_grad():
        scores = score(policy, rollouts, range(9), temperature=0.7)
    for row, ids in enumerate(rollouts.completion_ids):
        assert ids[-1] == 1 and len(ids) == 2 + len(prompts[row].split())
        for t, token in enumerate(ids):
            logp = drawn[row, t]
            assert scores.logp[row, t].item() == pytest.approx(logp[token].item(), abs=1e-4)
            entropy = -(logp.exp() * logp)[logp.isfinite()].sum().item()
            assert scores.entropy[row, t].item() == pytest.approx(entropy, abs=1e-4)
            assert scores.open[row, t] == (t < len(ids) - 1)
        assert (scores.logp[row, len(ids) - 1 :] == 0).all()
        assert not scores.open[row, len(ids) :].any()


@pytest.mark.parametrize("steered", [False, True])
def test_scores_of_packed_rows_are_those_of_the_rectangle(steered: bool) -> None:
    policy = tiny_policy()
    policy.steer = Even if steered else None
    prompts = ["go", "w1 w2 w3 go", "w1 go", "w1 w2 go", "w1 w2 go", "w1 w2 w3 go"]
    rollouts = rollouts_of(policy, prompts, max_new_tokens=6)
    found = {}
    for attention in ("sdpa", "eager"):
        policy.model.config._attn_implementation = attention
        assert packable(policy.model) == (attention == "sdpa")
        scores = score(policy, rollouts, [3, 0, 5, 1, 2, 4], temperature=0.7)
        real_BC = scores.logp != 0
        worth = (scores.logp * torch.arange(1, scores.logp.numel() + 1).view_as(scores.logp)).sum()
        if not steered:  # what is forbidden has an entropy of 0, and no gradient
            worth = worth + (scores.entropy * real_BC).sum()
        (worth + (scores.hidden[real_BC] ** 2).sum()).backward()
        states = scores.hidden.detach() * real_BC[..., None]
        found[attention] = [scores.logp, scores.entropy * real_BC, scores.open, states,
                            *(p.grad.clone() for p in policy.model.parameters())]  # fmt: skip
        policy.model.zero_grad()
    for packed, padded in zip(*found.values(), strict=True):
        largest = padded.abs().max().item() if padded.is_floating_point() else 0.0
        torch.testing.assert_close(packed, padded, atol=1e-4 * largest, rtol=1e-4)


@pytest.mark.parametrize("steered", [False, True])
def test_only_decisions_contribute(steered: bool) -> None:
    """By the gradient with respect to the states: zero but where a token was chosen from more than
    one, and the same whatever the padding."""
    policy = tiny_policy()
    policy.model.config._attn_implementation = "eager"  # no packed rows: a state is at its column
    policy.steer = Even if steered else None
    prompts = ["go", "w1 w2 w3 go", "w1 go", "w1 w2 go"]
    rollouts = rollouts_of(policy, prompts, max_new_tokens=6)
    states: list[Tensor] = []

    def keep(module: Any, args: Any, out: Tensor) -> None:
        out.retain_grad()
        states.append(out)

    hook = policy.model.model.norm.register_forward_hook(keep)
    together = score(policy, rollouts, range(4), temperature=1.0)
    together.logp.sum().backward()
    alone = []
    for row in range(4):
        one = score(policy, rollouts, [row], temperature=1.0)
        one.logp.sum().backward()
        alone.append(one.logp[0])
    hook.remove()
    before = max(len(prompt.split()) for prompt in prompts)
    for row, ids in enumerate(rollouts.completion_ids):
        assert states[0].grad is not None and states[row + 1].grad is not None
        used = states[0].grad[row].abs().sum(-1) > 0
        decided = len(ids) - steered  # the steer leaves no choice but the end
        expected = [before - 1 <= t < before - 1 + decided for t in range(len(used))]
        assert used.tolist() == expected
        assert together.logp[row, : len(ids)].tolist() == pytest.approx(alone[row].tolist())
        assert torch.isfinite(states[0].grad).all()
        mine = states[row + 1].grad[0]
        start = before - len(prompts[row].split())
        assert torch.allclose(states[0].grad[row, start : start + len(mine)], mine, atol=1e-5)


def test_the_ratio_is_one_until_something_is_learnt(tmp_path: Path) -> None:
    policy = tiny_policy()
    policy.steer = Even
    before = policy.fingerprint()
    prompts = ("go", "w1 go", "w1 w2 go")
    lessons = Lessons(
        demonstrations=tuple(Demonstration(p, p, 1, prompt=p, completion="") for p in prompts)
    )
    learner = PPO(
        reward=lambda prompts, texts: [float(len(text)) for text in texts], iterations=2,
        rollouts=10, batch_size=4, epochs=3, learning_rate=0.0, clip=1e-5, max_new_tokens=6,
    )  # fmt: skip
    figures = learner.learn(policy, lessons, context(tmp_path))
    assert figures["clip_fraction"] == 0 and figures["kl"] == 0
    assert figures["loss"] == pytest.approx(0, abs=1e-6)  # minus the mean of whitened advantages
    assert figures["value_loss"] > 0 and figures["steps"] == 2 * 3 * 3
    assert policy.fingerprint() == before


def test_a_reward_model_of_the_preferences_is_learnt_from(tmp_path: Path) -> None:
    """More of w1 is better, says the planted preference; so the policy comes to say more of it."""
    policy = tiny_policy()
    lessons = Lessons(preferences=tuple(planted(96, seed=1)))
    learner = PPO(
        reward_training=RewardTraining(steps=40, learning_rate=5e-3), kl_coef=0.02,
        iterations=15, rollouts=64, batch_size=32, learning_rate=5e-3, max_new_tokens=5,
    )  # fmt: skip

    def said() -> float:
        drawn = rollouts_of(policy, ["w1 go"] * 100, max_new_tokens=5)
        return sum(ids.count(WORDS.index("w1")) for ids in drawn.completion_ids) / 100

    before = said()
    figures = learner.learn(policy, lessons, context(tmp_path))
    assert figures["pairs"] == 96 and figures["reward"] > figures["reward_first"] + 1
    assert said() > before + 1
    assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("lora", [None, 2])
def test_a_killed_run_ends_in_the_same_state(tmp_path: Path, lora: int | None) -> None:
    lessons = Lessons(preferences=tuple(planted(12, seed=4)))
    learner = PPO(
        reward_training=RewardTraining(steps=4, learning_rate=5e-3), iterations=5, rollouts=12,
        batch_size=4, learning_rate=1e-3, max_new_tokens=5, lora=lora, checkpoint_every=2,
    )  # fmt: skip
    whole = tiny_policy()
    expected = learner.learn(whole, lessons, context(tmp_path / "a"))

    def stop(done: int, total: int, what: str) -> None:
        if what == "ppo steps" and done == 22:
            raise Killed

    ctx = context(tmp_path / "b")
    with pytest.raises(Killed):
        learner.learn(tiny_policy(), lessons, dataclasses.replace(ctx, progress=stop))
    [folder] = (tmp_path / "b").iterdir()
    assert {path.name for path in folder.iterdir()} == {"reward", "state.pt"}
    steps: list[int] = []
    ctx = dataclasses.replace(
        ctx, progress=lambda d, t, w: steps.append(d) if w.endswith("steps") else None
    )
    torch.manual_seed(99)
    continued = tiny_policy()
    assert learner.learn(continued, lessons, ctx) == expected
    assert min(steps) == 13  # after two iterations of six steps; no reward model is fitted again
    assert continued.fingerprint() == whole.fingerprint()
    assert continued.has_adapter == (lora is not None)
    assert list((tmp_path / "b").iterdir()) == []


def test_the_reference_is_the_start_or_the_round_before(tmp_path: Path) -> None:
    options: dict[str, Any] = {"iterations": 2, "rollouts": 16, "max_new_tokens": 2}
    for reference, at_zero in (("start", False), ("previous", True)):
        policy = tiny_policy()
        learner = PPO(
            reward=lambda prompts, texts: [float("w1" in text) for text in texts],
            reference=reference, learning_rate=1e-2, epochs=4, **options,
        )  # fmt: skip
        for round in (1, 2):
            ctx = context(tmp_path, round=round)
            learner.learn(policy, GO, ctx)
            first_kl = ctx.tracker.steps[0][1]["ppo/kl"]  # type: ignore[attr-defined]
            assert (abs(first_kl) < 1e-5) == (round == 1 or at_zero)


def test_nothing_to_learn_and_mistakes(tmp_path: Path) -> None:
    policy, ctx = tiny_policy(), context(tmp_path)
    before = policy.fingerprint()
    for lessons in (Lessons(), GO):
        assert PPO().learn(policy, lessons, ctx) == {"pairs": 0.0, "steps": 0.0}
    wrong: list[dict[str, Any]] = [
        {"kl_coef": -0.1}, {"clip": 0.0}, {"gae_lambda": 1.1}, {"temperature": 0.0},
        {"rollouts": 0}, {"learning_rate": -1.0}, {"reference": "never"}, {"clip": math.nan},
    ]  # fmt: skip
    for settings in wrong:
        with pytest.raises(UserError):
            PPO(**settings)
    small: dict[str, Any] = {"rollouts": 4, "iterations": 1, "max_new_tokens": 3}
    for values in ([1.0], [math.nan] * 4):
        with pytest.raises(UserError, match="the reward gave"):
            PPO(reward=lambda p, t, v=values: v, **small).learn(policy, GO, ctx)
    hopeless = PPO(reward_training=RewardTraining(max_length=1), **small)
    lessons = Lessons(preferences=tuple(planted(2, seed=1)))
    with pytest.raises(UserError, match="max_length"):
        hopeless.learn(policy, lessons, ctx)

    def only_the_end(prompts: Sequence[str]) -> Any:
        end = torch.full((len(WORDS),), -torch.inf)
        end[1] = 0.0
        return lambda rows, so_far, logits: logits + end

    policy.steer = only_the_end
    with pytest.raises(UserError, match="alternative"):
        PPO(reward=lambda p, t: [0.0] * len(t), **small).learn(policy, GO, ctx)
    assert policy.fingerprint() == before
    policy.steer = None
    with torch.no_grad():
        policy.model.lm_head.weight[5] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        PPO(reward=lambda p, t: [float(len(x)) for x in t], **small).learn(policy, GO, ctx)
