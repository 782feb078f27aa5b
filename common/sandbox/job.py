"""One job: its folder is made, a keeper runs it, what it left is collected, the folder goes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.errors import UserError
from common.sandbox import boot, keeper, layers, outputs
from common.sandbox.layers import Layer

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


def run(
    source: str, files: Mapping[str, bytes | Path], limits: Limits, layer: Layer
) -> tuple[keeper.Outcome, dict[str, bytes], list[str]]:
    """Run a script behind a wall: what became of it, the files it left, and what was not taken.

    Raises:
        UserError: the keeper was ended from outside.
        ValueError: a name of ``files`` leads out of the folder of inputs.
    """
    folder = place()
    try:
        keeping = Keeping(folder, source, files, limits, layer)
        try:
            outcome, box = keeping.wait()
            if box is None:
                return outcome, {}, []
            try:
                return outcome, *outputs.collect(box, limits.folder, limits.files)
            finally:
                os.close(box)
        finally:
            keeping.close()
    finally:
        if folder.exists():  # there was no keeper to do it, or it was ended from outside
            keeper.remove(str(folder))


def place() -> Path:
    """A new folder for a job; whoever makes it removes it."""
    return Path(tempfile.mkdtemp(prefix="upspiral-sandbox-")).resolve()


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


class Keeping:
    """A job under way with its keeper. ``channel`` is a socket for the job's standard input.

    Raises:
        ValueError: a name of ``files`` leads out of the folder of inputs.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        files: Mapping[str, bytes | Path],
        limits: Limits,
        layer: Layer,
        channel: socket.socket | None = None,
    ) -> None:
        self.bwrap = layer == "bubblewrap"
        linked = _prepare(folder, source, files, layer)
        filter = os.memfd_create("filter")
        os.write(filter, b"" if layer == "none" else layers.filter(layer))
        os.lseek(filter, 0, os.SEEK_SET)
        given = None if channel is None else channel.fileno()
        order = _order(folder, linked, limits, layer, filter, given)
        self.control, theirs = socket.socketpair()
        handed = [fd for fd in (theirs.fileno(), filter, given) if fd is not None]
        try:
            self.process = subprocess.Popen(
                [layers.interpreter(), "-I", "-S", keeper.__file__, str(theirs.fileno()), folder],
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()
            os.close(filter)
        data = json.dumps(order).encode()
        self.control.sendall(struct.pack("=Q", len(data)) + data)

    def wait(self) -> tuple[keeper.Outcome, int | None]:
        """Until the job has ended: what became of it, and a descriptor of its ``out``.

        Raises:
            UserError: the keeper was ended from outside.
        """
        first, rights, _, _ = socket.recv_fds(self.control, 8, 1)
        if len(first) < 8:
            raise UserError("the keeper of the sandbox ended early", "upspiral doctor")
        box = rights[0] if rights else None
        size = struct.unpack("=Q", first)[0]
        outcome: keeper.Outcome = json.loads(_exactly(self.control, size))
        if self.bwrap and 128 < outcome["code"] <= 192:
            outcome["code"] = 128 - outcome["code"]  # bubblewrap's way of naming a signal
        if box is None:
            return outcome, None
        try:
            return outcome, os.open("out", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=box)
        except OSError:  # the script removed it
            return outcome, None
        finally:
            os.close(box)

    def close(self) -> None:
        """End the job if it has not ended; nothing of it runs or is left when this returns."""
        # The keeper ends the job and then itself when this end is shut; closing is not enough, as a
        # process that was forked may hold it, too.
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        self.control.close()
        self.process.wait()


def _order(
    folder: Path,
    linked: Mapping[str, Path],
    limits: Limits,
    layer: Layer,
    filter: int,
    channel: int | None,
) -> keeper.Order:
    """What a keeper is told; ``filter`` and ``channel`` are descriptors."""
    inside = layers.INSIDE if layer == "bubblewrap" else str(folder)
    bwrap = layer == "bubblewrap"
    # A namespace of its own counts its processes from 0 since Linux 5.14; elsewhere all of the
    # user's count, and the keeper alone sees to the limit.
    counted = bwrap and tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14)
    python = [layers.interpreter(), "-I", "-S", "-u", "-c", Path(boot.__file__).read_text("utf-8")]
    python += [inside, str(limits.processes if counted else 0), *layers.packages()]
    return {
        "engine": os.getpid(),
        "filter": filter,
        "channel": channel,
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


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = stream.recv(min(1 << 20, size - len(data)))
        if not chunk:
            raise UserError("the keeper of the sandbox ended early", "upspiral doctor")
        data += chunk
    return bytes(data)
