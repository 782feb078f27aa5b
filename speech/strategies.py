"""How a round's lessons are learnt: SpeechAlign's strategies, for the same data and budget.

| strategy | learns | passes over the pairs |
|---|---|---|
| dpo | from pairs: DPO with a likelihood anchor | ``epochs`` |
| sft | the chosen alone, the control | twice ``epochs``: a pair has one sequence for DPO's two |
| chain-of-hindsight | chosen and rejected, each under its label | ``epochs`` |
| best-of-n | a reward model; the policy stays and says the best of N | ``epochs`` |
| ppo, grpo | a reward model, then the policy from its own samples | ``epochs``, then samples |

So all but the last see equally many sequences a round; what each takes is in the comparison. The
reward model reads tokens or hears the sound (``reward_model``: wave, smpconv). PPO and GRPO sample
at the run's temperature, as many completions a round as the round proposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from common.distributed import world
from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Lessons
from common.stages import Context, Learner
from speech.align import AlignConfig, RewardKind
from speech.lm import stream
from speech.speaker import Speaker

if TYPE_CHECKING:
    from common.learners.grpo import GRPO
    from common.learners.ppo import PPO
    from common.learners.reward import RewardTraining
    from speech.reward import SpokenReward

ROLLOUTS = 64
"""Completions that PPO and GRPO draw before they learn from them."""


def learner(config: AlignConfig, speaker: Callable[[], Speaker]) -> Learner:
    """How ``config`` learns; ``speaker`` is who makes samples audible for a reward model of sound.

    A step takes ``batch_size * grad_accum`` pairs over all processes.

    Raises:
        UserError: processes that cannot share a step's pairs evenly, or that the strategy has no
            use for.
    """
    # The libraries of learning take seconds to import: not for `say`.
    if config.strategy == "dpo":
        from common.learners.dpo import Preference

        return Preference(
            beta=config.beta,
            nll_weight=config.nll_weight,
            reference=config.reference,
            lora=config.lora or None,
            **_shared(config),
        )
    if config.strategy == "sft":
        from common.learners.sft import SFT

        return SFT(lora=config.lora or None, **_shared(config, passes=2))
    if config.strategy == "chain-of-hindsight":
        from common.learners.hindsight import Hindsight
        from common.learners.sft import SFT

        return Hindsight(stream.GOOD, stream.BAD, SFT(**_shared(config)))
    if config.strategy == "best-of-n":
        from common.policies.best_of import FitReward

        return FitReward()
    if world() > 1:
        raise UserError(
            f"{config.strategy} learns in one process, these are {world()}",
            "start it without accelerate launch, or use another strategy",
        )
    sampled = _sampled(config)
    if config.reward_model == "tokens":
        return sampled
    return Heard(sampled, speaker, config.reward_model)


def _sampled(config: AlignConfig) -> PPO | GRPO:
    """PPO or GRPO, fitting a reward model of tokens unless it is given another reward."""
    from common.learners.grpo import GRPO
    from common.learners.ppo import PPO

    settings: dict[str, Any] = {
        "reward_training": _reward_training(config),
        "kl_coef": config.kl_coef,
        "rollouts": ROLLOUTS,
        "iterations": max(1, config.texts * config.samples // ROLLOUTS),
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "temperature": config.temperature,
        "max_new_tokens": config.max_new_tokens,
        "lora": config.lora or None,
        "reference": config.reference,
    }
    return PPO(**settings) if config.strategy == "ppo" else GRPO(**settings)


@dataclass(frozen=True)
class Heard:
    """Learn: fit a reward model of sound on the lessons, then let ``learner`` learn from it."""

    learner: PPO | GRPO
    speaker: Callable[[], Speaker]
    kind: RewardKind = "wave"

    def learn(self, policy: HFPolicy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """What ``learner`` returns, and the reward model's figures under ``fitted_``."""
        reward = _spoken(self.speaker, self.kind)
        fitted = reward.fit(lessons.preferences, ctx)
        if not fitted["steps"]:
            return {"pairs": fitted["pairs"], "steps": 0.0}
        figures = replace(self.learner, reward=reward.score).learn(policy, lessons, ctx)
        return {**figures, **{f"fitted_{name}": value for name, value in fitted.items()}}


def wrapped(config: AlignConfig, policy: HFPolicy, speaker: Callable[[], Speaker]) -> HFPolicy:
    """``policy`` as ``config``'s strategy needs it: best-of-n puts a reward model around it."""
    if config.strategy != "best-of-n":
        return policy
    from common.learners.reward import RewardModel
    from common.policies.best_of import BestOf, Fitted

    reward: Fitted
    if config.reward_model == "tokens":
        reward = RewardModel.from_policy(policy, _reward_training(config))
    else:
        reward = _spoken(speaker, config.reward_model)
    # It passes on whatever it does not do itself.
    return cast(HFPolicy, BestOf(policy, reward, config.best_of))


def _spoken(speaker: Callable[[], Speaker], kind: RewardKind) -> SpokenReward:
    """A reward model that hears."""
    from speech.reward import SMPCONV, NetworkConfig, SpokenReward

    return SpokenReward(speaker, config=SMPCONV if kind == "smpconv" else NetworkConfig())


def _reward_training(config: AlignConfig) -> RewardTraining:
    from common.learners.reward import RewardTraining

    return RewardTraining(**_shared(config) | {"learning_rate": config.reward_rate})


def _shared(config: AlignConfig, passes: int = 1) -> dict[str, Any]:
    """The settings that the learners have in common."""
    processes = world()
    batches = math.lcm(config.grad_accum, processes)
    size, left = divmod(config.batch_size * config.grad_accum, batches)
    if left:
        raise UserError(
            f"{processes} processes cannot share {config.batch_size} x {config.grad_accum} pairs",
            "choose batch_size and grad_accum so that their product is a multiple",
        )
    return {
        "learning_rate": config.learning_rate,
        "epochs": passes * config.epochs,
        "steps": passes * config.steps or None,
        "batch_size": size,
        "grad_accum": batches // processes,
        "max_length": config.max_length,
    }
