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
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from common.errors import UserError
from common.sandbox import boot, keeper, layers, outputs
from common.sandbox.layers import Layer
from common.sandbox.lint import Finding, Profile, lint

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What a job may use: seconds, bytes, counts. Memory is that of all its processes together."""

    seconds: float = 30
    cpu_seconds: int = 30
    """For each process."""
    memory: int = 2048 * MIB
    file_size: int = 128 * MIB
    folder: int = 256 * MIB
    """What the writable folder may hold in all."""
    files: int = 4096
    processes: int = 128
    """Processes and threads at a time."""
    output: int = MIB
    """What may be written to stdout, and to stderr."""


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
    folder = Path(tempfile.mkdtemp(prefix="upspiral-sandbox-")).resolve()
    try:
        linked = _prepare(folder, source, files, layer)
        outcome, box = _keep(folder, linked, limits, layer)
        collected: dict[str, bytes] = {}
        left: list[str] = []
        if box is not None:
            try:
                collected, left = outputs.collect(box, limits.folder, limits.files)
            finally:
                os.close(box)
    finally:
        keeper.remove(str(folder))
    if not outcome["started"]:
        stopped = outcome["stopped"] or ("", "it ended at once")
        said = (outcome["stderr"].strip().splitlines() or [stopped[1]])[-1]
        raise UserError(f"{layer} does not start: {said}", "upspiral doctor says which wall works")
    status, why = _verdict(outcome, limits)
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


def _verdict(outcome: keeper.Outcome, limits: Limits) -> tuple[Any, str]:
    """The status, and the sentence that says why."""
    code = outcome["code"]
    if outcome["stopped"]:
        return outcome["stopped"][0], outcome["stopped"][1]
    if code == 0:
        return "ok", ""
    if code == -24 or (code == -9 and outcome["cpu"] >= limits.cpu_seconds):
        return "limit", f"used more than {limits.cpu_seconds} s of processor time"
    if code == -25:
        return "limit", f"wrote a file of more than {limits.file_size / MIB:g} MiB"
    lines = outcome["stderr"].strip().splitlines()
    if code < 0:
        import signal

        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return "failed", f"ended by {name}"
    return "failed", lines[-1] if lines else f"exit code {code}"


def _prepare(
    folder: Path, source: str, files: Mapping[str, bytes | Path], layer: Layer
) -> dict[str, Path]:
    """Make the job's folder; the inputs that lie elsewhere, by their names."""
    linked: dict[str, Path] = {}
    for name in ("in",) if layer == "bubblewrap" else ("in", "out", "tmp"):
        (folder / name).mkdir()
    for name, content in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or name in ("", ".", "script.py"):
            raise ValueError(f"{name!r} cannot be the name of an input")
        path = folder / "in" / pure
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
            continue
        real = content.resolve(strict=True)
        linked[name] = real
        if layer != "bubblewrap":
            path.symlink_to(real)
        elif real.is_dir():
            path.mkdir()  # where bubblewrap puts the real one
        else:
            path.touch()
    (folder / "in/script.py").write_text(source, encoding="utf-8", errors="surrogateescape")
    return linked


def _keep(
    folder: Path, linked: Mapping[str, Path], limits: Limits, layer: Layer
) -> tuple[keeper.Outcome, int | None]:
    """Have a keeper run the job; what became of it, and a descriptor of its ``out``."""
    inside = layers.INSIDE if layer == "bubblewrap" else str(folder)
    bwrap = layer == "bubblewrap"
    # A namespace of its own counts its processes from 0 since Linux 5.14; elsewhere all of the
    # user's count, and the keeper alone sees to the limit.
    counted = bwrap and tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14)
    python = [layers.interpreter(), "-I", "-S", "-u", "-c", Path(boot.__file__).read_text("utf-8")]
    python += [inside, str(limits.processes if counted else 0), *layers.packages()]
    filter = os.memfd_create("filter")
    os.write(filter, b"" if layer == "none" else layers.filter(layer))
    os.lseek(filter, 0, os.SEEK_SET)
    order: keeper.Order = {
        "engine": os.getpid(),
        "filter": filter,
        "command": [*layers.prefix(layer, folder, linked, limits.folder), *python],
        "environment": {
            "HOME": f"{inside}/tmp",
            "TMPDIR": f"{inside}/tmp",
            "LANG": "C.UTF-8",
        },
        "folder": str(folder),
        "tmpfs": bwrap,
        "rlimits": {
            "RLIMIT_CPU": (limits.cpu_seconds, limits.cpu_seconds + 1),
            "RLIMIT_DATA": (limits.memory, limits.memory),
            "RLIMIT_FSIZE": (limits.file_size, limits.file_size),
            "RLIMIT_NOFILE": (256, 256),
            "RLIMIT_CORE": (0, 0),
            "RLIMIT_MEMLOCK": (0, 0),
            "RLIMIT_MSGQUEUE": (0, 0),
        },
        "seconds": limits.seconds,
        "memory": limits.memory,
        "processes": limits.processes,
        "output": limits.output,
        "size": limits.folder,
        "entries": limits.files,
    }
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())],
            pass_fds=(theirs.fileno(), filter),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        theirs.close()
        os.close(filter)
    try:
        data = json.dumps(order).encode()
        ours.sendall(struct.pack("=Q", len(data)) + data)
        first, rights, _, _ = socket.recv_fds(ours, 8, 1)
        if len(first) < 8:
            raise UserError("the keeper of the sandbox ended early", "upspiral doctor")
        box = rights[0] if rights else None
        outcome: keeper.Outcome = json.loads(_exactly(ours, struct.unpack("=Q", first)[0]))
    finally:
        ours.close()  # the keeper ends the job when this end is closed
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if bwrap and outcome["code"] > 128:
        outcome["code"] = 128 - outcome["code"]  # bubblewrap's way of naming a signal
    if box is None:
        return outcome, None
    try:
        return outcome, os.open("out", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=box)
    except OSError:  # the script removed it
        return outcome, None
    finally:
        os.close(box)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = stream.recv(min(1 << 20, size - len(data)))
        if not chunk:
            raise UserError("the keeper of the sandbox ended early", "upspiral doctor")
        data += chunk
    return bytes(data)
