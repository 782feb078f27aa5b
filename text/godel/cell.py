"""Where the agent lives: a sandbox that stays, and takes one turn after the other.

A turn is a request to :mod:`text.godel.inside`; while it runs, what it asks for by name is answered
by a function of the host. If a turn leaves anything behind, kills its runtime, or is in the way of
the next, the sandbox ends with all that is in it and the next turn gets a new one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from common.sandbox import MIB, Layer, Limits
from common.sandbox.session import EndedError, Session
from text.godel import inside

LIMITS = Limits(
    seconds=86_400,
    cpu_seconds=600,
    memory=1024 * MIB,
    file_size=32 * MIB,
    folder=64 * MIB,
    files=1000,
    processes=64,
    output=MIB,
)
"""Of a sandbox; a turn has its own limit of seconds."""
CALLS = 20_000
"""What one turn may ask for."""
LATE = 10.0
"""Seconds after which a runtime that reports nothing of an overdue turn is given up."""
DEEP = 100
"""Levels of lists and objects in a message; the store and JSON itself fail at some hundreds."""
_LONE = re.compile(r"[\ud800-\udfff]")
Serve = Callable[[str, Mapping[str, Any]], Any]
"""Answers what a turn asks for by name."""


class NotAllowedError(Exception):
    """What the agent asked for is not done; the message is for the agent."""


class Ended(NamedTuple):
    """What became of a turn."""

    final: Mapping[str, Any] | None
    """What it said at its end; None if it did not come to it."""
    why: str
    """Why it did not, in a sentence."""
    printed: str
    """The end of what it printed."""

    @property
    def error(self) -> str:
        """What went wrong, outside of the agent's source or in it; "" if nothing did."""
        return self.why or str((self.final or {}).get("error", ""))[:4000]


class Cell:
    """One sandbox at a time, begun when it is needed. To be closed."""

    def __init__(self, limits: Limits = LIMITS, layer: Layer | None = None) -> None:
        self.limits, self.layer = limits, layer
        self.begun = 0
        """How many sandboxes there were."""
        self._session: Session | None = None

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox; nothing of it runs then."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def turn(self, request: Mapping[str, Any], serve: Serve, seconds: float) -> Ended:
        """Carry out one request; ``request["width"]`` calls of it are answered at a time.

        ``seconds`` bounds what it takes of the processor. What ``serve`` raises
        ends the turn and the sandbox and is raised, but :class:`NotAllowedError`, which is told.

        Raises:
            UserError: there is no sandbox on this machine.
        """
        if self._session is None or self._session.ended:
            self._session = Session(
                Path(inside.__file__).read_text("utf-8"), limits=self.limits, layer=self.layer
            )
            self.begun += 1
        session = self._session
        ended = None
        try:
            with Answering(session, serve, int(request.get("width", 1))) as answering:
                session.say({**request, "seconds": seconds})
                ended = _followed(session, answering, seconds)
        except EndedError as error:
            answering.check()
            return Ended(None, str(error), "")
        finally:
            if ended is None:
                session.stop("the turn was given up")
        if not ended["clean"]:
            session.stop("a turn left something behind")
        final, why = ended["final"], ended["why"]
        if final is not None and not isinstance(final, dict):  # written by a hand of its own
            final, why = None, "it ended with something else than it should"
        return Ended(final, why, ended["printed"])


def _followed(session: Session, answering: Answering, seconds: float) -> dict[str, Any]:
    """What the runtime reports at the end of a turn, its calls answered meanwhile."""
    patience = inside.CLOCK * seconds + LATE
    late = time.monotonic() + patience
    calls = 0
    while True:
        try:
            message = tame(session.hear(0.25))
        except ValueError as error:
            raise session.stop(str(error)) from None
        answering.check()
        if message is None:
            if answering.busy:
                late = time.monotonic() + patience
            elif time.monotonic() > late:
                raise session.stop("the runtime did not answer any more")
        elif "ended" in message:
            found: dict[str, Any] = message["ended"]
            return found
        else:
            calls += 1
            if calls > CALLS:
                raise session.stop(f"it called for more than {CALLS} things")
            answering.take(message)
            late = time.monotonic() + patience


def readable(text: str) -> str:
    """``text`` without halves of characters, which JSON can hold and nothing can write."""
    return _LONE.sub("\ufffd", text)


def tame(message: Any, depth: int = 0) -> Any:
    """What a turn said, so that the host can keep it: :func:`readable`, and not too deep.

    Raises:
        ValueError: it is nested deeper than :data:`DEEP`.
    """
    if depth > DEEP:
        raise ValueError(f"it said something of more than {DEEP} levels")
    if isinstance(message, str):
        return readable(message)
    if isinstance(message, list):
        return [tame(part, depth + 1) for part in message]
    if isinstance(message, dict):
        return {readable(key): tame(part, depth + 1) for key, part in message.items()}
    return message


class Answering:
    """Answers calls of a turn, ``width`` at a time; waits for those under way at its end."""

    def __init__(self, session: Session, serve: Serve, width: int) -> None:
        self.session, self.serve = session, serve
        self.pool = ThreadPoolExecutor(width)
        self.lock = threading.Lock()
        self.under_way: set[Future[None]] = set()

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # A turn that was interrupted has nobody left to wait for an answer.
        self.pool.shutdown(wait=kind is None or kind is EndedError, cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether anything is being answered."""
        return any(not one.done() for one in self.under_way)

    def check(self) -> None:
        """Raise what could not be told the agent."""
        for one in [one for one in self.under_way if one.done()]:
            self.under_way.discard(one)
            if not one.cancelled():
                one.result()

    def take(self, call: Mapping[str, Any]) -> None:
        """Answer a call as soon as it is its turn."""
        self.under_way.add(self.pool.submit(self._answer, call))

    def _answer(self, call: Mapping[str, Any]) -> None:
        try:
            answer = {"id": call["id"], "value": self.serve(call["call"], call["arguments"])}
        except NotAllowedError as error:
            answer = {"id": call["id"], "error": str(error)}
        with self.lock:
            if not self.session.ended:
                self.session.say(answer)
