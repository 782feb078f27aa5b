"""Preferences of people from a file, in any of the forms that chosen/rejected data has.

JSON lines, a JSON array, or Parquet; each row has ``chosen`` and ``rejected``, which are

* texts, with a ``prompt``,
* chats (lists of ``role`` and ``content``), whose last message is the answer,
* transcripts as HH-RLHF has them: ``Human:`` and ``Assistant:`` turns, alike but for the last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.records import Preference, identity

_TURN = "\n\nAssistant:"


def load(path: str | Path) -> list[Preference]:
    """The preferences of a file, in order, without repeats and ties.

    Raises:
        UserError: the file cannot be read, or a row has no preference; it names the row.
    """
    found: dict[str, Preference] = {}
    for number, row in enumerate(_rows(Path(path)), 1):
        try:
            prompt, chosen, rejected = _preference(row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(
                f"row {number} of {path} is no preference ({type(error).__name__}: {error})",
                "each row needs chosen and rejected, as texts with a prompt, chats or transcripts",
            ) from error
        name = identity("file", prompt, chosen, rejected)
        if chosen != rejected:
            task = identity("file", prompt)
            found.setdefault(
                name, Preference(name, task, 0, prompt, chosen, rejected, source="file")
            )
    if not found:
        raise UserError(f"{path} has no preferences", "give a file with chosen and rejected")
    return list(found.values())


def _rows(path: Path) -> list[Any]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return list(pyarrow.parquet.read_table(path).to_pylist())
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read preferences from {path}: {str(error).splitlines()[0]}",
            "give JSON lines, a JSON array or Parquet",
        ) from error


def _preference(row: Mapping[str, Any]) -> tuple[str, str, str]:
    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if isinstance(chosen, list):
        before = prompt if prompt is not None else chosen[:-1]
        return _chat(before), str(chosen[-1]["content"]), str(rejected[-1]["content"])
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise TypeError("chosen and rejected are neither texts nor chats")
    if prompt is not None:
        return _chat(prompt), chosen, rejected
    shared, _, answer = chosen.rpartition(_TURN)
    if not shared or not rejected.startswith(shared + _TURN):
        raise ValueError("no prompt, and the texts are not transcripts with the same beginning")
    other = rejected[len(shared) + len(_TURN) :]
    return shared.removeprefix("\n\nHuman:").strip(), answer.strip(), other.strip()


def _chat(prompt: Any) -> str:
    """A chat as one text: a single question as it is, several turns with who says them."""
    if isinstance(prompt, str):
        return prompt
    turns = [(str(turn["role"]), str(turn["content"])) for turn in prompt]
    if len(turns) == 1:
        return turns[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in turns)
