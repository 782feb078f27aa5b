"""Posts that nobody wrote, with a planted effect: for tests, and to see the analysis at work.

Every person writes sentences of a few patterns about everyday things. With ``effect`` above 0 those
who will persist write more about long-term improvement and in longer sentences, the two findings of
the paper's abstract; with 0 the groups write alike. They are also more active beforehand
(``confound``), which matching has to take away. None of it says anything about people.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from text.persistence.cohort import DAY

COMMUNITY = "fresh-start"
"""The community of change in these posts."""
AFTER = "afterwards"
"""A word that only posts after the intention hold: no feature may know it."""
_ELSEWHERE = ("cooking", "films", "town", "football", "gardens")
_BEGIN = 1_600_000_000.0
_EVERYDAY = ("the shop was full again", "we watched a film at home", "my neighbour found a cat",
             "the train came late", "dinner was soup and bread", "a friend told me a joke",
             "the match ended in a draw", "it rained all day", "my phone fell",
             "my sister has a bike", "the garden is dry", "work had two meetings")  # fmt: skip
_GROWTH = ("i want to improve a little every month", "my goal for the year is a steady habit",
           "i am learning to practise with patience", "progress takes effort and discipline",
           "i keep a journal to develop my mindset", "a routine helps me commit to the change",
           "i would like to grow into a better person")  # fmt: skip
_JOINED = ("although", "because", "while", "and so", "since", "whereas")


def people(count: int, effect: float, seed: int, confound: float = 0.5) -> Iterator[dict[str, Any]]:
    """Rows of ``count`` people, half of whom persist; times rise within a person."""
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        stays = number % 2 == 0
        user = f"person-{number}"
        start = _BEGIN + draw.uniform(0, 200) * DAY
        intention = start + draw.uniform(60, 300) * DAY
        many = max(4, round(draw.lognormvariate(2.3 + (confound if stays else 0.0), 0.5)))
        for time in sorted(draw.uniform(start, intention - 1) for _ in range(many)):
            yield _row(user, time, draw.choice(_ELSEWHERE), _text(draw, stays, effect))
        yield _row(user, intention, COMMUNITY, _text(draw, stays, effect))
        for week in range(2, 12):
            time = intention + (7 * week + draw.uniform(0, 6)) * DAY
            place = COMMUNITY if stays else draw.choice(_ELSEWHERE)
            yield _row(user, time, place, f"{AFTER} {_text(draw, stays, effect)}")
    yield _row("the-last-one", _BEGIN + 800 * DAY, "films", "the end")  # every outcome is over


def write(path: Path, count: int = 400, effect: float = 0.5, seed: int = 0) -> Path:
    """Write the posts as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for row in people(count, effect, seed):
            file.write(json.dumps(row) + "\n")
    return path


def _row(user: str, time: float, community: str, text: str) -> dict[str, Any]:
    return {"user": user, "time": round(time), "community": community, "text": text}


def _text(draw: random.Random, stays: bool, effect: float) -> str:
    lift = effect if stays else 0.0
    about = 0.15 + 0.12 * lift
    sentences = []
    for _ in range(draw.randint(2, 5)):
        parts = [draw.choice(_GROWTH if draw.random() < about else _EVERYDAY)]
        while draw.random() < 0.2 + 0.12 * lift and len(parts) < 4:
            clause = draw.choice(_GROWTH if draw.random() < about else _EVERYDAY)
            parts.append(f"{draw.choice(_JOINED)} {clause}")
        sentences.append(", ".join(parts) + ".")
    return " ".join(sentences)
