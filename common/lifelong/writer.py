"""Writing lifelong-learning logs, format version 1.1, as :mod:`common.lifelong.logs` reads them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from common.artifacts import disk_errors
from common.errors import UserError
from common.lifelong.logs import DATA, columns_of

FIELDS = ("block_num", "exp_num", "worker_id", "block_type", "block_subtype", "task_name",
          "task_params", "exp_status", "timestamp")  # fmt: skip


class LogWriter:
    """Appends experiences to the log in ``folder``, each on disk before the call returns.

    Tasks are named ``LABEL_VARIANT``. What is there already is continued: blocks and experiences
    are numbered on from the last whole line, and a line that a crash tore is cut off.

    Raises:
        UserError: a log of other metrics is there, or the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        metrics: Sequence[str] = ("performance",),
        scenario: Mapping[str, Any] | None = None,
        worker: str = "0",
    ) -> None:
        self.folder, self.metrics, self.worker = folder, tuple(metrics), worker
        info = {"metrics_columns": [*metrics], "log_format_version": "1.1"}
        path = folder / "logger_info.json"
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                there = columns_of(folder)
                if there != info["metrics_columns"]:
                    raise UserError(f"{folder} is a log of {there}", "name another one")
            else:
                text = json.dumps(dict(scenario or {}), indent=1) + "\n"
                (folder / "scenario_info.json").write_text(text, encoding="utf-8")
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
                partial.replace(path)  # a log is one from here on, whatever happens
        self.block, self.experience = self._last()

    def begin(
        self, kind: Literal["train", "test"], subtype: Literal["wake", "sleep"] = "wake"
    ) -> None:
        """Begin the next block; every experience belongs to the block that was begun last."""
        self.block += 1
        self._kind, self._subtype = kind, subtype
        place = self.folder / self._place()
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
            (place / DATA).write_text(self._line([*FIELDS, *self.metrics]), encoding="utf-8")

    def add(
        self,
        task: str,
        values: Mapping[str, float],
        params: Mapping[str, Any] | None = None,
        status: str = "complete",
    ) -> int:
        """Append one experience of ``task`` with a value for each metric; return its number."""
        self.experience += 1
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        row = [
            self.block, self.experience, self.worker, self._kind, self._subtype, task,
            json.dumps(dict(params or {})), status, now,
            *(repr(float(values[m])) for m in self.metrics),
        ]  # fmt: skip
        path = self.folder / self._place() / DATA
        with disk_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(self._line(row))
        return self.experience

    def _place(self) -> str:
        return f"worker-{self.worker}/{self.block}-{self._kind}"

    @staticmethod
    def _line(row: Sequence[object]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter="\t", lineterminator="\n").writerow(row)
        return text.getvalue()

    def _last(self) -> tuple[int, int]:
        """The last block and experience of what is there; -1 each where nothing is."""
        block = experience = -1
        for path in self.folder.glob(f"*/*/{DATA}"):
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                path.write_text(whole, encoding="utf-8")
            number, _, self._kind = path.parent.name.partition("-")  # type: ignore[assignment]
            block = max(block, int(number))
            for row in list(csv.reader(io.StringIO(whole), delimiter="\t"))[1:]:
                experience = max(experience, int(row[1]))
        return block, experience
