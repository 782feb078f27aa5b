"""Squared-margin regression on pairs: sharpening by reinforcement learning, without sampling.

    loss = (beta log pi/pi_ref(y) - beta log pi/pi_ref(y') - [r(y) - r(y')])^2

(arXiv 2412.01951, section 3; REBEL, arXiv 2404.16767.) Its minimum over all policies is that of
max E[r] - beta KL(pi || pi_ref), which is pi_ref exp(r / beta) / Z: the reward's differences are
met exactly, where the sigmoid of DPO only sees which of the two is better and never has enough
margin. With r = log pi_ref the optimum is proportional to pi_ref^(1 + 1/beta).

A preference's ``margin`` is r(chosen) - r(rejected); which of the two is called chosen changes
nothing. Log-probabilities are summed over the response, its end token included, in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from common.learners.dpo import DPOTrainerWithAnchor, Preference


def squared_margin(log_ratio_gap_B: Tensor, margin_B: Tensor, beta: float) -> Tensor:
    """The mean loss over pairs, from log pi/pi_ref(y) - log pi/pi_ref(y') and r(y) - r(y')."""
    return ((beta * log_ratio_gap_B - margin_B) ** 2).mean()


@dataclass(frozen=True)
class SquaredMargin(Preference):
    """Learn the margins of a round's preferences; the fields are those of :class:`Preference`.

    The loss times ``dpo_weight``, plus ``nll_weight`` times the anchor on the chosen, which the
    paper does not have. ``loss`` is in the reward's unit squared.
    """

    def kind(self) -> type[DPOTrainerWithAnchor]:
        return SquaredMarginTrainer


class SquaredMarginTrainer(DPOTrainerWithAnchor):
    """As TRL's DPO trains, with another loss on pairs."""

    data_collator: Any

    def __init__(self, *, train_dataset: Dataset, **kw: Any) -> None:
        super().__init__(train_dataset=train_dataset, **kw)
        collate = self.data_collator

        def with_margins(rows: list[dict[str, Any]]) -> dict[str, Any]:
            return {**collate(rows), "margin": torch.tensor([row["margin"] for row in rows])}

        self.data_collator = with_margins

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        self.margin_B = inputs.pop("margin")
        return super()._compute_loss(model, inputs, return_outputs)

    def of_pairs(self, loss: Any, logps: tuple[Tensor, Tensor], inputs: Any) -> Any:  # noqa: ARG002
        chosen_B = logps[0] - inputs["ref_chosen_logps"]
        rejected_B = logps[1] - inputs["ref_rejected_logps"]
        weight = self.loss_weights[0]
        return weight * squared_margin(chosen_B - rejected_B, self.margin_B, self.beta)
