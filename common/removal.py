"""Remove runs: their records, their folders, and the artifacts that no other run names.

A state of a policy is as large as its weights, and a run keeps one a round, so a disk fills.
Artifacts are shared by content. One that a removed run named is deleted unless another run's
records name it, too, or a process that is at work may have stored it just now and not committed it
yet: it is younger than that process.

    upspiral runs archive RUN --out figures.json.gz      # the figures stay
    upspiral runs remove RUN --yes
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from common import tables
from common.errors import RunBusyError, UserError
from common.lease import alive
from common.store import Store

_ADDRESS = re.compile(r"\b[0-9a-f]{40}(?:\.[A-Za-z0-9.]*[A-Za-z0-9])?")
_MARGIN = 60.0
"""Seconds that clocks and time stamps of files may be apart."""
_TABLES = (*tables.TABLES.values(), tables.units, tables.runs)


class Removal(NamedTuple):
    """What goes with some runs: addresses of artifacts, and the bytes of all that goes."""

    runs: list[str]
    artifacts: list[str]
    bytes: int


def plan(store: Store, runs: Sequence[str]) -> Removal:
    """What removing ``runs`` would remove.

    Raises:
        RunBusyError: a process is at one of them.
        UserError: the store does not know one, or a run that stays goes on from one.
    """
    gone = list(dict.fromkeys(runs))
    now, oldest = time.time(), float("inf")
    columns = [tables.runs.c[name] for name in ("run", "config", "owner", "heartbeat")]
    with store._read() as connection:
        rows = connection.execute(sa.select(*columns)).all()
        named = set(_addresses(connection, gone, inside=True))
        kept = named and set(_addresses(connection, gone, inside=False))
    for name in gone:
        store.run(name)
    for row in rows:
        at_work = alive(row.owner, row.heartbeat, now)
        if at_work and row.run in gone:
            raise RunBusyError(f"run {row.run!r} is under way", "end it, or wait for it")
        if at_work:
            oldest = min(oldest, row.owner["born"])
        if row.run not in gone and (start := next((n for n in gone if _uses(row.config, n)), "")):
            raise UserError(f"run {row.run!r} goes on from {start!r}", f"remove {row.run}, too")
    places = {a: p for a in sorted(named - kept) if (p := _place(store, a))}
    artifacts = [a for a, p in places.items() if p.stat().st_mtime < min(oldest, now) - _MARGIN]
    folders = [store.home / "runs" / name for name in gone]
    size = sum(_bytes(path) for path in [*(places[a] for a in artifacts), *folders])
    return Removal(gone, artifacts, size)


def remove(store: Store, what: Removal) -> None:
    """Remove it. Cut off, it leaves no run by halves; files that nobody names may stay.

    Raises:
        RunBusyError: a process has taken one of the runs up.
    """
    now = time.time()
    with store._write() as connection:
        mine = tables.runs.c.run.in_(what.runs)
        for row in connection.execute(sa.select(tables.runs).where(mine).with_for_update()):
            if alive(row.owner, row.heartbeat, now):
                raise RunBusyError(f"run {row.run!r} is under way", "end it, or wait for it")
        for table in _TABLES:
            connection.execute(sa.delete(table).where(table.c.run.in_(what.runs)))
    for name in what.runs:
        shutil.rmtree(store.home / "runs" / name, ignore_errors=True)
    for address in what.artifacts:
        path = _place(store, address)
        # Whoever has stored the same content since has renewed its time.
        if path is not None and path.stat().st_mtime < now - _MARGIN:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _addresses(connection: sa.Connection, runs: Sequence[str], inside: bool) -> Iterator[str]:
    """Whatever looks like an address in the records of ``runs``, or in those of all others."""
    for table in _TABLES:
        mine = table.c.run.in_(runs)
        texts = [sa.type_coerce(c, sa.Text) for c in table.c if isinstance(c.type, _TEXTS)]
        if not texts:
            continue
        query = sa.select(*texts).where(mine if inside else ~mine)
        for row in connection.execution_options(yield_per=1000).execute(query):
            for text in row:
                yield from _ADDRESS.findall(text or "")


_TEXTS = (sa.Text, tables.Json)


def _uses(config: Mapping[str, Any], run: str) -> bool:
    """Whether a run with ``config`` begins with what ``run`` left."""
    return any(value == run for value in config.values())


def _place(store: Store, address: str) -> Path | None:
    try:
        return store.path(address)
    except KeyError:
        return None


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())
