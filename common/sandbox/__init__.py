"""Runs code that a model wrote, where it can do no harm.

Every job is a fresh process behind a wall (:mod:`common.sandbox.layers`) and under limits
(:mod:`common.sandbox.keeper`): no network, nothing to read but the interpreter and its libraries,
one writable folder of bounded size, three variables in the environment. The check of the source
(:mod:`common.sandbox.lint`) is quick feedback for the model and no part of the wall. ::

    ran = run("print(6 * 7)")
    ran.status, ran.stdout      # "ok", "42\\n"

A script starts in an empty folder, and what it leaves there comes back in ``Ran.files``; its inputs
lie in ``../in``. See docs/sandbox.md for what each wall holds and what it does not.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.sandbox import job, keeper, layers
from common.sandbox.job import MIB, Limits
from common.sandbox.layers import Layer
from common.sandbox.lint import Finding, Profile, lint

__all__ = [
    "LIMITS",
    "MIB",
    "REMEDIES",
    "WALLS",
    "Finding",
    "Layer",
    "Limits",
    "Profile",
    "Ran",
    "best",
    "lint",
    "problem",
    "run",
    "verdict",
]

WALLS: tuple[Layer, ...] = ("bubblewrap", "landlock")
"""The better one first."""
REMEDIES: Mapping[Layer, str] = {
    "bubblewrap": "upspiral data get bubblewrap; if that is there, allow user namespaces",
    "landlock": "Linux 6.2 or newer, with Landlock among the active security modules",
}
LIMITS: Mapping[Profile, Limits] = {
    "python": Limits(),
    "blender": Limits(seconds=120, cpu_seconds=600, memory=4096 * MIB, processes=1024),
}


@dataclass(frozen=True)
class Ran:
    """What became of a script."""

    status: Literal["ok", "failed", "timeout", "limit", "refused"]
    """``failed``: it ended with an error of its own; ``refused``: the check found something."""
    why: str
    """In a sentence, what stopped it; "" if nothing did."""
    returncode: int | None
    """Its exit code, or less than 0 the signal that ended it; None if it did not run."""
    stdout: str
    stderr: str
    files: Mapping[str, bytes] = field(repr=False)
    """What it left in its folder, by relative path."""
    left: tuple[str, ...]
    """What it left besides and nobody collected: links, devices, too much."""
    findings: tuple[Finding, ...]
    layer: Layer
    seconds: float


def run(
    code: str | Path,
    *,
    profile: Profile = "python",
    files: Mapping[str, bytes | Path] | None = None,
    limits: Limits | None = None,
    check: bool = True,
    unsafe: bool = False,
    layer: Layer | None = None,
) -> Ran:
    """Run a script, given as source or as a file, and wait for its end.

    ``files`` are its inputs by name: bytes, or files and folders that it may read. Without
    ``check`` the source is not looked at first. ``unsafe`` lets it run where no wall can be built,
    with limits only. ``layer`` names the wall; by default it is the best that works here. Nothing
    of the job is left when this returns or raises.

    Raises:
        UserError: no wall works here and ``unsafe`` is false; the file cannot be read.
        ValueError: a name of ``files`` leads out of the folder of inputs.
    """
    began = time.monotonic()
    source = code if isinstance(code, str) else _source(code)
    if check and (findings := lint(source, profile)):
        why = f"line {findings[0].line}: {findings[0].message}"
        seconds = time.monotonic() - began
        return Ran("refused", why, None, "", "", {}, (), tuple(findings), "none", seconds)
    wall = layer or best(unsafe)
    return _run(source, files or {}, limits or LIMITS[profile], wall)


def best(unsafe: bool = False) -> Layer:
    """The best wall that works here; ``"none"`` is one only if ``unsafe``.

    Raises:
        UserError: none works and ``unsafe`` is false.
    """
    reasons: list[str] = []
    for layer in WALLS:
        reason = problem(layer)
        if not reason:
            return layer
        reasons.append(f"{layer}: {reason}")
    if unsafe:
        return "none"
    raise UserError(
        f"code cannot be walled in on this machine ({'; '.join(reasons)})",
        f"{REMEDIES['bubblewrap']}; or --unsafe runs it without a wall",
    )


def problem(layer: Layer) -> str:
    """Why a wall does not work here, found out by running a job behind it; "" if it works."""
    return _tried(layer, layers.bubblewrap())


@functools.cache
def _tried(layer: Layer, program: str | None) -> str:
    del program  # another program is another answer
    if reason := layers.hindrance(layer):
        return reason
    try:
        ran = _run("print('here')", {}, Limits(seconds=20), layer)
    except UserError as error:
        return error.message
    return "" if ran.stdout == "here\n" else f"{ran.why}"


def _source(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "name a Python script") from error


def _run(source: str, files: Mapping[str, bytes | Path], limits: Limits, layer: Layer) -> Ran:
    outcome, collected, left = job.run(source, files, limits, layer)
    if not outcome["started"]:
        stopped = outcome["stopped"] or ("", "it ended at once")
        said = (outcome["stderr"].strip().splitlines() or [stopped[1]])[-1]
        raise UserError(f"{layer} does not start: {said}", "upspiral doctor says which wall works")
    status, why = verdict(outcome, limits)
    return Ran(
        status,
        why,
        outcome["code"],
        outcome["stdout"],
        outcome["stderr"],
        collected,
        tuple(left),
        (),
        layer,
        outcome["seconds"],
    )


def verdict(outcome: keeper.Outcome, limits: Limits) -> tuple[Any, str]:
    """The status of a job that has ended, and the sentence that says why."""
    code = outcome["code"]
    if outcome["stopped"]:
        return outcome["stopped"][0], outcome["stopped"][1]
    if code == 0:
        return "ok", ""
    if code == -signal.SIGXCPU or (
        code == -signal.SIGKILL and outcome["cpu"] >= limits.cpu_seconds
    ):
        return "limit", f"used more than {limits.cpu_seconds} s of processor time"
    if code == -signal.SIGXFSZ:
        return "limit", f"wrote a file of more than {limits.file_size / MIB:g} MiB"
    lines = outcome["stderr"].strip().splitlines()
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return "failed", f"ended by {name}"
    return "failed", lines[-1][:300] if lines else f"exit code {code}"
