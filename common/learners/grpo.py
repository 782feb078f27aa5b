"""Group-relative policy optimisation (arXiv 2402.03300) through TRL, on rollouts of our sampler.

A prompt is completed ``samples`` times; the advantage of a completion is its reward less its
group's mean, over the group's deviation. There is no critic, and every token of a completion has
the same advantage:

    loss = -mean min(ratio_t A, clip(ratio_t, 1 - clip, 1 + clip) A) + kl_coef KL(pi || pi_ref)

The mean is over the tokens of a batch (``dapo`` in TRL, arXiv 2503.14476). Rollouts come through
TRL's ``rollout_func``, so that they are seeded by their place in the run and steered as the policy
is. Log-probabilities are of the steered distribution at the temperature that was sampled from, in
the loss too: the trainer's own would be of the unsteered model. Tokens without an alternative are
masked (``env_mask``): they were not the policy's choice.

Deviations: what PPO adds to the reward a token, GRPO has in its loss, an estimate that is unbiased
in value and gradient (TRL's ``use_bias_correction_kl``); the learning rate follows a cosine.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from common.errors import UserError
from common.learners import data
from common.learners.dpo import release
from common.learners.rollouts import (
    Reward,
    RewardLearner,
    Rollouts,
    completion_text,
    fitted,
    frozen_reference,
    in_turn,
    prompts_of,
    rewards_of,
    score,
    score_padded,
)
from common.policies.local import HFPolicy
from common.records import Lessons, identity
from common.stages import Context


@dataclass(frozen=True)
class GRPO(RewardLearner):
    """Learn from rewards of groups of samples for the prompts of a round's lessons.

    ``samples`` is the size of a group, and ``rollouts`` counts completions, so that an iteration
    sees ``rollouts / samples`` prompts. Both ``samples`` and ``batch_size`` divide ``rollouts``.
    ``kl_coef`` is in units of a group's deviation of reward a nat. ``warmup`` is a share of the
    steps when below 1.
    """

    samples: int = 8
    warmup: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2 or self.rollouts % self.samples or self.rollouts % self.batch_size:
            raise UserError(
                f"{self.rollouts} rollouts in groups of {self.samples} and batches of"
                f" {self.batch_size}",
                "make rollouts a multiple of both; a group has 2 samples or more",
            )

    def learn(self, policy: HFPolicy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Train on the prompts of ``lessons``; nothing is done when there is nothing to judge by.

        Returns means over the last tenth of the steps: ``reward`` (as the reward gave it), ``kl``
        (nats a decision, from the reference), ``entropy`` (nats a decision), ``clip_fraction``,
        ``loss``; ``reward_first`` and ``loss_first`` of the first; ``pairs``, ``iterations`` and
        ``steps`` (of the optimiser); ``sampled_tokens``, and ``tokens`` that were learnt from,
        prompts included.
        """
        prompts = prompts_of(lessons)
        pairs = float(len(lessons.preferences))
        if not prompts or (self.reward is None and not lessons.preferences):
            return {"pairs": pairs, "steps": 0.0}
        settings = dataclasses.asdict(dataclasses.replace(self, reward=None))
        learnt_from = [p.id for p in lessons.preferences], prompts
        folder = ctx.workdir / f"grpo-{identity(settings, learnt_from, policy.fingerprint())}"
        with data.quiet():
            reward = self.reward
            if reward is None:
                reward = fitted(policy, lessons.preferences, self.reward_training, ctx, folder)
            trainer = self.trainer(policy, prompts, reward, ctx, folder)
            try:
                # The ratio of the same policy is 1 only without chance in it.
                with data.without_dropout(policy.model):
                    logs = data.train(trainer, folder, policy)
            finally:
                release(policy)
        # The reward is noted in the steps that drew: it holds until the next do.
        length = "completions/mean_length"
        counts = {
            "sampled_tokens": self.rollouts * sum(log.get(length, 0.0) for log in logs),
            "tokens": self.epochs * max(log.get("num_tokens", 0.0) for log in logs),
        }
        logs = list(itertools.accumulate(logs, operator.or_))
        names = {
            "reward": "reward",
            "entropy": "entropy",
            "clip_ratio/region_mean": "clip_fraction",
        }
        if self.kl_coef:
            names["kl"] = "kl"
        return (
            data.summary(logs, names)
            | counts
            | {
                "reward_first": float(logs[0]["reward"]),
                "pairs": pairs,
                "iterations": float(self.iterations),
            }
        )

    def trainer(
        self,
        policy: HFPolicy,
        prompts: Sequence[str],
        reward: Reward,
        ctx: Context,
        folder: Path,
    ) -> SteeredGRPOTrainer:
        """The trainer over all iterations' prompts, in the order in which they are drawn."""
        reference = frozen_reference(policy, self.reference) if self.kl_coef else None
        if self.lora and not policy.has_adapter:
            torch.manual_seed(ctx.seed_for("adapter") % 2**63)
            policy.add_adapter(data.lora_config(self.lora))
        steps = self.epochs * self.rollouts // self.batch_size  # an iteration's
        options = data.arguments(
            ctx,
            folder,
            device=policy.device,
            learning_rate=self.learning_rate,
            epochs=1,
            steps=self.iterations * steps,
            batch_size=self.batch_size,
            grad_accum=1,
            warmup=self.warmup,
            # Between iterations only: the rollouts at hand are not in a checkpoint.
            checkpoint_every=self.checkpoint_every * steps,
        )
        del options["max_length"]
        config = GRPOConfig(
            **options,
            beta=0.0,  # TRL would look for the reference on a hub
            epsilon=self.clip,
            num_generations=self.samples,
            generation_batch_size=self.rollouts,
            num_iterations=self.epochs,
            temperature=self.temperature,
            max_completion_length=self.max_new_tokens,
            shuffle_dataset=False,
            disable_dropout=True,
        )
        groups = self.iterations * self.rollouts // self.samples
        rows = Dataset.from_dict({"prompt": in_turn(prompts, 0, groups, ctx)})
        trainer = SteeredGRPOTrainer(
            policy,
            reward,
            ctx,
            model=policy.model,
            args=config,
            train_dataset=rows,
            processing_class=policy.tokenizer,
            callbacks=[data.Report(ctx, "grpo")],
        )
        trainer.beta, trainer.ref_model = self.kl_coef, reference
        return trainer


class SteeredGRPOTrainer(data.Plumbing, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO on our rollouts, scored as they were sampled."""

    _get_train_sampler = GRPOTrainer._get_train_sampler  # repeats prompts; rollouts decide lengths

    def __init__(self, policy: HFPolicy, reward: Reward, ctx: Context, **options: Any) -> None:
        self.policy, self.reward, self.ctx = policy, reward, ctx
        self.texts: dict[tuple[int, ...], str] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*rollout_func.*experimental")
            super().__init__(reward_funcs=self._judge, rollout_func=draw, **options)

    def _judge(
        self, prompts: Sequence[str], completion_ids: Sequence[list[int]], **_: Any
    ) -> list[float]:
        texts = [completion_text(self.policy, ids) for ids in completion_ids]
        return rewards_of(self.reward, prompts, texts)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor, None]:
        """Of the distribution sampled from; log-probabilities are 0 on padding."""
        logps, entropies = [], []
        size = batch_size or len(input_ids)
        for ids_BT, mask_BT in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            before = slice(0, ids_BT.shape[1] - logits_to_keep)
            prompts = [
                self.texts[tuple(ids[before][mask[before].bool()].tolist())]
                for ids, mask in zip(ids_BT, mask_BT, strict=True)
            ]
            scores = score_padded(
                self.policy, model, ids_BT, mask_BT, logits_to_keep, prompts, self.temperature
            )
            logps.append(scores.logp)
            entropies.append(scores.entropy)
        return torch.cat(logps), torch.cat(entropies), None


def draw(prompts: Sequence[str], trainer: SteeredGRPOTrainer) -> dict[str, Any]:
    """TRL's ``rollout_func``: one completion for each of ``prompts``, which it has repeated."""
    policy, ctx = trainer.policy, trainer.ctx
    first = trainer.state.global_step
    rollouts = Rollouts.draw(
        policy,
        prompts,
        [ctx.seed_for("grpo", ctx.round, first, i) for i in range(len(prompts))],
        temperature=trainer.temperature,
        max_new_tokens=trainer.max_completion_length,
    )
    trainer.texts = {
        tuple(ids): text for ids, text in zip(rollouts.prompt_ids, rollouts.prompts, strict=True)
    }
    logps, decided = [], []
    size = trainer.args.per_device_train_batch_size
    with torch.no_grad():
        for start in range(0, len(prompts), size):
            rows = range(start, min(start + size, len(prompts)))
            scores = score(policy, rollouts, rows, temperature=trainer.temperature)
            for row, logp, open_ in zip(rows, scores.logp, scores.open, strict=True):
                length = len(rollouts.completion_ids[row])
                logps.append(logp[:length].tolist())
                decided.append(open_[:length].int().tolist())
    return {
        "prompt_ids": rollouts.prompt_ids,
        "completion_ids": rollouts.completion_ids,
        "logprobs": logps,
        "env_mask": decided,
    }
