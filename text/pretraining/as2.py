"""Answer-sentence selection: questions with sentences, some of which answer them.

Published sets come from files: WikiQA, TREC-QA and ASNQ as JSONL, TSV, CSV or Parquet with
``question``, ``sentence`` (or ``answer``) and ``label`` columns, named in any case, a row a
candidate.

A set that needs no file is derived from a corpus: the question is a heading with the document's
title, ``tar (an archiving utility): Options``; sentences under it are right. Wrong ones are from
under other headings of the same document (so the heading matters), from under the same heading of
other documents (so the title does), and from anywhere. Documents of one family are in one split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.records import Split, identity
from common.training import generator
from text.pretraining.documents import Corpus, Document
from text.tasks.published import pool_of, read_files, split_in

RIGHT, WRONG = 3, (4, 3, 2)
"""Most right sentences of a question, and wrong ones of each kind."""
COLUMNS = {
    "question": ("question", "question_text"),
    "sentence": ("sentence", "answer", "candidate", "answer_sentence"),
    "label": ("label", "is_correct", "answer_label"),
}


@dataclass(frozen=True)
class Question:
    """A question and its candidate sentences, each right or not."""

    id: str
    text: str
    sentences: tuple[str, ...]
    right: tuple[bool, ...]
    split: Split = "train"

    @property
    def decides(self) -> bool:
        """Whether one order of the candidates is better than another."""
        return any(self.right) and not all(self.right)


def derived(corpus: Corpus, split: Split, most: int, seed: int = 0) -> list[Question]:
    """At most ``most`` questions from headings of ``split``.

    Raises:
        UserError: its documents have no two sections with headings.
    """
    pages = [d for d in corpus.split(split) if sum(bool(s.heading) for s in d.sections) > 1]
    under: dict[str, list[tuple[str, str]]] = {}
    for page in pages:
        for section in page.sections:
            if section.heading:
                known = under.setdefault(section.heading.lower(), [])
                known += [(page.name, s) for s in section.paragraphs[0][:2]]
    everything = [pair for known in under.values() for pair in known]
    places = [(page, n) for page in pages for n, s in enumerate(page.sections) if s.heading]
    places.sort(key=lambda place: identity(seed, place[0].name, place[1]))
    found: list[Question] = []
    for page, number in places:
        alike = under[page.sections[number].heading.lower()]
        question = _question(page, number, alike, everything, split, seed)
        if question.decides:
            found.append(question)
        if len(found) == most:
            break
    if not found:
        raise UserError(
            f"no question can be derived from the {split} documents",
            "give documents with headings, or a file of questions: --data FILE",
        )
    return found


def _question(
    page: Document,
    number: int,
    alike: list[tuple[str, str]],
    everything: list[tuple[str, str]],
    split: Split,
    seed: int,
) -> Question:
    random = generator(seed, "as2", page.name, number)
    section = page.sections[number]
    about = f"{page.title} ({page.summary})" if page.summary else page.title
    own = [s for p in section.paragraphs for s in p]
    inside = [s for i, other in enumerate(page.sections) if i != number
              for p in other.paragraphs for s in p]  # fmt: skip
    # Sentences of a document's other sections can repeat those of this one.
    seen = set(own)
    right = [own[i] for i in random.permutation(len(own))[:RIGHT]]
    wrong: list[str] = []
    for pool, count in zip(([("", s) for s in inside], alike, everything), WRONG, strict=True):
        # Drawn with a limit of tries: a pool may hold little that is new.
        taken, drawn = 0, iter(random.integers(max(1, len(pool)), size=20 * count).tolist())
        while taken < count and pool and (at := next(drawn, None)) is not None:
            name, sentence = pool[at]
            if name != page.name and sentence not in seen:
                seen.add(sentence)
                wrong.append(sentence)
                taken += 1
    texts = [*right, *wrong]
    order = random.permutation(len(texts))
    return Question(
        identity("as2", page.name, number),
        f"{about}: {section.heading}",
        tuple(texts[i] for i in order),
        tuple(bool(i < len(right)) for i in order),
        split,
    )


def load(path: Path) -> dict[Split, list[Question]]:
    """The questions of a file, or of a folder's files by the split in their names.

    Where no split is held apart, some of train is, by the hash of the question.

    Raises:
        UserError: no such file, or a row without its columns.
    """
    pools = read_files(path)
    held = {name for name in pools if name != "train"}
    found: dict[Split, list[Question]] = {"train": [], "dev": [], "test": []}
    for pool, rows in pools.items():
        for text, candidates in _grouped(rows, path).items():
            name = identity("as2", text)
            split = split_in(pool_of(pool), name, held)
            texts, right = zip(*candidates, strict=True)
            found[split].append(Question(name, text, texts, right, split))
    return found


def _grouped(rows: Iterable[Mapping[str, Any]], path: Path) -> dict[str, list[tuple[str, bool]]]:
    groups: dict[str, list[tuple[str, bool]]] = {}
    for number, row in enumerate(rows, 1):
        lower = {str(k).lower().replace(" ", "_"): v for k, v in row.items()}
        values = [next((lower[n] for n in names if lower.get(n) is not None), None)
                  for names in COLUMNS.values()]  # fmt: skip
        if None in values or str(values[2]).strip().lower() not in _LABELS:
            raise UserError(
                f"row {number} of {str(path)!r} is no candidate, only {sorted(lower)}",
                "give rows with question, sentence and label (0 or 1)",
            )
        label = _LABELS[str(values[2]).strip().lower()]
        groups.setdefault(str(values[0]).strip(), []).append((str(values[1]).strip(), label))
    return groups


_LABELS = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}
