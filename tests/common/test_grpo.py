"""GRPO through TRL: a known optimum, what its trainer sees of the rollouts, and going on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from common.learners.grpo import GRPO
from common.learners.reward import RewardTraining
from common.learners.rollouts import Reward, frozen_reference
from common.policies.local import HFPolicy
from common.records import Lessons
from tests.common.test_ppo import GO, Even, Killed, first, table
from tests.common.test_reward import planted
from tests.common.tiny import WORDS, context, tiny_policy


def lengths(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


@pytest.mark.parametrize("steered", [False, True])
def test_a_bandit_comes_near_its_optimum(tmp_path: Path, steered: bool) -> None:
    """Without a divergence to pay, the best is to say the best word that may be said."""
    policy, rewards = tiny_policy(), table(3)
    policy.steer = Even if steered else None
    r = torch.tensor([rewards[word] for word in WORDS])
    before = first(policy)
    best = float(r[before > 0].max())
    learner = GRPO(
        reward=lambda prompts, texts: [rewards[text or "<end>"] for text in texts],
        kl_coef=0.0, iterations=25, rollouts=64, samples=32, batch_size=64,
        learning_rate=1e-2, max_new_tokens=1,
    )  # fmt: skip
    figures = learner.learn(policy, GO, context(tmp_path))
    start, end = float(before @ r), float(first(policy) @ r)
    assert best - start > 0.5 and best - end < 0.1 * (best - start)
    assert figures["reward"] > figures["reward_first"] + 0.5
    assert figures["steps"] == 25 * 2 and figures["iterations"] == 25 and "kl" not in figures
    # 64 completions of a token an iteration, learnt from twice with their prompts.
    prompt = len(policy.tokenizer("go").input_ids)
    assert figures["sampled_tokens"] == pytest.approx(25 * 64)
    assert figures["tokens"] == pytest.approx(2 * 25 * 64 * (1 + prompt))
    assert list(tmp_path.iterdir()) == []


def batch_of(
    policy: HFPolicy, folder: Path, reward: Reward = lengths, **options: Any
) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    learner = GRPO(rollouts=12, samples=4, batch_size=4, max_new_tokens=6, **options)
    prompts = ["go", "w1 w2 go", "w1 go"]
    trainer = learner.trainer(policy, prompts, reward, context(folder), folder / "out")
    trainer.model.train()
    rows = [{"prompt": prompt} for prompt in prompts for _ in range(4)]
    trainer.current_gradient_accumulation_steps = 1
    trainer._prepare_inputs(rows)
    return trainer, trainer._buffered_inputs


def test_the_loss_is_of_the_steered_distribution_and_of_decisions(tmp_path: Path) -> None:
    """The ratio is 1 and the divergence 0 at the start, only by the steered distribution; and the
    gradient is zero where nothing was decided (here: the end that the steer leaves as the only
    option), in prompts and padding."""
    policy = tiny_policy()
    policy.model.config._attn_implementation = "eager"  # no packed rows: a state is at its column
    policy.steer = Even
    trainer, batches = batch_of(policy, tmp_path, kl_coef=0.1, reference="previous")
    states: list[torch.Tensor] = []

    def keep(module: Any, args: Any, out: torch.Tensor) -> None:
        if out.requires_grad:
            out.retain_grad()
            states.append(out)

    hook = policy.model.model.norm.register_forward_hook(keep)
    for batch in batches:
        mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
        ends = batch["completion_ids"] == 1
        assert torch.equal(mask, batch["completion_mask"].bool() & ~ends)
        trainer.compute_loss(trainer.model, batch).backward()
        grad = states[-1].grad
        assert grad is not None and grad.isfinite().all()
        used = grad.abs().sum(-1) > 0
        moved = batch["advantages"] != 0
        before = batch["prompt_ids"].shape[1]
        assert torch.equal(used[:, before - 1 : -1], mask & moved[:, None])
        assert not used[:, : before - 1].any() and not used[:, -1].any()
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            with torch.no_grad():
                now = trainer._get_per_token_logps_and_entropies(
                    trainer.model,
                    torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1),
                    torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
                    batch["completion_ids"].shape[1],
                )[0]
            assert torch.allclose(batch[name] * mask, now * mask, atol=1e-5)
        # What was sampled is what is scored: TRL keeps the log-probabilities of the rollouts.
        assert torch.allclose(batch["sampling_per_token_logps"] * mask, now * mask, atol=1e-5)
    hook.remove()
    assert trainer._metrics["train"]["kl"] == pytest.approx([0.0] * 3, abs=1e-6)
    assert trainer._metrics["train"]["clip_ratio/region_mean"] == [0.0] * 3


def test_there_is_no_chance_in_the_ratio(tmp_path: Path) -> None:
    """Attention's dropout is no layer, and TRL's switch leaves it on: a policy that did not move
    was clipped, and far from itself."""
    policy = tiny_policy()
    for layer in policy.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    learner = GRPO(
        reward=lengths, learning_rate=0.0, kl_coef=0.1, iterations=1, rollouts=8, samples=4,
        batch_size=4, max_new_tokens=8,
    )  # fmt: skip
    figures = learner.learn(policy, GO, context(tmp_path))
    assert figures["clip_fraction"] == 0 and figures["kl"] == pytest.approx(0, abs=1e-6)
    rates = [layer.self_attn.attention_dropout for layer in policy.model.model.layers]
    assert rates == [0.5, 0.5]


def test_a_reward_model_of_the_preferences_is_learnt_from(tmp_path: Path) -> None:
    policy = tiny_policy()
    before = frozen_reference(policy, "previous")
    lessons = Lessons(preferences=tuple(planted(96, seed=1)))
    learner = GRPO(
        reward_training=RewardTraining(steps=40, learning_rate=5e-3), kl_coef=0.02, iterations=12,
        batch_size=32, learning_rate=5e-3, max_new_tokens=5,
    )  # fmt: skip
    figures = learner.learn(policy, lessons, context(tmp_path))
    assert figures["pairs"] == 96 and figures["reward"] > figures["reward_first"] + 1
    assert figures["kl"] > 0
    assert list(tmp_path.iterdir()) == []
    assert "forward" not in vars(policy.model)
    with policy.at_start():
        for name, tensor in policy.model.state_dict().items():
            assert torch.equal(tensor, before.state_dict()[name])


@pytest.mark.parametrize("lora", [None, 2])
def test_a_killed_run_ends_in_the_same_state(tmp_path: Path, lora: int | None) -> None:
    lessons = Lessons(preferences=tuple(planted(12, seed=4)))
    learner = GRPO(
        reward_training=RewardTraining(steps=4, learning_rate=5e-3), iterations=4, rollouts=12,
        samples=4, batch_size=6, learning_rate=1e-3, max_new_tokens=5, lora=lora,
    )  # fmt: skip
    whole = tiny_policy()
    expected = learner.learn(whole, lessons, context(tmp_path / "a"))

    def stop(done: int, total: int, what: str) -> None:
        if what == "grpo steps" and done == 14:
            raise Killed

    ctx = context(tmp_path / "b")
    with pytest.raises(Killed):
        learner.learn(tiny_policy(), lessons, dataclasses.replace(ctx, progress=stop))
    [folder] = (tmp_path / "b").iterdir()
    assert {path.name for path in folder.iterdir()} == {"reward", "checkpoint-8"}
    steps: list[int] = []
    ctx = dataclasses.replace(
        ctx, progress=lambda d, t, w: steps.append(d) if w.endswith("steps") else None
    )
    torch.manual_seed(99)
    continued = tiny_policy()
    assert learner.learn(continued, lessons, ctx) == pytest.approx(expected)
    assert min(steps) == 9  # after two iterations of four steps; no reward model is fitted again
    assert continued.fingerprint() == whole.fingerprint()
    if lora:
        assert list(continued.model.peft_config) == ["default"]


def test_nothing_to_learn_and_mistakes(tmp_path: Path) -> None:
    policy, ctx = tiny_policy(), context(tmp_path)
    before = policy.fingerprint()
    for lessons in (Lessons(), GO):
        assert GRPO().learn(policy, lessons, ctx) == {"pairs": 0.0, "steps": 0.0}
    wrong: list[dict[str, Any]] = [
        {"samples": 1}, {"samples": 7}, {"batch_size": 48}, {"batch_size": 0}, {"clip": 0.0},
        {"kl_coef": -1.0}, {"temperature": 0.0}, {"reference": "never"},
    ]  # fmt: skip
    for settings in wrong:
        with pytest.raises(UserError):
            GRPO(**settings)
    learner = GRPO(reward=lambda p, t: [1.0], rollouts=4, samples=2, batch_size=2)
    with pytest.raises(UserError, match="the reward gave"):
        learner.learn(policy, GO, ctx)
    assert policy.fingerprint() == before and "forward" not in vars(policy.model)
