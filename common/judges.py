"""Judges that know no domain, and how judges are put together.

    Chain(Recogniser(), Similarity(), Weighted({"wer": -1.0, "similarity": 0.5}))

scores each candidate with the first two and adds their weighted sum as ``total``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from common.errors import UserError
from common.records import Candidate, Task
from common.stages import Context, Judge

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def final_answer(output: str) -> str | None:
    """What a worked solution ends with: after ``####`` or in ``\\boxed{}``, else the last number.

    None when there is none of them.
    """
    if "####" in output:
        return output.rsplit("####", 1)[1].strip() or None
    boxed = re.findall(r"\\boxed\{([^{}]*)\}", output)
    if boxed:
        return str(boxed[-1]).strip()
    numbers = _NUMBER.findall(output)
    return str(numbers[-1]) if numbers else None


class ExactAnswer:
    """1 where the candidate's answer equals the task's reference, else 0, under ``name``.

    The answer is ``candidate.answer``, or what ``extract`` finds in the output. Numbers compare as
    numbers (``1,000`` is ``1000.0``), anything else as words regardless of case and spacing.
    """

    def __init__(
        self, extract: Callable[[str], str | None] = final_answer, name: str = "exact"
    ) -> None:
        self.extract, self.name = extract, name

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        """Raises :class:`UserError` for a task without a reference."""
        scores = []
        for candidate in candidates:
            reference = tasks[candidate.task].reference
            if reference is None:
                raise UserError(
                    f"task {candidate.task} has no reference answer", "use a judge that needs none"
                )
            given = candidate.answer
            if given is None:
                given = self.extract(candidate.output)
            right = given is not None and _canonical(given) == _canonical(reference)
            scores.append({self.name: float(right)})
        return scores


def _canonical(answer: str) -> str | Decimal:
    words = " ".join(answer.split()).casefold()
    try:
        number = Decimal(words.replace(",", "").lstrip("$").rstrip("."))
    except InvalidOperation:
        return words
    return number if number.is_finite() else words


class Weighted:
    """``name``: the sum over ``weights`` of weight times score. A negative weight is a penalty.

    The scores are those a candidate carries already, so in a :class:`Chain` it comes after the
    judges that it weighs.
    """

    def __init__(self, weights: Mapping[str, float], name: str = "total") -> None:
        if not weights or name in weights:
            raise UserError("a weighted judge needs weights of other scores", "name the scores")
        self.weights, self.name = dict(weights), name

    def judge(
        self,
        tasks: Mapping[str, Task],  # noqa: ARG002
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        """Raises :class:`UserError` when a score is missing."""
        totals = []
        for candidate in candidates:
            missing = sorted(self.weights.keys() - candidate.scores.keys())
            if missing:
                raise UserError(
                    f"no score {missing[0]!r} to weigh, only {sorted(candidate.scores)}",
                    "correct the name, or put the judge that gives it before",
                )
            total = sum(weight * candidate.scores[name] for name, weight in self.weights.items())
            totals.append({self.name: total})
        return totals


class Chain:
    """Judges one after the other on the same candidates; a later one sees the earlier scores."""

    def __init__(self, *judges: Judge) -> None:
        self.judges = judges

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        """Raises :class:`UserError` when two judges give a score of the same name."""
        scores: list[dict[str, float]] = [{} for _ in candidates]
        seen = list(candidates)
        for judge in self.judges:
            for index, new in enumerate(judge.judge(tasks, seen, ctx)):
                twice = sorted(new.keys() & scores[index].keys())
                if twice:
                    raise UserError(f"two judges give a score {twice[0]!r}", "rename one of them")
                scores[index].update(new)
                seen[index] = replace(seen[index], scores={**seen[index].scores, **new})
        return scores
