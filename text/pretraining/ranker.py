"""Sentences ranked by how well they answer a question; and that ranker as a judge in loops.

    upspiral text pretrain rank "How do I list an archive?" --model ranker --text manual.txt
    upspiral text improve --judge answer-selection:ranker ...

As judge it scores an answer by the probability that it answers the question. It never sees a
reference, so it can judge where there is none. It learnt to tell sentences that are *about* the
question from others and knows nothing of truth: an answer that is wrong in the right words scores
high, which is why dev is measured by references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.records import Candidate, Task
from common.stages import Context
from text.pretraining.as2 import Question
from text.pretraining.scorer import Scorer
from text.prompts import question

SCORE = "answer_selection"


class Ranker:
    """Orders sentences by the probability that each answers a question."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    @classmethod
    def load(cls, folder: Path) -> Ranker:
        """A ranker that was fine-tuned for answer-sentence selection.

        Raises:
            UserError: there is none, or it was tuned for something else.
        """
        scorer = Scorer.load(folder)
        head = scorer.model.head if scorer.joint else scorer.model.config
        labels = head.labels if scorer.joint else head.num_labels
        if labels != 2 or (scorer.joint and not scorer.each):
            raise UserError(
                f"{str(folder)!r} ranks no sentences: it has {labels} labels",
                "make a ranker: upspiral text pretrain tune --task as2 --out FOLDER",
            )
        return cls(scorer)

    def scores(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """For each question and its sentences the log-probability that each answers it."""
        k = self.scorer.model.k if self.scorer.joint else 1
        rows: list[list[str]] = []
        homes: list[tuple[int, int]] = []  # the question of a row, and its first sentence
        for number, (text, sentences) in enumerate(asked):
            for start in range(0, len(sentences), k):
                rows.append([text, *sentences[start : start + k]])
                homes.append((number, start))
        found = [[0.0] * len(sentences) for _, sentences in asked]
        right = (
            self.scorer.scores(rows)[..., 1].reshape(len(rows), -1) if rows else np.zeros((0, 1))
        )
        for row, (number, start), line in zip(rows, homes, right, strict=True):
            for j in range(len(row) - 1):
                found[number][start + j] = float(line[j])
        return found

    def groups(
        self, questions: Sequence[Question]
    ) -> dict[str, tuple[list[float], tuple[bool, ...]]]:
        """What :func:`text.pretraining.ranking.evaluate` takes."""
        scores = self.scores([(q.text, q.sentences) for q in questions])
        return {q.id: (s, q.right) for q, s in zip(questions, scores, strict=True)}

    def rank(self, text: str, sentences: Sequence[str]) -> list[tuple[float, str]]:
        """Probability and sentence, best first."""
        (scores,) = self.scores([(text, sentences)])
        pairs = zip(np.exp(scores).tolist(), sentences, strict=True)
        return sorted(pairs, key=lambda pair: -pair[0])


class AnswerSelection:
    """Judge: ``answer_selection``, the log-probability that an output answers its question."""

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker

    def judge(
        self,
        tasks: Mapping[str, Task],
        candidates: Sequence[Candidate],
        ctx: Context,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        by_task: dict[str, list[int]] = {}
        for number, candidate in enumerate(candidates):
            by_task.setdefault(candidate.task, []).append(number)
        asked = [
            (question(tasks[task]), [candidates[n].output for n in numbers])
            for task, numbers in by_task.items()
        ]
        found = [0.0] * len(candidates)
        for numbers, scores in zip(by_task.values(), self.ranker.scores(asked), strict=True):
            for number, score in zip(numbers, scores, strict=True):
                found[number] = score
        return [{SCORE: score} for score in found]
