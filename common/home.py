"""Where upspiral keeps what outlives a command: ``$UPSPIRAL_HOME``, or ``~/.upspiral``."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import UserError


def home() -> Path:
    """The home folder, made if it is not there.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    folder = Path(os.environ.get("UPSPIRAL_HOME") or Path.home() / ".upspiral").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make {folder}: {error.strerror}", "set UPSPIRAL_HOME to a folder of yours"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write to {folder}", "set UPSPIRAL_HOME to a folder of yours")
    return folder.absolute()


def cache() -> Path:
    """Folder of what can be had again: data, converted models."""
    folder = home() / "cache"
    folder.mkdir(exist_ok=True)
    return folder
