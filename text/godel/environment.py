"""What an agent is set to do: questions to answer, and how an answer is scored. The host's alone.

A question goes into the sandbox as a text; reference answers stay here. What the agent may measure
itself on (validation, the tasks' dev split) and what it is measured on at the end (test) share no
question. Any task of :mod:`text.tasks` is one environment; ``scenes`` is another, to show that the
loop needs no text task: its answers are settings of the layout solver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.errors import UserError
from common.records import Task
from text.answers import SPANS, correct, f1, flexible, kind_of

Score = Callable[[Task, str], float]
FORMS = {
    "number": "a number",
    "choice": "the letter of the right choice",
    "boolean": "true or false",
    "expression": "an expression",
    "code": "a Python program",
    "text": "as short as it can be said",
    "span": "words or a number, as short as they can be said",
}
"""What the answers of each kind look like."""


@dataclass(frozen=True)
class Environment:
    """``about`` is what the agent is told of it, an example without its answer included."""

    about: str
    validation: tuple[Task, ...]
    test: tuple[Task, ...]
    score: Score
    metric: str = "accuracy"
    policy: str | None = None
    """What solves it at the start; None: the model thinks step by step."""


def load(name: str, validation: int, test: int, seed: int = 0) -> Environment:
    """The environment called ``name``: ``scenes``, or a task of :mod:`text.tasks`.

    Raises:
        UserError: there is no such task, or it has too few questions.
    """
    if name == "scenes":
        from text.godel import scenes

        return scenes.load(validation, test)
    from text import tasks

    found = tasks.load(name, seed, train=0, dev=validation, test=test)
    held = tuple(task for task in found if task.split == "dev")
    last = tuple(task for task in found if task.split == "test")
    if len(held) < 2 or len(last) < 2:
        raise UserError(
            f"{name} has {len(held)} validation and {len(last)} test questions",
            "give files with more, or ask for 2 or more of each",
        )
    if any(task.reference is None for task in (*held, *last)):
        raise UserError(f"{name} has questions without an answer", "use a task with answers")
    kind = kind_of(held[0])
    about = (
        f"Answer questions; each answer is {FORMS[kind]}. The policy gives any text: what follows "
        '"The answer is" counts, or else the last answer in it. One of the questions:\n\n'
        f"{held[0].prompt}"
    )
    return Environment(about, held, last, score, "F1" if kind == "span" else "accuracy")


def score(task: Task, output: str) -> float:
    """From 0 to 1, how right the answer is that ``output`` gives."""
    kind = kind_of(task)
    if kind == "code":
        from text.programs import answer_of

        return float(correct(task, answer_of(output, task)))
    answer = flexible(output, kind, task.language)
    if answer is None and kind in ("text", "span") and len(output) < 200:
        answer = output
    if kind == "span":
        return f1(answer or "", task.reference or SPANS)
    return float(correct(task, answer))


def scored(
    environment: Environment, tasks: Sequence[Task], answers: Sequence[str | None]
) -> list[float]:
    """The scores of answers; 0 where there is none."""
    return [
        0.0 if answer is None else environment.score(task, answer)
        for task, answer in zip(tasks, answers, strict=True)
    ]
