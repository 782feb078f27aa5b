"""A small corpus that is plainly made up: each document has words of its own, each heading too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from text.pretraining.documents import Corpus
from text.pretraining.sources import CorpusConfig, build

HEADINGS = {
    "Eating": "eats bread soup apples cheese rice pears beans noodles at noon and at night".split(),
    "Living": "lives near rivers in one house with some garden near old trees behind hills".split(),
    "Working": "works with hammers in the yard on boats and carts for wages every day".split(),
}


def folder(where: Path, count: int = 40) -> Path:
    """``count`` Markdown files with three sections of two paragraphs of three sentences."""
    where.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng(number)
        name = f"Person{number}"
        parts = [f"# About {name}\n"]
        for heading, words in HEADINGS.items():
            parts.append(f"## {heading}\n")
            for _ in range(2):
                said = [f"{name} {' '.join(random.permutation(words)[:8])}." for _ in range(3)]
                parts.append(" ".join(said) + "\n")
        (where / f"person{number}.md").write_text("\n".join(parts), encoding="utf-8")
    return where


def quiet(done: int, total: int, what: str) -> None:
    """Progress that nobody looks at."""


def corpus(where: Path, count: int = 40) -> Corpus:
    """A corpus of :func:`folder`."""
    source = f"folder:{folder(where / 'texts', count)}"
    return build(CorpusConfig(source), quiet, where / "corpus")
