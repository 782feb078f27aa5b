"""A database of ours: SQLite in WAL mode in a file, or another one by URL.

Transactions that write take the lock at once, since one that only reads first could not get it
later. What goes wrong with a disk or a lock is said as :class:`UserError`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from common.artifacts import full_disk
from common.errors import UserError

_PRAGMAS = {"journal_mode": "WAL", "synchronous": "NORMAL", "cache_size": "-65536"}


class Database:
    """``url``, or the SQLite file ``path``; ``what`` names it in messages, as in "store".

    Raises (here and in every method):
        UserError: the disk is full, another program has locked the database for more than
            :attr:`patience` seconds, or it cannot be opened or is something else.
    """

    patience = 30.0
    """Seconds to wait for another writer."""

    def __init__(self, path: Path, what: str, url: str | None = None) -> None:
        address: sa.URL | str = url or sa.URL.create("sqlite", database=str(path))
        self.what = what
        try:
            self.where = sa.make_url(address).render_as_string(hide_password=True)
            self.engine = sa.create_engine(address, pool_pre_ping=url is not None)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            raise UserError(
                f"cannot open the {what}'s database: {error}",
                "give a URL such as postgresql+psycopg://user@host/db (install upspiral[postgres])",
            ) from error
        self.lite = self.engine.dialect.name == "sqlite"
        if self.lite:
            self.where = str(self.engine.url.database)
            sa.event.listen(self.engine, "connect", self._prepare)
            sa.event.listen(self.engine, "begin", _begin)

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def create(self, metadata: sa.MetaData, version: sa.Table, number: int) -> None:
        """The tables, if they are not there; ``version`` has the one column of that name.

        Raises:
            UserError: it was made by another version.
        """
        for last in (False, True):
            try:
                with self.write() as connection:
                    metadata.create_all(connection)
                    connection.execute(self.insert(version), {"version": number})
                    versions = connection.scalars(sa.select(version.c.version)).all()
                break
            except (IntegrityError, ProgrammingError):  # two processes create it at once
                if last:
                    raise
        if list(versions) != [number]:
            raise UserError(
                f"{self.where} was made by another version of upspiral",
                "use that version, or set UPSPIRAL_HOME to a new folder",
            )

    def insert(self, table: sa.Table) -> sa.Insert:
        """An insert that leaves what is there as it is."""
        insert = sqlite.insert if self.lite else postgresql.insert
        return insert(table).on_conflict_do_nothing()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed at the end, undone by an exception."""
        with (
            self._errors(),
            self.engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def _prepare(self, connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's own BEGIN, below, is the only one
        connection.execute(f"PRAGMA busy_timeout={int(self.patience * 1000)}")
        for name, value in _PRAGMAS.items():
            connection.execute(f"PRAGMA {name}={value}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            text = str(error.orig)
            if "disk is full" in text or "No space left" in text:
                raise full_disk(Path(self.where)) from error
            if "locked" in text:
                raise UserError(
                    f"{self.where} is locked by another program",
                    "close what holds it, then do it again",
                ) from error
            if "not a database" in text or "malformed" in text:
                raise UserError(
                    f"{self.where} is not a readable {self.what}: {text}",
                    "move the file away, or set UPSPIRAL_HOME to a new folder",
                ) from error
            if isinstance(error, OperationalError):
                raise UserError(
                    f"cannot use {self.where}: {' '.join(text.split())}",
                    "mend what it says, then do it again",
                ) from error
            raise


def _begin(connection: sa.Connection) -> None:
    # A writer takes the lock at once: one that only reads first could not get it later.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
