"""From a question to what a model reads: worked examples before it, or an instruction.

A base model goes on with what it sees, so it gets examples in the format that answers should have,
and its completion ends where the next question would begin (``STOPS``). A chat model gets an
instruction that says the format, then the question; the chat template is the policy's. Examples lie
in ``tasks/prompts/FAMILY.LANGUAGE.json``; none of them is made from a template of the tasks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.records import Task

FOLDER = Path(__file__).parent / "tasks" / "prompts"
FAMILIES = tuple(sorted({path.name.split(".")[0] for path in FOLDER.glob("*.json")}))
STOPS = ("\n",)
"""Where a base model's answer ends if its family does not say: examples answer in one line."""


@cache
def template(family: str, language: str) -> Mapping[str, Any]:
    """``question`` and ``answer`` labels, ``instruction`` and ``shots`` of a family of tasks.

    A language without a file has English ones; a family without one has no examples.
    """
    for name in (f"{family}.{language}", f"{family}.en"):
        path = FOLDER / f"{name}.json"
        if path.exists():
            found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return {"question": "Question:", "answer": "Answer:", "instruction": "", "shots": []}


def stops(family: str) -> tuple[str, ...]:
    """Where a base model's answer to a task of a family ends."""
    return tuple(template(family, "en").get("stops", STOPS))


def prompt(
    question: str, family: str, language: str = "en", shots: int = 4, chat: bool = False
) -> str:
    """What a model reads for ``question``; its completion is the answer.

    Raises:
        UserError: more examples than there are.
    """
    parts = template(family, language)
    examples = parts["shots"]
    if not 0 <= shots <= len(examples) and examples:
        raise UserError(f"{shots} examples", f"give 0 to {len(examples)}")
    blocks = [
        f"{parts['question']} {asked}\n{parts['answer']} {answered}"
        if parts["question"]
        else asked + answered  # as one reads on: a head, and the function's body
        for asked, answered in examples[:shots]
    ]
    if chat:
        said = [parts["instruction"]] if parts["instruction"] else []
        return "\n\n".join([*said, *blocks, question])
    if not parts["question"]:
        return "\n\n".join([*blocks, question])
    # No space at the end: the tokens of answers begin with one.
    return "\n\n".join([*blocks, f"{parts['question']} {question}\n{parts['answer']}"])


def prompted(tasks: Sequence[Task], shots: int, chat: bool = False) -> list[Task]:
    """The tasks with the whole prompt as ``prompt``, and the bare question in ``meta``."""
    return [
        replace(
            task,
            prompt=prompt(
                task.prompt, str(task.meta.get("family", "")), task.language, shots, chat
            ),
            meta={**task.meta, "question": task.prompt},
        )
        for task in tasks
    ]


def question(task: Task) -> str:
    """The bare question of a task that was prompted, or its prompt."""
    return str(task.meta.get("question", task.prompt))
