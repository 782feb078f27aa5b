"""What a model reads and says as planner, reflector, critic and checker of a plan for a function.

A plan is numbered steps of plain language. A base model goes on after worked examples, one line a
role; a chat model gets the same with the role's instruction before it. The siblings of a plan stand
in what the reflector reads, and the steps that there are in what asks for another one: the released
code of SRA-MCTS lost them on the way of the reflection, so that nothing made plans differ.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import NamedTuple

from common.search import Place
from text.prompts import template

FAMILY = "code-planned"
END = "<end>"
MIDDLE = 5.0
"""The score where none can be read, as in the released code."""
STOPS = ("\n",)

NEXT = "Plan the function in short steps of plain language, without code. Write the next step."
MISSING = (
    f"Say in one sentence what the plan still lacks, or {END} if it lacks nothing. "
    "Do not lead it to a plan that was tried."
)
RUBRIC = (
    "Score the plan from 0 to 10. 10: it solves the problem. 5 to 7: right so far, but not "
    "complete. 3 to 5: an earlier step is wrong. Below 3: the last step is wrong. 0: it holds code."
)
FINAL = "Does the plan solve the problem, with nothing left to do? Write: solved, or: not solved."


class Example(NamedTuple):
    """A plan of a worked example (by number of step, from the first shots), and what is said of
    it by the reflector, the critic and the final check."""

    shot: int
    steps: tuple[str, ...]
    lacks: str
    score: str
    final: str


EXAMPLES = (
    Example(0, ("Multiply the width by the height and return it.",), END, "10", "solved"),
    Example(1, ("Take the first letter of each name.",),
            "The letters still have to be joined with dots.", "6", "not solved"),
    Example(2, ("Take the values of the dictionary.", "Return the largest of the values."),
            "The last step has to return the smallest value.", "2", "not solved"),
    Example(1, ("Take the first letter of each name.",
                "Join the letters with dots and return them."), END, "10", "solved"),
)  # fmt: skip


def step_prompt(head: str, place: Place, chat: bool = False) -> str:
    """What asks for the next step of a plan, other than ``place.others``."""
    blocks = [
        f"{_shown(_head(e.shot), e.steps[:-1])}\n{len(e.steps)}. {e.steps[-1]}" for e in EXAMPLES
    ]
    asked = _shown(head, place.path, _aside(place))
    return _whole(NEXT, blocks, f"{asked}\n{len(place.path) + 1}.", chat)


def reflection_prompt(head: str, place: Place, chat: bool = False) -> str:
    """What asks for what is missing, beside the plans that were tried at the same point."""
    blocks = [f"{_shown(_head(e.shot), e.steps)}\nIt lacks: {e.lacks}" for e in EXAMPLES]
    tried = [f"Also tried: {' | '.join(place.siblings)}"] if place.siblings else []
    return _whole(MISSING, blocks, f"{_shown(head, place.path, tried)}\nIt lacks:", chat)


def score_prompt(head: str, place: Place, chat: bool = False) -> str:
    """What asks the critic for a score."""
    blocks = [f"{_shown(_head(e.shot), e.steps)}\nScore: {e.score}" for e in EXAMPLES]
    return _whole(RUBRIC, blocks, f"{_shown(head, place.path)}\nScore:", chat)


def check_prompt(head: str, place: Place, chat: bool = False) -> str:
    """What asks whether the plan is an answer."""
    blocks = [f"{_shown(_head(e.shot), e.steps)}\nVerdict: {e.final}" for e in EXAMPLES]
    return _whole(FINAL, blocks, f"{_shown(head, place.path)}\nVerdict:", chat)


def ended(reflection: str) -> bool:
    """Whether a reflection says that nothing is missing."""
    said = solved(reflection)
    return said is True or (END in reflection.casefold() and said is not False)


_SOLVED = re.compile(r"\b(?:un)?solved\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"(?:\b(?:not|never|no|cannot|hardly|nor|neither|without|isnt|wasnt)\b|n['’]t\b)"
    r"(?:\W+\w+){0,3}\W*$",
    re.IGNORECASE,
)


def solved(text: str) -> bool | None:
    """What a text says last of whether the problem is solved; None if it says nothing of it.

    ``not solved``, ``isn't fully solved`` and ``unsolved`` are all no: the released code looked for
    the letters "solved" in the answer, and took each of them for a yes.
    """
    verdict = None
    for match in _SOLVED.finditer(text):
        before = re.split(r"[.!?;:,\n]", text[: match.start()])[-1]
        verdict = not (match[0].casefold().startswith("un") or _NEGATION.search(before))
    return verdict


_POINTS = re.compile(r"(?<![\d.,-])(10(?:\.0+)?|\d(?:\.\d+)?)(?![\d]|[.,]\d)")


def points(text: str) -> float:
    """The first number from 0 to 10 in a text; the middle where there is none."""
    found = _POINTS.search(text)
    return float(found[1]) if found else MIDDLE


def is_code(step: str) -> bool:
    """Whether a step is Python rather than a sentence; the rubric gives it 0."""
    try:
        body = ast.parse(step.strip("`. ")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return not all(
        isinstance(one, ast.Expr) and isinstance(one.value, ast.Name | ast.Constant) for one in body
    )


def first_step(said: str) -> str:
    """The first line of what was said for a step, without its number: chat models go on."""
    line = said.strip().partition("\n")[0]
    return re.sub(r"^(?:\d+[.)]|[-*])\s+", "", line.strip())


def comments(plan: Sequence[str]) -> str:
    """A plan as the comments that a function begins with."""
    return "".join(f"\n    # {number}. {step}" for number, step in enumerate(plan, 1))


def _head(shot: int) -> str:
    return str(template(FAMILY, "en")["shots"][shot][0])


def _shown(head: str, plan: Sequence[str], aside: Sequence[str] = ()) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(plan, 1)]
    return "\n".join([head, *aside, "Plan:", *steps])


def _aside(place: Place) -> list[str]:
    """What a planner is told besides: what the reflector said, and what is not to be repeated."""
    told = [f"It lacks: {place.note}"] if place.note else []
    others = [f"Another step than: {' | '.join(place.others)}"] if place.others else []
    return told + others


def _whole(instruction: str, blocks: Sequence[str], asked: str, chat: bool) -> str:
    # An instruction is no part of what a base model goes on with; its examples say the same.
    return "\n\n".join([*([instruction] if chat else []), *blocks, asked])
