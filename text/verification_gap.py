"""The generation-verification gap of a language model (arXiv 2412.02674).

Can a model tell its right answers from its wrong ones better than it gives right ones? Only then
has self-improvement something to learn from. Verifiers, each a model that reads a question and an
answer and gives a utility:

| verifier | reads | utility |
|---|---|---|
| `mc`, multiple choice | is it (A) correct or (B) incorrect? | P(A) / (P(A) + P(B)) |
| `cot-b`, chain of thought, binary | reasons, then says correct or incorrect | 1 or 0 |
| `cot-s`, chain of thought, scored | reasons, then gives 1 to 10 points | points / 10 |
| `to`, tournament | pairs of answers, round after round | rounds won / rounds |

A filter makes weights of utilities (threshold, the best share of each question, exp(u / beta)), and
:func:`common.monitors.gap.gap` says what the filtered samples are worth beyond the unfiltered ones.
Ensembles keep what all of their verifiers keep. Generator and verifier may be different models: the
cross-verification matrix has a row for each generator, a column for each verifier.

Deviations: prompts are ours; the text that no verdict can be read from counts as incorrect (binary)
or 5 points (scored), as in the middle of what it might have said. A tournament with a number of
entrants that is no power of two gives byes by lot.

    upspiral text gap --task arithmetic --model smollm2
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.monitors.gap import Gap, above, every, gap, tilted, top_share
from common.records import Candidate, Task, identity
from text.prompts import question

Floats = NDArray[np.float64]
Kind = Literal["mc", "cot-b", "cot-s", "to"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILTERS = ("threshold", "share", "tilt")
"""above(setting), top_share(setting), tilted(setting) of :mod:`common.monitors.gap`."""


class Reader(Protocol):
    """What a model must offer to verify: texts for prompts, and how likely completions are."""

    def write(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """One text for each prompt, sampled with its seed."""

    def choose(self, prompts: Sequence[str], options: Sequence[str]) -> Floats:
        """Log-probability of each option right after each prompt, (prompts, options), in nats."""


class Verifier(Protocol):
    """Utilities of candidates, in [0, 1]; the answers of a question come one after the other."""

    def utilities(self, groups: Sequence[Group]) -> list[Floats]:
        """An array for each group, a number for each of its outputs."""


@dataclass(frozen=True)
class Group:
    """A question and what was answered to it. ``key`` seeds what is drawn about it."""

    key: str
    question: str
    outputs: tuple[str, ...]


def groups(tasks: Sequence[Task], candidates: Sequence[Candidate]) -> list[Group]:
    """The candidates of each task, in order; tasks without any are left out."""
    by_task: dict[str, list[str]] = {}
    for candidate in candidates:
        by_task.setdefault(candidate.task, []).append(candidate.output.strip())
    return [
        Group(task.id, question(task), tuple(by_task[task.id]))
        for task in tasks
        if task.id in by_task
    ]


_ASKED = "Question: {question}\nProposed answer: {output}\n"
_CHOICE = _ASKED + "Is the proposed answer correct?\n(A) correct\n(B) incorrect\nThe choice is ("
_CHECK = _ASKED + "Check the proposed answer step by step. End with: "
_BINARY = _CHECK + "Verdict: correct, or: Verdict: incorrect.\nCheck:"
_SCORED = _CHECK + "Score: N, from 1 (wrong) to 10 (right).\nCheck:"
_BETTER = (
    "Question: {question}\nAnswer 1: {first}\nAnswer 2: {second}\n"
    "Which answer is correct?\nThe better answer is Answer"
)
_VERDICT = re.compile(r"verdict\W*\s*(correct|incorrect)", re.IGNORECASE)
_SCORE = re.compile(r"score\W*\s*(10|[1-9])(?!\d)", re.IGNORECASE)
MIDDLE = 5
"""Points where none can be read."""


@dataclass(frozen=True)
class MultipleChoice:
    """P(A) against P(B) for the letters of correct and incorrect; nothing is sampled."""

    reader: Reader

    def utilities(self, groups: Sequence[Group]) -> list[Floats]:
        prompts = [_CHOICE.format(question=g.question, output=o) for g in groups for o in g.outputs]
        said = self.reader.choose(prompts, ["A", "B"])
        return _split(1 / (1 + np.exp(said[:, 1] - said[:, 0])), groups)


@dataclass(frozen=True)
class ChainOfThought:
    """Reasons, then a verdict (``scored`` false) or points out of ten; the mean of ``times``."""

    reader: Reader
    scored: bool = False
    times: int = 1
    seed: int = 0

    def utilities(self, groups: Sequence[Group]) -> list[Floats]:
        form = _SCORED if self.scored else _BINARY
        prompts, seeds = [], []
        for group in groups:
            for index, output in enumerate(group.outputs):
                for time in range(self.times):
                    prompts.append(form.format(question=group.question, output=output))
                    seeds.append(_seed(self.seed, group.key, index, self.scored, time))
        read = points if self.scored else verdict
        values = np.array([read(text) for text in self.reader.write(prompts, seeds)])
        return _split(values.reshape(-1, self.times).mean(1), groups)


@dataclass(frozen=True)
class Tournament:
    """Single elimination: each pair is asked about in both orders, and byes go by lot.

    The winner of a group has 1; who went out in round r of R has (r - 1) / R.
    """

    reader: Reader
    seed: int = 0

    def utilities(self, groups: Sequence[Group]) -> list[Floats]:
        won = [np.zeros(len(group.outputs)) for group in groups]
        left = [
            list(np.random.default_rng(_seed(self.seed, g.key, "draw")).permutation(len(g.outputs)))
            for g in groups
        ]
        rounds = [max(1, int(np.ceil(np.log2(len(g.outputs))))) for g in groups]
        while any(len(entrants) > 1 for entrants in left):
            pairs = [
                (number, a, b)
                for number, entrants in enumerate(left)
                for a, b in zip(entrants[::2], entrants[1::2], strict=False)
            ]
            first = self._prefers([(groups[g], a, b) for g, a, b in pairs])
            through: list[list[int]] = [
                entrants[-1:] if len(entrants) % 2 else [] for entrants in left
            ]
            for (number, a, b), wins in zip(pairs, first, strict=True):
                through[number].append(a if wins else b)
            for number, entrants in enumerate(through):
                if len(left[number]) > 1:
                    won[number][entrants] += 1
            left = through
        for number, entrants in enumerate(left):
            won[number][entrants] = rounds[number]  # also of a group of one
        return [w / r for w, r in zip(won, rounds, strict=True)]

    def _prefers(self, pairs: Sequence[tuple[Group, int, int]]) -> list[bool]:
        """Whether the first of each pair is better: by both orders, which cancels position."""
        prompts = []
        for group, a, b in pairs:
            for first, second in ((a, b), (b, a)):
                given = {"first": group.outputs[first], "second": group.outputs[second]}
                prompts.append(_BETTER.format(question=group.question, **given))
        margin = self.reader.choose(prompts, [" 1", " 2"]).reshape(-1, 2, 2)
        ahead = margin[:, 0, 0] - margin[:, 0, 1] + margin[:, 1, 1] - margin[:, 1, 0]
        return [bool(value >= 0) for value in ahead]


def verdict(text: str) -> float:
    """1 where the last verdict is correct, 0 where it is incorrect or missing."""
    found = _VERDICT.findall(text)
    return float(bool(found) and found[-1].lower() == "correct")


def points(text: str) -> float:
    """The last score as a share of ten; the middle where there is none."""
    found = _SCORE.findall(text)
    return int(found[-1] if found else MIDDLE) / 10


def verifier(kind: str, reader: Reader, seed: int = 0) -> Verifier:
    """The verifier called ``kind``.

    Raises:
        UserError: there is none.
    """
    made: Mapping[str, Callable[[], Verifier]] = {
        "mc": lambda: MultipleChoice(reader),
        "cot-b": lambda: ChainOfThought(reader, seed=seed),
        "cot-s": lambda: ChainOfThought(reader, scored=True, seed=seed),
        "to": lambda: Tournament(reader, seed),
    }
    if kind not in made:
        raise UserError(f"no verifier {kind!r}", f"use {', '.join(KINDS)}")
    return made[kind]()


def weights(name: str, setting: float, utilities: Sequence[Floats]) -> list[Floats]:
    """The filter called ``name`` on each question's utilities.

    Raises:
        UserError: there is no such filter, or its setting is out of range.
    """
    filters = {"threshold": above, "share": top_share, "tilt": tilted}
    if name not in filters:
        raise UserError(f"no filter {name!r}", f"use {', '.join(FILTERS)}")
    try:
        return filters[name](setting, utilities)
    except ValueError as error:
        raise UserError(str(error), "give a share in (0, 1], a beta above 0") from error


@dataclass(frozen=True)
class Line:
    """One row of the table: a generator, the verifiers that had to agree, a filter, the gap."""

    generator: str
    verifier: str
    kinds: tuple[str, ...]
    filter: str
    setting: float
    gap: Gap


def lines(
    generator: str,
    by: str,
    worth: Sequence[Floats],
    utilities: Mapping[str, Sequence[Floats]],
    filters: Sequence[tuple[str, float]],
    ensembles: bool = True,
) -> list[Line]:
    """The gap for every verifier and filter, and, by the first filter, for ensembles of them.

    ``utilities`` is by kind of verifier. An ensemble is every pair of kinds and all together.
    """
    found = [
        Line(generator, by, (kind,), name, setting, gap(worth, weights(name, setting, utility)))
        for kind, utility in utilities.items()
        for name, setting in filters
    ]
    kinds = list(utilities)
    teams = [(a, b) for i, a in enumerate(kinds) for b in kinds[i + 1 :]] if ensembles else []
    if ensembles and len(kinds) > 2:
        teams.append(tuple(kinds))  # type: ignore[arg-type]
    name, setting = filters[0]
    for team in teams:
        kept = every(*(weights(name, setting, utilities[kind]) for kind in team))
        found.append(Line(generator, by, team, name, setting, gap(worth, kept)))
    return found


def agreement(worth: Sequence[Floats], utility: Sequence[Floats]) -> float:
    """How often a right answer has a higher utility than a wrong one of the same question.

    The mean over questions that have both; ties count half; NaN where there is no such question.
    """
    found = []
    for values, u in zip(worth, utility, strict=True):
        right, wrong = u[values > 0.5], u[values <= 0.5]
        if len(right) and len(wrong):
            margin = np.sign(right[:, None] - wrong[None, :])
            found.append(float((margin.mean() + 1) / 2))
    return float(np.mean(found)) if found else float("nan")


def _split(values: Floats, groups: Sequence[Group]) -> list[Floats]:
    ends = np.cumsum([len(group.outputs) for group in groups])[:-1]
    return list(np.split(values, ends))


def _seed(*what: object) -> int:
    return int(identity("verify", *what), 16) >> 17
