"""Trees in files: a log with a line a step, and a finished tree as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from common.errors import UserError
from common.lock import alone
from common.search.tree import Search, Step, Tree


class Log:
    """A file with a line a step, so that a search which was killed loses the step in flight only.

    Its first line says what the search depends on (``key``) and its settings. A line that a crash
    cut off is left out, and the next one takes its place. Until :meth:`close`, or the end of the
    process, nobody else can write to it; everybody can read it.

    Raises:
        UserError: the file is of a search with another key, or is no log, or another search is
            writing to it.
    """

    def __init__(self, path: Path, key: str, config: Search) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        try:
            self._begin(key, config)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, key: str, config: Search) -> None:
        busy = f"another search is writing to {str(self.path)!r}"
        alone(self._file, busy, "let it finish, or name another folder")
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        self._file.truncate(whole)
        if not whole:
            self._append({"key": key, "search": asdict(config)})
        elif (found := _rows(self.path)[0].get("key")) != key:
            raise UserError(
                f"{str(self.path)!r} is of a search with other settings ({found}, not {key})",
                "name another folder, or search with the settings that it was begun with",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def trees(self) -> dict[str, Tree]:
        """The trees as far as they are there."""
        return read_trees(self.path)

    def __call__(self, tree: str, step: Step) -> None:
        self._append({"tree": tree, **asdict(step)})

    def _append(self, row: Mapping[str, Any]) -> None:
        self._file.write((json.dumps(row) + "\n").encode())
        self._file.flush()


def read_trees(path: Path) -> dict[str, Tree]:
    """The trees of a log by their names; what a crash cut off is left out.

    Raises:
        UserError: there is no such file, or it is no log.
    """
    head, *rows = _rows(path)
    steps: dict[str, list[Step]] = {}
    try:
        for row in rows:
            steps.setdefault(row.pop("tree"), []).append(step_of(row))
        return {name: Tree(Search(**head["search"]), own) for name, own in steps.items()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _no_log(path, error) from error


def step_of(row: Mapping[str, Any]) -> Step:
    """A step as JSON has it."""
    pairs = {name: tuple(tuple(pair) for pair in row[name])
             for name in ("children", "rollout", "checks")}  # fmt: skip
    return Step(**{**row, **pairs})


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        if not all(isinstance(row, dict) for row in rows) or "key" not in rows[0]:
            raise ValueError("no line that begins a search")
    except (OSError, ValueError, IndexError) as error:
        raise _no_log(path, error) from error
    return rows


def _no_log(path: Path, error: Exception) -> UserError:
    return UserError(f"{str(path)!r} is no log of a search ({error})", "delete it")


def dumps(tree: Tree) -> bytes:
    """A tree as a file: its settings and its steps."""
    told = {"search": asdict(tree.config), "steps": [asdict(step) for step in tree.steps]}
    return json.dumps(told, indent=1).encode()


def loads(data: bytes) -> Tree:
    """The tree that :func:`dumps` wrote.

    Raises:
        UserError: it is none.
    """
    try:
        told = json.loads(data)
        return Tree(Search(**told["search"]), [step_of(row) for row in told["steps"]])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"this is no tree ({error})", "search again") from error
