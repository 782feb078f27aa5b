"""Prompts are files, with ``$name`` where something is put in."""

from __future__ import annotations

from pathlib import Path
from string import Template


def fill(path: Path, **values: object) -> str:
    """The text of ``path`` with ``values`` in it.

    Raises:
        KeyError: the text wants a value that is not given.
    """
    return Template(path.read_text(encoding="utf-8")).substitute(values).strip()
