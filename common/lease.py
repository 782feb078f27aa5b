"""The lease: one process at a time writes to a run.

The owner (host, process, heartbeat) stands in the run's row. Every commit checks, in its own
transaction, that the run is still the committer's: a process that slept while another took its
run over can write nothing more.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import sqlalchemy as sa

from common import tables
from common.errors import UserError

if TYPE_CHECKING:
    from common.store import Store

BEAT = 10.0
"""Seconds between heartbeats."""
STALE = 60.0
"""Seconds without a heartbeat after which an owner on another host is taken for dead."""
_held: set[str] = set()


class Owner(NamedTuple):
    """Who holds a run. ``born`` tells a process from a later one with the same number."""

    host: str
    pid: int
    born: float
    token: str

    @classmethod
    def new(cls) -> Owner:
        """This process, with a token of its own for each lease."""
        return cls(_host(), os.getpid(), _born(os.getpid()) or 0.0, uuid.uuid4().hex)


class Lease:
    """The right to write to one run, kept alive by a heartbeat; got from ``Store.lease``."""

    def __init__(self, store: Store, run: str, owner: Owner) -> None:
        self.run = run
        self._store, self._owner = store, owner
        self._stop = threading.Event()
        _held.add(owner.token)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def commit(
        self,
        round: int,
        stage: str,
        shard: int = 0,
        records: Iterable[tables.Record] = (),
        scores: Mapping[str, Mapping[str, float]] | None = None,
        payload: Mapping[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Commit a unit of work in one transaction: its records, then that it is done.

        ``scores`` maps ids of the round's candidates to what their judges said.

        Raises:
            UserError: another process has taken the run over; or as :class:`Store`.
        """
        table = tables.candidates
        with self._store._write() as connection:
            self._own(connection)
            self._store._append(connection, self.run, records, shard)
            if scores:
                connection.execute(
                    sa.update(table).where(
                        table.c.run == self.run,
                        table.c.round == round,
                        table.c.id == sa.bindparam("candidate"),
                    ),
                    [{"candidate": name, "scores": dict(said)} for name, said in scores.items()],
                )
            done = {"run": self.run, "round": round, "stage": stage, "shard": shard}
            done |= {"status": "done", "payload": dict(payload or {}), "seconds": seconds}
            connection.execute(self._store.database.insert(tables.units), done)

    def close(self, status: str) -> None:
        """Give the run back with a final ``status``.

        When the store cannot be written to, the run stays ``running`` on paper; as its owner is
        gone the store reports it as interrupted and lets it be continued.
        """
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(UserError), self._store._write() as connection:
            self._own(connection, status=status, owner=None, heartbeat=None)
        _held.discard(self._owner.token)

    def _own(self, connection: sa.Connection, **values: Any) -> None:
        """Sign the run's row; the same statement finds out whether it is still ours."""
        c = tables.runs.c
        now = time.time()
        ours = (c.run == self.run, c.owner == self._owner._asdict())
        signed = sa.update(tables.runs).where(*ours)
        values = {"updated": now, "heartbeat": now} | values
        if connection.execute(signed.values(values)).rowcount != 1:
            raise UserError(
                f"run {self.run!r} was taken over by another process",
                "let that one finish; it continues from the last finished unit",
            )

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(UserError), self._store._write() as connection:
                self._own(connection)


def alive(owner: Mapping[str, Any] | None, heartbeat: float | None, now: float) -> bool:
    """Whether the process that holds a run still works on it."""
    if owner is None or heartbeat is None:
        return False
    if owner["host"] != _host():
        return now - heartbeat < STALE
    if owner["pid"] == os.getpid():
        return owner["token"] in _held
    born = _born(owner["pid"])
    # The time of birth follows the system's clock, which may be set meanwhile.
    return born is not None and abs(born - owner["born"]) < 5.0


def _host() -> str:
    """This host; containers of one host that do not see each other's processes differ."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = "/" + str(Path("/proc/self/ns/pid").readlink())
    return socket.gethostname() + namespace


def _born(pid: int) -> float | None:
    """When the process began, in UNIX seconds; None when it is dead."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None
