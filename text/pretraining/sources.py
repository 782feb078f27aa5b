"""Where documents come from: the machine's own documentation, a folder, Wikipedia.

    build("system", ...)           man pages and /usr/share/doc; differs from machine to machine
    build("folder:/my/texts", ...) text, Markdown, reStructuredText, HTML, man pages, .gz of them
    build("wikipedia", ...)        the hub's wikimedia/wikipedia, an article a document
    build("wikipedia:/dump", ...)  the same from files (JSONL, Parquet) with title and text

Of one family of documents (``gcloud-...``, of which there are thousands of near copies) at most
:data:`FAMILY` are taken. Change logs, copyright notices and translations are left out. The name on
the hub was not tried: this was written without one. Files of its columns were.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.cli import unknown
from common.errors import UserError
from common.home import cache
from common.records import identity
from text.pretraining import documents, markup, roff
from text.pretraining.documents import Corpus, Document, Met, Progress

KINDS = ("system", "folder", "wikipedia")
MAN, DOC = Path("/usr/share/man"), Path("/usr/share/doc")
FAMILY = 100
"""Most documents of a family."""
HUB = ("wikimedia/wikipedia", "20231101.en")
LARGEST = 4_000_000
"""Bytes of the largest file that is read as one document."""
_SUFFIX = re.compile(r"\.(txt|text|md|markdown|rst|html?|[1-8][a-z]{0,4})$", re.IGNORECASE)
_LEFT_OUT = re.compile(r"change|copyright|licen[cs]e|news|authors|thanks|todo|\bpsl", re.IGNORECASE)


@dataclass(frozen=True)
class CorpusConfig:
    """What is read; ``limit`` 0 is all there is."""

    source: str = "system"
    limit: int = 0

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UserError(f"limit={self.limit}", "give 0 for all, or how many documents")


def build(config: CorpusConfig, progress: Progress, folder: Path | None = None) -> Corpus:
    """The corpus of ``config``, read once and kept in the cache (or ``folder``).

    Raises:
        UserError: no such source, or nothing to read in it.
    """
    kind, _, where = config.source.partition(":")
    if kind not in KINDS:
        raise unknown("corpus", kind, ("system", "folder:PATH", "wikipedia", "wikipedia:PATH"))
    if kind == "folder" and not where:
        raise UserError("the corpus 'folder' needs a path", "give --corpus folder:PATH")
    root = Path(where).expanduser().absolute() if where else None
    paths: list[Path] = []
    if kind != "wikipedia":
        paths = _paths([root] if root else [MAN, DOC])
    elif root:
        paths = [p for p in sorted(root.rglob("*")) if p.suffix in (".jsonl", ".parquet")]
        if not paths:
            raise UserError(f"no .jsonl or .parquet in {str(root)!r}", "name another folder")
    if folder is None:  # files that changed are another corpus
        stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
        folder = cache() / "corpora" / f"{kind}-{identity(stats, config.limit)[:10]}"
    if (folder / "index.npz").exists():
        return Corpus(folder)
    read = _wikipedia if kind == "wikipedia" else _files
    return documents.write(read(paths, config.limit, progress), folder)


def read(path: Path, known: Met | None = None) -> Document | None:
    """The document in a file; None if it holds no prose, or only points elsewhere."""
    try:
        raw = path.read_bytes()[:LARGEST]
        source = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return None
    if "\0" in source:
        return None
    stem = path.name.removesuffix(".gz")
    suffix = stem.rpartition(".")[2].lower()
    met = known or Met()
    if suffix[:1].isdigit():
        return _man(stem, roff.parse(source), met)
    sections = markup.html(source) if suffix in ("html", "htm") else markup.text(source)
    # What one package ships is a family; in a folder of one's own each file stands for itself.
    family = path.parent.name if DOC in path.parents else ""
    title = f"{family} {stem.partition('.')[0]}".strip()
    return documents.document(
        f"{path.parent.name}/{stem}", title, sections, family=family, known=met
    )


def _man(stem: str, sections: roff.Sections, known: Met) -> Document | None:
    name = stem.rpartition(".")[0]
    summary = ""
    rest = []
    for heading, paragraphs in sections:
        if heading.upper() == "NAME":
            summary = re.split(r"\s(?:-|—|–|\\-)+\s", paragraphs[0], maxsplit=1)[-1]
        elif heading.upper() not in ("SYNOPSIS", "COPYRIGHT"):
            rest.append((heading.capitalize() if heading.isupper() else heading, paragraphs))
    family = re.split(r"[-_.:\d]", name.lower(), maxsplit=1)[0] or name
    return documents.document(stem, name, rest, summary, family, known)


def _paths(roots: list[Path]) -> list[Path]:
    """The files to read, in an order that has nothing to do with their names.

    So a limit takes some of everything.

    Raises:
        UserError: there are none.
    """
    paths: list[Path] = []
    for root in roots:
        if root.is_dir():
            for folder, names, files in os.walk(root):
                if root == MAN:  # English only: translations lie in folders of their own
                    names[:] = [n for n in names if re.fullmatch(r"man\d\w*", n)]
                names.sort()
                paths += [Path(folder, f) for f in sorted(files) if _wanted(f)]
        elif root.is_file():
            paths.append(root)
    paths = [p for p in paths if not p.is_symlink()]
    if not paths:
        raise UserError(
            f"no text in {' or '.join(map(str, roots))}",
            "name a folder of text, Markdown, HTML or man pages: --corpus folder:PATH",
        )
    return sorted(paths, key=lambda p: identity(p.name, p.parent.name))


def _files(paths: list[Path], limit: int, progress: Progress) -> Iterator[Document]:
    known, families, taken = Met(), Counter[str](), 0
    for number, path in enumerate(paths, 1):
        if number % 200 == 0 or number == len(paths):
            progress(number, len(paths), "files read")
        found = read(path, known)
        if found is None or (found.family and families[found.family] >= FAMILY):
            continue
        families[found.family] += 1
        taken += 1
        yield found
        if taken == limit:
            progress(len(paths), len(paths), "files read")
            return


def _wanted(name: str) -> bool:
    bare = name.removesuffix(".gz")
    readme = bare.upper().startswith("README")
    return bool(readme or _SUFFIX.search(bare)) and not _LEFT_OUT.search(bare)


def _wikipedia(paths: list[Path], limit: int, progress: Progress) -> Iterator[Document]:
    from datasets import load_dataset

    try:
        if paths:
            files = [str(p) for p in paths]
            kind = "parquet" if files[0].endswith("parquet") else "json"
            rows = load_dataset(kind, data_files=files, split="train", streaming=True)
        else:
            rows = load_dataset(*HUB, split="train", streaming=True)
    except Exception as error:  # the library raises what its backends raise
        raise UserError(
            f"{HUB[0]} cannot be loaded ({type(error).__name__})",
            "go online, or give files of it: --corpus wikipedia:FOLDER",
        ) from error
    known = Met()
    taken = 0
    for row in _whole(rows):
        if not {"title", "text"} <= row.keys():
            raise UserError(f"an article has no title or text, only {sorted(row)}", "name others")
        name = str(row["title"])
        found = documents.document(name, name, markup.encyclopedia(str(row["text"])), known=known)
        if found is None:
            continue
        yield found
        taken += 1
        if taken % 1000 == 0:
            progress(taken, limit or taken + 1, "articles")
        if taken == limit:
            return


def _whole(rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The rows, as far as they can be read; what cannot is said."""
    try:
        yield from rows
    except Exception as error:  # the library raises what its backends raise
        raise UserError(
            f"the articles end in what cannot be read ({type(error).__name__}: {error})"[:300],
            "fetch the files again, or name others",
        ) from error
