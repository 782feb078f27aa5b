"""The keeper of one job: a process that starts it, watches it, and leaves none of it running.

Run as a file by an interpreter that sees nothing of this project, with the descriptor of a socket
to the engine and the job's folder as its arguments. It reads one JSON object (:class:`Order`), and
answers with one (:class:`Outcome`) and a descriptor of the job's folder. The keeper is the
*subreaper* of everything the job starts: a daemon that leaves its parent becomes the keeper's
child, so that the job is over when the kernel says that no child is left. It ends the job when the
engine hangs up or dies.
"""

# Importing pathlib would cost as much as all the rest of the start.
# ruff: noqa: PTH104, PTH106, PTH108, PTH123, PTH208

from __future__ import annotations

import _socket
import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING, NoReturn, TypedDict

if TYPE_CHECKING:
    from _socket import socket as Socket

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CHANNEL, FILTER = 3, 4
"""Descriptors that a job starts with: the socket for ``boot.py``, the seccomp filter."""
START = 60
"""Seconds that a machine under load may take until the script begins; its own time counts then."""
DEPTH = 64
"""Folders nested deeper than this end a job that no tmpfs holds."""


class Order(TypedDict):
    """What is to be run, and what it may use: seconds, bytes, counts."""

    engine: int
    """The process that gives the order; the job ends with it."""
    filter: int
    """The descriptor of the seccomp filter."""
    channel: int | None
    """The descriptor of a socket that the job gets as its standard input; else it reads nothing."""
    command: list[str]
    environment: dict[str, str]
    folder: str
    """Where the job starts, and what is measured if ``tmpfs`` is false."""
    tmpfs: bool
    rlimits: dict[str, tuple[int, int]]
    seconds: float
    memory: int
    processes: int
    output: int
    size: int
    entries: int


class Outcome(TypedDict):
    """What became of it. ``stopped`` is (status, sentence) if the keeper ended it."""

    started: bool
    code: int
    """The exit code, or less than 0 the signal that ended the command."""
    stopped: tuple[str, str] | None
    stdout: str
    stderr: str
    seconds: float
    cpu: float


class Stop(Exception):  # noqa: N818
    """The job has to end: ``args`` are the status and a sentence."""


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started and not outlived."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def descendants(pid: int) -> list[int]:
    """Everything below ``pid``, the nearest first."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16).decode("ascii", "replace")
    finally:
        os.close(fd)


def threads_and_memory(pids: list[int]) -> tuple[int, int]:
    """Threads and bytes of memory that only these processes hold; shared libraries do not count."""
    threads = kib = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            for line in _read(f"/proc/{pid}/status").splitlines():
                name, _, value = line.partition(":")
                if name == "Threads":
                    threads += int(value)
                elif name in ("RssAnon", "RssShmem"):
                    kib += int(value.split()[0])
    return threads, kib * 1024


def folder_size(folder: int) -> tuple[int, int]:
    """Bytes on disk and entries below a folder, no link followed.

    Raises:
        Stop: it is nested deeper than ``DEPTH``.
    """
    size = entries = 0
    waiting = [(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder), 0)]
    try:
        while waiting:
            fd, depth = waiting.pop()
            try:
                for entry in os.scandir(fd):
                    with contextlib.suppress(OSError):
                        entries += 1
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            if depth == DEPTH or len(waiting) > 256:
                                raise Stop("limit", f"made folders more than {DEPTH} deep")
                            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                            waiting.append((os.open(entry.name, flags, dir_fd=fd), depth + 1))
            finally:
                os.close(fd)
    finally:
        for fd, _ in waiting:
            os.close(fd)
    return size, entries


class Keeper:
    """Runs one order. ``control`` is the socket to the engine, ``engine`` a pidfd of it."""

    def __init__(self, order: Order, control: Socket, engine: int) -> None:
        self.order = order
        self.control = control
        self.engine = engine
        self.folder: int | None = None
        """A descriptor of the job's folder, once the job has begun."""
        self.code = 0
        self.kept = {1: bytearray(), 2: bytearray()}
        self.began = time.monotonic()

    def run(self) -> Outcome:
        """Start the job, watch it until it ends or has to, and end what is left of it."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        pipes = {1: os.pipe(), 2: os.pipe()}
        channel = self.order["channel"]
        stdin = os.open("/dev/null", os.O_RDONLY) if channel is None else channel
        pid = os.fork()
        if pid == 0:
            self._become({0: stdin, 1: pipes[1][1], 2: pipes[2][1]}, theirs.fileno())
        os.close(stdin)  # the other end hears of it when the job has closed its own
        theirs.close()
        for _, write in pipes.values():
            os.close(write)
        readers = {pipes[1][0]: 1, pipes[2][0]: 2}
        stopped: tuple[str, str] | None = None
        try:
            self._watch(pid, readers, ours)
        except Stop as stop:
            stopped = (stop.args[0], stop.args[1])
        self._end(pid)
        if self.folder is None:  # it ended, or was stopped, before its word was heard
            with contextlib.suppress(OSError):
                self._begin(ours)
        with contextlib.suppress(Stop):
            for fd in list(readers):
                while self._take(fd, readers):
                    pass
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "started": self.folder is not None,
            "code": self.code,
            "stopped": stopped,
            "stdout": self.kept[1].decode("utf-8", "replace"),
            "stderr": self.kept[2].decode("utf-8", "replace"),
            "seconds": time.monotonic() - self.began,
            "cpu": used.ru_utime + used.ru_stime,
        }

    def _become(self, streams: dict[int, int], channel: int) -> NoReturn:
        """In the child: give up everything but what the order names, and become the command."""
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")  # a machine out of memory ends the job first
            # Above all numbers that are needed first, so that none is overwritten.
            wanted = {**streams, CHANNEL: channel, FILTER: self.order["filter"]}
            high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for number, fd in wanted.items()}
            for number, fd in high.items():
                os.dup2(fd, number, inheritable=True)
            os.closerange(FILTER + 1, 256)
            os.chdir(self.order["folder"])
            os.umask(0o077)
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            for name, (soft, hard) in self.order["rlimits"].items():
                kind = getattr(resource, name)
                most = resource.getrlimit(kind)[1]
                most = hard if most == resource.RLIM_INFINITY else min(hard, most)
                resource.setrlimit(kind, (min(soft, most), most))
            command = self.order["command"]
            os.execve(command[0], command, self.order["environment"])
        except BaseException as error:
            os.write(2, f"{self.order['command'][0]}: {error}\n".encode())
        os._exit(127)

    def _watch(self, pid: int, readers: dict[int, int], ours: Socket) -> None:
        """Until the command ends.

        Raises:
            Stop: it used more than it may, or the engine is gone.
        """
        job = os.pidfd_open(pid)
        poll = select.poll()
        for fd in (*readers, ours.fileno(), self.control.fileno(), self.engine, job):
            poll.register(fd, select.POLLIN)
        interval = 0.02
        look = self.began + interval
        last = self.began + START
        while True:
            now = time.monotonic()
            if now >= last:
                long = START if self.folder is None else self.order["seconds"]
                raise Stop("timeout", f"ran longer than {long:g} s")
            if now >= look:
                self._look(pid)
                cost = time.monotonic() - now
                interval = min(0.25, max(0.02, 10 * cost))
                look = now + interval
            for fd, _ in poll.poll(max(1, int(1000 * (min(look, last) - now)))):
                if fd in readers:
                    if not self._take(fd, readers):
                        poll.unregister(fd)
                elif fd == ours.fileno():
                    poll.unregister(fd)
                    self._begin(ours)
                    self.began = time.monotonic()
                    last = self.began + self.order["seconds"]
                elif fd == job:
                    os.close(job)
                    return
                else:
                    raise Stop("timeout", "the program that wanted it is gone")

    def _begin(self, ours: Socket) -> None:
        """Take the descriptor that ``boot.py`` sends before it runs anything."""
        _, rights, _, _ = ours.recvmsg(1, _socket.CMSG_SPACE(4))
        ours.close()
        if rights:
            (self.folder,) = struct.unpack("i", rights[0][2][:4])

    def _take(self, fd: int, readers: dict[int, int]) -> bool:
        """Read once from a stream of the job; False at its end.

        Raises:
            Stop: it holds more than the order allows.
        """
        chunk = os.read(fd, 1 << 16)
        kept = self.kept[readers[fd]]
        room = self.order["output"] - len(kept)
        kept += chunk[:room]
        if len(chunk) > room:
            name = {1: "stdout", 2: "stderr"}[readers[fd]]
            raise Stop("limit", f"wrote more than {_bytes(self.order['output'])} to {name}")
        return bool(chunk)

    def _look(self, pid: int) -> None:
        """Measure what the kernel does not limit by itself.

        Raises:
            Stop: it is more than the order allows.
        """
        order = self.order
        for child in children(os.getpid()):
            if child != pid:  # an orphan: ours to wait for, or it stays a zombie that counts
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)
        threads, memory = threads_and_memory(descendants(os.getpid()))
        size = entries = 0
        if self.folder is not None and order["tmpfs"]:
            held = os.fstatvfs(self.folder)
            entries = held.f_files - held.f_ffree  # its size is the kernel's to limit
            threads -= 2  # bubblewrap's own processes
        elif self.folder is not None:
            size, entries = folder_size(self.folder)
        if threads > order["processes"]:
            raise Stop("limit", f"had more than {order['processes']} processes and threads")
        if memory > order["memory"]:
            raise Stop("limit", f"used more than {_bytes(order['memory'])} of memory")
        if size > order["size"]:
            raise Stop("limit", f"wrote more than {_bytes(order['size'])} of files")
        if entries > order["entries"]:
            raise Stop("limit", f"made more than {order['entries']} files")

    def _end(self, pid: int) -> None:
        """End everything below this process, and wait until the kernel knows of no child."""
        last = time.monotonic() + 20
        while time.monotonic() < last:
            for each in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            try:
                while (done := os.waitpid(-1, os.WNOHANG))[0]:
                    if done[0] == pid:
                        self.code = os.waitstatus_to_exitcode(done[1])
            except ChildProcessError:
                return
            time.sleep(0.001)


def _bytes(count: int) -> str:
    return f"{count / 2**20:g} MiB" if count >= 2**20 else f"{count} bytes"


def remove(folder: str) -> None:
    """Delete a folder that a job wrote into, however deep it nested and closed its folders.

    Sub-folders are moved up and emptied there: no path grows long, and nothing recurses. Only for
    when nothing of the job runs any more.
    """
    number = 0
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        os.chmod(here, 0o700)
        with os.scandir(here) as found:
            entries = list(found)
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            number += 1
            waiting.append(f"{folder}.{number}")
            os.rename(entry.path, waiting[-1])
        os.rmdir(here)


def receive(control: Socket) -> bytes | None:
    """A message that its length in eight bytes precedes; None if it does not come."""
    data = bytearray()
    while len(data) < 8 or len(data) < 8 + struct.unpack("=Q", data[:8])[0]:
        chunk = control.recv(1 << 16)
        if not chunk:
            return None
        data += chunk
    return bytes(data[8:])


def main() -> None:
    """Keep one job. Arguments: the descriptor of the socket to the engine, and the job's folder."""
    control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, int(sys.argv[1]))
    data = receive(control)
    if data is None:
        return remove(sys.argv[2])  # the engine is gone before it gave its order
    order: Order = json.loads(data)
    try:
        engine = os.pidfd_open(order["engine"])
    except ProcessLookupError:
        return remove(order["folder"])
    if os.getppid() != order["engine"]:
        return remove(order["folder"])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = Keeper(order, control, engine)
    answer = json.dumps(keeper.run()).encode()
    kept = () if keeper.folder is None else (keeper.folder,)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", one)) for one in kept]
    if not select.select([engine, control.fileno()], [], [], 0)[0]:  # somebody listens
        with contextlib.suppress(OSError):
            assert control.sendmsg([struct.pack("=Q", len(answer))], rights) == 8
            control.sendall(answer)
            select.select([engine, control.fileno()], [], [])  # until it has all, or is gone
    remove(order["folder"])  # not the engine: it may be killed before it gets to that


if __name__ == "__main__":
    main()
