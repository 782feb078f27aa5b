"""What a loop works on and leaves behind: frozen records, stored under the same names.

A record's ``id`` is derived from its content and its place in the run (see :func:`identity`), so
that redoing a unit of work after a crash writes the same rows and no duplicates.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Split = Literal["train", "dev", "test"]
Answer = Literal["left", "right", "tie"]
Better = Literal["higher", "lower", "neither"]


def identity(*parts: object) -> str:
    """A stable 20-digit hexadecimal name for ``parts`` (anything JSON can write, keys sorted)."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@dataclass(frozen=True)
class Task:
    """One thing to do. ``reference`` reaches judges and measures, never proposers."""

    id: str
    prompt: str
    split: Split = "train"
    reference: str | None = None
    language: str = "en"
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """One proposal for a task.

    ``logprob`` is the sum over the ``tokens`` generated tokens, in nats, under the distribution
    that was sampled from the policy at temperature 1 (so that it compares between policies).
    """

    id: str
    task: str
    round: int
    output: str
    logprob: float = 0.0
    tokens: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    artifact: str | None = None
    answer: str | None = None
    strategy: str = "sample"
    language: str = "en"
    parent: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preference:
    """A lesson: for ``prompt``, ``chosen`` is better than ``rejected`` by ``margin``."""

    id: str
    task: str
    round: int
    prompt: str
    chosen: str
    rejected: str
    margin: float = 0.0
    source: str = "self"
    chosen_id: str | None = None
    rejected_id: str | None = None


@dataclass(frozen=True)
class Demonstration:
    """A lesson: for ``prompt``, ``completion`` is worth imitating with ``weight``."""

    id: str
    task: str
    round: int
    prompt: str
    completion: str
    source: str = "self"
    weight: float = 1.0


@dataclass(frozen=True)
class Lessons:
    """What the select stage found worth learning.

    ``notes`` are figures of the choice (a threshold, how many were dropped), which JSON can write:
    they become ``Round.notes["select"]``.
    """

    preferences: tuple[Preference, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.preferences) + len(self.demonstrations)


@dataclass(frozen=True)
class Metric:
    """A mean with its standard error over ``n`` items.

    ``items`` maps task id to that task's value, which lets the gate compare rounds pairwise on
    the same tasks. ``better`` says which direction is an improvement, if one is.
    """

    name: str
    value: float
    se: float
    n: int
    split: Split = "dev"
    round: int = 0
    better: Better = "higher"
    items: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, items: Mapping[str, float], better: Better = "higher") -> Metric:
        """The mean of ``items``; its standard error is infinite where there is but one."""
        values = list(items.values())
        n, mean = len(values), sum(values) / len(values)
        spread = sum((value - mean) ** 2 for value in values)
        se = math.sqrt(spread / (n - 1) / n) if n > 1 else math.inf
        return cls(name, mean, se, n, better=better, items=items)


@dataclass(frozen=True)
class Round:
    """One turn of the loop; ``state`` addresses the policy that it ended with."""

    index: int
    kept: bool
    state: str
    reason: str = ""
    pairs: int = 0
    demonstrations: int = 0
    seconds: float = 0.0
    metrics: tuple[Metric, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


class Stimulus(NamedTuple):
    """What a rater hears or sees: ``system``'s ``output``, and the ``artifact`` that plays it."""

    system: str
    output: str
    artifact: str


@dataclass(frozen=True)
class Comparison:
    """Two stimuli for one task, which people compare: the baseline's, then the contender's.

    ``test`` names the test that it belongs to, ``text`` is what raters read beside the stimuli.
    """

    id: str
    test: str
    task: str
    text: str
    stimuli: tuple[Stimulus, Stimulus]

    def __post_init__(self) -> None:  # a store gives them back as lists
        first, second = self.stimuli
        object.__setattr__(self, "stimuli", (Stimulus(*first), Stimulus(*second)))


@dataclass(frozen=True)
class Rating:
    """What ``rater`` said of the comparison ``item``; of several answers the last counts.

    ``left`` and ``right`` are the systems whose stimuli stood there, ``time`` is in UNIX seconds.
    """

    id: str
    test: str
    item: str
    rater: str
    left: str
    right: str
    answer: Answer
    time: float
    meta: Mapping[str, Any] = field(default_factory=dict)
