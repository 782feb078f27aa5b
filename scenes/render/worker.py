"""The process that holds Blender: ``python -m scenes.render.worker DEVICE THREADS``.

Reads jobs as JSON lines on standard input and answers each with one line on standard output, which
is put out of reach of everything else first: Blender and its add-ons print a great deal. Ends with
its input, and with its parent.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import traceback
from typing import Any

from common.errors import UserError
from scenes.render.jobs import JOBS

PR_SET_PDEATHSIG = 1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk, a quota and a limit on a file's size say when no more can be written."""


def main() -> None:
    """Serve until the input ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    device, threads = sys.argv[1], int(sys.argv[2])
    try:
        from scenes.render.dispatch import Blender

        blender = Blender(device, threads)
    except Exception as error:
        reply(replies, {"error": missing(error) if isinstance(error, ImportError) else told(error)})
        return
    reply(replies, {"result": blender.found})
    for line in sys.stdin:
        said = json.loads(line)
        try:
            result = blender.work(JOBS[said["job"]].model_validate(said["data"]))
            reply(replies, {"result": result.model_dump(mode="json")})
        except Exception as error:
            traceback.print_exc()
            reply(replies, {"error": told(error)})
    os._exit(0)  # Blender's own exit handlers can crash, and there is nothing left to save


def reply(replies: Any, said: dict[str, Any]) -> None:
    """One line, with the memory that the process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        said["memory"] = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    replies.write(json.dumps(said) + "\n")
    replies.flush()


def missing(error: ImportError) -> dict[str, Any]:
    """No bpy, or one of its system libraries."""
    return {
        "type": "user",
        "message": f"Blender's Python module is not usable: {error}",
        "remedy": "pip install 'upspiral[scenes]' on Python 3.11",
    }


def told(error: BaseException) -> dict[str, Any]:
    """An error as the parent can raise it again."""
    if isinstance(error, UserError):
        return {"type": "user", "message": error.message, "remedy": error.remedy}
    if isinstance(error, OSError) and error.errno in FULL:
        path = os.fspath(error.filename or "")
        text = os.strerror(error.errno)
        return {"type": "disk", "errno": error.errno, "message": text, "path": str(path)}
    words = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, OSError):
        remedy = "see that the folder is there and can be written to"
    else:
        remedy = "try again with fewer models to find the one that is at fault"
    return {"type": "failed", "message": f"Blender failed: {words}", "remedy": remedy}


if __name__ == "__main__":
    main()
