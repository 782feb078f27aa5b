"""Word problems in six languages, made from templates, with exact answers.

A problem tells a story of one quantity: how it starts, one to four steps that add, take away,
multiply or divide, and the question. Train, dev and test have stories of their own and numbers of
their own, so that neither a remembered sentence nor a remembered sum helps: below 10 by the sets in
``SMALL``, above by blocks of five (of four blocks two are train's, one dev's, one test's).

Of several languages each problem is told in all of them in turn, with the same numbers, where they
have its story in common; ``meta["parallel"]`` names such problems alike. Russian has its own.

Every number is 2 or more and every language says things in ways that do not depend on it, so all
sentences are grammatical (Russian counts in units that stay as they are).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from common.records import Split, Task, identity

LANGUAGES = ("en", "es", "fr", "de", "ru", "zh")
SMALL: Mapping[Split, tuple[int, ...]] = {"train": (2, 3, 5, 8), "dev": (4, 9), "test": (6, 7)}
RANGES = {1: (2, 30), 2: (10, 100), 3: (100, 1000)}
"""Of the numbers that are added and taken away, by level; the end is not in it."""
_LARGEST = {1: 300, 2: 2_000, 3: 20_000}
_BLOCKS: Mapping[Split, tuple[int, ...]] = {"train": (0, 1), "dev": (2,), "test": (3,)}


class Problem(NamedTuple):
    """A story with its answer; ``template`` names its sentences, ``numbers`` are those it says."""

    question: str
    answer: int
    template: str
    numbers: tuple[int, ...]


def belongs(number: int, split: Split) -> bool:
    """Whether a problem of ``split`` may say ``number``."""
    if number < 10:
        return number in SMALL[split]
    return number // 5 % 4 in _BLOCKS[split]


@cache
def templates(language: str) -> Mapping[str, Any]:
    """``names``, and ``scenarios`` with their split and sentences. Scenarios of several languages
    that have the same ``story`` say the same, sentence by sentence.

    Raises:
        UserError: there are none in this language.
    """
    path = Path(__file__).parent / "templates" / f"{language}.json"
    if not path.exists():
        raise UserError(f"no word problems in {language!r}", f"use {', '.join(LANGUAGES)}")
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@cache
def _numbers(split: Split, low: int, high: int) -> tuple[int, ...]:
    return tuple(n for n in range(low, high) if belongs(n, split))


def problem(
    rng: random.Random, split: Split, language: str, steps: int, level: int, story: str = ""
) -> Problem:
    """One problem, drawn with ``rng``; of ``story``, if the language has it."""
    said = templates(language)
    mine = [(i, s) for i, s in enumerate(said["scenarios"]) if s["split"] == split]
    told = [(i, s) for i, s in mine if story and s.get("story") == story]
    number, scenario = told[0] if told else rng.choice(mine)
    amounts, factors = _numbers(split, *RANGES[level]), _numbers(split, 2, 10)
    value = rng.choice(amounts)
    numbers, sentences, names = [value], [scenario["start"].replace("{n}", str(value))], []
    for _ in range(steps):
        operation, n = _step(rng, value, amounts, factors, level)
        which = rng.randrange(len(scenario[operation]))
        sentences.append(scenario[operation][which].replace("{n}", str(n)))
        value = {"add": value + n, "sub": value - n, "mul": value * n, "div": value // n}[operation]
        numbers.append(n)
        names.append(f"{operation}{which}")
    sentences.append(scenario["ask"])
    text = ("" if language == "zh" else " ").join(sentences)
    text = text.replace("{name}", rng.choice(said["names"]))
    return Problem(text, value, "-".join([language, str(number), *names]), tuple(numbers))


def _step(
    rng: random.Random, value: int, amounts: Sequence[int], factors: Sequence[int], level: int
) -> tuple[str, int]:
    """An operation that ``value`` allows, and its number; adding is always allowed."""
    choices: list[tuple[str, Sequence[int]]] = [
        ("add", amounts),
        ("sub", [n for n in amounts if n <= value - 2]),
        ("mul", [n for n in factors if value * n <= _LARGEST[level]]),
        ("div", [n for n in factors if value % n == 0 and value // n >= 2]),
    ]
    operation, numbers = rng.choice([choice for choice in choices if choice[1]])
    return operation, rng.choice(numbers)


def load(
    seed: int,
    sizes: Mapping[Split, int],
    languages: Sequence[str] = ("en",),
    steps: Sequence[int] = (1,),
    level: int = 1,
) -> list[Task]:
    """``sizes`` tasks of each split, languages and step counts in turn, no question twice.

    Of several languages a turn tells one problem in each that has its story.

    Raises:
        UserError: no such language or level, or more problems than there are.
    """
    if level not in RANGES or not steps or not all(1 <= s <= 4 for s in steps):
        raise UserError(
            f"no problems of level {level} with {', '.join(map(str, steps))} steps",
            f"use 1 to 4 steps, and a level of {', '.join(map(str, RANGES))}",
        )
    found = []
    for split, size in sizes.items():
        rng = random.Random(identity("arithmetic", seed, split))
        seen: set[str] = set()
        tries = 0
        while len(seen) < size:
            count = steps[len(seen) // len(languages) % len(steps)]
            turn = _turn(rng, split, languages, count, level)
            tries += 1
            if tries > 50 * size + 1000:
                raise UserError(
                    f"only {len(seen)} different {split} problems were found, not {size}",
                    "ask for fewer, more steps, or a higher level",
                )
            if seen & turn.keys():
                continue
            for question, task in list(turn.items())[: size - len(seen)]:
                seen.add(question)
                found.append(task)
    return found


def _turn(
    rng: random.Random, split: Split, languages: Sequence[str], steps: int, level: int
) -> dict[str, Task]:
    """A task in each language, by its question."""
    story, seed = "", 0
    if len(languages) > 1:
        story, seed = rng.choice(_stories(split)), rng.getrandbits(64)
    turn = {}
    for language in languages:
        drawn = random.Random(seed) if story else rng
        one = problem(drawn, split, language, steps, level, story)
        meta = {"kind": "number", "steps": steps, "level": level, "template": one.template}
        if story in _stories(split, language):
            meta["parallel"] = identity("arithmetic", split, story, seed)
        name = identity("arithmetic", split, one.question)
        turn[one.question] = Task(name, one.question, split, str(one.answer), language, meta)
    return turn


@cache
def _stories(split: Split, language: str = "en") -> tuple[str, ...]:
    """The stories of a split that languages have in common, those that ``language`` has."""
    scenarios = templates(language)["scenarios"]
    return tuple(s["story"] for s in scenarios if s["split"] == split and "story" in s)
