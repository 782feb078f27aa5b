"""``upspiral text pretrain``: encoders that learn how text hangs together, and their uses."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class CorpusCommand:
    """Read documents into a corpus and say what is in it; every other command does so by itself."""

    corpus: str = "system"
    """system (man pages and documentation of this machine), folder:PATH, wikipedia (from the hub)
    or wikipedia:FOLDER (its files)."""
    limit: int = 0
    """Documents at most; 0 for all."""

    def run(self, out: Output) -> dict[str, Any]:
        from text.pretraining.sources import CorpusConfig, build

        corpus = build(CorpusConfig(self.corpus, self.limit), out.progress())
        sizes: dict[str, dict[str, int]] = {}
        for number in range(len(corpus)):
            document = corpus[number]
            row = sizes.setdefault(document.split, dict.fromkeys(_COUNTED, 0))
            row["documents"] += 1
            row["sections"] += len(document.sections)
            row["paragraphs"] += len(document.paragraphs)
            row["sentences"] += sum(map(len, document.paragraphs))
            row["characters"] += len(document.text)
        out.table(
            ("split", *_COUNTED),
            [(s, *sizes[s].values()) for s in ("train", "dev", "test") if s in sizes],
        )
        out.print(f"the corpus is in {corpus.folder}")
        return {"corpus": corpus.folder, "splits": sizes}


_COUNTED = ("documents", "sections", "paragraphs", "sentences", "characters")


@dataclass(frozen=True)
class TrainCommand:
    """Pre-train an encoder. Run it again to continue; a finished one is told again."""

    objective: str | None = None
    """Of tokens: rts, c-rts, slm, mlm, electra. Of sentences: ssp, sp, psd, mspp."""
    model: str | None = None
    """tiny, mini, small, base: from nothing. minilm, a folder or a hub name: continued."""
    corpus: str | None = None
    """As in `upspiral text pretrain corpus`."""
    recipe: str = "starter"
    """starter (minutes on a core), small and base (the paper's, from nothing), continued (the
    paper's for sentences); the last three are for GPUs."""
    steps: int | None = None
    """Optimiser steps; the recipe's by default."""
    out: Path = Path("encoder")
    """The folder for the encoder, its tokenizer and pretraining.json."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting, as in --set batch=64 --set rate=1e-4."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.cli import unknown
        from common.commands.outcome import made
        from common.settings import override
        from text.pretraining.recipes import RECIPES
        from text.pretraining.train import CONFIG_FILE, finished, pretrain

        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        given = {"objective": self.objective, "model": self.model, "corpus": self.corpus,
                 "steps": self.steps}  # fmt: skip
        chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        config = override(replace(RECIPES[self.recipe](), **chosen), self.set)
        folder = made(self.out, "--out")
        finished(folder, CONFIG_FILE, asdict(config))  # other settings are no training to resume
        out.resume = _again("train", self, given, recipe=self.recipe)
        found = pretrain(config, folder, out.progress())
        out.resume = None
        names = [name for name in found.curve[-1] if name != "step"]
        shown = found.curve[:: max(1, len(found.curve) // 8)]
        rows = [(int(row["step"]), *(row.get(n) for n in names)) for row in shown]
        out.table(("step", *names), rows)
        for name, value in found.dev.items():
            out.print(f"dev {name}: {value:.4f}")
        out.print(f"the encoder is in {folder}")
        return {"folder": folder, "objective": config.objective, "dev": found.dev,
                "curve": found.curve}  # fmt: skip


@dataclass(frozen=True)
class TuneCommand:
    """Fine-tune an encoder and measure it on test. Run it again to continue."""

    task: str = "as2"
    """as2 (which sentence answers), fever (is a claim supported), summary (say it in a line)."""
    model: str = "minilm"
    """A folder of `upspiral text pretrain train`, minilm, or a hub name."""
    data: str = "derived"
    """derived from the corpus (as2: headings ask, sentences under them answer; summary: man pages
    say what they are about), or a file or folder in the format of docs/pretraining.md."""
    corpus: str = "system"
    """As in `upspiral text pretrain corpus`."""
    head: str = "pair"
    """pair; or several sentences in one pass: IE_k, AE_k for as2, IE_1, AE_1 for fever."""
    out: Path = Path("tuned")
    """The folder for the fine-tuned encoder and tuning.json."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting, as in --set epochs=3 --set rate=1e-5 --set train=2000."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.commands.outcome import made
        from common.settings import override
        from text.pretraining.train import finished
        from text.pretraining.tune import FILE, TuneConfig, tune

        given: dict[str, Any] = {"task": self.task, "model": self.model, "data": self.data,
                                 "corpus": self.corpus, "head": self.head}  # fmt: skip
        config = override(TuneConfig(**given), self.set)
        folder = made(self.out, "--out")
        finished(folder, FILE, asdict(config))  # other settings are no training to resume
        out.resume = _again("tune", self, given)
        told = tune(config, folder, out.progress())
        out.resume = None
        names = [name for name in told["dev"][0] if name != "epoch"]
        rows = [(int(row["epoch"]), *(row[n] for n in names)) for row in told["dev"]]
        out.table(("epoch", *(f"dev {n}" for n in names)), rows)
        figures = [(n, m["value"], m["se"], m["n"]) for n, m in told["test"].items()]
        out.table(("test", "value", "standard error", "n"), figures)
        out.print(f"the fine-tuned encoder is in {folder}")
        return {"folder": folder, "task": self.task, "dev": told["dev"], "test": told["test"]}


@dataclass(frozen=True)
class RankCommand:
    """The sentences of a text by how well each answers a question."""

    question: tyro.conf.Positional[str]
    """The question, in quotes."""
    text: Path
    """A text, Markdown, HTML or man page."""
    model: Path = Path("tuned")
    """A folder of `upspiral text pretrain tune --task as2`."""
    top: int = 5
    """How many are shown."""

    def run(self, out: Output) -> dict[str, Any]:
        from text.pretraining.ranker import Ranker
        from text.pretraining.sources import read

        path = self.text.expanduser()
        document = read(path)
        if document is None:
            raise UserError(f"no prose in {str(path)!r}", "give a file with a text of some length")
        if self.top < 1:
            raise UserError(f"--top {self.top}", "give 1 or more")
        ranker = Ranker.load(self.model.expanduser())
        sentences = list(dict.fromkeys(s for p in document.paragraphs for s in p))
        found = ranker.rank(self.question, sentences)[: self.top]
        out.table(("p", "sentence"), found)
        return {
            "question": self.question,
            "sentences": [{"p": p, "sentence": sentence} for p, sentence in found],
            "of": len(sentences),
        }


def _again(command: str, config: Any, given: dict[str, Any], **more: Any) -> str:
    """The command line that continues a training."""
    words = ["upspiral", "text", "pretrain", command]
    for name, value in {**more, **given, "out": config.out}.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    for one in config.set:
        words += ["--set", one]
    return shlex.join(words)
