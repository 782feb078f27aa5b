"""Fine-tuning of an encoder by transformers' Trainer: rankers, verifiers, summarisers.

    upspiral text pretrain tune --task as2 --model encoder --out ranker

| task | learns | head | measured by |
|---|---|---|---|
| ``as2`` | which sentences answer a question | ``pair``, ``IE_k``, ``AE_k`` | MAP, MRR, P@1 |
| ``fever`` | whether sentences support a claim | ``pair``, ``IE_1``, ``AE_1`` | accuracy |
| ``summary`` | to say in a line what a text says | – | ROUGE-1, -2, -L |

Dev is measured every epoch, the best state of it is kept (MAP, accuracy, ROUGE-L), and training
ends after ``patience`` epochs without a better one. Test is measured once, when it ends. A
summariser is an existing sequence-to-sequence model, or two copies of an encoder, of which the
second also reads what the first made of the text (Rothe et al., arXiv 1907.12461).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

from common.cli import unknown
from common.errors import UserError
from common.learners.data import ByLength, last_checkpoint, quiet
from common.records import Metric, Split
from text.pretraining import as2, fever, models, sources, summaries
from text.pretraining.documents import Corpus, Progress
from text.pretraining.ranker import Ranker
from text.pretraining.ranking import evaluate
from text.pretraining.scorer import Scorer
from text.pretraining.sources import CorpusConfig
from text.pretraining.train import finished
from text.pretraining.trainer import Told

TASKS = ("as2", "fever", "summary")
HEADS = {"as2": ("pair", "IE_k", "AE_k"), "fever": ("pair", "IE_1", "AE_1"), "summary": ("pair",)}
BEST = {"as2": "map", "fever": "accuracy", "summary": "rougeL"}
FILE = "tuning.json"
SUMMARY = 32
"""Tokens of a summary at most."""


@dataclass(frozen=True)
class TuneConfig:
    """One fine-tuning. The papers' rate is 1e-5, for encoders a thousand times as large."""

    task: str = "as2"
    model: str = "minilm"
    """A folder of `upspiral text pretrain train`, minilm, or a hub name."""
    data: str = "derived"
    """derived (from the corpus), or a file or folder."""
    corpus: str = "system"
    limit: int = 0
    head: str = "pair"
    """pair; or several sentences in one pass: IE_k, AE_k for as2, IE_1, AE_1 for fever."""
    candidates: int = 5
    """Sentences in one pass, and of a claim at most."""
    segment: int = 64
    train: int = 4000
    """Questions, claims or pairs that are learnt from at most."""
    dev: int = 300
    test: int = 500
    length: int = 128
    batch: int = 32
    epochs: int = 5
    patience: int = 5
    rate: float = 3e-4
    warmup: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown("task", self.task, TASKS)
        if self.head not in HEADS[self.task]:
            raise unknown(f"head of {self.task}", self.head, HEADS[self.task])
        for name in ("candidates", "train", "dev", "test", "batch", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}", "give 1 or more")
        if self.task == "fever" and self.data == "derived":
            raise UserError("claims cannot be derived", "give FEVER's files: --data FOLDER")


class Rows(Protocol):
    """What is learnt from, tokenised when a batch is made."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Any: ...


class Work(Protocol):
    """A task with its model: what a batch is, how it is measured, how it is kept."""

    @property
    def model(self) -> Any: ...
    @property
    def rows(self) -> Rows: ...
    @property
    def lengths(self) -> Sequence[int]:
        """How long each row is, so that rows alike come into one batch."""

    def collate(self, rows: Sequence[Any]) -> dict[str, Any]: ...
    def measure(self, split: Split) -> list[Metric]: ...
    def save(self, folder: Path) -> None: ...


class Ranking:
    """Answer-sentence selection."""

    def __init__(self, config: TuneConfig, questions: Mapping[Split, Sequence[as2.Question]]):
        self.scorer = Scorer.start(
            config.model, config.head, 2, config.length, config.candidates, config.seed,
            config.segment,
        )  # fmt: skip
        self.model = self.scorer.model
        self.questions = questions
        k = config.candidates if self.scorer.joint else 1
        self.k = k
        self.rows: list[tuple[list[str], list[int]]] = []
        for q in questions["train"]:
            for start in range(0, len(q.sentences), k):
                labels = [int(r) for r in q.right[start : start + k]]
                self.rows.append(([q.text, *q.sentences[start : start + k]], labels))
        self.lengths = [sum(map(len, texts)) for texts, _ in self.rows]

    def collate(self, rows: Sequence[Any]) -> dict[str, Any]:
        labels = [labels + [-100] * (self.k - len(labels)) for _, labels in rows]
        inputs = self.scorer.inputs([texts for texts, _ in rows])
        return {**inputs, "labels": torch.tensor(labels).squeeze(1)}

    def measure(self, split: Split) -> list[Metric]:
        return evaluate(Ranker(self.scorer).groups(self.questions[split]))

    def save(self, folder: Path) -> None:
        self.scorer.save(folder)


class Verification:
    """Fact verification."""

    def __init__(self, config: TuneConfig, claims: Mapping[Split, Sequence[fever.Claim]]):
        self.scorer = Scorer.start(
            config.model, config.head, len(fever.LABELS), config.length, config.candidates,
            config.seed, config.segment,
        )  # fmt: skip
        self.model = self.scorer.model
        self.model_labels()
        self.claims = claims
        self.rows = [([c.text, *c.sentences], c.label) for c in claims["train"]]
        self.lengths = [sum(map(len, texts)) for texts, _ in self.rows]

    def model_labels(self) -> None:
        """Name the labels in the model's configuration, where it has one."""
        config = getattr(self.model, "config", None)
        if config is not None:
            config.id2label = dict(enumerate(fever.LABELS))
            config.label2id = {label: i for i, label in enumerate(fever.LABELS)}

    def collate(self, rows: Sequence[Any]) -> dict[str, Any]:
        labels = torch.tensor([label for _, label in rows])
        return {**self.scorer.inputs([texts for texts, _ in rows]), "labels": labels}

    def measure(self, split: Split) -> list[Metric]:
        claims = self.claims[split]
        said = self.scorer.scores([[c.text, *c.sentences] for c in claims]).argmax(1)
        right = {c.id: float(c.label == s) for c, s in zip(claims, said, strict=True)}
        return [Metric.of("accuracy", right)]

    def save(self, folder: Path) -> None:
        self.scorer.save(folder)


class Summarising:
    """Summaries by a sequence-to-sequence model."""

    def __init__(self, config: TuneConfig, pairs: Mapping[Split, Sequence[summaries.Pair]]):
        self.tokenizer = models.load_tokenizer(config.model)
        self.model = _writer(config.model, self.tokenizer, config.seed)
        self.pairs, self.length = pairs, config.length
        self.rows = list(pairs["train"])
        self.lengths = [min(len(pair.text), 8 * config.length) for pair in self.rows]

    def collate(self, rows: Sequence[Any]) -> dict[str, Any]:
        inputs = self._read([pair.text for pair in rows])
        said = self.tokenizer(
            text_target=[pair.summary for pair in rows], padding=True, truncation=True,
            max_length=SUMMARY, return_tensors="pt",
        )  # fmt: skip
        labels = said["input_ids"].masked_fill(said["attention_mask"] == 0, -100)
        return {**inputs, "labels": labels}

    def _read(self, texts: Sequence[str]) -> dict[str, Any]:
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt"
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    @torch.inference_mode()
    def say(self, texts: Sequence[str]) -> list[str]:
        """A summary of each text, the likeliest word at each place."""
        training = self.model.training
        self.model.eval()
        found: list[str] = []
        for start in range(0, len(texts), 32):
            inputs = self._read(texts[start : start + 32])
            inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
            ids = self.model.generate(**inputs, max_new_tokens=SUMMARY, do_sample=False)
            found += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        self.model.train(training)
        return found

    def measure(self, split: Split) -> list[Metric]:
        pairs = self.pairs[split]
        said = self.say([pair.text for pair in pairs])
        rows = {p.id: summaries.rouge(s, p.summary) for p, s in zip(pairs, said, strict=True)}
        names = ("rouge1", "rouge2", "rougeL")
        return [Metric.of(n, {i: row[n] for i, row in rows.items()}) for n in names]

    def save(self, folder: Path) -> None:
        models.save(self.model, self.tokenizer, folder)


def _writer(name: str, tokenizer: Any, seed: int) -> Any:
    """A sequence-to-sequence model, or an encoder that reads under a copy of it that writes."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, EncoderDecoderModel

    where = models.source(name)
    torch.manual_seed(seed)
    try:
        with quiet():
            if AutoConfig.from_pretrained(where).is_encoder_decoder:
                return AutoModelForSeq2SeqLM.from_pretrained(where, dtype=torch.float32)
            model = EncoderDecoderModel.from_encoder_decoder_pretrained(where, where).float()
    except Exception as error:  # OSError, ValueError, or what the hub's client raises
        raise models.cannot(name, error) from error
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = tokenizer.cls_token_id
        config.eos_token_id = tokenizer.sep_token_id
        config.pad_token_id = tokenizer.pad_token_id
    return model


def data(config: TuneConfig, progress: Progress) -> dict[Split, list[Any]]:
    """What is learnt from and measured on, by split.

    Raises:
        UserError: no such data, or a split without any.
    """
    most: dict[Split, int] = {"train": config.train, "dev": config.dev, "test": config.test}
    path = Path(config.data).expanduser()
    found: dict[Split, list[Any]]
    if config.data == "derived":
        corpus = sources.build(CorpusConfig(config.corpus, config.limit), progress)
        found = {split: _derived(config, corpus, split, n) for split, n in most.items()}
    elif config.task == "as2":
        found = {split: [q for q in questions if q.decides or split == "train"]
                 for split, questions in as2.load(path).items()}  # fmt: skip
    elif config.task == "fever":
        found = dict(fever.load(path, config.candidates, config.seed))
    else:
        found = dict(summaries.load(path))
    found = {split: rows[: most[split]] for split, rows in found.items()}
    for split, rows in found.items():
        if not rows:
            raise UserError(f"{config.data} has nothing for {split}", "give more, or a split of it")
    return found


def _derived(config: TuneConfig, corpus: Corpus, split: Split, most: int) -> list[Any]:
    if config.task == "as2":
        return list(as2.derived(corpus, split, most))
    return list(summaries.derived(corpus, split, most))


WORK: dict[str, Callable[[TuneConfig, Any], Work]] = {
    "as2": Ranking,
    "fever": Verification,
    "summary": Summarising,
}


def tune(config: TuneConfig, folder: Path, progress: Progress) -> dict[str, Any]:
    """Fine-tune by ``config`` into ``folder``, going on where an earlier call stopped.

    Returns ``dev``, the figures of each epoch, and ``test``, each measure with its standard error.

    Raises:
        UserError: the folder holds another fine-tuning; no data or encoder.
    """
    settings = asdict(config)
    work_folder = folder / "work"
    before = finished(folder, FILE, settings)
    if before is not None:
        return before
    splits = data(config, progress)
    work = WORK[config.task](config, splits)
    work_folder.mkdir(parents=True, exist_ok=True)
    (work_folder / FILE).write_text(json.dumps({"settings": settings}), encoding="utf-8")
    trainer = _trainer(config, work, work_folder / "checkpoints", progress)
    with quiet():
        trainer.train(resume_from_checkpoint=last_checkpoint(work_folder / "checkpoints"))
    dev = [
        {name.removeprefix("eval_"): round(float(value), 6) for name, value in row.items()
         if name.startswith("eval_") or name == "epoch"}
        for row in trainer.state.log_history
        if f"eval_{BEST[config.task]}" in row
    ]  # fmt: skip
    test = {m.name: {"value": m.value, "se": m.se, "n": m.n} for m in work.measure("test")}
    told = {
        "settings": settings,
        "sizes": {split: len(rows) for split, rows in splits.items()},
        "dev": dev,
        "test": test,
    }
    if trainer.is_world_process_zero():
        work.save(folder)
        (folder / FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(work_folder)
    return told


def _trainer(config: TuneConfig, work: Work, checkpoints: Path, progress: Progress) -> Tuner:
    steps = math.ceil(len(work.rows) / config.batch) * config.epochs
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch,
        learning_rate=config.rate,
        warmup_steps=math.ceil(config.warmup * steps),
        lr_scheduler_type="linear",
        weight_decay=0.01,
        max_grad_norm=1.0,
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        data_seed=config.seed,
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=BEST[config.task],
        greater_is_better=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
    )
    trainer = Tuner(
        work,
        model=work.model,
        args=arguments,
        train_dataset=work.rows,
        eval_dataset=work.rows,
        data_collator=work.collate,
        callbacks=[Told(progress, config.task), EarlyStoppingCallback(config.patience)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Tuner(Trainer):  # type: ignore[misc]
    """transformers' Trainer, whose evaluation is the task's own measure on dev."""

    def __init__(self, work: Work, **kw: Any) -> None:
        self.work = work
        self.control: Any
        super().__init__(**kw)
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ARG002
        return ByLength(self.work.lengths, self.args.per_device_train_batch_size,
                        self.args.data_seed)  # fmt: skip

    def evaluate(self, *_args: Any, **_kw: Any) -> dict[str, float]:
        figures = {f"eval_{m.name}": m.value for m in self.work.measure("dev")}
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, figures
        )
        return figures
