"""A job that stays, and is spoken to: lines of JSON over one channel, both ways.

For code that acts and is answered, such as an agent that asks for things by name: one process to
start instead of one a question. The channel is the job's standard input, a socket that is read and
written; what it prints goes where the output of every job goes. ::

    with Session("import os; os.write(0, os.read(0, 99).upper())") as session:
        session.say("hello")
        session.hear(1.0)      # "HELLO"

The job is walled in and limited as any (:mod:`common.sandbox`); ``Limits.seconds`` bounds its life.
What comes out of it was written by whatever runs inside: it is data, of bounded size.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.sandbox import Limits, best, job, keeper, verdict
from common.sandbox.layers import Layer

LONGEST = 8 * 2**20
"""Bytes of one message."""
PATIENCE = 5.0
"""Seconds to write a message, to end of itself, and for the keeper's last word."""


class EndedError(Exception):
    """The job has ended, or had to be ended; the message says why."""


class Session:
    """One job and the channel to it. To be closed; nothing of it runs then.

    Raises:
        UserError: as :func:`common.sandbox.run`.
    """

    def __init__(
        self,
        source: str,
        *,
        files: Mapping[str, bytes | Path] | None = None,
        limits: Limits | None = None,
        layer: Layer | None = None,
        unsafe: bool = False,
    ) -> None:
        wall = layer or best(unsafe)
        self.limits = limits or Limits()
        self._held = bytearray()
        self._ended: str | None = None
        self._ending = threading.Lock()
        self.folder = job.place()
        self._channel, theirs = socket.socketpair()
        try:
            self._job = job.Keeping(self.folder, source, files or {}, self.limits, wall, theirs)
        except BaseException:
            self._channel.close()
            self._remove()
            raise
        finally:
            theirs.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._ended is not None

    def say(self, message: Any) -> None:
        """Send a message, which JSON can write.

        Raises:
            EndedError: the job is over, or does not read.
        """
        self._alive()
        data = json.dumps(message).encode() + b"\n"
        self._channel.settimeout(PATIENCE)
        try:
            self._channel.sendall(data)
        except TimeoutError:
            raise self._end("it did not read what was said to it") from None
        except OSError:
            raise self._end("") from None

    def hear(self, seconds: float) -> Any:
        """The next message; None if none came in ``seconds``.

        Raises:
            EndedError: the job is over, or said what is no JSON or too long.
        """
        self._alive()
        last = time.monotonic() + seconds
        while b"\n" not in self._held:
            left = max(0.0, last - time.monotonic())
            try:
                if not select.select([self._channel], [], [], left)[0]:
                    return None
                chunk = self._channel.recv(1 << 16)
            except (OSError, ValueError):  # another thread has ended it
                chunk = b""
            if not chunk:
                raise self._end("")
            self._held += chunk
            if len(self._held) > LONGEST and b"\n" not in self._held:
                raise self._end(f"it said more than {LONGEST // 2**20} MiB at once")
        line, _, rest = self._held.partition(b"\n")
        self._held = bytearray(rest)
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise self._end("it said what is no JSON") from None

    def stop(self, why: str) -> EndedError:
        """End the job now, because of ``why``; the error to raise."""
        return self._end(why)

    def close(self) -> None:
        """Let the job end of itself for a moment, then end it."""
        if self._ended is None:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
            self._end("")

    def _alive(self) -> None:
        if self._ended is not None:
            raise EndedError(self._ended)

    def _end(self, why: str) -> EndedError:
        """End it; without a ``why`` of ours the keeper may know one. From any thread."""
        with self._ending:
            if self._ended is None:
                try:
                    if not why:
                        why = self._told()
                finally:
                    self._ended = why or "it ended"
                    self._channel.close()
                    self._job.close()
                    self._remove()
            return EndedError(self._ended)

    def _told(self) -> str:
        """What the keeper says of a job that has closed its channel, as :attr:`Ran.why` would."""
        if not select.select([self._job.control], [], [], PATIENCE)[0]:
            return "it hung up and went on"
        try:
            outcome, box = self._job.wait()
        except UserError as error:
            return error.message
        if box is not None:
            os.close(box)
        return verdict(outcome, self.limits)[1]

    def _remove(self) -> None:
        if self.folder.exists():
            keeper.remove(str(self.folder))
