"""Pre-training: an encoder from nothing or an existing one, a corpus, an objective.

The loop is transformers' own Trainer: several devices, half precision and continuing come with it.
A training that was stopped goes on with the same command, and ends where it would have ended.

    upspiral text pretrain train --objective rts --corpus system --out encoder
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.learners.data import last_checkpoint, quiet
from text.pretraining import clusters, models, sentences, sources, tokens
from text.pretraining.documents import Corpus, Progress
from text.pretraining.learn import (
    DetectionObjective,
    ElectraObjective,
    Objective,
    SentenceObjective,
    VocabularyObjective,
)
from text.pretraining.recipes import PretrainConfig
from text.pretraining.sources import CorpusConfig
from text.pretraining.tokens import Vocabulary
from text.pretraining.trainer import make_trainer

CONFIG_FILE = "pretraining.json"


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


def finished(folder: Path, file: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``file`` of ``folder`` says of a training that is done; None where it is not.

    Raises:
        UserError: the folder holds one with other settings.
    """
    for path in (folder / file, folder / "work" / file):
        try:
            held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            known = held["settings"]
        except FileNotFoundError:
            continue
        except (ValueError, KeyError) as error:
            raise UserError(f"{str(path)!r} is damaged", "delete it, run again") from error
        for name, value in settings.items():
            if known.get(name, value) != value:
                raise UserError(
                    f"{str(folder)!r} holds a training with {name}={known[name]}",
                    "give another --out, or the same settings",
                )
        if path.parent == folder:
            return held
    return None


def pretrain(
    config: PretrainConfig, folder: Path, progress: Progress, callbacks: Sequence[Any] = ()
) -> Pretrained:
    """Train by ``config`` into ``folder``, going on where an earlier call stopped.

    ``callbacks`` are transformers', to look at a training while it runs.

    Raises:
        UserError: the folder holds another training; no corpus, encoder or vocabulary.
    """
    settings = asdict(config)
    before = finished(folder, CONFIG_FILE, settings)
    if before is not None:
        return Pretrained(folder, before["curve"], before["dev"])
    corpus = sources.build(CorpusConfig(config.corpus, config.limit), progress)
    work = folder / "work"
    new = not work.exists()
    work.mkdir(parents=True, exist_ok=True)
    (work / CONFIG_FILE).write_text(json.dumps({"settings": settings}), encoding="utf-8")
    try:
        tokenizer, objective, data, collate = setup(config, corpus, folder, progress)
    except UserError:
        if new:  # nothing was begun, and other settings will mend it
            shutil.rmtree(work)
        raise
    trainer = make_trainer(
        config, objective, data, collate, work / "checkpoints", progress, callbacks
    )
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
        # Last: with it the training is done.
        (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
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
