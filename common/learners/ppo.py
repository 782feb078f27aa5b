"""Proximal policy optimisation of the tokens that a policy says (arXiv 1707.06347, 1909.08593).

SpeechAlign (arXiv 2404.05600) uses it on codec tokens; TRL 1.16 has none. In an iteration the
policy completes some prompts, a reward judges each completion, and

    r_t = -kl_coef (log pi(a_t|s_t) - log pi_ref(a_t|s_t))  + reward at the last token
    A_t = sum_k gae_lambda^k delta_{t+k},   delta_t = r_t + V(s_{t+1}) - V(s_t)   (arXiv 1506.02438)
    loss = -mean min(ratio_t A_t, clip(ratio_t, 1 - clip, 1 + clip) A_t)
         + mean max((V - R)^2, (V_old + clip(V - V_old, -clip, clip) - R)^2) / 2,  R = A + V_old

are minimised over the tokens for some epochs; the advantages of an iteration are whitened. The best
policy is pi_ref(y|x) exp(reward(x, y) / kl_coef) / Z(x), which tests hold it to.

* **What is scored is what was sampled from**: steered, at the temperature (``rollouts.py``).
  Tokens without an alternative are no decisions: they are in no mean and are skipped by GAE.
* **The critic is a small network on the policy's hidden states, detached.** It needs no second
  transformer, and its loss cannot pull on the policy's features. It may fit less than a critic with
  a trunk of its own would; ``gae_lambda`` is therefore 1, where a wrong value costs variance
  and no bias.
* **The reward is normalised once**, to mean 0 and deviation 1 over the first iteration's rollouts
  (1909.08593 does so over the reference's samples), so that ``kl_coef`` means the same for every
  reward while the optimum stays put during the run.

Deviations: a fixed ``kl_coef``, where 1909.08593 steers it to a target; no discount and no entropy
bonus (the divergence from the reference keeps the entropy); no dropout, so that the ratio starts
at 1; the learning rate falls linearly to 0; a completion cut at ``max_new_tokens`` is judged as it
is, being all that the policy may say.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.learners import data
from common.learners.rollouts import (
    Reward,
    RewardLearner,
    Rollouts,
    TokenScores,
    check_positive,
    completion_text,
    fitted,
    frozen_reference,
    in_turn,
    prompts_of,
    rewards_of,
    score,
)
from common.policies.local import HFPolicy
from common.records import Lessons, identity
from common.stages import Context


@dataclass(frozen=True)
class PPO(RewardLearner):
    """Learn from rewards of what the policy samples for the prompts of a round's lessons.

    ``kl_coef`` is in normalised rewards a nat, in the reward's own unit with ``normalise_reward``
    off. ``value_learning_rate`` and ``value_clip`` are the critic's.
    """

    normalise_reward: bool = True
    value_learning_rate: float = 1e-3
    value_clip: float = 0.5
    gae_lambda: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "value_learning_rate", "value_clip")
        if not 0 <= self.gae_lambda <= 1:
            raise UserError(f"gae_lambda={self.gae_lambda}", "give a gae_lambda within 0 and 1")

    def learn(self, policy: HFPolicy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Train on the prompts of ``lessons``; nothing is done when there is nothing to judge by.

        Returns means over the last tenth of the iterations: ``reward`` (as the reward gave it),
        ``kl`` (nats a completion, from the reference), ``entropy`` (nats a decision),
        ``clip_fraction``, ``value_loss``, ``explained_variance`` (of the returns, by the critic
        before it learnt from them), ``loss``; ``reward_first`` and ``loss_first`` of the first
        iteration; ``pairs``, ``iterations`` and ``steps`` (of the optimiser); the
        ``sampled_tokens`` of all rollouts, and the ``tokens`` that were learnt from, prompts and
        every epoch counted.
        """
        prompts = prompts_of(lessons)
        pairs = float(len(lessons.preferences))
        if not prompts or (self.reward is None and not lessons.preferences):
            return {"pairs": pairs, "steps": 0.0}
        settings = dataclasses.asdict(dataclasses.replace(self, reward=None))
        learnt_from = [p.id for p in lessons.preferences], prompts
        folder = ctx.workdir / f"ppo-{identity(settings, learnt_from, policy.fingerprint())}"
        folder.mkdir(parents=True, exist_ok=True)
        with data.quiet():
            reward = self.reward
            if reward is None:
                reward = fitted(policy, lessons.preferences, self.reward_training, ctx, folder)
            reference = frozen_reference(policy, self.reference)
            if self.lora and not policy.has_adapter:
                torch.manual_seed(ctx.seed_for("adapter") % 2**63)
                policy.add_adapter(data.lora_config(self.lora))
            run = _Run(self, policy, reference, reward, prompts, ctx)
            run.restore(folder / "state.pt")
            policy.model.eval()
            try:
                while run.iteration < self.iterations:
                    run.iterate()
                    if run.iteration % self.checkpoint_every == 0:
                        run.save(folder / "state.pt")
            finally:
                policy.model.zero_grad(set_to_none=True)
        shutil.rmtree(folder)
        figures = data.summary(run.logs, {name: name for name in run.logs[0] if name != "loss"})
        return figures | {
            "reward_first": run.logs[0]["reward"],
            "pairs": pairs,
            "iterations": float(self.iterations),
            "steps": float(run.steps),
            **{name: sum(log[name] for log in run.logs) for name in ("sampled_tokens", "tokens")},
        }


class Experience(NamedTuple):
    """An iteration's rollouts as they were drawn, (R, C) each: what the epochs learn from."""

    logp: Tensor
    open: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class _Run:
    """The state of a run: weights, critic, optimiser, normaliser, and how far it has come."""

    def __init__(
        self,
        config: PPO,
        policy: HFPolicy,
        reference: Any,
        reward: Reward,
        prompts: Sequence[str],
        ctx: Context,
    ) -> None:
        self.config, self.policy, self.reference, self.ctx = config, policy, reference, ctx
        self.reward, self.prompts = reward, prompts
        self.critic = critic(policy.model.config.get_text_config().hidden_size, ctx)
        self.critic.to(policy.device)
        self.weights = {n: p for n, p in policy.model.named_parameters() if p.requires_grad}
        self.rates = (config.learning_rate, config.value_learning_rate)
        groups = [list(self.weights.values()), list(self.critic.parameters())]
        self.optimiser = torch.optim.Adam([{"params": g, "lr": 0.0} for g in groups])
        self.scale: tuple[float, float] | None = None
        self.iteration = self.steps = 0
        self.logs: list[dict[str, float]] = []

    def iterate(self) -> None:
        """Draw, judge, learn, and note the figures."""
        rollouts = self.draw()
        texts = [completion_text(self.policy, ids) for ids in rollouts.completion_ids]
        rewards = rewards_of(self.reward, rollouts.prompts, texts)
        if self.scale is None:
            spread, mean = torch.std_mean(torch.tensor(rewards, dtype=torch.float64), correction=0)
            plain = not self.config.normalise_reward or spread < 1e-8
            self.scale = (0.0, 1.0) if plain else (float(mean), float(spread))
        past, figures = self.judge(rollouts, rewards)
        figures |= self.learn(rollouts, past)
        sampled = sum(map(len, rollouts.completion_ids))
        learnt = self.config.epochs * (sampled + sum(map(len, rollouts.prompt_ids)))
        figures |= {"sampled_tokens": float(sampled), "tokens": float(learnt)}
        if not all(map(math.isfinite, figures.values())):
            raise UserError(
                f"the ppo loss is not finite in iteration {self.iteration + 1}",
                "lower learning_rate, then start again",
            )
        self.logs.append(figures)
        self.iteration += 1
        self.ctx.tracker.log({f"ppo/{k}": v for k, v in figures.items()}, self.iteration)

    def draw(self) -> Rollouts:
        n, config = self.config.rollouts, self.config
        start = self.iteration * n
        return Rollouts.draw(
            self.policy,
            in_turn(self.prompts, start, n, self.ctx),
            [self.ctx.seed_for("ppo", self.ctx.round, start + i) for i in range(n)],
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
        )

    @torch.no_grad()
    def judge(
        self, rollouts: Rollouts, rewards: Sequence[float]
    ) -> tuple[Experience, dict[str, float]]:
        """The experience, and what the rollouts say of policy and critic before they learn."""
        shape = (len(rewards), max(map(len, rollouts.completion_ids)))
        device = self.policy.device
        logp, ref, values, entropy = (torch.zeros(shape, device=device) for _ in range(4))
        decided = torch.zeros(shape, dtype=torch.bool, device=device)
        for rows in self.batches(rollouts, epoch=0):
            now = self.score(rollouts, rows)
            width = now.logp.shape[1]
            logp[rows, :width], entropy[rows, :width] = now.logp, now.entropy
            decided[rows, :width] = now.open
            values[rows, :width] = self.values(now)
            ref[rows, :width] = self.score(rollouts, rows, self.reference).logp
        if not decided.any():
            raise UserError(
                "no token of any rollout had an alternative", "loosen the policy's steer"
            )
        mean, spread = self.scale or (0.0, 1.0)
        final = (torch.tensor(rewards, device=device) - mean) / spread
        rewards_RC = token_rewards(final, self.config.kl_coef * (logp - ref), decided)
        advantages = gae(rewards_RC, values, decided, self.config.gae_lambda)
        returns = advantages + values
        whole = returns[decided].var(correction=0)
        unexplained = advantages[decided].var(correction=0)
        figures = {
            "reward": math.fsum(rewards) / len(rewards),
            "kl": float((logp - ref).sum(1).mean()),
            "entropy": float(entropy[decided].mean()),
            "explained_variance": float(1 - unexplained / whole) if whole > 0 else 0.0,
        }
        return Experience(logp, decided, values, whiten(advantages, decided), returns), figures

    def learn(self, rollouts: Rollouts, past: Experience) -> dict[str, float]:
        """The epochs over ``rollouts``; means of what the steps saw."""
        config = self.config
        left = 1 - self.iteration / config.iterations
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * left
        total = torch.zeros(3, dtype=torch.float64)
        every = [rows for e in range(config.epochs) for rows in self.batches(rollouts, 1 + e)]
        # One divisor for all batches: a token counts the same in each, long rollouts or short.
        share = past.open.sum() * config.epochs / len(every)
        for done, rows in enumerate(every, 1):
            now = self.score(rollouts, rows)
            width = now.logp.shape[1]
            then = Experience(*(tensor[rows, :width] for tensor in past))
            policy_loss, clipped = clipped_objective(now.logp, then, config.clip)
            value_loss = clipped_value_loss(self.values(now), then, config.value_clip)
            self.optimiser.zero_grad(set_to_none=True)
            ((policy_loss + value_loss) / share).backward()
            for group in self.optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            self.optimiser.step()
            self.steps += 1
            total += torch.stack([policy_loss, value_loss, clipped]).detach().cpu().double()
            batches = self.iteration * len(every) + done
            self.ctx.progress(batches, config.iterations * len(every), "ppo steps")
        means = (total / (float(share) * len(every))).tolist()
        return dict(zip(("loss", "value_loss", "clip_fraction"), means, strict=True))

    def score(self, rollouts: Rollouts, rows: Sequence[int], model: Any = None) -> TokenScores:
        temperature = self.config.temperature
        return score(self.policy, rollouts, rows, temperature=temperature, model=model)

    def values(self, scores: TokenScores) -> Tensor:
        values: Tensor = self.critic(scores.hidden.detach().float()).squeeze(-1)
        return values

    def batches(self, rollouts: Rollouts, epoch: int) -> list[list[int]]:
        size = self.config.batch_size
        lengths = [len(ids) for ids in rollouts.completion_ids]
        seed = self.ctx.seed_for("ppo batches", self.ctx.round, self.iteration) % 2**62
        sampler = data.ByLength(lengths, size, seed)
        sampler.set_epoch(epoch)
        order = list(sampler)
        return [order[i : i + size] for i in range(0, len(order), size)]

    def save(self, path: Path) -> None:
        state = {
            "weights": self.weights,
            "critic": self.critic.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rest": (self.scale, self.iteration, self.steps, self.logs),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)

    def restore(self, path: Path) -> None:
        if not path.exists():
            return
        state = torch.load(path, map_location=self.policy.device, weights_only=True)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scale, self.iteration, self.steps, self.logs = state["rest"]


def critic(width: int, ctx: Context) -> nn.Sequential:
    """From a hidden state to its value: one hidden layer, 0 everywhere before it has learnt."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ctx.seed_for("critic", ctx.round) % 2**63)
        first, last = nn.Linear(width, width), nn.Linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(width), first, nn.GELU(), last)


def token_rewards(final_R: Tensor, penalty_RC: Tensor, open_RC: Tensor) -> Tensor:
    """(R, C): minus the penalty at every decision, plus ``final`` at the last one."""
    behind_RC = open_RC.flip(1).cumsum(1).flip(1)
    last_RC = open_RC & (behind_RC == 1)
    return final_R[:, None] * last_RC - penalty_RC * open_RC


def gae(rewards_RC: Tensor, values_RC: Tensor, open_RC: Tensor, lam: float) -> Tensor:
    """Generalised advantages (arXiv 1506.02438, eq. 16; undiscounted) of the open tokens, else 0.

    Tokens that are not open, and padding, are as if they were not there.
    """
    advantages_RC = torch.zeros_like(rewards_RC)
    advantage_R = value_R = torch.zeros_like(rewards_RC[:, 0])
    for t in reversed(range(rewards_RC.shape[1])):
        here_R = open_RC[:, t]
        found_R = rewards_RC[:, t] + value_R - values_RC[:, t] + lam * advantage_R
        advantage_R = torch.where(here_R, found_R, advantage_R)
        value_R = torch.where(here_R, values_RC[:, t], value_R)
        advantages_RC[:, t] = found_R * here_R
    return advantages_RC


def whiten(values_RC: Tensor, open_RC: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the open tokens, 0 elsewhere."""
    spread, mean = torch.std_mean(values_RC[open_RC], correction=0)
    return ((values_RC - mean) / (spread + 1e-8)) * open_RC


def clipped_objective(logp_BC: Tensor, then: Experience, clip: float) -> tuple[Tensor, Tensor]:
    """The sum over the open tokens of the clipped loss (arXiv 1707.06347, eq. 7), and the number
    of tokens whose ratio was clipped."""
    ratio_BC = (logp_BC - then.logp).exp()
    bound_BC = ratio_BC.clamp(1 - clip, 1 + clip)
    loss_BC = -torch.minimum(ratio_BC * then.advantages, bound_BC * then.advantages)
    return (loss_BC * then.open).sum(), ((ratio_BC != bound_BC) & then.open).sum()


def clipped_value_loss(values_BC: Tensor, then: Experience, clip: float) -> Tensor:
    """The sum over open tokens of half the squared error, or of the clipped value's if larger."""
    near_BC = then.values + (values_BC - then.values).clamp(-clip, clip)
    worst_BC = torch.maximum((values_BC - then.returns) ** 2, (near_BC - then.returns) ** 2)
    return (worst_BC * then.open).sum() / 2
