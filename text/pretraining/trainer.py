"""transformers' Trainer over an objective: draws seeded by the step, figures in the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from common.errors import UserError
from common.records import identity
from text.pretraining.documents import Progress
from text.pretraining.learn import Objective
from text.pretraining.recipes import PretrainConfig

STATE_FILE = "objective.pt"


def make_trainer(
    config: PretrainConfig,
    objective: Objective,
    data: Any,
    collate: Any,
    checkpoints: Path,
    progress: Progress,
    callbacks: Sequence[Any] = (),
) -> ObjectiveTrainer:
    """transformers' Trainer over an objective."""
    every = max(1, config.steps // 50)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.rate,
        warmup_steps=math.ceil(config.warmup * config.steps),
        lr_scheduler_type="linear",
        weight_decay=config.decay,
        max_grad_norm=config.clip,
        bf16=config.half,
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=every,
        logging_nan_inf_filter=False,
        save_steps=config.checkpoint_every,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )
    trainer = ObjectiveTrainer(
        model=objective,
        args=arguments,
        train_dataset=data,
        data_collator=collate,
        callbacks=[Told(progress, config.objective), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Told(TrainerCallback):  # type: ignore[misc]
    """Progress of a training, and an end where its loss is no number."""

    def __init__(self, progress: Progress, what: str) -> None:
        self.progress, self.what = progress, what

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kw: Any) -> None:  # noqa: ARG002
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is not finite at step {state.global_step}",
                "lower the rate (--set rate=...), then start again",
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:  # noqa: ARG002
        if state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps, f"{self.what} steps")


class ObjectiveTrainer(Trainer):  # type: ignore[misc]
    """Trains an :class:`Objective`: draws seeded by the step, its figures in the log."""

    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        # What is accumulated is divided here, since no model is told how much there is.
        self.model_accepts_loss_kwargs = False
        self._micro: tuple[int, int] = (-1, 0)
        self._sums: dict[str, Tensor] = {}
        self._seen = 0

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Any:
        step, part = self.state.global_step, 0
        if self._micro[0] == step:
            part = self._micro[1] + 1
        self._micro = (step, part)
        device = inputs["input_ids"].device
        seed = int(identity(self.args.seed, step, part, self.args.process_index), 16) >> 17
        figures = model(**inputs, generator=torch.Generator(device).manual_seed(seed))
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=device)) + value.detach()
        self._seen += 1
        loss = figures["loss"]
        return (loss, figures) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kw: Any) -> None:
        if "loss" in logs and self._seen:
            for name, total in self._sums.items():
                if name != "loss":
                    logs[name] = float(total) / self._seen
            self._sums, self._seen = {}, 0
        super().log(logs, *args, **kw)

    # Objectives share tensors between their parts, which safetensors would not write.
    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state_dict or self.model.state_dict(), folder / STATE_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        path = Path(resume_from_checkpoint) / STATE_FILE
        saved = torch.load(path, map_location="cpu", weights_only=True)
        (model or self.model).load_state_dict(saved)
