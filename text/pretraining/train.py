"""Pre-training: an encoder from nothing or an existing one, a corpus, an objective.

The loop is transformers' own Trainer: several devices, half precision and continuing come with it.
A training that was stopped goes on with the same command, and ends where it would have ended.

    upspiral text pretrain train --objective rts --corpus system --out encoder
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from common.cli import unknown
from common.errors import UserError
from common.learners.data import last_checkpoint, quiet
from common.records import identity
from text.pretraining import clusters, models, objectives, sentences, sources, tokens
from text.pretraining.documents import Corpus, Progress
from text.pretraining.learn import (
    DetectionObjective,
    ElectraObjective,
    Objective,
    SentenceObjective,
    VocabularyObjective,
)
from text.pretraining.sources import CorpusConfig
from text.pretraining.tokens import Vocabulary

NAMES = (*objectives.NAMES, *sentences.NAMES)
CONFIG_FILE = "pretraining.json"
STATE_FILE = "objective.pt"


@dataclass(frozen=True)
class PretrainConfig:
    """One pre-training. Defaults are of the tiny encoder; rates of the published ones are 1e-4."""

    objective: str = "rts"
    model: str = "tiny"
    """A size (tiny, mini, small, base) to begin from nothing; minilm, a folder or a hub name to
    continue."""
    corpus: str = "system"
    limit: int = 0
    """Documents that are read at most; 0 for all."""
    vocabulary: int = 8192
    """Pieces of the vocabulary that a new encoder learns first."""
    length: int = 128
    """Tokens of a block, or of a pair of sentences."""
    steps: int = 1000
    batch: int = 32
    accumulate: int = 1
    rate: float = 5e-4
    warmup: float = 0.1
    """Share of the steps in which the rate rises; then it falls on a line."""
    decay: float = 0.01
    clip: float = 1.0
    half: bool = False
    """bfloat16 arithmetic; for a GPU."""
    clusters: int = 100
    """How many clusters C-RTS builds."""
    clusters_file: str = ""
    """A file of clusters in their place, a line a token."""
    head: str = "IE_k"
    """Of MSPP: IE_k or AE_k."""
    selection: sentences.Selection = "same"
    """Of MSPP: same or following."""
    segment: int = 64
    """Tokens of a segment of MSPP."""
    checkpoint_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in NAMES:
            raise unknown("objective", self.objective, NAMES)
        least = {"limit": 0, "vocabulary": 100, "length": 8, "steps": 1, "batch": 1,
                 "accumulate": 1, "clusters": 2, "segment": 8, "checkpoint_every": 1}  # fmt: skip
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name}={getattr(self, name)}", f"give {minimum} or more")
        if not self.rate > 0 or not 0 <= self.warmup < 1:
            raise UserError(
                f"rate={self.rate:g}, warmup={self.warmup:g}",
                "give a rate above 0 and a warmup in [0, 1)",
            )
        if self.head not in ("IE_k", "AE_k"):
            raise unknown("head of MSPP", self.head, ("IE_k", "AE_k"))


def starter() -> PretrainConfig:
    """A tiny encoder in minutes of one core."""
    return PretrainConfig()


def small() -> PretrainConfig:
    """The small encoder of the paper (12 layers of 256); for a GPU."""
    return PretrainConfig(model="small", corpus="wikipedia", vocabulary=30_522, length=512,
                          steps=200_000, rate=5e-4, warmup=0.05, half=True)  # fmt: skip


def base() -> PretrainConfig:
    """The paper's: BERT-base, a million steps of 256 blocks of 512 tokens, on eight GPUs."""
    return PretrainConfig(model="base", corpus="wikipedia", vocabulary=30_522, length=512,
                          steps=1_000_000, batch=32, rate=1e-4, warmup=0.01, half=True)  # fmt: skip


def continued() -> PretrainConfig:
    """Sentence objectives on an existing encoder, as published for MSPP: 4,096 a step."""
    return PretrainConfig(objective="mspp", model="FacebookAI/roberta-base", corpus="wikipedia",
                          length=128, steps=100_000, batch=64, accumulate=8, rate=1e-4, warmup=0.1,
                          half=True)  # fmt: skip


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "starter": starter,
    "small": small,
    "base": base,
    "continued": continued,
}


class Pretrained:
    """What a pre-training gave: the folder, its curve, and figures on documents held out."""

    def __init__(self, folder: Path, curve: list[dict[str, float]], dev: Mapping[str, float]):
        self.folder, self.curve, self.dev = folder, curve, dev


def setup(
    config: PretrainConfig, corpus: Corpus, folder: Path, progress: Progress
) -> tuple[Any, Objective, Any, Any]:
    """The tokenizer, the objective with its model, the training data, and how it is collated."""
    tokenizer = vocabulary(config, corpus, progress)
    words = Vocabulary.of(tokenizer)
    name = config.objective
    kind: models.Kind = "detection" if name in ("rts", "c-rts", "electra") else "vocabulary"
    model = models.start(config.model, tokenizer, kind, config.seed)
    made: Objective
    if name in sentences.NAMES:
        k = sentences.WRONG + 1
        longest = (k + 1) * config.segment if name == "mspp" else config.length
        models.check_length(model, tokenizer, longest)
        made = SentenceObjective(model, words, config.head if name == "mspp" else None)
        many = config.steps * config.batch * config.accumulate * _processes()
        data: Any = sentences.SentenceTask(
            corpus,
            name,
            many,
            selection=config.selection,
            seed=config.seed,
        )
        collate: Any = sentences.SentenceCollator(
            tokenizer, name, config.length, config.segment, made.types
        )
        return tokenizer, made, data, collate
    models.check_length(model, tokenizer, config.length)
    data = tokens.pack(corpus, tokenizer, config.length, "train", progress)
    if name in ("mlm", "slm"):
        made = VocabularyObjective(model, words, name)
    elif name == "electra":
        made = ElectraObjective(model, words)
    else:
        own_V = None
        if name == "c-rts":
            own_V = clustered(config, model, data, words, folder)
        made = DetectionObjective(model, words, own_V)
    return tokenizer, made, data, stack


def stack(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Full blocks as one tensor."""
    return {"input_ids": tokens.padded([row["input_ids"] for row in rows], 0)}


def vocabulary(config: PretrainConfig, corpus: Corpus, progress: Progress) -> Any:
    """The tokenizer: that of the existing encoder, or one learnt from the corpus and kept by it."""
    from transformers import AutoTokenizer

    if config.model not in models.SIZES:
        return models.load_tokenizer(config.model)
    folder = corpus.folder / f"vocabulary-{config.vocabulary}"
    if not (folder / "tokenizer.json").exists():
        progress(0, 1, f"learning {config.vocabulary} word pieces")
        made = tokens.train_tokenizer(tokens.paragraphs(corpus), config.vocabulary)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        made.save_pretrained(partial)
        with contextlib.suppress(OSError):  # another process was first
            partial.rename(folder)
        progress(1, 1, f"learning {config.vocabulary} word pieces")
    return AutoTokenizer.from_pretrained(folder)


def clustered(
    config: PretrainConfig, model: Any, data: tokens.Blocks, words: Vocabulary, folder: Path
) -> Tensor:
    """The clusters of C-RTS, kept beside the encoder as ``clusters.txt``.

    They are of the embeddings of an existing encoder, or of what stands near each token.
    """
    path = folder / "clusters.txt"
    if config.clusters_file:
        own_V = clusters.load(Path(config.clusters_file).expanduser(), words)
    elif path.exists():
        return clusters.load(path, words)
    elif config.model in models.SIZES:
        near = torch.from_numpy(clusters.embeddings(data, words, seed=config.seed))
        own_V = clusters.cluster(near, words, config.clusters, config.seed)
    else:
        table = model.get_input_embeddings().weight.detach().cpu()[: words.size]
        unit = torch.nn.functional.normalize(table.float(), dim=1)
        own_V = clusters.cluster(unit, words, config.clusters, config.seed)
    clusters.save(own_V, path)
    return own_V


def pretrain(config: PretrainConfig, folder: Path, progress: Progress) -> Pretrained:
    """Train by ``config`` into ``folder``, going on where an earlier call stopped.

    Raises:
        UserError: the folder holds another training; no corpus, encoder or vocabulary.
    """
    settings = asdict(config)
    done = folder / CONFIG_FILE
    for path in (done, folder / "work" / CONFIG_FILE):
        if path.exists():
            held = json.loads(path.read_text(encoding="utf-8"))
            other = [k for k, v in settings.items() if held["settings"].get(k, v) != v]
            if other:
                raise UserError(
                    f"{str(folder)!r} holds a training with {other[0]}="
                    f"{held['settings'][other[0]]}",
                    "give another --out, or the same settings",
                )
            if path == done:
                return Pretrained(folder, held["curve"], held["dev"])
    corpus = sources.build(CorpusConfig(config.corpus, config.limit), progress)
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    (work / CONFIG_FILE).write_text(json.dumps({"settings": settings}), encoding="utf-8")
    tokenizer, objective, data, collate = setup(config, corpus, folder, progress)
    trainer = make_trainer(config, objective, data, collate, work / "checkpoints", progress)
    with quiet():
        trainer.train(resume_from_checkpoint=last_checkpoint(work / "checkpoints"))
    curve = [
        {k: float(v) for k, v in row.items() if k in (*FIGURES, "step")}
        for row in trainer.state.log_history
        if "loss" in row
    ]
    dev = held_out(config, objective, corpus, tokenizer, collate, progress)
    if trainer.is_world_process_zero():
        models.save(objective.model, tokenizer, folder)
        text = json.dumps({"settings": settings, "curve": curve, "dev": dev}, indent=1)
        done.write_text(text + "\n", encoding="utf-8")  # last: with it the training is done
        shutil.rmtree(work)
    return Pretrained(folder, curve, dev)


FIGURES = ("loss", "cross_entropy", "accuracy", "generator_loss", "mlm_loss")


@torch.no_grad()
def held_out(
    config: PretrainConfig,
    objective: Objective,
    corpus: Corpus,
    tokenizer: Any,
    collate: Any,
    progress: Progress,
    batches: int = 20,
) -> dict[str, float]:
    """The figures on dev documents, with the same draws for whatever model; empty without any."""
    if len(corpus.numbers("dev")) < 2:
        return {}
    if config.objective in sentences.NAMES:
        data: Any = sentences.SentenceTask(
            corpus, config.objective, batches * config.batch, split="dev",
            selection=config.selection, seed=1,
        )  # fmt: skip
    else:
        try:
            data = tokens.pack(corpus, tokenizer, config.length, "dev", progress)
        except UserError:  # less than a block
            return {}
    device = objective.model.device
    objective.eval()
    rows: list[Mapping[str, Tensor]] = []
    for number in range(min(batches, max(1, len(data) // config.batch))):
        first = number * config.batch
        batch = collate([data[i] for i in range(first, min(first + config.batch, len(data)))])
        inputs = {name: tensor.to(device) for name, tensor in batch.items()}
        generator = torch.Generator(device).manual_seed(number)
        rows.append(objective(**inputs, generator=generator))
    return {name: float(sum(float(row[name]) for row in rows) / len(rows)) for name in rows[0]}


def _processes() -> int:
    from common.distributed import world

    return world()


def make_trainer(
    config: PretrainConfig,
    objective: Objective,
    data: Any,
    collate: Any,
    checkpoints: Path,
    progress: Progress,
    extra: list[TrainerCallback] | None = None,
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
        callbacks=[Told(progress, config.objective), *(extra or [])],
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
