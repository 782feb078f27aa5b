"""Supervised fine-tuning on demonstrations: the mean over response tokens of -log p, weighted.

The loss, optimiser and loop are TRL's; a demonstration's weight multiplies its tokens' loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from common.distributed import sharded
from common.errors import UserError
from common.learners import data
from common.learners.dpo import release
from common.policies.local import HFPolicy
from common.policies.packing import fused
from common.records import Lessons, identity
from common.stages import Context


@dataclass(frozen=True)
class SFT:
    """Learn from the demonstrations of a round.

    The fields mean what they do in :class:`common.learners.dpo.Preference`. ``online`` makes the
    rounds one training: the optimiser's moments are part of the policy's state and go on where the
    last kept round left them, the rate stays constant, and only the first round warms up.
    """

    learning_rate: float = 1e-5
    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 16
    grad_accum: int = 1
    lora: int | None = None
    max_length: int = 1024
    warmup: float = 0.1
    checkpoint_every: int = 100
    online: bool = False

    def learn(self, policy: HFPolicy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """Train on ``lessons.demonstrations``; nothing is done when there are none.

        Returns ``loss`` (nats a token, weighted; the last tenth of the steps), ``loss_first``,
        ``token_accuracy``, ``demonstrations``, ``steps`` and ``tokens``.
        """
        if self.online and sharded():
            raise UserError(
                "with FSDP the optimiser does not go on from round to round",
                "use the configuration for DDP, or one process",
            )
        rows = data.demonstration_rows(policy, lessons.demonstrations, self.max_length)
        if not rows:
            return {"demonstrations": 0.0, "steps": 0.0}
        name = identity(
            dataclasses.asdict(self), [d.id for d in lessons.demonstrations], policy.fingerprint()
        )
        folder = ctx.workdir / f"sft-{name}"
        with data.quiet():
            trainer = self.trainer(policy, rows, ctx, folder)
            try:
                logs = data.train(trainer, folder, policy)
                policy.moments = _moments(trainer.optimizer) if self.online else None
            finally:
                release(policy)
        figures = data.summary(logs, {"mean_token_accuracy": "token_accuracy"})
        lengths = [len(row["input_ids"]) for row in rows]
        tokens = data.tokens_seen(lengths, self)
        return figures | {"demonstrations": float(len(rows)), "tokens": tokens}

    def trainer(
        self, policy: HFPolicy, rows: list[dict[str, Any]], ctx: Context, folder: Any
    ) -> WeightedSFTTrainer:
        """The trainer over ``rows`` of tokens, labels and weights."""
        if self.lora and not policy.has_adapter:
            torch.manual_seed(ctx.seed_for("adapter") % 2**63)
            policy.add_adapter(data.lora_config(self.lora))
        config = SFTConfig(
            **data.arguments(
                ctx,
                folder,
                device=policy.device,
                learning_rate=self.learning_rate,
                epochs=self.epochs,
                steps=self.steps,
                batch_size=self.batch_size,
                grad_accum=self.grad_accum,
                warmup=0.0 if self.online and policy.moments else self.warmup,
                checkpoint_every=self.checkpoint_every,
                schedule="constant_with_warmup" if self.online else "cosine",
            )
        )
        collate = DataCollatorForLanguageModeling(pad_token_id=policy.tokenizer.pad_token_id)

        def with_weights(batch: list[dict[str, Any]]) -> dict[str, Any]:
            weight = torch.tensor([row["weight"] for row in batch])
            return {**collate(batch), "weight": weight}

        return WeightedSFTTrainer(
            moments=policy.moments if self.online else None,
            model=data.model_of(policy),
            args=config,
            train_dataset=Dataset.from_list(rows),
            data_collator=with_weights,
            processing_class=policy.tokenizer,
            callbacks=[data.Report(ctx, "sft")],
        )


class WeightedSFTTrainer(data.Plumbing, SFTTrainer):  # type: ignore[misc]
    """TRL's SFT on finished columns, with a weight for each row, from ``moments`` if there are."""

    packed = True

    def __init__(
        self, *, train_dataset: Dataset, moments: Mapping[int, Any] | None = None, **kw: Any
    ) -> None:
        self.lengths = [len(ids) for ids in train_dataset["input_ids"]]
        self.moments = moments
        super().__init__(train_dataset=train_dataset, **kw)

    def create_optimizer(self, *args: Any, **kw: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kw)
        if self.moments:
            optimizer.load_state_dict({**optimizer.state_dict(), "state": self.moments})
        return optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weight_B = inputs.pop("weight")

        def forward(**kw: Any) -> Any:
            out = fused(model, self.bare(), kw)
            if out.get("log_probs") is not None:
                out = SimpleNamespace(**{**out, "log_probs": out.log_probs * weight_B[:, None]})
            return out

        loss: Any = super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)
        return loss


def _moments(optimizer: Any) -> dict[int, Any]:
    """The optimiser's state by number of its parameter, copied to the CPU."""
    return {
        number: {
            name: value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value
            for name, value in state.items()
        }
        for number, state in optimizer.state_dict()["state"].items()
    }
