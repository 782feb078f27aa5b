"""What the learners share: tokens of lessons, batches of like lengths, checkpoints, quiet trainers.

TRL's trainers prepare text themselves. Here the policy does, so that training sees the very
tokens that sampling and scoring see; the trainers get finished columns.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback

from common.distributed import sharded, world, zero
from common.errors import UserError
from common.policies.packing import bare, packable
from common.policies.weights import no_bars
from common.records import Demonstration, Preference
from common.stages import Context

if TYPE_CHECKING:
    from common.policies.local import HFPolicy


class Tokens(Protocol):
    """The part of a policy that turns text into tokens."""

    def encode_prompt(self, prompt: str) -> list[int]: ...

    def encode_completion(self, completion: str) -> list[int]: ...


def preference_rows(
    tokens: Tokens, preferences: Sequence[Preference], max_length: int
) -> list[dict[str, Any]]:
    """``prompt_ids``, ``chosen_ids``, ``rejected_ids`` and ``margin`` of each pair, in order.

    Completions are cut where prompt and completion pass ``max_length``. A pair of which the cut
    leaves nothing, or twice the same, teaches nothing and is left out.
    """
    rows: list[dict[str, Any]] = []
    for pair in preferences:
        prompt = tokens.encode_prompt(pair.prompt)
        room = max(0, max_length - len(prompt))
        chosen = tokens.encode_completion(pair.chosen)[:room]
        rejected = tokens.encode_completion(pair.rejected)[:room]
        if prompt and chosen != rejected and chosen and rejected:
            ids = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            rows.append({**ids, "margin": pair.margin})
    return rows


def demonstration_rows(
    tokens: Tokens, demonstrations: Sequence[Demonstration], max_length: int
) -> list[dict[str, Any]]:
    """``input_ids``, ``labels`` (-100 on the prompt) and ``weight`` of each demonstration."""
    rows: list[dict[str, Any]] = []
    for one in demonstrations:
        prompt = tokens.encode_prompt(one.prompt)
        completion = tokens.encode_completion(one.completion)[: max(0, max_length - len(prompt))]
        if prompt and completion:
            ids = prompt + completion
            labels = [-100] * len(prompt) + completion
            rows.append({"input_ids": ids, "labels": labels, "weight": one.weight})
    return rows


class Shuffled(Sampler[int]):
    """A shuffle of ``count`` rows.

    The order is a function of seed and epoch alone, so that a run continued from a checkpoint
    sees the batches that it would have seen.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from self._order(torch.Generator().manual_seed(self.seed + self.epoch))

    def _order(self, generator: torch.Generator) -> list[int]:
        order: list[int] = torch.randperm(self.count, generator=generator).tolist()
        return order


class ByLength(Shuffled):
    """A shuffle that puts sequences of similar length into one batch.

    That saves padding and costs variety: what is said of one text is alike in length, too.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self.lengths, self.batch_size = lengths, batch_size

    def _order(self, generator: torch.Generator) -> list[int]:
        order = super()._order(generator)
        pool = 50 * self.batch_size  # sorted within a pool: alike, and still another mix each time
        batches = []
        for start in range(0, len(order), pool):
            group = sorted(order[start : start + pool], key=lambda i: -self.lengths[i])
            batches += [
                group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)
            ]
        # Only the last batch may be short, or the trainer would cut batches elsewhere.
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        mixed = [full[i] for i in torch.randperm(len(full), generator=generator).tolist()]
        return [i for batch in mixed + short for i in batch]


class Report(TrainerCallback):  # type: ignore[misc]
    """Hands the trainer's figures to the run's tracker and progress."""

    def __init__(self, ctx: Context, what: str) -> None:
        self.ctx, self.what = ctx, what

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kw: Any) -> None:  # noqa: ARG002
        values = {
            f"{self.what}/{name}": float(value)
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and name not in ("epoch", "total_flos")
        }
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            # Before a checkpoint of this step is written: the last one is of sound weights.
            raise UserError(
                f"the {self.what} loss is not finite at step {state.global_step}",
                "lower learning_rate, then start again",
            )
        self.ctx.tracker.log(values, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:  # noqa: ARG002
        self.ctx.progress(state.global_step, state.max_steps, f"{self.what} steps")


class Plumbing:
    """Mixed into a TRL trainer: finished columns, our batches, nothing sent or written aside.

    Rows of like lengths share a batch where it is padded; those that are ``packed`` on processors
    are only shuffled.
    """

    packed = False

    lengths: Sequence[int]
    args: Any
    accelerator: Any
    model: Any

    def bare(self) -> Any:
        """The transformers model, without what distributes it and without an adapter's wrapper."""
        return bare(self.accelerator.unwrap_model(self.model))

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kw: Any) -> Any:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ARG002
        if self.packed and packable(self.bare()):
            return Shuffled(len(self.lengths), self.args.data_seed)
        return ByLength(self.lengths, self.args.per_device_train_batch_size, self.args.data_seed)

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *_args: Any, **_kw: Any) -> None:
        pass


def arguments(
    ctx: Context,
    folder: Path,
    *,
    device: torch.device,
    learning_rate: float,
    epochs: float,
    steps: int | None,
    batch_size: int,
    grad_accum: int,
    warmup: float,
    checkpoint_every: int,
    schedule: str = "cosine",
) -> dict[str, Any]:
    """The ``TrainingArguments`` that every learner uses; ``schedule`` is the learning rate's.

    float32 (the reference log-probabilities are, and must agree with the policy's to the last
    digits), a log at each step (so that a continued run reports what an uninterrupted one does).
    """
    if min(batch_size, grad_accum, checkpoint_every) < 1 or learning_rate < 0:
        raise UserError(
            "batch_size, grad_accum and checkpoint_every must be 1 or more, learning_rate positive",
            "correct the learner's configuration",
        )
    seed = ctx.seed_for("learn", ctx.round) % 2**31
    return {
        "output_dir": str(folder),
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
        "max_steps": steps or -1,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": grad_accum,
        "warmup_steps": warmup,
        "lr_scheduler_type": schedule,
        "bf16": False,
        "activation_checkpointing": False,
        "use_cpu": device.type == "cpu",
        "seed": seed,
        "data_seed": seed,
        "report_to": [],
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        # DeepSpeed's checkpoints are in as many folders as processes, of which one is kept.
        "save_strategy": "no" if zero() else "steps",
        "save_steps": checkpoint_every,
        "save_total_limit": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "max_length": None,
    }


def model_of(policy: HFPolicy) -> Any:
    """The model to train: the policy's, or a copy of it where FSDP takes it to pieces.

    The policy's own waits on the CPU then; :func:`train` gives it what was learnt.
    """
    if not sharded():
        return policy.model
    twin = copy.deepcopy(policy.model)
    policy.model.to("cpu")
    return twin


def _give_back(policy: HFPolicy, trainer: Any, device: torch.device) -> None:
    """Load what a trainer's shards add up to into the policy; of use in the main process only."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    whole = get_model_state_dict(trainer.model, options=options)
    if whole:  # the others get it from the main process, with their next lessons
        policy.model.load_state_dict(whole)
    policy.model.to(device)


@contextlib.contextmanager
def without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """No dropout inside, in training either: layers' own, and what attention reads of its config.

    TRL's ``disable_dropout`` sets the layers to 0; an attention's rate is no layer.
    """
    rates = [
        (module, name, rate)
        for module in model.modules()
        for name in ("p" if isinstance(module, torch.nn.Dropout) else "attention_dropout",)
        if isinstance(rate := getattr(module, name, None), float) and rate > 0
    ]
    try:
        for module, name, _ in rates:
            setattr(module, name, 0.0)
        yield
    finally:
        for module, name, rate in rates:
            setattr(module, name, rate)


def train(trainer: Any, folder: Path, policy: HFPolicy | None = None) -> list[dict[str, float]]:
    """Train from the last whole checkpoint in ``folder``; the log of every step since the first.

    ``policy`` is whose model, of :func:`model_of`, the trainer has; a reward model has none.

    The folder is removed at the end. Raises :class:`UserError` when the loss is not finite.
    """
    trainer.remove_callback(PrinterCallback)
    if sharded() and policy is None:
        raise UserError("reward models do not learn in shards", "use DDP, or one process")
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    if sharded() and policy is not None:
        _give_back(policy, trainer, trainer.accelerator.device)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    shutil.rmtree(folder, ignore_errors=True)
    return logs


class Passes(Protocol):
    """How often a learner goes over its sequences."""

    @property
    def epochs(self) -> float: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def grad_accum(self) -> int: ...


def tokens_seen(lengths: Sequence[int], passes: Passes) -> float:
    """Tokens that training on rows of ``lengths`` takes, over all processes.

    By their mean where it goes by steps.
    """
    if not passes.steps:
        return sum(lengths) * passes.epochs
    rows = passes.steps * passes.batch_size * passes.grad_accum * world()
    return sum(lengths) / len(lengths) * rows


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer writes its state last."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1]))
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None


def summary(logs: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> dict[str, float]:
    """Means over the last tenth of the steps, of the figures in ``names`` (theirs to ours).

    ``loss_first`` is the loss of the first step, ``loss_last`` the mean of the last tenth;
    ``steps`` counts optimiser steps.
    """
    tail = logs[-max(1, len(logs) // 10) :]
    out = {"loss_first": float(logs[0]["loss"]), "loss": _mean(tail, "loss")}
    out["steps"] = float(len(logs))
    return out | {ours: _mean(tail, theirs) for theirs, ours in names.items()}


def _mean(logs: Sequence[Mapping[str, float]], name: str) -> float:
    return math.fsum(float(entry[name]) for entry in logs) / len(logs)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Standard output belongs to the command's answer: trainers' talk goes to standard error."""
    loggers = [logging.getLogger(name) for name in ("transformers", "trl", "accelerate", "peft")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr), no_bars():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def lora_config(rank: int) -> Any:
    """LoRA on every linear layer but the output, alpha twice the rank (arXiv 2106.09685)."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
