"""What a language model says, read as JSON: out of Markdown, out of chatter, even if it was cut.

Servers may ignore ``response_format``, and small models wrap JSON in fences, think aloud before it,
explain themselves after it, leave a comma before a bracket, or run into the limit of tokens.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_SLIP = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])|//[^\n]*')
"""Strings, which stay as they are, and what JSON does not have: trailing commas, comments."""
_REFUSAL = re.compile(
    r"\W*(?:(?:i'm|i am|we're|we are)\s+(?:very |so |truly )?(?:sorry|unable|not able|afraid)\b"
    r"|(?:sorry|apologies|unfortunately)\b"
    r"|(?:i|we) (?:can't|cannot|can not|could not|couldn't|won't|will not|must decline|refuse)\b)",
    re.IGNORECASE,
)


class Heard(NamedTuple):
    """A JSON value; not ``whole`` if the answer ended before its JSON did."""

    value: Any
    whole: bool = True


def read(text: str) -> Heard:
    """The longest JSON object or list in ``text``; of one that was cut, what is complete of it.

    Raises:
        ValueError: there is none; the message says what is there instead.
    """
    text = text.rpartition("</think>")[2]
    if not text.strip():
        raise ValueError("the answer is empty")
    clean = _SLIP.sub(lambda m: m[1] or "", text)
    decoder = json.JSONDecoder(strict=False)
    found: tuple[int, Any] | None = None
    problem, at = "", 0
    while (begin := _bracket(clean, at)) >= 0:
        try:
            value, at = decoder.raw_decode(clean, begin)
        except json.JSONDecodeError as error:
            problem = problem or error.msg
            at = begin + 1
            cut = None if found else _cut(clean[begin:])
            if cut is not None:
                return Heard(decoder.decode(cut), whole=False)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        else:
            if found is None or at - begin > found[0]:
                found = at - begin, value
    if found is None:
        raise ValueError(
            f"invalid JSON: {problem}" if problem else "there is no JSON in the answer"
        )
    return Heard(found[1])


def refuses(text: str) -> bool:
    """Whether a text without JSON begins as refusals do."""
    return "{" not in text and bool(_REFUSAL.match(text.replace("’", "'")))


def _bracket(text: str, at: int) -> int:
    """Where the next object or list begins; -1 if none does."""
    return min((i for i in (text.find("{", at), text.find("[", at)) if i >= 0), default=-1)


def _cut(text: str) -> str | None:
    """JSON that ends too early, closed after the last object or list that is complete in it.

    None if it does not end too early but is wrong, or if nothing in it is complete.
    """
    open_: list[str] = []
    closed: str | None = None
    inside = escaped = False
    for at, ch in enumerate(text):
        if inside:
            inside = escaped or ch != '"'
            escaped = ch == "\\" and not escaped
        elif ch == '"':
            inside = True
        elif ch in "{[":
            open_.append("}" if ch == "{" else "]")
        elif ch in "}]":
            if not open_ or open_.pop() != ch or not open_:
                return None
            closed = text[: at + 1] + "".join(reversed(open_))
    try:
        json.loads(closed or "", strict=False)
    except json.JSONDecodeError:
        return None
    return closed
