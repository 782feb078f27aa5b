"""Fact verification: is a claim supported, refuted, or neither, by sentences that were found?

FEVER's format (Thorne et al., NAACL 2018): JSON lines with ``claim``, ``label`` and ``evidence``,
sets of ``[annotation, evidence, page, sentence number]``; the sentences lie in
``wiki-pages/*.jsonl`` with ``id`` and ``lines``. What a retriever found is taken first,
``predicted_evidence`` as ``[page, number]``. A row may also hold its ``sentences`` itself, and then
needs no pages.

A claim with *not enough info* has no evidence to read. Where nothing was retrieved for it, it gets
random sentences of the pages that are there, as in FEVER's own baseline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.records import Split, identity
from common.training import generator
from text.tasks.published import pool_of, read_rows, split_in

LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
PAGES = "wiki-pages"
_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-COLON-": ":"}


@dataclass(frozen=True)
class Claim:
    """A claim, the sentences to judge it by, and which of :data:`LABELS` it is."""

    id: str
    text: str
    sentences: tuple[str, ...]
    label: int
    split: Split = "train"


def load(path: Path, most: int = 5, seed: int = 0) -> dict[Split, list[Claim]]:
    """The claims of a file or folder, each with ``most`` sentences at most.

    Raises:
        UserError: no such file, a row that is no claim, or no pages for its evidence.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.jsonl")) if path.is_dir() else []
    if not files:
        raise UserError(f"no claims in {str(path)!r}", "give a .jsonl file or a folder of them")
    rows = [(pool_of(f.stem), number, row) for f in files
            for number, row in enumerate(read_rows(f), 1)]  # fmt: skip
    wanted: dict[str, None] = {}
    for pool, number, row in rows:
        if not isinstance(row.get("claim"), str) or row.get("label") not in LABELS:
            raise UserError(
                f"row {number} ({pool}) is no claim, only {sorted(row)}",
                f"give rows with claim and label, which is one of {', '.join(LABELS)}",
            )
        wanted |= dict.fromkeys(page for page, _ in _places(row))
    folder = (path if path.is_dir() else path.parent) / PAGES
    pages = _pages(folder, wanted) if wanted else {}
    everything = [s for lines in pages.values() for s in lines.values()]
    held = {pool for pool, _, _ in rows if pool != "train"}
    found: dict[Split, list[Claim]] = {"train": [], "dev": [], "test": []}
    for pool, number, row in rows:
        name = identity("fever", row.get("id", number), row["claim"])
        if "sentences" in row:
            texts = [str(s) for s in row["sentences"]][:most]
        else:
            texts = [pages[page][at] for page, at in _places(row) if at in pages.get(page, {})]
            texts = list(dict.fromkeys(texts))[:most]
        if not texts and everything:
            random = generator(seed, name)
            texts = [everything[i] for i in random.integers(len(everything), size=most)]
        if not texts:
            raise UserError(
                f"row {number} ({pool}) has no sentences to judge the claim by",
                f"give its sentences, or the pages in {str(folder)!r}",
            )
        split = split_in(pool, name, held)
        label = LABELS.index(row["label"])
        found[split].append(Claim(name, row["claim"], tuple(texts), label, split))
    return found


def _places(row: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Pages and sentence numbers of a row's evidence, what was retrieved first."""
    try:
        predicted = [tuple(e[-2:]) for e in row.get("predicted_evidence") or []]
        gold = [tuple(e[-2:]) for group in row.get("evidence") or [] for e in group]
        return [(str(page), int(at)) for page, at in (predicted or gold)
                if page is not None and at is not None]  # fmt: skip
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the claim {row['claim'][:60]!r} has no evidence of FEVER's form ({error})",
            "give groups of [annotation, evidence, page, sentence], or leave evidence out",
        ) from error


def _pages(folder: Path, wanted: Mapping[str, None]) -> dict[str, dict[int, str]]:
    """The sentences of the wanted pages by number; others are passed over."""
    found: dict[str, dict[int, str]] = {}
    for row in _lines(folder):
        if row.get("id") in wanted:
            found[row["id"]] = dict(_numbered(str(row.get("lines", ""))))
    return found


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise UserError(
            f"the evidence needs pages, and {str(folder)!r} has none",
            "put FEVER's wiki-pages beside the claims, or give each row its sentences",
        )
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(
                        f"line {number} of {str(file)!r} is no JSON", "fetch the file again"
                    ) from error


def _numbered(lines: str) -> Iterator[tuple[int, str]]:
    """``0<tab>A sentence.<tab>links`` by number; lines without a sentence are left out."""
    for line in lines.split("\n"):
        number, tab, rest = line.partition("\t")
        text = rest.split("\t", 1)[0].strip()
        for sign, letter in _BRACKETS.items():
            text = text.replace(sign, letter)
        if tab and number.isdigit() and text:
            yield int(number), text
