"""A file that one process at a time writes to, until it closes it or ends in whatever way.

For runs there is the lease (:mod:`common.lease`); this is for files outside of the store.
"""

from __future__ import annotations

import fcntl
from typing import IO, Any

from common.errors import UserError


def alone(file: IO[Any], busy: str, remedy: str) -> None:
    """Keep other processes from ``file``, which is open, as long as it is.

    Raises:
        UserError: another process has it: ``busy`` and ``remedy``.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(busy, remedy) from error
