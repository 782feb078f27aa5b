"""Finished runs as one small file: their figures, from one store to another.

A comparison takes hours, and its runs may be spread over machines that share no database. An
archive is gzipped JSON with what tables and reports are made of: each run's configuration, rounds,
and metrics with the value of every task. It has no candidates, artifacts or weights, so that an
imported run can be shown and compared, and not be continued or spoken with.

    upspiral runs archive RUN RUN --out mine.json.gz     # on one machine
    upspiral runs import mine.json.gz                    # on the other
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from common import tables
from common.artifacts import disk_errors
from common.errors import UserError
from common.records import Metric, Round
from common.store import Store

FORMAT = 1
SPLITS = ("dev", "test")


def write(store: Store, runs: Sequence[str], path: Path) -> int:
    """Write the figures of ``runs`` to ``path``; return how many bytes.

    Raises:
        UserError: a run is unknown or not done, or ``path`` cannot be written.
    """
    for run in runs:
        if (status := store.run(run).status) != "done":
            raise UserError(f"run {run!r} is {status}, not done", f"upspiral runs resume {run}")
    text = json.dumps({"format": FORMAT, "runs": [_figures(store, run) for run in runs]})
    # Without a time stamp, so that the same runs make the same file.
    data = gzip.compress(text.encode(), mtime=0)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with disk_errors(path):
            half.write_bytes(data)
            half.replace(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"cannot write {path}", "name a file in a folder that exists") from error
    finally:
        half.unlink(missing_ok=True)
    return len(data)


def read(store: Store, path: Path) -> list[str]:
    """Put the runs of an archive into ``store``; the names of those that were not there yet.

    Raises:
        UserError: ``path`` is no archive.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}", "name an archive of runs") from error
    try:
        data = json.loads(gzip.decompress(packed))
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}")
        found = [_records(row) for row in data["runs"]]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is no archive of runs ({error})", "make one with upspiral runs archive"
        ) from error
    there = {run.run for run in store.runs()}
    new = []
    for row, records, units in found:
        if row["run"] in there:
            continue
        with store.database.write() as connection:
            connection.execute(store.database.insert(tables.runs), row)
            store._append(connection, row["run"], records)
            if units:
                connection.execute(store.database.insert(tables.units), units)
        new.append(row["run"])
    return new


def _figures(store: Store, run: str) -> dict[str, Any]:
    """One run, as JSON can say it."""
    with store.database.read() as connection:
        query = sa.select(tables.runs).where(tables.runs.c.run == run)
        row = dict(connection.execute(query).one()._mapping)
    rounds = store.rounds(run)
    metrics = [m for split in SPLITS for m in store.metrics(run, split)]  # type: ignore[arg-type]
    return {
        "run": {name: row[name] for name in row if name not in ("owner", "heartbeat")},
        "rounds": [asdict(r) | {"metrics": []} for r in rounds],
        "metrics": [asdict(m) | {"items": {k: _short(v) for k, v in m.items.items()}}
                    for m in metrics],
        "units": [
            {"round": r.index, "stage": stage, "shard": shard, "seconds": round(unit.seconds, 3)}
            for r in rounds
            for (stage, shard), unit in store.units(run, r.index).items()
        ],
    }  # fmt: skip


def _short(value: float) -> float:
    """Six digits: a task's value is no more certain than that."""
    return float(f"{value:.6g}")


def _records(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[tables.Record], list[Any]]:
    """The rows of a run: its own, its records, and its units."""
    run = {column.name: data["run"].get(column.name) for column in tables.runs.c}
    records: list[tables.Record] = [Round(**row) for row in data["rounds"]]
    records += [Metric(**row) for row in data["metrics"]]
    units = [{"run": run["run"], "status": "done", "payload": {}, **unit} for unit in data["units"]]
    return run, records, units
