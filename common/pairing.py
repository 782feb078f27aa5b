"""From judged candidates to preferences.

Four sources, each deterministic: the best of a task's candidates over its worst by one score, the
same on the Pareto front of several (as Koel-TTS ranks, arXiv 2502.05236), a golden completion over
sampled ones (SPIN, SpeechAlign), and right candidates over wrong ones (iterated self-improvement).
A pair is never of equal texts and never repeated.

``objectives`` maps a score's name to the direction that is better. A chosen completion that was
cut at the length limit teaches never to end, so candidates with ``meta["finished"]`` false are not
chosen; they may be rejected.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from common.errors import UserError
from common.pool import by_task
from common.records import Candidate, Demonstration, Lessons, Preference, Task, identity
from common.stages import Context

Direction = Literal["higher", "lower"]


def best_worst(
    tasks: Mapping[str, Task],
    candidates: Sequence[Candidate],
    *,
    key: str,
    better: Direction = "higher",
    min_margin: float = 0.0,
    pairs_per_task: int = 1,
    round: int = 0,
) -> list[Preference]:
    """Best over worst, second best over second worst, and so on, by the score ``key``.

    The margin is the difference of the scores; it must be positive and at least ``min_margin``.
    """
    pairs: list[Preference] = []
    for name, group in by_task(candidates):
        task = tasks[name]
        ranked = sorted(group, key=lambda c: (-_value(c, key, better), c.id))
        worst = iter(reversed(ranked))
        used: set[str] = set()
        for chosen in ranked:
            if len(used) // 2 == pairs_per_task:
                break
            if not _ended(chosen) or chosen.id in used:
                continue
            # The worst left whose text differs, so that repeated samples do not cost the pair.
            rejected = next(
                (c for c in worst if c.id not in used and c.output != chosen.output), None
            )
            if rejected is None:
                break
            margin = _value(chosen, key, better) - _value(rejected, key, better)
            if margin <= 0 or margin < min_margin:
                break
            used |= {chosen.id, rejected.id}
            pairs.append(pair(task, chosen, rejected, margin, "self", round))
    return distinct(pairs)


def pareto_best_worst(
    tasks: Mapping[str, Task],
    candidates: Sequence[Candidate],
    *,
    objectives: Mapping[str, Direction],
    min_margin: float = 0.0,
    pairs_per_task: int = 1,
    round: int = 0,
) -> list[Preference]:
    """Pairs in which the chosen dominates: no objective worse, at least one better.

    Of all such pairs of a task the widest come first, and no candidate is used twice. The margin
    is the mean gain over the objectives, each in units of its standard deviation over all
    ``candidates``; pairs below ``min_margin`` are near ties and dropped. The chosen lie on the
    task's Pareto front.
    """
    if not objectives:
        raise UserError("no objective to rank by", "name at least one score")
    names = sorted(objectives)
    # In an order of its own: the last digit of a standard deviation depends on it.
    found = [_points(group, names, objectives) for _, group in by_task(candidates)]
    every = np.concatenate(found) if found else np.empty((0, len(names)))
    scale = every.std(axis=0) if len(every) else np.ones(len(names))
    scale = np.where(scale > 0, scale, 1.0)
    pairs: list[Preference] = []
    for name, group in by_task(candidates):
        task = tasks[name]
        points = _points(group, names, objectives)
        gain = points[:, None, :] - points[None, :, :]
        dominates = (gain >= 0).all(-1) & (gain > 0).any(-1)
        front = ~dominates.any(axis=0)
        margin = (gain / scale).mean(-1)
        rows, columns = np.nonzero(dominates & (margin >= min_margin) & front[:, None])
        ranked = sorted(
            zip(rows.tolist(), columns.tolist(), strict=True),
            key=lambda ij: (-margin[ij], group[ij[0]].id, group[ij[1]].id),
        )
        used: set[int] = set()
        for i, j in ranked:
            if len(used) == 2 * pairs_per_task:
                break
            chosen, rejected = group[i], group[j]
            if {i, j} & used or not _ended(chosen) or chosen.output == rejected.output:
                continue
            used |= {i, j}
            pairs.append(pair(task, chosen, rejected, float(margin[i, j]), "pareto", round))
    return distinct(pairs)


def golden_over_sampled(
    tasks: Mapping[str, Task],
    goldens: Mapping[str, str],
    candidates: Sequence[Candidate],
    *,
    pairs_per_task: int = 1,
    seed: int = 0,
    key: str | None = None,
    better: Direction = "higher",
    golden_scores: Mapping[str, float] | None = None,
    min_margin: float = 0.0,
    round: int = 0,
) -> list[Preference]:
    """The golden completion of a task over candidates drawn by ``seed``, or the worst by ``key``.

    With ``golden_scores`` (by task, of ``key``) the margin is the difference of the scores and
    must reach ``min_margin``; else it is 0. Tasks without a golden are left out.
    """
    pairs: list[Preference] = []
    for name, group in by_task(candidates):
        task = tasks[name]
        if task.id not in goldens:
            continue
        group = [c for c in group if c.output != goldens[task.id]]
        if key is None:
            # By identity, not by position: another task or candidate changes no draw.
            random.Random(identity(seed, task.id)).shuffle(group)
        else:
            group.sort(key=lambda c: (_value(c, key, better), c.id))
        taken: dict[str, Preference] = {}
        for rejected in group:
            if len(taken) == pairs_per_task:
                break
            margin = 0.0
            if key is not None and golden_scores is not None:
                golden = golden_scores[task.id] * (1 if better == "higher" else -1)
                margin = golden - _value(rejected, key, better)
                if margin < min_margin:
                    continue
            if rejected.output not in taken:
                text = goldens[task.id]
                taken[rejected.output] = pair(task, text, rejected, margin, "golden", round)
        pairs += taken.values()
    return distinct(pairs)


class Sides(NamedTuple):
    """A task's right and wrong candidates, each side in the order of ids and without repeats."""

    task: Task
    right: list[Candidate]
    wrong: list[Candidate]


def sides(tasks: Mapping[str, Task], candidates: Iterable[Candidate], key: str) -> Iterator[Sides]:
    """The tasks that have both, told apart by whether the score ``key`` is above 1/2.

    Candidates without that score are left out, being no answers, and right ones that were cut.
    """
    for name, everything in by_task(candidates):
        group = [c for c in everything if key in c.scores]
        good = {c.output for c in group if _value(c, key, "higher") > 0.5}
        right: dict[str, Candidate] = {}
        wrong: dict[str, Candidate] = {}
        for candidate in group:
            if candidate.output not in good:
                wrong.setdefault(candidate.output, candidate)
            elif _ended(candidate):
                right.setdefault(candidate.output, candidate)
        if right and wrong:
            yield Sides(tasks[name], list(right.values()), list(wrong.values()))


def right_over_wrong(
    tasks: Mapping[str, Task],
    candidates: Sequence[Candidate],
    *,
    key: str,
    pairs_per_task: int,
    seed: int,
    round: int = 0,
) -> list[Preference]:
    """Each task's right candidates over wrong ones, both shuffled by ``seed`` and the task."""
    pairs: list[Preference] = []
    for task, right, wrong in sides(tasks, candidates, key):
        draw = random.Random(identity(seed, task.id))
        draw.shuffle(right)
        draw.shuffle(wrong)
        both = list(zip(right, wrong, strict=False))[:pairs_per_task]
        pairs += [pair(task, good, bad, 1.0, "self", round) for good, bad in both]
    return distinct(pairs)


def distinct(pairs: Iterable[Preference]) -> list[Preference]:
    """The first of the pairs with the same prompt, chosen and rejected; order is kept."""
    found: dict[tuple[str, str, str], Preference] = {}
    for pair in pairs:
        found.setdefault((pair.prompt, pair.chosen, pair.rejected), pair)
    return list(found.values())


def chosen(pairs: Iterable[Preference]) -> list[Demonstration]:
    """What the pairs prefer, to be imitated: one for each pair, so that both learn from the same.

    A completion that won twice is there twice.
    """
    return [
        Demonstration(
            id=identity("chosen", pair.id),
            task=pair.task,
            round=pair.round,
            prompt=pair.prompt,
            completion=pair.chosen,
            source=pair.source,
        )
        for pair in pairs
    ]


def _value(candidate: Candidate, key: str, better: Direction) -> float:
    if key not in candidate.scores:
        raise UserError(
            f"candidates have no score {key!r}, only {sorted(candidate.scores)}",
            "correct the name, or add the judge that gives it",
        )
    value = candidate.scores[key]
    if value != value:
        raise UserError(f"the score {key!r} of a candidate is not a number", "correct the judge")
    return value if better == "higher" else -value


def _points(
    group: Sequence[Candidate], names: Sequence[str], objectives: Mapping[str, Direction]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    values = [[_value(c, name, objectives[name]) for name in names] for c in group]
    return np.array(values, dtype=np.float64).reshape(len(group), len(names))


def _ended(candidate: Candidate) -> bool:
    return bool(candidate.meta.get("finished", True))


def pair(
    task: Task,
    chosen: Candidate | str,
    rejected: Candidate,
    margin: float,
    source: str,
    round: int,
) -> Preference:
    """The preference of ``chosen``, a candidate or a text that nobody sampled."""
    text = chosen if isinstance(chosen, str) else chosen.output
    chosen_id = None if isinstance(chosen, str) else chosen.id
    return Preference(
        id=identity("preference", round, source, task.id, text, rejected.output),
        task=task.id,
        round=round,
        prompt=task.prompt,
        chosen=text,
        rejected=rejected.output,
        margin=margin,
        source=source,
        chosen_id=chosen_id,
        rejected_id=rejected.id,
    )


@dataclass(frozen=True)
class Fixed:
    """Select: the same lessons every round, whatever was proposed."""

    lessons: Lessons

    def select(
        self,
        tasks: Mapping[str, Task],  # noqa: ARG002
        pool: Sequence[Candidate],  # noqa: ARG002
        ctx: Context,  # noqa: ARG002
    ) -> Lessons:
        return self.lessons
