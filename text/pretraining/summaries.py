"""Summarisation: a text and what it comes to; ROUGE.

From files with ``text`` (or ``article``, ``document``) and ``summary`` (or ``highlights``); without
one, from a corpus: man pages say what they are about in one line, under *NAME*.

ROUGE is F1 of words, stems as they are, as Lin (2004) defines it: n-grams in common for ROUGE-1 and
ROUGE-2, the longest common subsequence of the whole for ROUGE-L. Published figures are of a stemmer
too and are a little higher.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.records import Split, identity
from text.pretraining.documents import Corpus
from text.tasks.published import pool_of, read_files, split_in

COLUMNS = {
    "text": ("text", "article", "document", "dialogue"),
    "summary": ("summary", "highlights", "abstract"),
}
CHARACTERS = 4_000
"""What is kept of a text; an encoder reads far less."""


@dataclass(frozen=True)
class Pair:
    """A text and its summary."""

    id: str
    text: str
    summary: str
    split: Split = "train"


def derived(corpus: Corpus, split: Split, most: int) -> list[Pair]:
    """At most ``most`` documents of ``split`` that say in a line what they are about.

    Raises:
        UserError: there are none.
    """
    found = [
        Pair(identity("summary", d.name), d.text.replace("\n", " ")[:CHARACTERS], d.summary, split)
        for d in corpus.split(split)
        if d.summary
    ]
    if not found:
        raise UserError(
            f"no {split} document of the corpus has a summary",
            "take man pages (--corpus system), or give a file of pairs: --data FILE",
        )
    return sorted(found, key=lambda pair: pair.id)[:most]


def load(path: Path) -> dict[Split, list[Pair]]:
    """The pairs of a file, or of a folder's files by the split in their names.

    Raises:
        UserError: no such file, or a row without its columns.
    """
    pools = read_files(path)
    held = {name for name in pools if name != "train"}
    found: dict[Split, list[Pair]] = {"train": [], "dev": [], "test": []}
    for pool, rows in pools.items():
        for number, row in enumerate(rows, 1):
            values = [next((str(row[n]) for n in names if row.get(n)), "")
                      for names in COLUMNS.values()]  # fmt: skip
            if not all(values):
                raise UserError(
                    f"row {number} of {str(path)!r} is no pair, only {sorted(row)}",
                    "give rows with text and summary",
                )
            name = identity("summary", values[0])
            split = split_in(pool_of(pool), name, held)
            found[split].append(Pair(name, values[0][:CHARACTERS], values[1], split))
    return found


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return re.findall(r"\w+", text.lower())


def rouge(said: str, wanted: str) -> dict[str, float]:
    """``rouge1``, ``rouge2`` and ``rougeL`` of one summary."""
    mine, theirs = words(said), words(wanted)
    found = {}
    for n in (1, 2):
        a, b = (Counter(zip(*(w[i:] for i in range(n)), strict=False)) for w in (mine, theirs))
        found[f"rouge{n}"] = _f1((a & b).total(), a.total(), b.total())
    return found | {"rougeL": _f1(_common(mine, theirs), len(mine), len(theirs))}


def _f1(both: int, mine: int, theirs: int) -> float:
    return 2 * both / (mine + theirs) if mine + theirs else 0.0


def _common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        last = 0
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], last + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]
