"""Attacks on the sandbox, behind both walls and without the check: all held, nothing left."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from common import sandbox
from common.sandbox import Limits, landlock
from tests.common.attacks import ATTACKS, PRELUDE

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "pineapple-4711"
LIMITS = Limits(
    seconds=3,
    cpu_seconds=1,
    memory=512 * sandbox.MIB,
    file_size=16 * sandbox.MIB,
    folder=32 * sandbox.MIB,
    files=500,
    processes=40,
    output=256 * 1024,
)
WALLS = [
    pytest.param(wall, marks=pytest.mark.skipif(bool(why), reason=f"no {wall}: {why}"))
    for wall in sandbox.WALLS
    for why in [sandbox.problem(wall)]
]
ENDS = {
    "fork without end": {"limit", "timeout"},
    "start threads without end": {"limit", "timeout"},
    "kill everybody": {"ok", "failed", "timeout"},
    "leave daemons that breed": {"ok", "limit"},
    "loop and ignore signals": {"limit", "timeout"},
    "sleep": {"timeout"},
    "stop itself": {"timeout"},
    "hang in C": {"limit", "timeout"},
    "use all processors": {"limit", "timeout"},
    "take memory in pieces": {"failed", "limit"},
    "take memory in many processes": {"limit"},
    "take shared memory": {"limit", "failed"},
    "write a huge file": {"failed", "limit"},
    "fill the disk": {"failed", "limit"},
    "fill the scratch folder": {"failed", "limit"},
    "make files without end": {"limit"},
    "flood stdout": {"limit"},
    "flood stderr": {"limit"},
    "flood both from many": {"ok", "limit"},
    "nest folders": {"ok", "limit", "failed"},
    "call as 32 bits": {"failed"},
    "crash": {"failed"},
}
"""How an attack may end; the others run to their end, or into an error of their own."""


@dataclass
class Host:
    """What a script must not reach, and what it did reach."""

    secret: Path
    victim: subprocess.Popen[bytes]
    names: dict[str, object]
    visits: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    # What escapes from a job becomes a child of this process, where it is found.
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)
    os.environ["UPSPIRAL_ATTACK_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory(prefix="host-") as name:
        secret = Path(name) / "secret.txt"
        secret.write_text(TOKEN)
        os.utime(secret, (1000, 1000))
        victim = subprocess.Popen(
            [sys.executable, "-c", f"import time; '{TOKEN}'; time.sleep(900)"]
        )
        tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        path, hidden = f"{name}/unix", f"upspiral-{os.getpid()}"
        servers = [tcp, socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        servers[1].bind(path)
        servers[2].bind(f"\0{hidden}")
        found = Host(
            secret,
            victim,
            {
                "secret": str(secret),
                "engine": os.getpid(),
                "victim": victim.pid,
                "port": port,
                "unix": path,
                "abstract": hidden,
                "root": str(ROOT),
                "home": str(Path.home()),
            },
        )
        for server in servers:
            server.listen()
            threading.Thread(target=accept, args=(server, found.visits), daemon=True).start()
        udp.settimeout(900)
        threading.Thread(target=receive, args=(udp, found.visits), daemon=True).start()
        try:
            yield found
        finally:
            victim.kill()
            victim.wait()
            for open_socket in (*servers, udp):
                open_socket.close()
            del os.environ["UPSPIRAL_ATTACK_TOKEN"]
            libc.prctl(36, 0, 0, 0, 0)


def accept(server: socket.socket, visits: list[str]) -> None:
    try:
        while True:
            server.accept()[0].close()
            visits.append(str(server))
    except OSError:
        return


def receive(server: socket.socket, visits: list[str]) -> None:
    try:
        while True:
            visits.append(str(server.recv(100)))
    except OSError:
        return


def names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def filled(source: str, host: Host) -> str:
    """An attack with its names in it."""
    for name, value in host.names.items():
        source = source.replace(f"{{{name}!r}}", repr(value)).replace(f"{{{name}}}", str(value))
    return PRELUDE + source


def breaches(ran: sandbox.Ran) -> list[str]:
    return [line[:200] for line in ran.stdout.splitlines() if "BREACH" in line]


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_held(
    name: str,
    wall: sandbox.Layer,
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if platform.machine() != "x86_64" and "call" in ATTACKS[name]:
        pytest.skip("its numbers are those of x86-64")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    linked = host.secret.with_name("linked.txt")
    linked.write_text("a thing to read")
    before = {path: path.stat() for path in (host.secret, linked, Path(tempfile.__file__))}
    listing = names(host.secret.parent), names("/dev/shm")
    nice = os.getpriority(os.PRIO_PROCESS, 0)

    ran = sandbox.run(
        filled(ATTACKS[name], host),
        files={"data.txt": b"data", "linked.txt": linked},
        limits=LIMITS,
        check=False,
        layer=wall,
    )

    assert breaches(ran) == []
    assert ran.status in ENDS.get(name, {"ok", "failed"}), ran.why
    mistakes = [word for word in ("SyntaxError", "NameError") if word in ran.stderr]
    assert mistakes == []
    assert (ran.why == "") == (ran.status == "ok")
    assert ran.seconds < LIMITS.seconds + 3
    # Nothing came out but what may.
    said = ran.stdout + ran.stderr + repr(ran.files)
    leaked = [word for word in (TOKEN, "root:x:0") if word in said]
    assert leaked == []
    assert len(ran.stdout) <= LIMITS.output >= len(ran.stderr)
    assert sum(map(len, ran.files.values())) <= LIMITS.folder
    # The host is as it was.
    for path, facts in before.items():
        now = path.stat()
        assert (now.st_mode, now.st_uid, now.st_size) == (
            facts.st_mode,
            facts.st_uid,
            facts.st_size,
        )
        assert now.st_mtime_ns == facts.st_mtime_ns
    assert (names(host.secret.parent), names("/dev/shm")) == listing
    assert not list(Path("/").glob("upspiral-attack*"))
    assert os.getpriority(os.PRIO_PROCESS, 0) == nice
    assert host.victim.poll() is None
    assert psutil.Process(host.victim.pid).nice() == nice
    assert host.visits == []
    # Nothing is left of it.
    assert [p for p in psutil.Process().children(recursive=True) if p.pid != host.victim.pid] == []
    assert list(tmp_path.iterdir()) == []
    # And the next one works.
    assert sandbox.run("print(6 * 7)", layer=wall).stdout == "42\n"


@pytest.mark.parametrize(
    "name",
    [
        "read the password file",
        "read a file of the user",
        "read it over /proc",
        "read this project",
        "read the environment",
        "connect",
        "send a datagram",
        "connect to a local server",
        "be a server",
        "leave special files",
        "leave a hard link",
        "run a program",
    ],
)
def test_without_a_wall_it_would_get_through(name: str, host: Host) -> None:
    ran = sandbox.run(filled(ATTACKS[name], host), limits=LIMITS, check=False, layer="none")
    host.visits.clear()
    assert breaches(ran)


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("name", ["kill the engine", "connect", "change a file of the user"])
def test_older_landlock_holds_too(
    name: str, version: int, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    if landlock.abi() < version:
        pytest.skip("the kernel's is older still")
    monkeypatch.setattr(landlock, "abi", lambda: version)
    ran = sandbox.run(filled(ATTACKS[name], host), limits=LIMITS, check=False, layer="landlock")
    assert ran.status == "ok", ran.why
    assert breaches(ran) == []
    assert host.victim.poll() is None
    assert host.secret.read_text() == TOKEN
