"""Documents as structure: sections with a heading, paragraphs, sentences; and a corpus of them.

Structural objectives learn from what belongs together, so nothing is flattened. Cleaning has the
minima of the published multi-sentence data (arXiv 2205.01228): sentences of 20 characters,
paragraphs of 60, documents of 200. Added here: a paragraph that was met before is dropped, and so
is one that is no prose (tables, drawings, code).

A corpus is a file of JSON lines with an index of where each begins: any document is read without
the others, so that it may be larger than memory, and the whole can be had by several processes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from common.errors import UserError
from common.records import Split, identity

SENTENCE, PARAGRAPH, DOCUMENT = 20, 60, 200
"""Fewest characters of each."""
LONGEST = 1_000
"""Characters of a sentence that is taken for one; beyond, it is a list or a table."""
LETTERS = 0.75
"""Least share of letters and spaces in prose."""

Paragraph = tuple[str, ...]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Section:
    """Paragraphs, each a tuple of sentences, under a heading (empty before the first)."""

    heading: str
    paragraphs: tuple[Paragraph, ...]


@dataclass(frozen=True)
class Document:
    """``family`` is what documents of one origin share: a family is never cut by a split."""

    name: str
    title: str
    sections: tuple[Section, ...]
    summary: str = ""
    family: str = ""

    @property
    def paragraphs(self) -> list[Paragraph]:
        return [paragraph for section in self.sections for paragraph in section.paragraphs]

    @property
    def text(self) -> str:
        """The paragraphs, a line each; no headings, which are for others to guess."""
        return "\n".join(" ".join(paragraph) for paragraph in self.paragraphs)

    @property
    def split(self) -> Split:
        """Eight tenths train, a tenth dev, a tenth test, by the hash of the family."""
        share = int(identity(self.family or self.name)[:8], 16) % 10
        return "dev" if share == 0 else "test" if share == 1 else "train"


_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|viz|approx|resp|fig|no|vol|ed|al|dr|mr|mrs|ms|prof|st|jr|sr|inc|ltd"
    r"|[A-Za-z])\.)$",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.!?。！？][\"')\]”’]*(?:\s+|(?<=[。！？]))")


def sentences(text: str) -> list[str]:
    """The sentences of ``text``, in order and with nothing lost but spacing.

    A sentence ends at a full stop, question or exclamation mark that is followed by something
    which may begin one, unless the stop belongs to an abbreviation or an initial.
    """
    text = " ".join(text.split())
    found: list[str] = []
    start = 0
    for match in _ENDS.finditer(text):
        following = text[match.end() : match.end() + 1]
        if following.islower() or not following:
            continue
        if text[match.start()] == "." and _ABBREVIATED.search(text[start : match.start() + 1]):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def is_prose(text: str) -> bool:
    """Whether enough of it is letters and spaces."""
    return sum(c.isalpha() or c == " " for c in text) >= LETTERS * len(text)


def document(
    name: str,
    title: str,
    sections: Iterable[tuple[str, Sequence[str]]],
    summary: str = "",
    family: str = "",
    known: Callable[[str], bool] = lambda _: False,
) -> Document | None:
    """A cleaned document of headings and paragraphs; None if too little of it is prose.

    ``known`` says whether a paragraph was met before.
    """
    kept: list[Section] = []
    length = 0
    for heading, paragraphs in sections:
        cleaned: list[Paragraph] = []
        for paragraph in paragraphs:
            parts = tuple(s for s in sentences(paragraph) if SENTENCE <= len(s) <= LONGEST)
            text = " ".join(parts)
            if len(text) < PARAGRAPH or not is_prose(text) or known(text):
                continue
            cleaned.append(parts)
            length += len(text)
        if cleaned:
            kept.append(Section(" ".join(heading.split()), tuple(cleaned)))
    if length < DOCUMENT:
        return None
    return Document(name, title, tuple(kept), " ".join(summary.split()), family)


class Met:
    """Whether a text was met before, by an 8-byte hash of it; called, it remembers."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, text: str) -> bool:
        key = blake2b(text.encode(), digest_size=8).digest()
        if key in self._seen:
            return True
        self._seen.add(key)
        return False


def write(documents: Iterable[Document], folder: Path) -> Corpus:
    """Keep ``documents`` in ``folder``, whole or not at all; the corpus of them.

    Raises:
        UserError: there are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"documents.{os.getpid()}.partial"
    starts = [0]
    splits = []
    with partial.open("wb") as file:
        for one in documents:
            file.write(json.dumps(asdict(one), ensure_ascii=False).encode() + b"\n")
            starts.append(file.tell())
            splits.append(("train", "dev", "test").index(one.split))
    if not splits:
        partial.unlink()
        raise UserError(
            "the corpus holds no prose", "name a folder of text files: --corpus folder:PATH"
        )
    scratch = folder / f"index.{os.getpid()}.partial.npz"
    np.savez(scratch, starts=np.array(starts), splits=np.array(splits, np.int8))
    partial.replace(folder / "documents.jsonl")
    scratch.replace(folder / "index.npz")  # last: with it the corpus is there
    return Corpus(folder)


class Corpus:
    """Documents of a folder that :func:`write` made, by number; several processes may read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with np.load(folder / "index.npz") as index:
                self._starts, self._splits = index["starts"], index["splits"]
            size = (folder / "documents.jsonl").stat().st_size
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(
                f"no corpus in {str(folder)!r} ({type(error).__name__})", "delete it, run again"
            ) from error
        if size != self._starts[-1]:
            raise UserError(f"{str(folder)!r} does not fit its index", "delete it, run again")

    def __len__(self) -> int:
        return len(self._splits)

    def __getitem__(self, number: int) -> Document:
        start, end = self._starts[number], self._starts[number + 1]
        with (self.folder / "documents.jsonl").open("rb") as file:
            file.seek(int(start))
            return _read(json.loads(file.read(int(end - start))))

    def numbers(self, split: Split) -> list[int]:
        """Which documents are of ``split``."""
        wanted = ("train", "dev", "test").index(split)
        found: list[int] = np.flatnonzero(self._splits == wanted).tolist()
        return found

    def split(self, split: Split) -> Iterator[Document]:
        """The documents of ``split``, in order."""
        return (self[number] for number in self.numbers(split))


def _read(row: dict[str, object]) -> Document:
    sections = tuple(
        Section(s["heading"], tuple(tuple(p) for p in s["paragraphs"]))
        for s in row.pop("sections")  # type: ignore[attr-defined]
    )
    return Document(sections=sections, **row)  # type: ignore[arg-type]
