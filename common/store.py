"""The store: every record of every run, and the artifacts that they name.

SQLAlchemy over SQLite in WAL mode by default, over PostgreSQL by URL for a team. A unit of work
(round, stage, shard) and its records are committed in one transaction, so that a run which was
killed anywhere continues at its next unit. Whoever writes to a run holds its :class:`Lease`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from common import tables
from common.artifacts import Files, disk_errors
from common.database import Database
from common.errors import RunBusyError, UserError
from common.export import export
from common.home import home as default_home
from common.lease import Lease, Owner, alive
from common.records import (
    Candidate,
    Comparison,
    Demonstration,
    Metric,
    Preference,
    Rating,
    Round,
    Split,
    Task,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Unit(NamedTuple):
    """A finished unit of work: what it left besides records, and the seconds it took."""

    payload: Any
    seconds: float


@dataclass(frozen=True)
class Run:
    """A run as the store knows it; ``started`` and ``updated`` are ISO 8601 in UTC.

    ``status`` is ``running``, ``done``, ``failed`` or ``interrupted``; a run whose process is
    gone without a word is interrupted.
    """

    run: str
    recipe: str
    status: str
    started: str
    updated: str
    seed: int
    config: Mapping[str, Any]


class Store:
    """Runs, their records and their artifacts.

    ``home`` is a folder (``$UPSPIRAL_HOME`` by default) that holds ``artifacts/``, ``runs/`` and,
    without a ``url``, the database ``upspiral.db``.

    Raises (here and in every method):
        UserError: as :class:`Database`. What was committed stays, and the run can be resumed.
    """

    def __init__(self, home: Path | None = None, url: str | None = None) -> None:
        self.home = Path(home) if home is not None else default_home()
        try:
            with disk_errors(self.home):
                self.home.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{self.home} is not a folder", "set UPSPIRAL_HOME to one") from error
        self.artifacts = Files(self.home / "artifacts")
        self.database = Database(self.home / "upspiral.db", "store", url)
        self._read, self._write = self.database.read, self.database.write
        self.database.create(tables.metadata, tables.version, tables.VERSION)

    def close(self) -> None:
        """Close the database's connections."""
        self.database.close()

    def put(self, data: bytes, suffix: str = "") -> str:
        """:meth:`common.artifacts.Files.put`."""
        return self.artifacts.put(data, suffix)

    def put_folder(self, path: Path) -> str:
        """:meth:`common.artifacts.Files.put_folder`."""
        return self.artifacts.put_folder(path)

    def path(self, address: str) -> Path:
        """:meth:`common.artifacts.Files.path`."""
        return self.artifacts.path(address)

    def folder(self, run: str) -> Path:
        """The run's own folder, for reports, logs and work in progress."""
        folder = self.home / "runs" / run
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    # Runs

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        newest = sa.select(tables.runs).order_by(
            tables.runs.c.started.desc(), tables.runs.c.run.desc()
        )
        with self._read() as connection:
            return [_run(found) for found in connection.execute(newest)]

    def run(self, run: str) -> Run:
        """One run.

        Raises:
            UserError: the store does not know it.
        """
        with self._read() as connection:
            query = sa.select(tables.runs).where(tables.runs.c.run == run)
            found = connection.execute(query).one_or_none()
        if found is None:
            raise UserError(
                f"there is no run {run!r} in {self.database.where}", "see: upspiral runs list"
            )
        return _run(found)

    def lease(
        self,
        run: str,
        recipe: str = "",
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
        plan: Mapping[str, Any] | None = None,
    ) -> Lease:
        """Begin ``run``, or continue it, as the only process that may write to it.

        ``plan`` is what must not change when a run is continued; recipe and config are those of
        the first time. The lease of a process that has died is taken over.

        Raises:
            UserError: the name cannot be one of a folder; another process is at the run
                (:class:`RunBusyError`); or the run was begun with another seed or plan.
        """
        if not _NAME.fullmatch(run):
            raise UserError(
                f"{run!r} cannot name a run", "use up to 100 letters, digits, '.', '_' and '-'"
            )
        owner, now = Owner.new(), time.time()
        values: dict[str, Any] = {"run": run, "recipe": recipe, "config": dict(config or {})}
        values |= {"plan": dict(plan or {}), "seed": seed, "status": "running", "started": now}
        values |= {"updated": now, "owner": None, "heartbeat": None}
        with self._write() as connection:
            connection.execute(self.database.insert(tables.runs), values)
            mine = tables.runs.c.run == run
            query = sa.select(tables.runs).where(mine).with_for_update()
            found = connection.execute(query).one()
            if alive(found.owner, found.heartbeat, now):
                raise RunBusyError(
                    f"run {run!r} is under way: process {found.owner['pid']} on "
                    f"{found.owner['host']}, last heard of {now - found.heartbeat:.0f} s ago",
                    "wait for it, or start a run with another name",
                )
            _same_plan(found, seed, plan or {})
            taken = sa.update(tables.runs).where(mine)
            connection.execute(taken.values(status="running", owner=owner._asdict(), heartbeat=now))
        return Lease(self, run, owner)

    # Records

    def add(self, run: str, records: Iterable[tables.Record]) -> None:
        """Append records in one transaction; what is there already (run, round, id) stays."""
        with self._write() as connection:
            self._append(connection, run, records)

    def tasks(self, run: str, split: Split | None = None) -> list[Task]:
        """The run's tasks, of one split or of all, in the order that the loop was given."""
        table = tables.tasks
        where = [] if split is None else [table.c.split == split]
        return self._records(Task, table.c.run == run, *where)

    def candidates(
        self, run: str, round: int | None = None, shard: int | None = None
    ) -> list[Candidate]:
        """The pool of one round (of one of its shards) or of all, in the order of proposal."""
        c = tables.candidates.c
        where = [] if round is None else [c.round == round]
        where += [] if shard is None else [c.shard == shard]
        return self._records(Candidate, c.run == run, *where)

    def places(self, run: str, first: int, last: int) -> Iterator[tuple[int, str]]:
        """Where the candidates of the rounds ``first`` to ``last`` lie, for :meth:`candidates_at`,
        and their tasks, in the order of proposal."""
        c = tables.candidates.c
        query = sa.select(c.seq, c.task).where(c.run == run, c.round >= first, c.round <= last)
        with self._read() as connection:
            some = connection.execution_options(yield_per=10_000)
            for row in some.execute(query.order_by(c.round, c.shard, c.seq)):
                yield row.seq, row.task

    def candidates_at(self, places: Iterable[int]) -> list[Candidate]:
        """The candidates that lie there, in the order of proposal."""
        return self._records(Candidate, tables.candidates.c.seq.in_(list(places)))

    def preferences(self, run: str, round: int | None = None) -> list[Preference]:
        """The preferences of one round or of all."""
        c = tables.preferences.c
        return self._records(Preference, c.run == run, *_at(c.round, round))

    def demonstrations(self, run: str, round: int | None = None) -> list[Demonstration]:
        """The demonstrations of one round or of all."""
        c = tables.demonstrations.c
        return self._records(Demonstration, c.run == run, *_at(c.round, round))

    def metrics(self, run: str, split: Split = "dev", round: int | None = None) -> list[Metric]:
        """The metrics on one split, of one round or of all; test: round 0 is the starter."""
        c = tables.metrics.c
        return self._records(Metric, c.run == run, c.split == split, *_at(c.round, round))

    def rounds(self, run: str) -> list[Round]:
        """The finished rounds with their metrics on dev; round 0 is the starter."""
        found = self._records(Round, tables.rounds.c.run == run)
        metrics: dict[int, list[Metric]] = {}
        for metric in self.metrics(run):
            metrics.setdefault(metric.round, []).append(metric)
        return [replace(r, metrics=tuple(metrics.get(r.index, ()))) for r in found]

    def comparisons(self, run: str) -> list[Comparison]:
        """What people were given to compare, of all the tests of the run."""
        return self._records(Comparison, tables.comparisons.c.run == run)

    def ratings(self, run: str) -> list[Rating]:
        """What people said of the run's comparisons, in the order in which they said it."""
        return self._records(Rating, tables.ratings.c.run == run)

    def units(self, run: str, round: int, stage: str | None = None) -> dict[tuple[str, int], Unit]:
        """The finished units of a round (of one of its stages) by stage and shard."""
        c = tables.units.c
        where = [c.run == run, c.round == round, c.status == "done"]
        where += [] if stage is None else [c.stage == stage]
        with self._read() as connection:
            found = connection.execute(
                sa.select(c.stage, c.shard, c.payload, c.seconds).where(*where)
            )
            return {(u.stage, u.shard): Unit(u.payload, u.seconds) for u in found}

    def export(self, run: str, path: Path) -> int:
        """Write the run's preferences to Parquet in TRL's preference format; return how many.

        Columns: prompt, chosen, rejected (text), margin (float), source (text), round (integer).

        Raises:
            UserError: the run is unknown or has no preferences, or ``path`` cannot be written.
        """
        return export(self, run, path)

    # Beneath

    def _records(self, kind: type[tables.R], *where: sa.ColumnElement[bool]) -> list[tables.R]:
        with self._read() as connection:
            return tables.read(connection, kind, *where)

    def _append(
        self,
        connection: sa.Connection,
        run: str,
        records: Iterable[tables.Record],
        shard: int = 0,
    ) -> None:
        rows: dict[type, list[dict[str, Any]]] = {}
        for record in records:
            rows.setdefault(type(record), []).append(tables.row(run, record, shard))
        for kind, values in rows.items():
            connection.execute(self.database.insert(tables.TABLES[kind]), values)


def _at(column: sa.ColumnElement[int], round: int | None) -> Sequence[sa.ColumnElement[bool]]:
    return [] if round is None else [column == round]


def _same_plan(found: Any, seed: int, plan: Mapping[str, Any]) -> None:
    before, now = {"seed": found.seed, **found.plan}, {"seed": seed, **plan}
    for name in now:
        if before.get(name) != now[name]:
            raise UserError(
                f"run {found.run!r} was begun with {name} {before.get(name)}, not {now[name]}",
                "continue it with what it was begun with, or start a run with another name",
            )


def _run(found: Any) -> Run:
    status = found.status
    if status == "running" and not alive(found.owner, found.heartbeat, time.time()):
        status = "interrupted"
    return Run(
        found.run,
        found.recipe,
        status,
        _iso(found.started),
        _iso(found.updated),
        found.seed,
        found.config,
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
