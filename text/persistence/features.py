"""Feature blocks, each of which can be left out: what people wrote, how, and how much.

| block | what it is | learnt from training people |
|---|---|---|
| `lexicon` | words of each category in 100; `lexicon.json` is ours, LIWC is proprietary | no |
| `style` | readability and syntax | no |
| `topics` | proportions of latent Dirichlet allocation | yes |
| `ngrams` | tf-idf of words and pairs of words | yes |
| `metadata` | how much, how long, when and where; no word | no |

A block sees :class:`text.persistence.cohort.Person` and so nothing that was written after the
intention. Syllables are counted by groups of vowels, which is right for most English words; the
readability formulas are for English.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from text.persistence.cohort import DAY, Person

Floats = NDArray[np.float64]
TEXT_BLOCKS = ("lexicon", "style", "topics", "ngrams")
BLOCKS = (*TEXT_BLOCKS, "metadata")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE = re.compile(r"[.!?]+(?:\s+|$)|\n+")
_SUBORDINATE = frozenset(
    "although though because since while whereas unless until if whether when whenever where "
    "which who whom whose that after before so".split()
)
_FEWEST_PEOPLE = 5
"""A word or pair of words that fewer training people used is no feature."""


class Table(NamedTuple):
    """Features ``(people, features)`` with their names."""

    names: tuple[str, ...]
    values: Floats


def words(text: str) -> list[str]:
    """The words of a text, in lower case, with straight apostrophes."""
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


# Lexicon


class Lexicon:
    """Categories of words; a word may end in ``*``, which stands for any ending."""

    def __init__(self, categories: Mapping[str, Sequence[str]]) -> None:
        self.names = tuple(categories)
        self._whole: dict[str, list[int]] = {}
        self._begins: dict[str, list[int]] = {}
        for number, entries in enumerate(categories.values()):
            for entry in entries:
                known = self._begins if entry.endswith("*") else self._whole
                known.setdefault(entry.rstrip("*").lower(), []).append(number)
        self._longest = max(map(len, self._begins), default=0)
        self.of = cache(self._of)

    @classmethod
    def load(cls, path: Path | None = None) -> Lexicon:
        """Categories from a JSON object: category to words, as a list or as one text.

        Raises:
            UserError: the file cannot be read or holds something else.
        """
        path = path or Path(__file__).with_name("lexicon.json")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            categories = {
                str(name): entries.split() if isinstance(entries, str) else list(map(str, entries))
                for name, entries in found.items()
            }
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(
                f"no lexicon in {path} ({type(error).__name__})",
                'give a JSON object such as {"health": "diet* gym sleep*"}',
            ) from error
        if not any(categories.values()):
            raise UserError(f"the lexicon {path} has no words", "name categories and their words")
        return cls(categories)

    def _of(self, word: str) -> tuple[int, ...]:
        found = set(self._whole.get(word, ()))
        for length in range(1, min(len(word), self._longest) + 1):
            found.update(self._begins.get(word[:length], ()))
        return tuple(sorted(found))

    def rates(self, people: Sequence[Person]) -> Table:
        """Words of each category in 100 words."""
        values = np.zeros((len(people), len(self.names)))
        for row, person in enumerate(people):
            counts = Counter(word for text in person.texts for word in words(text))
            for word, count in counts.items():
                values[row, list(self.of(word))] += count
            values[row] *= 100 / max(1, counts.total())
        return Table(self.names, values)


# Style


def syllables(word: str) -> int:
    """Groups of vowels, without a silent e at the end; at least one."""
    found = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith("e") and not word.endswith(("le", "ee")) and found > 1
    return max(1, found - silent)


STYLE = ("words a sentence", "syllables a word", "Flesch reading ease", "Flesch-Kincaid grade",
         "Gunning fog", "long words", "different words", "subordinators a sentence",
         "commas a sentence", "questions", "exclamations", "words a post")  # fmt: skip


def style(people: Sequence[Person]) -> Table:
    """Readability and syntax of everything that a person wrote."""
    return Table(STYLE, np.array([_style(person.texts) for person in people]))


def _style(texts: Sequence[str]) -> list[float]:
    sentences = [s for text in texts for s in _SENTENCE.split(text) if s and WORD.search(s)]
    said = [word for sentence in sentences for word in words(sentence)]
    if not said:
        return [0.0] * len(STYLE)
    n, m = len(said), len(sentences)
    sounds = [syllables(word) for word in said]
    by_sentence, by_word = n / m, sum(sounds) / n
    marks = Counter(mark for text in texts for mark in text if mark in ",?!")
    return [
        by_sentence,
        by_word,
        206.835 - 1.015 * by_sentence - 84.6 * by_word,  # Flesch (1948)
        0.39 * by_sentence + 11.8 * by_word - 15.59,  # Kincaid et al. (1975)
        0.4 * (by_sentence + 100 * sum(s >= 3 for s in sounds) / n),  # Gunning (1952)
        sum(len(word) > 6 for word in said) / n,
        _different(said),
        sum(word in _SUBORDINATE for word in said) / m,
        marks[","] / m,
        marks["?"] / m,
        marks["!"] / m,
        n / len(texts),
    ]


def _different(said: Sequence[str], window: int = 50) -> float:
    """Different words in a window, the mean of windows side by side: length does not matter."""
    parts = [said[i : i + window] for i in range(0, len(said), window)]
    whole = [part for part in parts if len(part) == window] or parts[:1]
    return float(np.mean([len(set(part)) / len(part) for part in whole]))


# Metadata

METADATA = ("posts (log2)", "age in days (log2)", "days written on", "communities",
            "share in communities of change", "hours between posts (log2)", "share at night (UTC)",
            "share in the last 30 days")  # fmt: skip


def metadata(people: Sequence[Person], change: Sequence[str]) -> Table:
    """How much, how long, when and where: the control that reads no word."""
    names = {name.casefold() for name in change}
    return Table(METADATA, np.array([_metadata(person, names) for person in people]))


def _metadata(person: Person, change: set[str]) -> list[float]:
    times = np.array(person.times)
    gaps = np.diff(times) / 3600
    hours = (times / 3600) % 24
    return [
        math.log2(1 + len(times)),
        math.log2(1 + person.age),
        len(set((times // DAY).tolist())),
        len(set(person.communities)),
        float(np.mean([name.casefold() in change for name in person.communities])),
        math.log2(1 + float(np.median(gaps))) if len(gaps) else 0.0,
        float(np.mean(hours < 6)),
        float(np.mean(times > person.intention - 30 * DAY)),
    ]


# What is learnt from training people


def document(person: Person) -> str:
    """All that a person wrote until the intention."""
    return "\n".join(person.texts)


def topics(count: int, seed: int, pieces: int) -> Any:
    """A pipeline from documents to topic proportions; ``pieces`` is how many documents it fits."""
    from sklearn.decomposition import LatentDirichletAllocation
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline

    counts = CountVectorizer(
        stop_words="english", min_df=min(_FEWEST_PEOPLE, pieces), max_features=3000
    )
    model = LatentDirichletAllocation(count, random_state=seed)
    return make_pipeline(counts, model)


def ngrams(pieces: int) -> Any:
    """From documents to tf-idf of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=min(_FEWEST_PEOPLE, pieces),
        max_features=20_000,
        sublinear_tf=True,
        dtype=np.float64,
    )
