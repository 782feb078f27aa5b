"""Feedback to read: as text, as the published JSON, as one page of HTML; the notice on all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from common.report import Section, document
from text.counseling import NOTICE
from text.counseling.conversations import read_lines
from text.counseling.schema import Feedback


class Given(NamedTuple):
    """Feedback to one response, the last in ``context``; without one ``problem`` says why.

    ``appropriate`` is the model's probability of that, ``score`` that of the alternative; a served
    model gives neither.
    """

    number: int
    context: str
    feedback: Feedback | None
    problem: str = ""
    appropriate: float | None = None
    score: float | None = None

    @property
    def response(self) -> str:
        return read_lines(self.context)[-1].text


def facts(given: Given) -> dict[str, Any]:
    """The published keys, with the response that they are about."""
    said = given.feedback
    levels = json.loads(said.json_text()) if said else {"problem": given.problem}
    return {
        "response": given.number,
        "helper": given.response,
        **levels,
        "appropriate": given.appropriate,
        "alternative_appropriate": given.score,
    }


def levels(given: Given) -> list[tuple[str, str]]:
    """The four levels as label and text; areas that were good come with the first."""
    said = given.feedback
    if said is None:
        return [("no feedback", given.problem)]
    sure = "" if given.appropriate is None else f" (P = {given.appropriate:.2f})"
    found = [("appropriate", ("yes" if said.perfect else "could be better") + sure)]
    if said.goodareas:
        found.append(("good", ", ".join(said.goodareas)))
    if not said.perfect:
        found.append(("goal", said.feedback or ""))
        found.append(("to improve", ", ".join(said.badareas or ())))
        own = "" if given.score is None else f" (P = {given.score:.2f})"
        found.append(("instead", f"{said.alternative}{own}"))
    return found


def text(all_given: Sequence[Given]) -> str:
    """All feedback for a terminal."""
    blocks = [f"Notice: {NOTICE}"]
    for given in all_given:
        lines = [f"{given.number}. Helper: {given.response}"]
        lines += [f"   {label + ':':<13}{said}" for label, said in levels(given)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def html(all_given: Sequence[Given], model: str) -> str:
    """All feedback as a page, each response with what the seeker had said."""
    sections = []
    for given in all_given:
        rows = [(str(turn.speaker), turn.text) for turn in read_lines(given.context)[-2:]]
        rows += levels(given)
        sections.append(
            Section(f"Response {given.number}", columns=("", ""), rows=rows, prose=True)
        )
    return document("Feedback for a helper", sections, f"by {model} · arXiv 2403.15482", NOTICE)
