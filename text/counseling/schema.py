"""Feedback on a helper's response: four levels, eight areas, and nothing that nobody knows.

As JSON, with the keys and in the order of the published data::

    {"perfect": true, "goodareas": ["Empathy"]}
    {"perfect": false, "goodareas": [], "feedback": "The goal is to ...", "badareas": ["Questions"],
     "alternative": "..."}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError, field_validator
from pydantic import model_validator as validator

from common.policies import answers

GOAL = "The goal is to"
"""How the second level begins."""
LONGEST = 2000
"""Characters of a text."""


class Area(StrEnum):
    """What a response can be good or weak in, and what goes wrong there."""

    REFLECTIONS = "Reflections"
    QUESTIONS = "Questions"
    SUGGESTIONS = "Suggestions"
    VALIDATION = "Validation"
    DISCLOSURE = "Self-disclosure"
    EMPATHY = "Empathy"
    PROFESSIONALISM = "Professionalism"
    STRUCTURE = "Structure"


ERRORS: dict[Area, str] = {
    Area.REFLECTIONS: "none, a guess beyond what was said, the same words back, too sure a feeling",
    Area.QUESTIONS: "closed, several at once, without a purpose, about others than the seeker",
    Area.SUGGESTIONS: "too early, too much, telling what to do, pressing own views",
    Area.VALIDATION: "feelings not named as normal, or prejudice agreed with",
    Area.DISCLOSURE: "long, or without a way back to the seeker",
    Area.EMPATHY: "no emotional reaction, no interpretation, no exploration, or pity",
    Area.PROFESSIONALISM: "slang, too formal, too close",
    Area.STRUCTURE: "beginning: no rapport; middle: many topics at once; end: nothing summed up",
}
"""What each area's mistakes are, for prompts and for people."""


class Feedback(BaseModel):
    """The four levels for one response: 1 ``perfect``, 2 ``feedback``, 3 areas, 4 ``alternative``.

    The last three are there exactly if the response is not perfect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    perfect: StrictBool
    goodareas: tuple[Area, ...] = ()
    feedback: str | None = None
    badareas: tuple[Area, ...] | None = None
    alternative: str | None = None

    @field_validator("goodareas", "badareas", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            for name in value:
                if not isinstance(name, str) or name not in Area._value2member_map_:
                    raise ValueError(f"{name!r} is none of the eight areas: {', '.join(Area)}")
            return tuple(dict.fromkeys(value))
        return value

    @validator(mode="after")
    def _levels(self) -> Feedback:
        others = {"feedback": self.feedback, "badareas": self.badareas,
                  "alternative": self.alternative}  # fmt: skip
        if self.perfect:
            if given := [name for name, value in others.items() if value is not None]:
                raise ValueError(f"a perfect response has no {given[0]}")
            return self
        for name, value in others.items():
            if not value:
                raise ValueError(f"a response that is not perfect needs {name}")
            if len(value) > LONGEST:
                raise ValueError(f"{name} has more than {LONGEST} characters")
        if not (self.feedback or "").startswith(GOAL):
            raise ValueError(f"feedback must begin with {GOAL!r}")
        if both := set(self.goodareas) & set(self.badareas or ()):
            raise ValueError(f"{min(both)} is called good and bad")
        return self

    def json_text(self) -> str:
        """As the published data has it."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), ensure_ascii=False)


def parse(text: str) -> Feedback:
    """The feedback in what a model wrote.

    Raises:
        ValueError: there is none, or it breaks the schema; the message says where.
    """
    heard = answers.read(text)
    if not heard.whole:
        raise ValueError("the JSON was cut off")
    return checked(heard.value)


def checked(value: Any) -> Feedback:
    """``value`` as feedback. Raises ValueError as :func:`parse`."""
    try:
        return Feedback.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {said}" if where else said) from None


def expert(value: Any) -> Feedback:
    """An annotation of the data: areas that are also called bad are dropped from the good ones, as
    the authors do. Raises ValueError as :func:`parse`."""
    if isinstance(value, dict) and isinstance(value.get("badareas"), list):
        good: Iterable[Any] = value.get("goodareas") or []
        value = {**value, "goodareas": [a for a in good if a not in value["badareas"]]}
    return checked(value)
