"""Sentences with the scene that they mean, made by chance: what the small planner learns from.

Each is one to three statements about things of everyday, in one of many wordings each. The scene
is in the form of :mod:`scenes.planners.compact`. Everything derives from the seed.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from scenes.planners.lexicon import NUMBERS

LOOKS = (
    "small large wooden round old white red tall low black modern green blue long simple".split()
)


@dataclass(frozen=True)
class Wording:
    """Ways to say how subjects and hosts, drawn from these things, lie to one another."""

    form: str
    """What it means, with names only."""
    subjects: tuple[str, ...]
    least: int
    most: int
    """So many subjects there may be."""
    hosts: tuple[str, ...]
    ways: tuple[str, ...]


OPENINGS = (
    "",
    "",
    "",
    "",
    "a room with ",
    "there is ",
    "I want ",
    "show ",
    "please make ",
    "a scene of ",
)
WORDS = {
    value: word for word, value in NUMBERS.items() if word not in ("a", "an", "single", "another")
}


@functools.lru_cache(maxsize=1)
def wordings() -> tuple[Wording, ...]:
    """Those of ``phrasings.txt``, which explains itself."""
    lists: dict[str, tuple[str, ...]] = {}
    blocks: list[list[str]] = []
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("@"):
            name, _, things = line.partition(" ")
            lists[name] = _things(things, lists)
        elif line.startswith("="):
            blocks.append([line.strip("= ")])
        elif line and not line.startswith("#"):
            blocks[-1].append(line)
    found = []
    for form, numbers, *rest in blocks:
        said, _, subjects = numbers.partition(": ")
        _, least, _, most = said.split()
        hosts = rest.pop(0).partition(": ")[2] if rest[0].startswith("hosts: ") else ""
        found.append(
            Wording(
                form,
                _things(subjects, lists),
                int(least),
                int(most),
                _things(hosts, lists),
                tuple(rest),
            )
        )
    return tuple(found)


def _things(text: str, lists: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(thing for name in names for thing in lists.get(name, (name,)))


class Example(NamedTuple):
    text: str
    form: str


@dataclass(frozen=True)
class _Thing:
    noun: str
    look: str
    count: int

    @property
    def what(self) -> str:
        return f"{self.look} {self.noun}".strip()


def examples(count: int, seed: int) -> list[Example]:
    """So many different sentences with their scenes."""
    rng = random.Random(seed)
    found: dict[str, Example] = {}
    while len(found) < count:
        made = _example(rng)
        found.setdefault(made.text, made)
    return list(found.values())


def _example(rng: random.Random) -> Example:
    things: dict[str, _Thing] = {}
    told: set[str] = set()
    sentences: list[str] = []
    clauses: list[str] = []
    last: _Thing | None = None
    for _ in range(rng.choices((1, 2, 3), (4, 4, 2))[0]):
        wording = rng.choice(wordings())
        # What was named last may be what the next statement is about.
        host = last if last and last.count == 1 and rng.random() < 0.6 else None
        if host is not None and host.noun not in wording.hosts:
            host = None
        used = set(things)
        subject = _thing(rng, wording.subjects, used | {host.noun if host else ""}, wording)
        used |= {subject.noun}
        host = host or (_thing(rng, wording.hosts, used) if wording.hosts else None)
        used |= {host.noun} if host else set()
        other = _thing(rng, wording.hosts, used) if "{g}" in wording.form else None
        if "{h} and {h}" in wording.form and host is not None:
            if host.noun in things:
                continue
            host = replace(host, count=2, look="")
        mentioned = [t for t in (subject, host, other) if t is not None]
        way = rng.choice(wording.ways)
        sentences.append(_said(rng, way, subject, host, other, told))
        things |= {t.noun: t for t in mentioned}
        names = {key: t.noun for key, t in zip("shg", (subject, host, other), strict=True) if t}
        clauses.append(wording.form.format(**names))
        told |= {t.noun for t in mentioned}
        last = rng.choice(mentioned)
    if not sentences:
        return _example(rng)
    order = sorted(things.values(), key=lambda t: _first(" ".join(sentences), t.noun))
    form = ", ".join(f"{t.count} {t.what}" for t in order)
    return Example(_joined(rng, sentences), "; ".join([form, *clauses]))


def _thing(
    rng: random.Random, names: Sequence[str], used: set[str], wording: Wording | None = None
) -> _Thing:
    """A thing that is not ``used``, nor shares its last word with one that is."""
    heads = {u.split()[-1] for u in used if u}
    noun = rng.choice([n for n in names if n.split()[-1] not in heads])
    most, least = (wording.most, wording.least) if wording else (1, 1)
    look = rng.choice(LOOKS) if rng.random() < 0.25 and " " not in noun else ""
    return _Thing(noun, look, rng.randint(least, most))


def _said(
    rng: random.Random,
    way: str,
    subject: _Thing,
    host: _Thing | None,
    other: _Thing | None,
    told: set[str],
) -> str:
    many = subject.count > 1
    fields = {
        "s": _phrase(rng, subject, told), "is": "are" if many else "is",
        "has": "have" if many else "has", "es": "" if many else "s", "ees": "" if many else "es",
        "n": _phrase(rng, subject, told),
    }  # fmt: skip
    if host is not None:
        fields |= {"h": _phrase(rng, host, told), "hs": _plural(host.noun)}
    if other is not None:
        fields["g"] = _phrase(rng, other, told)
    return way.format(**fields)


def _phrase(rng: random.Random, thing: _Thing, told: set[str]) -> str:
    if thing.noun in told:
        return f"the {thing.noun}"
    if thing.count == 1:
        what = thing.what
        article = "an" if what[0] in "aeiou" else "a"
        return f"{article if rng.random() < 0.85 else 'the'} {what}"
    number = WORDS[thing.count] if rng.random() < 0.8 else str(thing.count)
    number = "a pair of" if thing.count == 2 and rng.random() < 0.15 else number
    return f"{number} {_plural(thing.what)}"


@functools.lru_cache(maxsize=4096)
def _plural(what: str) -> str:
    import inflect

    return str(inflect.engine().plural_noun(what) or what)


def _first(text: str, noun: str) -> int:
    at = text.find(noun)
    return at if at >= 0 else text.find(noun[:-1])


def _joined(rng: random.Random, sentences: list[str]) -> str:
    opening = rng.choice(OPENINGS)
    if rng.random() < 0.5 or len(sentences) == 1:
        text = rng.choice((", ", ", and ", "; ")).join(sentences)
        return opening + text if rng.random() < 0.5 else _capital(opening + text) + "."
    return " ".join(_capital(s) + "." for s in sentences)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def parsed(lines: Iterable[str]) -> list[Example]:
    """Examples of a file: ``text => form`` a line, after comments that begin with ``#``."""
    pairs = [line.split("=>") for line in lines if "=>" in line and not line.startswith("#")]
    return [Example(text.strip(), form.strip()) for text, form in pairs]
