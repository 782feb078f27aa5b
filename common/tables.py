"""The store's tables: one for each record of :mod:`common.records`, under its name and fields.

A table of records also has ``run``, and ``seq``, which keeps the order of insertion. The keys
begin with (run, round), so that what a round writes and reads lies together on disk: this is what
keeps appending and reading a pool flat when a store has grown to millions of candidates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa

from common.records import (
    Candidate,
    Comparison,
    Demonstration,
    Metric,
    Preference,
    Rating,
    Round,
    Task,
)

VERSION = 1
Record = Task | Candidate | Preference | Demonstration | Metric | Round | Comparison | Rating
R = TypeVar("R", Task, Candidate, Preference, Demonstration, Metric, Round, Comparison, Rating)


class Json(sa.TypeDecorator[Any]):
    """JSON in a text column. Databases' own JSON types refuse NaN, which a judge may well say."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        return json.dumps(value, separators=(",", ":"), default=plain)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)


def plain(value: Any) -> Any:
    """What JSON writes for ``value``: numpy scalars and arrays as numbers, mappings as objects."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} cannot be stored: {value!r}")


metadata = sa.MetaData()


def _key() -> sa.Column[str]:
    return sa.Column("run", sa.String(120), nullable=False)


def _records(
    name: str, key: Iterable[str], *columns: sa.Column[Any], index: Iterable[str] = ()
) -> sa.Table:
    seq = sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    rest: list[Any] = [sa.UniqueConstraint("run", *key)]
    if index:
        rest.append(sa.Index(f"{name}_by_{'_'.join(index)}", "run", *index))
    return sa.Table(name, metadata, seq, _key(), *columns, *rest)


def _text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _int(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json, nullable=False)


version = sa.Table("version", metadata, sa.Column("version", sa.Integer, primary_key=True))

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.String(120), primary_key=True),
    _text("recipe"),
    _json("config"),
    _json("plan"),
    _text("status"),
    _int("seed"),
    _real("started"),
    _real("updated"),
    sa.Column("owner", Json),
    sa.Column("heartbeat", sa.Double),
)

units = sa.Table(
    "units",
    metadata,
    sa.Column("run", sa.String(120), primary_key=True),
    sa.Column("round", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.String(40), primary_key=True),
    sa.Column("shard", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("status"),
    _json("payload"),
    _real("seconds"),
)

tasks = _records(
    "tasks",
    ["id"],
    _text("id"),
    _text("prompt"),
    _text("split"),
    _text("reference", nullable=True),
    _text("language"),
    _json("meta"),
)

candidates = _records(
    "candidates",
    ["round", "id"],
    _text("id"),
    _text("task"),
    _int("round"),
    _int("shard"),
    _text("output"),
    _real("logprob"),
    _int("tokens"),
    _json("scores"),
    _text("artifact", nullable=True),
    _text("answer", nullable=True),
    _text("strategy"),
    _text("language"),
    _text("parent", nullable=True),
    _json("meta"),
    index=["round", "shard"],
)

preferences = _records(
    "preferences",
    ["round", "id"],
    _text("id"),
    _text("task"),
    _int("round"),
    _text("prompt"),
    _text("chosen"),
    _text("rejected"),
    _real("margin"),
    _text("source"),
    _text("chosen_id", nullable=True),
    _text("rejected_id", nullable=True),
)

demonstrations = _records(
    "demonstrations",
    ["round", "id"],
    _text("id"),
    _text("task"),
    _int("round"),
    _text("prompt"),
    _text("completion"),
    _text("source"),
    _real("weight"),
)

metrics = _records(
    "metrics",
    ["split", "round", "name"],
    _text("name"),
    _real("value"),
    _real("se"),
    _int("n"),
    _text("split"),
    _int("round"),
    _text("better"),
    _json("items"),
)

rounds = _records(
    "rounds",
    ["index"],
    _int("index"),
    sa.Column("kept", sa.Boolean, nullable=False),
    _text("state"),
    _text("reason"),
    _int("pairs"),
    _int("demonstrations"),
    _real("seconds"),
    _json("notes"),
)

comparisons = _records(
    "comparisons",
    ["id"],
    _text("id"),
    _text("test"),
    _text("task"),
    _text("text"),
    _json("stimuli"),
)

ratings = _records(
    "ratings",
    ["id"],
    _text("id"),
    _text("test"),
    _text("item"),
    _text("rater"),
    _text("left"),
    _text("right"),
    _text("answer"),
    _real("time"),
    _json("meta"),
)

TABLES: dict[type, sa.Table] = {
    Task: tasks,
    Candidate: candidates,
    Preference: preferences,
    Demonstration: demonstrations,
    Metric: metrics,
    Round: rounds,
    Comparison: comparisons,
    Rating: ratings,
}
# A round's metrics are rows of their own table.
FIELDS: dict[type, list[str]] = {
    kind: [f.name for f in fields(kind) if f.name in table.c] for kind, table in TABLES.items()
}


def row(run: str, record: Record, shard: int = 0) -> dict[str, Any]:
    """The columns of ``record``."""
    values = {name: getattr(record, name) for name in FIELDS[type(record)]}
    for name, value in values.items():
        if hasattr(value, "item"):  # a database would take numpy's float32 for a blob
            values[name] = value.item()
    values["run"] = run
    if isinstance(record, Candidate):
        values["shard"] = shard
    return values


def read(connection: sa.Connection, kind: type[R], *where: sa.ColumnElement[bool]) -> list[R]:
    """The records of ``kind`` that satisfy ``where``, in the order of their insertion.

    Candidates come by round and shard, whichever shard was proposed first.
    """
    table, names = TABLES[kind], FIELDS[kind]
    by = ["round", "shard", "seq"] if kind is Candidate else ["seq"]
    query = sa.select(*(table.c[name] for name in names)).where(*where)
    query = query.order_by(*(table.c[name] for name in by))
    return [kind(**dict(zip(names, found, strict=True))) for found in connection.execute(query)]
