"""A text as tokens: words, connectors, places, measures and marks; nothing is understood yet."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from scenes.planners.lexicon import (
    CONNECTORS,
    DETERMINERS,
    DIMENSIONS,
    LENGTHS,
    PLACES,
    VERY,
)
from scenes.planners.paraphrases import plain

Kind = Literal["word", "connector", "place", "measure", "and", "comma", "stop"]
_TOKEN = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+(?:[-'’][^\W\d_]+)*|[.;:!?,\n×]", re.UNICODE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?$")


class Token(NamedTuple):
    """``text`` as written in lower case; ``value`` what it says: a relation, a place, lengths."""

    kind: Kind
    text: str
    value: str = ""
    lengths: tuple[tuple[str, float], ...] = ()
    """Of a measure: metres by "width", "depth", "height", or "" where it does not say which."""


def read(text: str) -> list[Token]:
    """The tokens of ``text``; the longest connector or place that fits is taken."""
    words = _TOKEN.findall(plain(text))
    found: list[Token] = []
    at = 0
    while at < len(words):
        token, used = (
            _measure(words, at) or _phrase(words, at) or _having(words, at) or _plain(words[at])
        )
        found.append(token)
        at += used
    return found


def _having(words: list[str], at: int) -> tuple[Token, int] | None:
    """ "It has a lamp on it" says with, "it has been placed" does not."""
    after = words[at + 1] if at + 1 < len(words) else ""
    if words[at] in ("has", "have") and (after in DETERMINERS or _NUMBER.match(after)):
        return Token("connector", words[at], "with"), 1
    return None


def _plain(word: str) -> tuple[Token, int]:
    if word in ("and", "plus", "&", "as-well-as"):
        return Token("and", word), 1
    if word == ",":
        return Token("comma", word), 1
    if word in ".;:!?\n":
        return Token("stop", word), 1
    return Token("word", word), 1


@functools.lru_cache(maxsize=1)
def _phrases() -> Mapping[str, list[tuple[tuple[str, ...], Kind, str]]]:
    """Connectors and places by their first word, the longest first."""
    every: list[tuple[tuple[str, ...], Kind, str]] = []
    every += [(tuple(said.split()), "connector", kind) for said, kind in CONNECTORS.items()]
    every += [(tuple(said.split()), "place", said) for said in PLACES]
    by_first: dict[str, list[tuple[tuple[str, ...], Kind, str]]] = {}
    for entry in sorted(every, key=lambda e: -len(e[0])):
        by_first.setdefault(entry[0][0], []).append(entry)
    return by_first


def _phrase(words: list[str], at: int) -> tuple[Token, int] | None:
    for phrase, kind, value in _phrases().get(words[at], ()):
        if tuple(words[at : at + len(phrase)]) == phrase:
            # "on the left side of", "in the corner sofa": a place that goes on is none.
            return Token(kind, " ".join(phrase), value), len(phrase)
    if words[at] in VERY and at + 1 < len(words):
        found = _phrase(words, at + 1)
        return (found[0], found[1] + 1) if found else None
    return None


def _measure(words: list[str], at: int) -> tuple[Token, int] | None:
    """``2 m wide``, ``80 cm``, ``2 by 3 m``, ``1 m x 2 m x 50 cm``; not a bare number."""
    start = at
    values: list[float] = []
    units: list[float | None] = []
    while at < len(words) and _NUMBER.match(words[at]):
        values.append(float(words[at].replace(",", ".")))
        at += 1
        units.append(_unit(words, at))
        at += units[-1] is not None
        if at + 1 < len(words) and words[at] in ("by", "x", "×") and _NUMBER.match(words[at + 1]):
            at += 1
        else:
            break
    known = next((u for u in reversed(units) if u is not None), None)
    if known is None:
        return None
    return _told(words, start, at, [v * (u or known) for v, u in zip(values, units, strict=True)])


def _unit(words: list[str], at: int) -> float | None:
    """Metres of the unit that stands there; "3 in the box" is no three inches."""
    if at >= len(words) or (words[at] == "in" and words[at + 1 : at + 2] != ["wide"]):
        return None
    return LENGTHS.get(words[at])


def _told(words: list[str], start: int, at: int, metres: list[float]) -> tuple[Token, int]:
    names = ["width", "depth", "height"] if len(metres) > 1 else [""]
    if len(metres) == 1 and at < len(words) and words[at] in DIMENSIONS:
        names = [DIMENSIONS[words[at]]]
        at += 1
    lengths = tuple(zip(names, metres, strict=False))
    return Token("measure", " ".join(words[start:at]), lengths=lengths), at - start
