"""The folder of a run: every version as files to read, and the best one to use.

| file | what |
|---|---|
| ``best/`` | policy.py and improver.py of the best version |
| ``versions/0003/`` | those of version 3 |
| ``versions.json`` | what each scored and cost, why it was made, why it was rolled back |
| ``conversation.md`` | what was said in the run, as far as the agent keeps it |
| ``run.json`` | the name of the run in the store, from which ``--resume`` goes on |

The store holds the truth; the folder is written after every step, and whole again by a resume.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.artifacts import disk_errors
from common.errors import UserError
from text.godel.source import Source
from text.godel.workshop import Version


def write(
    folder: Path, run: str, versions: Sequence[Version], best: int, history: Sequence[Any]
) -> None:
    """Bring ``folder`` up to date.

    Raises:
        UserError: the disk is full or cannot be written to.
    """
    with disk_errors(folder):
        _put(folder / "run.json", json.dumps({"run": run, "best": best}))
        for version in versions:
            _save(version.source, _at(folder, version.index))
        _save(versions[best].source, folder / "best")
        _put(folder / "versions.json", json.dumps([facts(v) for v in versions], indent=1))
        said = [
            f"**{m.get('role')}**\n\n{m.get('content')}" for m in history if isinstance(m, dict)
        ]
        _put(folder / "conversation.md", "\n\n---\n\n".join(said) + "\n")


def vacant(folder: Path) -> None:
    """See that a run can begin in ``folder``, which need not be there.

    Raises:
        UserError: it holds a run, or what is none of ours to write over.
    """
    if (folder / "run.json").exists():
        raise UserError(
            f"{folder} holds the run {run_of(folder)}",
            f"go on with it by --resume {folder}, or name another --out",
        )
    with disk_errors(folder):
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} holds files and no run", "name a new or an empty --out")


def begin(folder: Path, run: str) -> None:
    """Say whose folder it is before there is anything in it, so that it can be resumed by it.

    Raises:
        UserError: as :func:`vacant`, unless the run that it holds is ``run``.
    """
    if (folder / "run.json").exists() and run_of(folder) == run:
        return
    vacant(folder)
    try:
        with disk_errors(folder), (folder / "run.json").open("x", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "best": 0}))
    except FileExistsError:  # a run that began at the same time was first
        vacant(folder)


def facts(version: Version) -> dict[str, Any]:
    """A version as JSON, without its source."""
    metric = version.metric
    return {
        "version": version.index,
        "step": version.step,
        "kept": version.kept,
        metric.name: metric.value,
        f"{metric.name}_se": metric.se,
        "n": metric.n,
        "why": version.reason,
        "problem": version.problem,
        "seconds": round(version.seconds, 2),
        **version.notes.get("cost", {}),
    }


def run_of(folder: Path) -> str:
    """The run that ``folder`` is of.

    Raises:
        UserError: it is no folder of a run.
    """
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no folder of an evolution: {error}", "name the --out of one"
        ) from error
    return str(found)


def diff(folder: Path, first: str, second: str) -> str:
    """What changed from one version to another, by their numbers.

    Raises:
        UserError: there is no such version.
    """
    found = []
    there = sorted(p.name for p in (folder / "versions").glob("[0-9]*"))
    for number in (first, second):
        path = _at(folder, int(number)) if number.isdecimal() else None
        if path is None or not path.is_dir():
            remedy = "name the --out of an evolution, and two numbers"
            if there:
                remedy = (
                    f"there are 0 to {int(there[-1])}, as in --diff {folder} 0 {int(there[-1])}"
                )
            raise UserError(f"{folder} has no version {number}", remedy)
        found.append(Source.read(path))
    return found[0].diff(found[1])


def _at(folder: Path, index: int) -> Path:
    return folder / "versions" / f"{index:04d}"


def _save(source: Source, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in source.files().items():
        _put(folder / name, text)


def _put(path: Path, text: str) -> None:
    """Write a file, whole or not at all, unless it is like that."""
    if path.exists() and path.read_bytes() == text.encode("utf-8", "replace"):
        return
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_bytes(text.encode("utf-8", "replace"))
    scratch.replace(path)
