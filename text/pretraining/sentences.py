"""Sentence objectives: what belongs together? For continued pre-training of an encoder.

| name | reads | asks | source |
|---|---|---|---|
| ``ssp`` | two sentences | of one paragraph? | arXiv 2205.10455 |
| ``sp`` | a sentence, a paragraph without it | taken from this paragraph? | the same |
| ``psd`` | two paragraphs | of one document? | the same |
| ``mspp`` | a sentence, k = 5 spans of one or two | which is of its paragraph? | arXiv 2205.01228 |

Hard negatives are of the same document. In MSPP one span is right, up to two are hard, and other
documents fill up to four wrong ones; all are shuffled. ``same`` takes any span of the premise's
paragraph for right; ``following``, the published default, only those behind the premise, and counts
a span *before* it, in the very paragraph, among the hard wrong ones: an order task, not membership.
Here ``same`` is the default.

The papers of SSP, SP and PSD could not be had: that half of the examples are right, and half of the
wrong ones hard (none of PSD's can be), is ours; so is a masked-token loss beside them, which is
published for MSPP.

An example is a function of the seed and its number alone. So training may stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from torch.utils.data import Dataset

from common.errors import UserError
from common.records import Split
from common.training import generator
from text.pretraining.documents import Corpus, Document, Paragraph

Name = Literal["ssp", "sp", "psd", "mspp"]
NAMES: tuple[Name, ...] = get_args(Name)
Selection = Literal["same", "following"]
HARD = 0.5
"""Share of the wrong pairs whose texts are of one document."""
WRONG, HARD_SPANS = 4, 2
"""Wrong spans of an example of MSPP, and how many of them are hard at most."""
TRIES = 1_000


class Example(NamedTuple):
    """Texts, the premise first, and for each of the others whether it belongs to it."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


class SentenceTask(Dataset[Example]):
    """``length`` examples of an objective over the documents of a split.

    Raises:
        UserError: the documents have no paragraph of several sentences, or there is but one.
    """

    def __init__(
        self,
        corpus: Corpus,
        name: str,
        length: int,
        *,
        split: Split = "train",
        selection: Selection = "same",
        seed: int = 0,
    ) -> None:
        if name not in NAMES:
            raise UserError(f"no sentence objective {name!r}", f"use {', '.join(NAMES)}")
        if selection not in get_args(Selection):
            raise UserError(f"no selection {selection!r}", "use same or following")
        self.corpus, self.name, self.length = corpus, name, length
        self.selection, self.seed = selection, seed
        self.numbers = corpus.numbers(split)
        if len(self.numbers) < 2:
            raise UserError(f"{len(self.numbers)} {split} documents", "two are needed, give more")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Example:
        if not 0 <= number < self.length:
            raise IndexError(number)
        random = generator(self.seed, self.name, number)
        for _ in range(TRIES):
            at = self._draw(random)
            made = self._example(self.corpus[at], at, random)
            if made is not None:
                return made
        raise UserError(
            f"the corpus gives no example of {self.name}",
            "give documents with paragraphs of several sentences",
        )

    def _draw(self, random: np.random.Generator, but: int | None = None) -> int:
        """The number of a document, another one than ``but``."""
        while True:
            found = self.numbers[int(random.integers(len(self.numbers)))]
            if found != but:
                return found

    def _example(self, document: Document, at: int, random: np.random.Generator) -> Example | None:
        if self.name == "mspp":
            return self._spans(document, at, random)
        right = random.random() < 0.5
        paragraphs = document.paragraphs
        if self.name == "psd":
            first = int(random.integers(len(paragraphs)))
            other = _other(paragraphs, first, random) if right else self._foreign(at, random)
            if other is None:
                return None
            return Example((" ".join(paragraphs[first]), " ".join(other)), (int(right),))
        several = [i for i, p in enumerate(paragraphs) if len(p) > 1]
        if not several:
            return None
        home = several[int(random.integers(len(several)))]
        place = int(random.integers(len(paragraphs[home])))
        sentence = paragraphs[home][place]
        rest = paragraphs[home][:place] + paragraphs[home][place + 1 :]
        source: Paragraph | None = rest
        if not right:
            hard = random.random() < HARD
            source = _other(paragraphs, home, random) if hard else self._foreign(at, random)
        if source is None:
            return None
        shown = " ".join(source) if self.name == "sp" else _pick(source, random)
        return Example((sentence, shown), (int(right),))

    def _foreign(self, at: int, random: np.random.Generator) -> Paragraph:
        """A paragraph of another document."""
        paragraphs = self.corpus[self._draw(random, at)].paragraphs
        return paragraphs[int(random.integers(len(paragraphs)))]

    def _spans(self, document: Document, at: int, random: np.random.Generator) -> Example | None:
        paragraphs = document.paragraphs
        least = 1 if self.selection == "same" else 2
        several = [i for i, p in enumerate(paragraphs) if len(p) > 1]
        if not several:
            return None
        home = several[int(random.integers(len(several)))]
        own = paragraphs[home]
        place = int(random.integers(len(own) - least + 1))
        before, behind = own[:place], own[place + 1 :]
        sides = [side for side in (before, behind) if side]
        if self.selection == "following":
            sides = [behind]
        right = _span(sides[int(random.integers(len(sides)))], random)
        pool = [p for i, p in enumerate(paragraphs) if i != home]
        if self.selection == "following" and before:
            pool.append(before)
        order = random.permutation(len(pool))[:HARD_SPANS]
        wrong = [_span(pool[i], random) for i in order]
        while len(wrong) < WRONG:
            wrong.append(_span(self._foreign(at, random), random))
        shuffled = random.permutation(1 + WRONG)
        spans = [right, *wrong]
        return Example(
            (own[place], *(spans[i] for i in shuffled)), tuple(int(i == 0) for i in shuffled)
        )


def _other(
    paragraphs: Sequence[Paragraph], but: int, random: np.random.Generator
) -> Paragraph | None:
    """Another paragraph of the document, if it has one."""
    if len(paragraphs) < 2:
        return None
    found = int(random.integers(len(paragraphs) - 1))
    return paragraphs[found + (found >= but)]


def _pick(paragraph: Paragraph, random: np.random.Generator) -> str:
    return paragraph[int(random.integers(len(paragraph)))]


def _span(paragraph: Paragraph, random: np.random.Generator) -> str:
    """One or two sentences that follow each other."""
    start = int(random.integers(len(paragraph)))
    return " ".join(paragraph[start : start + int(random.integers(1, 3))])


class SentenceCollator:
    """Examples → inputs for an encoder, with ``labels`` ``(B, k)``, and ``there`` of MSPP."""

    def __init__(self, tokenizer: Any, name: str, length: int, segment: int, types: int) -> None:
        self.tokenizer, self.name, self.length = tokenizer, name, length
        self.segment, self.types = segment, types

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        import torch

        from text.pretraining.joint import segments

        labels_BK = torch.tensor([e.labels for e in examples])
        if self.name == "mspp":
            k = labels_BK.shape[1]
            rows = [e.texts for e in examples]
            return {
                **segments(self.tokenizer, rows, k, self.segment, self.types),
                "labels": labels_BK,
            }
        encoded = self.tokenizer(
            [e.texts[0] for e in examples],
            [e.texts[1] for e in examples],
            padding=True,
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        kinds = encoded.get("token_type_ids", torch.zeros_like(inputs["input_ids"]))
        return {**inputs, "token_type_ids": kinds, "labels": labels_BK}
