"""How a round's lessons are learnt: SpeechAlign's strategies, for the same data and budget.

| strategy | learns | passes over the pairs |
|---|---|---|
| dpo | from pairs: DPO with a likelihood anchor | ``epochs`` |
| sft | the chosen alone, the control | twice ``epochs``: a pair has one sequence for DPO's two |
| chain-of-hindsight | chosen and rejected, each under its label | ``epochs`` |
| best-of-n | a reward model; the policy stays and says the best of N | ``epochs`` |
| ppo, grpo | a reward model, then the policy from its own samples | ``epochs``, then samples |

So all but the last see equally many sequences a round; what each takes is in the comparison.
"""

from __future__ import annotations

import math
from typing import Any, cast

from common.distributed import world
from common.errors import UserError
from common.policies.local import HFPolicy
from common.stages import Learner
from speech.align import AlignConfig

GOOD, BAD = "<good>", "<bad>"
"""Labels of hindsight: symbols of their own, for the codec language model has no words."""


def learner(config: AlignConfig) -> Learner:
    """How ``config`` learns.

    A step takes ``batch_size * grad_accum`` pairs over all processes.

    Raises:
        UserError: there are more processes than pairs in a step, or they do not share evenly.
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

        return Hindsight(GOOD, BAD, SFT(**_shared(config)))
    if config.strategy == "best-of-n":
        from common.policies.best_of import FitReward

        return FitReward()
    raise UserError(f"{config.strategy} is not there yet", "use dpo")


def wrapped(config: AlignConfig, policy: HFPolicy) -> HFPolicy:
    """``policy`` as ``config``'s strategy needs it: best-of-n puts a reward model around it."""
    if config.strategy != "best-of-n":
        return policy
    from common.learners.reward import RewardModel, RewardTraining
    from common.policies.best_of import BestOf

    training = RewardTraining(**_shared(config))
    best = BestOf(policy, RewardModel.from_policy(policy, training), config.best_of)
    return cast(HFPolicy, best)  # it passes on whatever it does not do itself


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
