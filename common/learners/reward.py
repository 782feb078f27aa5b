"""A reward model: a transformer with one output, trained on preferences, used as a judge.

    loss = -log sigmoid(r(prompt, chosen) - r(prompt, rejected))          (Bradley-Terry)

The output is read at the last token. It starts at zero everywhere, so that the first loss is
ln 2 and the first gradient is the head's alone. The loss, optimiser and loop are TRL's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.modeling_outputs import SequenceClassifierOutput
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from common.errors import UserError
from common.learners import data
from common.policies.local import HFPolicy
from common.policies.packing import last_scores
from common.policies.weights import digest, no_bars
from common.records import Candidate, Preference, Task, identity
from common.stages import Context


@dataclass(frozen=True)
class RewardTraining:
    """How a reward model is fitted. ``steps`` overrides ``epochs``."""

    learning_rate: float = 1e-5
    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 16
    grad_accum: int = 1
    max_length: int = 1024
    warmup: float = 0.1
    checkpoint_every: int = 100


class RewardModel:
    """A transformers sequence classifier with one label, and what turns text into its tokens.

    It reads prompts without the label that the policy may speak under: an answer is as good as it
    is whatever was asked of the policy, and the label may be newer than the reward model.
    """

    def __init__(
        self, model: Any, tokens: HFPolicy, training: RewardTraining | None = None
    ) -> None:
        if model.config.num_labels != 1:
            raise UserError(
                f"a reward model has one output, this has {model.config.num_labels}",
                "load the classifier with num_labels=1",
            )
        self.model = model.to(tokens.device).eval()
        self.model.config.get_text_config().pad_token_id = tokens.tokenizer.pad_token_id
        self.tokens = tokens
        self.training = training or RewardTraining()

    @classmethod
    def from_policy(cls, policy: HFPolicy, training: RewardTraining | None = None) -> RewardModel:
        """The policy's transformer (a copy, without its adapter) under a head of zeros."""
        from transformers import AutoModelForSequenceClassification

        causal = policy.model.get_base_model() if policy.has_adapter else policy.model
        config = type(causal.config).from_dict({**causal.config.to_dict(), "num_labels": 1})
        model = AutoModelForSequenceClassification.from_config(config, dtype=causal.dtype)
        body = {
            name.replace(".base_layer", ""): tensor
            for name, tensor in causal.base_model.state_dict().items()
            if "lora_" not in name
        }
        model.base_model.load_state_dict(body)
        for name, parameter in model.named_parameters():
            if not name.startswith(model.base_model_prefix + "."):
                torch.nn.init.zeros_(parameter)
        return cls(model, policy, training)

    @classmethod
    def load(
        cls, folder: str | Path, tokens: HFPolicy, training: RewardTraining | None = None
    ) -> RewardModel:
        """A classifier that :meth:`save` or transformers wrote, or a hub name."""
        from transformers import AutoModelForSequenceClassification

        try:
            model = AutoModelForSequenceClassification.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot load the reward model {folder!s} ({str(error).splitlines()[0]})",
                "give a folder that holds a sequence classifier",
            ) from error
        return cls(model, tokens, training)

    def fingerprint(self) -> str:
        """A hash of the weights."""
        return digest(self.model.state_dict())

    def save(self, folder: Path) -> None:
        with no_bars():
            self.model.save_pretrained(folder)

    def restore(self, folder: Path) -> None:
        """Take the weights that :meth:`save` wrote."""
        with no_bars():
            saved = RewardModel.load(folder, self.tokens)
        self.model.load_state_dict(saved.model.state_dict())

    def fit(self, preferences: Sequence[Preference], ctx: Context) -> Mapping[str, float]:
        """Train on ``preferences``; nothing is done when there are none.

        Returns ``loss``, ``reward_accuracy`` and ``reward_margin`` of the last tenth of the
        steps, ``loss_first`` of the first, ``pairs``, ``steps`` and ``tokens``.
        """
        how = self.training
        with self.tokens.conditioned(""):
            encoded = data.preference_rows(self.tokens, preferences, how.max_length)
        rows = [
            {
                "chosen_ids": row["prompt_ids"] + row["chosen_ids"],
                "rejected_ids": row["prompt_ids"] + row["rejected_ids"],
            }
            for row in encoded
        ]
        if not rows:
            return {"pairs": 0.0, "steps": 0.0}
        weights = [p.detach().double().sum().item() for p in self.model.parameters()]
        name = identity(dataclasses.asdict(how), [p.id for p in preferences], weights)
        folder = ctx.workdir / f"reward-{name}"
        options = dataclasses.asdict(how)
        del options["max_length"]
        with data.quiet():
            trainer = ColumnsRewardTrainer(
                model=self.model,
                args=RewardConfig(
                    **data.arguments(ctx, folder, device=self.model.device, **options)
                ),
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokens.tokenizer,
                callbacks=[data.Report(ctx, "reward")],
            )
            try:
                logs = data.train(trainer, folder)
            finally:
                self.model.zero_grad(set_to_none=True)
                self.model.eval()
        figures = data.summary(logs, {"accuracy": "reward_accuracy", "margin": "reward_margin"})
        lengths = [len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows]
        return figures | {"pairs": float(len(rows)), "tokens": data.tokens_seen(lengths, how)}

    @torch.inference_mode()
    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The reward of each completion; only differences on one prompt mean something."""
        tokens, sequences = self.tokens, []
        with tokens.conditioned(""):
            for prompt, completion in zip(prompts, completions, strict=True):
                ids = tokens.encode_prompt(prompt) + tokens.encode_completion(completion)
                sequences.append(ids[: self.training.max_length])
        order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
        rewards = [0.0] * len(sequences)
        pad = self.tokens.tokenizer.pad_token_id
        for start in range(0, len(order), self.training.batch_size):
            batch = order[start : start + self.training.batch_size]
            longest = len(sequences[batch[0]])
            ids_BT = torch.full((len(batch), longest), pad)
            mask_BT = torch.zeros_like(ids_BT)
            for row, index in enumerate(batch):
                ids_BT[row, : len(sequences[index])] = torch.tensor(sequences[index])
                mask_BT[row, : len(sequences[index])] = 1
            device = self.model.device
            scores_B1 = last_scores(self.model, ids_BT.to(device), mask_BT.bool().to(device))
            for index, reward in zip(batch, scores_B1[:, 0].tolist(), strict=True):
                rewards[index] = reward
        return rewards

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        """The reward of each candidate, as ``reward``."""
        prompts = [tasks[candidate.task].prompt for candidate in candidates]
        rewards = self.score(prompts, [candidate.output for candidate in candidates])
        return [{"reward": reward} for reward in rewards]


class ColumnsRewardTrainer(data.Plumbing, RewardTrainer):  # type: ignore[misc]
    """TRL's reward trainer on finished columns."""

    packed = True

    def __init__(self, *, train_dataset: Dataset, **kw: Any) -> None:
        self.lengths = [
            max(len(chosen), len(rejected))
            for chosen, rejected in zip(
                train_dataset["chosen_ids"], train_dataset["rejected_ids"], strict=True
            )
        ]
        super().__init__(train_dataset=train_dataset, **kw)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kw: Any) -> Any:
        def read(input_ids: Any, attention_mask: Any, **_: Any) -> SequenceClassifierOutput:
            return SequenceClassifierOutput(
                logits=last_scores(model, input_ids, attention_mask.bool())
            )

        return super().compute_loss(read, inputs, *args, **kw)
