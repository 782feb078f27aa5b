"""Direct preference optimisation (arXiv 2305.18290) with a likelihood anchor (arXiv 2404.19733).

    loss = dpo_weight * -log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected))
         + nll_weight * -log p(chosen) / |chosen|

Log-ratios are policy over reference, summed over the response tokens, end token included, in
nats. The second term keeps the chosen responses likely while the margin grows: without it DPO
may lower both. It is the mean over pairs of the per-token mean over the chosen response; TRL's
own ``sft`` term pools the tokens of a micro-batch, so that long responses count more and the
value depends on the batch. The loss of DPO, the optimiser and the loop are TRL's.

The reference's log-probabilities are computed once, before training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from common.errors import UserError
from common.learners import data
from common.policies.local import HFPolicy
from common.policies.packing import fused
from common.records import Lessons, identity
from common.stages import Context


@dataclass(frozen=True)
class Preference:
    """Learn from the preferences of a round.

    ``reference`` is what the run started from, or the policy as this round found it
    (``previous``). ``steps`` overrides ``epochs``. ``lora`` is an adapter's rank: the adapter is
    added at the first round and trained on. ``warmup`` is a share of the steps when below 1.
    """

    beta: float = 0.1
    nll_weight: float = 0.0
    dpo_weight: float = 1.0
    learning_rate: float = 5e-6
    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 16
    grad_accum: int = 1
    lora: int | None = None
    max_length: int = 1024
    warmup: float = 0.1
    reference: Literal["start", "previous"] = "start"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.beta <= 0 or min(self.nll_weight, self.dpo_weight) < 0:
            raise UserError("beta must be positive, weights not negative", "correct the learner")
        if self.nll_weight == self.dpo_weight == 0:
            raise UserError("both loss weights are zero", "set dpo_weight or nll_weight")

    def learn(self, policy: HFPolicy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Train on ``lessons.preferences``; nothing is done when there are none.

        Returns the figures of the last tenth of the steps: ``loss``, ``reward_accuracy`` (share of
        pairs with a positive margin), ``reward_margin``, ``reward_chosen``, ``reward_rejected``
        (beta times log-ratio), ``nll`` (nats a token of the chosen); ``loss_first`` of the first
        step; ``reward_accuracy_early`` of the second tenth; ``pairs``, ``steps`` and ``tokens``.
        """
        rows = data.preference_rows(policy, lessons.preferences, self.max_length)
        if not rows:
            return {"pairs": 0.0, "steps": 0.0}
        name = identity(
            dataclasses.asdict(self), [p.id for p in lessons.preferences], policy.fingerprint()
        )
        folder = ctx.workdir / f"dpo-{name}"
        with data.quiet():
            references = self._reference(policy, rows, ctx)
            trainer = self.trainer(policy, references, ctx, folder)
            try:
                # The reference was without, and a margin must begin at zero.
                with data.without_dropout(trainer.model):
                    logs = data.train(trainer, folder, policy)
            finally:
                release(policy)
        names = {
            "rewards/accuracies": "reward_accuracy",
            "rewards/margins": "reward_margin",
            "rewards/chosen": "reward_chosen",
            "rewards/rejected": "reward_rejected",
            "nll": "nll",
        }
        tenth = max(1, len(logs) // 10)
        early = data.summary(logs[tenth : 2 * tenth] or logs, names)["reward_accuracy"]
        figures = data.summary(logs, names)
        # Both sequences of a pair go through the model, prompt and all.
        lengths = [
            2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
            for row in rows
        ]
        tokens = data.tokens_seen(lengths, self)
        return figures | {
            "reward_accuracy_early": early,
            "pairs": float(len(rows)),
            "tokens": tokens,
        }

    def _reference(
        self, policy: HFPolicy, rows: list[dict[str, Any]], ctx: Context
    ) -> list[dict[str, Any]]:
        ctx.progress(0, 1, "reference log-probabilities")
        prompts = [row["prompt_ids"] for row in rows] * 2
        completions = [row[side] for side in ("chosen_ids", "rejected_ids") for row in rows]
        if self.reference == "start":
            with policy.at_start():
                sums = policy.logprobs_of_ids(prompts, completions).sums
        else:
            sums = policy.logprobs_of_ids(prompts, completions).sums
        ctx.progress(1, 1, "reference log-probabilities")
        return [
            {**row, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
            for row, chosen, rejected in zip(
                rows, sums[: len(rows)], sums[len(rows) :], strict=True
            )
        ]

    def kind(self) -> type[DPOTrainerWithAnchor]:
        """The trainer's class, for learners with another loss on pairs."""
        return DPOTrainerWithAnchor

    def trainer(
        self, policy: HFPolicy, rows: list[dict[str, Any]], ctx: Context, folder: Any
    ) -> DPOTrainerWithAnchor:
        """The trainer over ``rows`` of tokens and reference log-probabilities."""
        if self.lora and not policy.has_adapter:
            torch.manual_seed(ctx.seed_for("adapter") % 2**63)
            policy.add_adapter(data.lora_config(self.lora))
        config = DPOConfig(
            **data.arguments(
                ctx,
                folder,
                device=policy.device,
                learning_rate=self.learning_rate,
                epochs=self.epochs,
                steps=self.steps,
                batch_size=self.batch_size,
                grad_accum=self.grad_accum,
                warmup=self.warmup,
                checkpoint_every=self.checkpoint_every,
            ),
            beta=self.beta,
            loss_type=["sigmoid"],
            loss_weights=[self.dpo_weight],
            precompute_ref_log_probs=True,
        )
        trainer = self.kind()(
            nll_weight=self.nll_weight,
            model=data.model_of(policy),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=policy.tokenizer,
            callbacks=[data.Report(ctx, "dpo")],
        )
        if policy.has_adapter and "ref" in trainer.model.peft_config:
            # TRL's copy of the adapter as a reference, which the columns above make needless. Left
            # in place it would be saved, and a checkpoint would load it instead of the policy's.
            trainer.model.delete_adapter("ref")
        return trainer


def release(policy: HFPolicy) -> None:
    """Undo what a trainer left on the model: its forward is replaced anew by every trainer."""
    model = policy.model.get_base_model() if policy.has_adapter else policy.model
    vars(model).pop("forward", None)
    policy.model.zero_grad(set_to_none=True)
    policy.model.eval()


class DPOTrainerWithAnchor(data.Plumbing, DPOTrainer):  # type: ignore[misc]
    """TRL's DPO on finished columns, plus the length-normalised likelihood of the chosen."""

    packed = True
    _fsdp = _made = False

    def __init__(self, *, nll_weight: float, train_dataset: Dataset, **kw: Any) -> None:
        self.nll_weight = nll_weight
        self.lengths = [
            len(prompt) + max(len(chosen), len(rejected))
            for prompt, chosen, rejected in zip(
                train_dataset["prompt_ids"],
                train_dataset["chosen_ids"],
                train_dataset["rejected_ids"],
                strict=True,
            )
        ]
        super().__init__(train_dataset=train_dataset, **kw)
        self._made = True

    @property
    def is_fsdp_enabled(self) -> bool:
        """False while TRL makes the trainer: with FSDP it would load a reference model anew."""
        return self._fsdp and self._made

    @is_fsdp_enabled.setter
    def is_fsdp_enabled(self, value: bool) -> None:
        self._fsdp = value

    def _precompute_ref_logps(self, dataset: Dataset, *_args: Any, **_kw: Any) -> Dataset:
        return dataset  # its columns are there

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        kept = []

        def forward(**kw: Any) -> Any:
            kept.append(fused(model, self.bare(), kw))
            return kept[-1]

        loss: Any = super()._compute_loss(forward, inputs, False)
        mask_BT = inputs["completion_mask"][:, 1:].chunk(2)[0]
        logp_BT = kept[0].log_probs[:, -mask_BT.shape[1] :].chunk(2)[0]  # zero off the response
        nll = -(logp_BT.sum(1) / mask_BT.sum(1)).mean()
        mode = "train" if model.training else "eval"
        self._metrics[mode]["nll"].append(self.accelerator.gather(nll.detach()).mean().item())
        sums = kept[0].log_probs[:, -mask_BT.shape[1] :].sum(1).chunk(2)
        loss = self.of_pairs(loss, (sums[0], sums[1]), inputs) + self.nll_weight * nll
        return (loss, kept[0]) if return_outputs else loss

    def of_pairs(self, loss: Any, logps: tuple[Tensor, Tensor], inputs: Any) -> Any:  # noqa: ARG002
        """The loss of a batch's pairs: DPO's ``loss``, for others to replace.

        ``logps`` are the summed log-probabilities of chosen and rejected, (B,) each, in nats.
        """
        return loss
