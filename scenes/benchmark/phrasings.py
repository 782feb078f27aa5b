"""How the benchmark says things: phrasings of each fact for each split, none in two splits.

The phrasings are in ``phrasings.json``, in threes.

``{a}`` is the subject, ``{b}`` and ``{c}`` are hosts, in capitals at the beginning of a sentence;
``{be}`` and other verbs agree with the subject, ``{be_b}`` with the first host. ``{h}`` is the host
in the singular, ``{v}`` a number, ``{w}`` a wall or a corner. The first phrasing of three is a noun
phrase of a list, the others are sentences.

What a planner is mended by are the phrasings of train and dev, where the same may stand more than
once. Those of test were written without sight of the planner, and nobody but the evaluation looks
at what becomes of them. Of dev's, some were those of test once and moved when they had been
answered, the others are of the same sets as test's (docs/lab-notes.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Three = tuple[str, str, str]


_DATA: Mapping[str, Any] = json.loads(
    (Path(__file__).parent / "phrasings.json").read_text(encoding="utf-8")
)


def _ways(entry: Mapping[Split, Sequence[Three]]) -> tuple[str, ...]:
    return tuple(said for split in SPLITS for three in entry[split] for said in three)


PHRASINGS: Mapping[str, tuple[str, ...]] = {k: _ways(e) for k, e in _DATA["facts"].items()}
"""By fact: all its phrasings, those of train first, then dev's, then test's."""
OPENINGS = _ways(_DATA["openings"])
"""How a text begins, in the same order."""
_COUNTS = [3 * len(_DATA["openings"][split]) for split in SPLITS]
WAYS: dict[Split, range] = {
    split: range(sum(_COUNTS[:n]), sum(_COUNTS[: n + 1])) for n, split in enumerate(SPLITS)
}
"""The phrasings of each split, by number: three for each entry."""
VERBS: dict[str, tuple[str, str]] = {
    "be": ("is", "are"), "have": ("has", "have"), "stand": ("stands", "stand"),
    "sit": ("sits", "sit"), "rest": ("rests", "rest"), "hold": ("holds", "hold"),
    "hang": ("hangs", "hang"), "lie": ("lies", "lie"), "face": ("faces", "face"),
    "form": ("forms", "form"),
}  # fmt: skip
"""Of one, and of several."""
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


@dataclass(frozen=True)
class Fact:
    """One thing that is said: a key of :data:`PHRASINGS` with its nouns and numbers."""

    kind: str
    names: tuple[str, ...]
    """Subject, then hosts."""
    counts: tuple[int, ...]
    """As they are said, so that "each with six chairs" is 6."""
    value: str = ""
    word: str = ""


def tell(way: int, place: str, facts: Sequence[Fact]) -> str:
    """A text that says ``facts`` in turn, in phrasing ``way``."""
    opening = OPENINGS[way].format(place=place)
    if place[0] in "aeiou":
        opening = opening.replace(f"a {place}", f"an {place}").replace(f"A {place}", f"An {place}")
    mentioned: set[str] = set()
    said = [_said(fact, PHRASINGS[fact.kind][way], mentioned) for fact in facts]
    if way % 3 == 0:  # the first of three is a noun phrase of a list
        return f"{opening}{', '.join(said[:-1])}{' and ' * (len(said) > 1)}{said[-1]}."
    return opening + " ".join(said)


def _said(fact: Fact, template: str, mentioned: set[str]) -> str:
    """A template with its nouns: new ones with their number, others with the definite article."""
    names = dict(zip("abc", zip(fact.names, fact.counts, strict=True), strict=False))
    words = {key: _noun(name, count, name in mentioned) for key, (name, count) in names.items()}
    mentioned.update(fact.names)
    counts = {key: count for key, (_, count) in names.items()}

    def fill(match: re.Match[str]) -> str:
        key = match[1]
        if key.lower() in words:
            text = words[key.lower()]
            return text[0].upper() + text[1:] if key.isupper() else text
        if key == "h":
            return fact.names[1]
        if key in ("v", "w"):
            return fact.value if key == "v" else fact.word
        verb, _, of = key.partition("_")
        return VERBS[verb][counts[of or "a"] > 1]

    said = re.sub(r"\{(\w+)\}", fill, template)
    return said[0].upper() + said[1:] if template[-1] == "." else said


def _noun(name: str, count: int, known: bool) -> str:
    noun = name if count == 1 else _plural(name)
    if known:
        return f"the {noun}"
    if count == 1:
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return f"{spoken(count)} {noun}"


def spoken(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _plural(name: str) -> str:
    special = {"shelf": "shelves", "man": "men", "woman": "women"}
    first, _, last = name.rpartition(" ")
    many = special.get(last) or last + ("es" if last[-1] in "xsh" else "s")
    return f"{first} {many}".strip()
