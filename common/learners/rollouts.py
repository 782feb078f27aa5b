"""What the learners that sample share: rewards, the reference, and scores of what was sampled.

The scores are of the distribution that was sampled from: the policy's logits, bent by its steer
(:data:`common.policies.sampling.Steer`), divided by the temperature. A ratio, a divergence or an
entropy of the plain logits would be of another policy than the one that acted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from common.learners.reward import RewardModel, RewardTraining
from common.policies.local import HFPolicy
from common.policies.packing import bare, packable, reading_packed, row_of
from common.policies.sampling import forced_scores
from common.records import Lessons, Preference
from common.stages import Context

Reward = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""From prompts and completions (without the end token) to a reward each; more is better."""
Reference = Literal["start", "previous"] | Path


@dataclass(frozen=True)
class RewardLearner:
    """What the learners that sample have in common.

    ``reward`` judges; without it a reward model is fitted on the round's preferences.
    ``reference`` is what the run started from, or the policy as this round found it
    (``previous``), or the folder of a saved state; a copy of it is held in memory, and ``kl_coef``
    is the price of leaving it.
    ``temperature`` is the one that the policy will be used at. An iteration draws ``rollouts``
    completions and learns from them ``epochs`` times in batches of ``batch_size``. ``clip`` is for
    the ratio. ``lora`` as in :class:`common.learners.dpo.Preference`. ``checkpoint_every`` counts
    iterations.
    """

    reward: Reward | None = None
    reward_training: RewardTraining = RewardTraining(learning_rate=1e-4, epochs=2.0)
    kl_coef: float = 0.05
    iterations: int = 8
    rollouts: int = 64
    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 1e-4
    clip: float = 0.2
    temperature: float = 1.0
    max_new_tokens: int = 600
    lora: int | None = None
    reference: Reference = "start"
    checkpoint_every: int = 2

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "rollouts", "epochs", "batch_size", "clip",
                       "temperature", "max_new_tokens", "checkpoint_every")  # fmt: skip
        if min(self.kl_coef, self.learning_rate) < 0:
            raise UserError("kl_coef and learning_rate must not be negative", "correct the learner")
        if self.reference not in ("start", "previous") and not isinstance(self.reference, Path):
            raise UserError(f"no reference {self.reference!r}", "use 'start' or 'previous'")


@dataclass(frozen=True)
class Rollouts:
    """Prompts as text and as tokens, completions as tokens (with the end token if it came)."""

    prompts: list[str]
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]

    @classmethod
    def draw(
        cls, policy: HFPolicy, prompts: Sequence[str], seeds: Sequence[int], **options: Any
    ) -> Rollouts:
        """One completion a prompt, ``options`` as of :meth:`HFPolicy.sample`."""
        drawn = policy.sample(prompts, seeds=seeds, **options)
        end = [policy.tokenizer.eos_token_id]
        encoded = {prompt: policy.encode_prompt(prompt) for prompt in set(prompts)}
        return cls(
            prompts=list(prompts),
            prompt_ids=[encoded[prompt] for prompt in prompts],
            completion_ids=[one.ids + end * one.finished for [one] in drawn],
        )


class TokenScores(NamedTuple):
    """Of B completions, padded right to C tokens; nothing off the completions counts.

    ``logp`` (nats), 0 where it does not count, and ``entropy`` (nats) are differentiable; ``open``
    says where there was more than one option. Elsewhere nothing was decided: ``logp`` is 0
    whatever the weights. ``hidden`` are the states below the output layer that each token was
    predicted from, (B, C, H).
    """

    logp: Tensor
    entropy: Tensor
    open: Tensor
    hidden: Tensor


def score(
    policy: HFPolicy,
    rollouts: Rollouts,
    rows: Sequence[int],
    *,
    temperature: float,
    model: Any = None,
) -> TokenScores:
    """Teacher-forced scores of ``rows`` of ``rollouts`` under ``model``, else the policy's."""
    model = policy.model if model is None else model
    prompts = [rollouts.prompt_ids[row] for row in rows]
    completions = [rollouts.completion_ids[row] for row in rows]
    before, after = max(map(len, prompts)), max(map(len, completions))
    ids_BT = torch.full((len(rows), before + after), policy.tokenizer.pad_token_id)
    mask_BT = torch.zeros_like(ids_BT)
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        start, end = before - len(prompt), before + len(completion)
        ids_BT[i, start:end] = torch.tensor(prompt + completion)
        mask_BT[i, start:end] = 1
    return score_padded(
        policy,
        model,
        ids_BT.to(policy.device),
        mask_BT.to(policy.device),
        after,
        [rollouts.prompts[row] for row in rows],
        temperature,
    )


def score_padded(
    policy: HFPolicy,
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    after: int,
    prompts: Sequence[str],
    temperature: float,
) -> TokenScores:
    """As :func:`score`, of prompts padded on the left and completions in the last columns."""
    read = _packed if packable(bare(model)) else _padded
    scores_BCV, hidden_BCH = read(model, ids_BT, mask_BT, after)
    tokens_BC, real_BC = ids_BT[:, -after:], mask_BT[:, -after:].bool()
    if policy.steer is not None:
        scores_BCV = forced_scores(policy.steer(prompts), tokens_BC, scores_BCV)
        # All may be forbidden after the end, which would make gradients of everything nan.
        scores_BCV = scores_BCV.masked_fill(~real_BC[..., None], 0.0)
    logp_BCV = (scores_BCV / temperature).log_softmax(-1)
    logp_BC = logp_BCV.gather(2, tokens_BC[..., None]).squeeze(2)
    return TokenScores(
        logp=logp_BC.masked_fill(~real_BC, 0.0),
        entropy=torch.special.entr(logp_BCV.exp()).sum(-1),
        open=real_BC & (scores_BCV.isfinite().sum(-1) > 1),
        hidden=hidden_BCH,
    )


def _padded(model: Any, ids_BT: Tensor, mask_BT: Tensor, after: int) -> tuple[Tensor, Tensor]:
    """What the last ``after`` tokens are predicted from: logits (B, C, V) and states (B, C, H)."""
    out = model(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        position_ids=(mask_BT.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
        output_hidden_states=True,
        logits_to_keep=after + 1,
    )
    before = slice(-after - 1, -1)
    return out.logits[:, before].float(), out.hidden_states[-1][:, before]


def _packed(model: Any, ids_BT: Tensor, mask_BT: Tensor, after: int) -> tuple[Tensor, Tensor]:
    """As :func:`_padded`, from a packed row; 0 where there is padding."""
    real_BT = mask_BT.bool()
    real_BC = real_BT[:, -after:]
    first_BT = mask_BT.argsort(dim=1, descending=True, stable=True)  # padding to the end
    row = row_of(ids_BT.gather(1, first_BT), real_BT.gather(1, first_BT))
    from_BC = real_BT[:, :-after].sum(1, keepdim=True) - 1 + torch.arange(after)
    keep_K = row.at.gather(1, from_BC)[real_BC]
    with reading_packed(bare(model), keep_K):
        out = model(**row.inputs(), use_cache=False, output_hidden_states=True)

    def placed(values_KX: Tensor) -> Tensor:
        found_BCX = values_KX.new_zeros(*real_BC.shape, values_KX.shape[-1])
        found_BCX[real_BC] = values_KX
        return found_BCX

    return placed(out.logits[0].float()), placed(out.hidden_states[-1][0, keep_K])


def prompts_of(lessons: Lessons) -> list[str]:
    """The distinct prompts, in the order of the lessons."""
    every = [p.prompt for p in lessons.preferences] + [d.prompt for d in lessons.demonstrations]
    return list(dict.fromkeys(every))


def in_turn(prompts: Sequence[str], start: int, count: int, ctx: Context) -> list[str]:
    """``count`` of ``prompts`` from number ``start`` of their endless repetition, which is
    shuffled anew each time that it begins again."""
    first, ahead = divmod(start, len(prompts))
    found: list[str] = []
    for turn in range(first, first + -(-(ahead + count) // len(prompts))):
        generator = torch.Generator().manual_seed(ctx.seed_for("prompts", ctx.round, turn))
        order = torch.randperm(len(prompts), generator=generator).tolist()
        found += [prompts[i] for i in order]
    return found[ahead : ahead + count]


def frozen_reference(policy: HFPolicy, reference: Reference) -> Any:
    """A copy of the policy's model as it started, is now, or was saved, without gradients."""
    if isinstance(reference, Path):
        twin = copy.copy(policy)
        twin.model = copy.deepcopy(policy.model)
        twin.restore(reference)
        return twin.model.eval().requires_grad_(False)
    with policy.at_start() if reference == "start" else nullcontext():
        model = copy.deepcopy(policy.model)
    return model.eval().requires_grad_(False)


def fitted(
    policy: HFPolicy,
    preferences: Sequence[Preference],
    training: RewardTraining,
    ctx: Context,
    folder: Path,
) -> Reward:
    """A reward model of the policy's transformer, fitted on ``preferences``.

    It is kept in ``folder``, from where a continued run takes it.
    """
    kept = folder / "reward"
    if kept.exists():
        return RewardModel.load(kept, policy, training).score
    model = RewardModel.from_policy(policy, training)
    figures = model.fit(preferences, ctx)
    if not figures["steps"]:
        raise UserError(
            "no preference fits into max_length of the reward training",
            "raise reward_training.max_length, or give a reward",
        )
    ctx.tracker.log({f"reward/fitted_{k}": v for k, v in figures.items()}, int(figures["steps"]))
    partial = folder / "reward.partial"
    partial.mkdir(parents=True, exist_ok=True)
    model.save(partial)
    partial.rename(kept)
    return model.score


def rewards_of(reward: Reward, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """The rewards; :class:`UserError` when there are not as many as completions, or not finite."""
    values = [float(value) for value in reward(prompts, completions)]
    if len(values) != len(completions) or not all(map(math.isfinite, values)):
        raise UserError(
            f"the reward gave {len(values)} numbers for {len(completions)} completions"
            if len(values) != len(completions)
            else f"the reward gave a number that is not finite: {values}",
            "a reward returns one finite number for each completion",
        )
    return values


def completion_text(policy: HFPolicy, ids: Sequence[int]) -> str:
    """The text of a completion, as a candidate's output has it: without the end token."""
    ended = bool(ids) and ids[-1] == policy.tokenizer.eos_token_id
    return policy.decode(ids[:-1] if ended else ids)


def check_positive(learner: Any, *names: str) -> None:
    """Raise :class:`UserError` for the first field of ``names`` that is not above zero."""
    for name in names:
        if not getattr(learner, name) > 0:
            raise UserError(f"{name}={getattr(learner, name)}", f"give a {name} above 0")
