"""Reading lifelong-learning logs: a folder of tab-separated files, versions 1.0 and 1.1.

    scenario/logger_info.json                 {"metrics_columns": ["performance"], ...}
    scenario/scenario_info.json
    scenario/WORKER/BLOCK-train/data-log.tsv  block_num exp_num worker_id block_type ... performance
    scenario/WORKER/BLOCK-test/data-log.tsv

Files are read in pieces and only the columns that are measured are kept, 25 bytes an experience.
Version 1.0 has no ``block_subtype``, which means that all blocks are awake. Nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

VERSIONS = ("1.0", "1.1")
DATA = "data-log.tsv"
FORM = "a folder with logger_info.json and WORKER/BLOCK-train/data-log.tsv"


@dataclass(frozen=True)
class Log:
    """The complete experiences of a log in their order; arrays are parallel, (n,).

    ``task`` indexes ``tasks``; ``train`` and ``wake`` tell train from test and wake from sleep.
    """

    name: str
    tasks: tuple[str, ...]
    task: NDArray[np.int32]
    block: NDArray[np.int32]
    experience: NDArray[np.int64]
    train: NDArray[np.bool_]
    wake: NDArray[np.bool_]
    value: NDArray[np.float64]
    begun: int | None = None
    """The last block where it is still empty, as an agent that was interrupted leaves it."""

    def __len__(self) -> int:
        return len(self.value)


def read(folder: Path, metric: str | None = None) -> Log:
    """The log in ``folder``, of one metric column: the only one by default.

    Experiences that did not end as ``complete`` are left out. Workers are merged by the number of
    the experience, which counts over all of them. Blocks are numbered from 0: were one missing, the
    metrics would be those of another lifetime.

    Raises:
        UserError: no log, an unknown version, a column that is not there, a value that is no finite
            number, a torn or malformed file (which is named), a block that is missing, empty or in
            another one's folder, an experience that is there twice, or none that is complete.
    """
    columns = columns_of(folder)
    if metric is None:
        if len(columns) != 1:
            raise UserError(
                f"{folder} has the metrics {', '.join(columns)}", "choose one with --metric"
            )
        metric = columns[0]
    elif metric not in columns:
        raise UserError(
            f"{folder} has no metric {metric!r}", f"--metric may be {', '.join(columns)}"
        )
    files = sorted(folder.glob(f"*/*/{DATA}"), key=_order)
    if not files:
        raise UserError(f"{folder} holds no {DATA}", f"name {FORM}")
    tasks: dict[str, int] = {}
    found = {file: _parts(file, metric, tasks) for file in files}
    begun = _begun(folder, found)
    parts = [part for pieces in found.values() for part in pieces]
    if not any(len(part["value"]) for part in parts):
        raise UserError(f"{folder} has no complete experience", "let the agent finish one")
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = merged["experience"]
    if (np.diff(order) < 0).any():
        sorting = np.argsort(order, kind="stable")
        merged = {name: array[sorting] for name, array in merged.items()}
    order = merged["experience"]
    if (twice := order[1:][order[1:] == order[:-1]]).size:
        blocks = sorted({*merged["block"][order == twice[0]].tolist()})
        raise UserError(
            f"{folder} has experience {twice[0]} more than once, in block "
            f"{' and '.join(map(str, blocks))}",
            "leave the copy out, or number experiences over all blocks and workers",
        )
    return Log(folder.name, tuple(tasks), **merged, begun=begun)


def _begun(folder: Path, found: Mapping[Path, Sequence[Any]]) -> int | None:
    """The last block where it is empty; no other may be, and none may be missing."""
    blocks = {_number(file) for file in found}
    gap = next((n for n, block in enumerate(sorted(blocks)) if n != block), None)
    if gap is not None:
        raise UserError(
            f"{folder} has no block {gap}, though it goes on to {max(blocks)}",
            "put its folder back, or number blocks from 0 without gaps",
        )
    last = max(blocks)
    for file, pieces in found.items():
        if not pieces and _number(file) < last:
            raise UserError(f"{file} holds no experience", "put its lines back")
    held = any(pieces for file, pieces in found.items() if _number(file) == last)
    return None if held else last


def columns_of(folder: Path) -> list[str]:
    """The metrics that the log says it has."""
    path = folder / "logger_info.json"
    try:
        info: Any = json.loads(path.read_text(encoding="utf-8"))
        columns = info["metrics_columns"]
        version = str(info.get("log_format_version", "1.0"))
    except OSError as error:
        raise UserError(f"{folder} is no log: no logger_info.json", f"name {FORM}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} does not say which metrics there are ({type(error).__name__})",
            'write {"metrics_columns": ["performance"], "log_format_version": "1.1"}',
        ) from error
    if version not in VERSIONS:
        raise UserError(
            f"{path} is of version {version}", f"versions {' and '.join(VERSIONS)} are read"
        )
    if not isinstance(columns, list) or not columns or not all(isinstance(c, str) for c in columns):
        raise UserError(f"{path} names no metrics", 'as in "metrics_columns": ["performance"]')
    return columns


def _order(file: Path) -> tuple[str, int, str]:
    """Files by worker, then by the number of their block."""
    return file.parent.parent.name, _number(file), file.parent.name


def _number(file: Path) -> int:
    """The block that a file's folder is named after.

    Raises:
        UserError: it is named after none.
    """
    number = re.search(r"\d+", file.parent.name)
    if number is None:
        raise UserError(f"{file.parent} has no block number in its name", "as in 0-train")
    return int(number[0])


def _parts(file: Path, metric: str, tasks: dict[str, int]) -> list[dict[str, NDArray[Any]]]:
    """The columns that are kept of each piece of a file; new tasks are added to ``tasks``.

    A file without experiences has no pieces.
    """
    import pyarrow as pa
    from pyarrow import csv

    kinds = {
        "block_num": pa.int32(), "exp_num": pa.int64(), "block_type": pa.string(),
        "block_subtype": pa.string(), "task_name": pa.string(), "exp_status": pa.string(),
        metric: pa.float64(),
    }  # fmt: skip
    try:
        with file.open(encoding="utf-8") as text:
            heading = text.readline().rstrip("\r\n").split("\t")
        lost = [c for c in kinds if c not in heading and c != "block_subtype"]
        if lost:
            raise UserError(f"{file} has no column {lost[0]}", "see docs/lifelong.md for its form")
        options = csv.ConvertOptions(
            column_types=kinds,
            include_columns=[c for c in kinds if c in heading],
            null_values=[""],  # "nan" is a number that nobody can measure by, and no gap
        )
        reading = csv.open_csv(
            file,
            parse_options=csv.ParseOptions(delimiter="\t", newlines_in_values=False),
            convert_options=options,
        )
        found = []
        with reading:
            for batch in reading:
                if batch.num_rows:
                    found.append(_kept(file, batch, metric, tasks))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f"{file} is torn or malformed: {said}", "write it again, or leave its last lines out"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}", f"name {FORM}") from error
    return found


def _kept(file: Path, batch: Any, metric: str, tasks: dict[str, int]) -> dict[str, NDArray[Any]]:
    """A piece of a file as arrays, without experiences that did not complete."""
    import pyarrow.compute as pc

    columns = {name: batch.column(name) for name in batch.schema.names}
    empty = [name for name, column in columns.items() if column.null_count]
    if empty:
        raise UserError(f"{file} has an empty {empty[0]}", "write it again, or leave the line out")
    wrong = set(columns["block_type"].unique().to_pylist()) - {"train", "test"}
    if wrong:
        raise UserError(f"{file} has the block type {wrong.pop()!r}", "it is train or test")
    strays = set(columns["block_num"].unique().to_pylist()) - {_number(file)}
    if strays:
        raise UserError(
            f"{file} holds experiences of block {strays.pop()}", "put them into that block's folder"
        )
    done = pc.equal(columns["exp_status"], "complete")
    columns = {name: column.filter(done) for name, column in columns.items()}
    value = columns[metric].to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isfinite(value).all():
        raise UserError(f"{file} has a {metric} that is no finite number", "leave the line out")
    names = columns["task_name"].dictionary_encode()
    numbers = [tasks.setdefault(name, len(tasks)) for name in names.dictionary.to_pylist()]
    codes = names.indices.to_numpy(zero_copy_only=False)
    subtype = columns.get("block_subtype")
    wake = pc.not_equal(subtype, "sleep") if subtype is not None else None
    return {
        "task": np.array(numbers, np.int32)[codes] if len(codes) else np.zeros(0, np.int32),
        "block": columns["block_num"].to_numpy(zero_copy_only=False),
        "experience": columns["exp_num"].to_numpy(zero_copy_only=False),
        "train": pc.equal(columns["block_type"], "train").to_numpy(zero_copy_only=False),
        "wake": (
            wake.to_numpy(zero_copy_only=False) if wake is not None else np.ones(len(value), bool)
        ),
        "value": value,
    }
