"""Conversations of a seeker and a helper, from a file in any of the forms that the data has.

| form | what it is |
|---|---|
| `{"dialog": [{"speaker": "usr", "text": ...}, ...]}` | ESConv; `content` for `text`, `seeker` for `usr` and `supporter` or `helper` for `sys` do as well |
| `{"text": "{\\"dialog\\": ...}"}` | the same inside a string, as FeedbackESConv has it |
| `{"messages": [{"role": "user", "content": ...}, ...]}` | a chat: the assistant is the helper |
| `{"text": "... ### Input: ... ### Response: {...}"}` | FeedbackESConv's annotated responses, context and all |

A helper's entry of the first form may carry ``feedback``. A file holds one conversation, a JSON
array of them, or JSON lines. Turns of the same speaker in a row are one turn, as the authors do.
"""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from common.errors import UserError
from common.records import identity
from text.counseling.schema import Feedback, expert

Speaker = Literal["Seeker", "Helper"]
SPEAKERS: Mapping[str, Speaker] = {
    "usr": "Seeker", "user": "Seeker", "seeker": "Seeker", "sys": "Helper", "system": "Helper",
    "assistant": "Helper", "supporter": "Helper", "helper": "Helper", "counselor": "Helper",
}  # fmt: skip
_INPUT, _RESPONSE = "### Input:", "### Response:"


class Turn(NamedTuple):
    """What one of them said; ``feedback`` is an expert's, on a helper's turn."""

    speaker: Speaker
    text: str
    feedback: Feedback | None = None

    def line(self) -> str:
        return f"{self.speaker}: {' '.join(self.text.split())}"


class Conversation(NamedTuple):
    """``whole`` is false for a response with its context alone, which is not segmented again."""

    id: str
    turns: tuple[Turn, ...]
    whole: bool = True


def load(path: Path) -> list[Conversation]:
    """The conversations of a file.

    Raises:
        UserError: it cannot be read, or an entry is no conversation; it names the entry.
    """
    found = []
    for number, row in enumerate(_rows(path), 1):
        try:
            found.append(_conversation(row))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            said = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
            raise UserError(
                f"entry {number} of {path} is no conversation ({said})",
                'give {"dialog": [{"speaker": "usr", "text": "..."}, {"speaker": "sys", ...}]}; '
                "docs/multilevel-feedback.md has the other forms",
            ) from error
    if not found:
        raise UserError(f"{path} has no conversation", "give one, or several in a JSON array")
    return found


def _rows(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            if "\n" not in text.strip():
                raise
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        return value if isinstance(value, list) else [value]
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read conversations from {path}: {str(error).splitlines()[0]}",
            "give JSON, or JSON lines",
        ) from error


def _conversation(row: Mapping[str, Any]) -> Conversation:
    if "messages" in row:
        entries = [m for m in row["messages"] if m["role"] != "system"]
        return _of(_turn(m["role"], m["content"], None) for m in entries)
    text = row.get("text")
    if isinstance(text, str) and _RESPONSE in text:
        return _annotated(text, row)
    dialog = json.loads(text)["dialog"] if isinstance(text, str) else row["dialog"]
    return _of(
        _turn(entry["speaker"], entry.get("text", entry.get("content")), entry.get("feedback"))
        for entry in dialog
    )


def _turn(speaker: str, text: Any, feedback: Any) -> Turn:
    who = SPEAKERS[speaker.lower()]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("an utterance without text")
    if feedback is not None and who == "Seeker":
        raise ValueError("feedback on what the seeker said")
    return Turn(who, text.strip(), expert(feedback) if feedback is not None else None)


def _of(turns: Iterable[Turn]) -> Conversation:
    merged = merge(turns)
    if not any(turn.speaker == "Helper" for turn in merged):
        raise ValueError("the helper says nothing")
    return Conversation(identity("conversation", [t.line() for t in merged]), merged)


def merge(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Turns in a row of one speaker made one; the last feedback among them counts."""
    found: list[Turn] = []
    for turn in turns:
        if found and found[-1].speaker == turn.speaker:
            before = found[-1]
            joint = " " if before.text[-1] in ".?!" else ". "
            feedback = turn.feedback or before.feedback
            found[-1] = Turn(turn.speaker, before.text + joint + turn.text, feedback)
        else:
            found.append(turn)
    return tuple(found)


def _annotated(text: str, row: Mapping[str, Any]) -> Conversation:
    """One annotated response: the context's lines, the feedback after them."""
    context, _, said = text.partition(_INPUT)[2].partition(_RESPONSE)
    turns = read_lines(context)
    if turns[-1].speaker != "Helper":
        raise ValueError("the context does not end with the helper")
    if said.strip():
        turns[-1] = turns[-1]._replace(feedback=expert(json.loads(said)))
    name = identity("conversation", row.get("conv_index", context))
    return Conversation(name, tuple(turns), whole=False)


def read_lines(text: str) -> list[Turn]:
    """Turns written as ``Seeker: ...`` and ``Helper: ...``; a line without a name goes on."""
    turns: list[Turn] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, said = line.partition(":")
        if colon and name in ("Seeker", "Helper"):
            turns.append(Turn(name, said.strip()))  # type: ignore[arg-type]
        elif turns:
            turns[-1] = turns[-1]._replace(text=f"{turns[-1].text} {line}")
        else:
            raise ValueError(f"{line[:40]!r} is nobody's")
    if not turns:
        raise ValueError("the context is empty")
    return turns


def write(path: Path, conversations: Sequence[Conversation], about: str = "") -> None:
    """Write whole conversations as JSON, in the first of the forms above."""
    rows = []
    for conversation in conversations:
        dialog: list[dict[str, Any]] = []
        for turn in conversation.turns:
            speaker = "usr" if turn.speaker == "Seeker" else "sys"
            dialog.append({"speaker": speaker, "text": turn.text})
            if turn.feedback:
                dialog[-1]["feedback"] = json.loads(turn.feedback.json_text())
        rows.append({**({"about": about} if about else {}), "dialog": dialog})
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
