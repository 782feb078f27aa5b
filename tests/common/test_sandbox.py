"""The sandbox as its users see it: what comes back, what is bounded, what ends with what."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from common import sandbox
from common.errors import UserError
from common.sandbox import Limits, keeper, landlock, layers, outputs, seccomp

WALLS = [
    pytest.param(wall, marks=pytest.mark.skipif(bool(why), reason=f"no {wall}: {why}"))
    for wall in sandbox.WALLS
    for why in [sandbox.problem(wall)]
]


@pytest.mark.parametrize("wall", WALLS)
def test_what_a_script_says_and_leaves_comes_back(wall: sandbox.Layer, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/deep.txt").write_text("deep")
    (tmp_path / "one.txt").write_text("one")
    script = """
import os, sys
for name in ("given.bin", "one.txt", "sub/folder/deep.txt"):
    print(open("../in/" + name).read())
os.makedirs("a/b")
open("a/b/c.txt", "w").write("left")
open("empty", "w")
open(os.environ["TMPDIR"] + "/scratch", "w").write("gone")
print("wrong", file=sys.stderr)
print(sorted(os.environ), __name__, sys.argv)
exit(3)
"""
    ran = sandbox.run(
        script,
        files={
            "given.bin": b"given",
            "one.txt": tmp_path / "one.txt",
            "sub/folder": tmp_path / "folder",
        },
        check=False,
        layer=wall,
    )
    assert (ran.status, ran.returncode, ran.layer) == ("failed", 3, wall)
    assert ran.stdout.splitlines()[:3] == ["given", "one", "deep"]
    assert "['HOME', 'LANG', 'TMPDIR'] __main__ ['../in/script.py']" in ran.stdout
    assert (ran.stderr, ran.why) == ("wrong\n", "wrong")
    assert ran.files == {"a/b/c.txt": b"left", "empty": b""}
    assert ran.left == ()


@pytest.mark.parametrize("wall", WALLS)
def test_an_error_is_shown_as_python_shows_it(wall: sandbox.Layer) -> None:
    ran = sandbox.run("def f():\n    return 1 / 0\n\nf()\n", layer=wall)
    assert (ran.status, ran.why) == ("failed", "ZeroDivisionError: division by zero")
    assert 'File "../in/script.py", line 2, in f\n    return 1 / 0' in ran.stderr
    assert "boot" not in ran.stderr and ran.stderr.count("File") == 2


@pytest.mark.parametrize("wall", WALLS)
def test_what_scripts_commonly_use_works(wall: sandbox.Layer) -> None:
    script = """
import asyncio, concurrent.futures, dataclasses, decimal, hashlib, json, sqlite3, ssl, tempfile
import numpy as np
@dataclasses.dataclass
class Point:
    x: int
async def soon():
    await asyncio.sleep(0.001)
    return 5
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(abs, range(-3, 4))))
print(asyncio.run(soon()), Point(1), float(np.linalg.det(np.eye(50) * 2) > 1e14))
with tempfile.NamedTemporaryFile("w") as file:
    file.write("x")
db = sqlite3.connect("a.db")
db.execute("create table t (x)")
db.commit()
np.save("a.npy", np.arange(3))
"""
    ran = sandbox.run(script, check=False, layer=wall)
    assert (ran.status, ran.stderr) == ("ok", "")
    assert ran.stdout == "12\n5 Point(x=1) 1.0\n"
    assert {"a.db", "a.npy"} <= ran.files.keys()


@pytest.mark.parametrize("wall", WALLS)
def test_a_limit_that_was_met_is_named(wall: sandbox.Layer) -> None:
    tight = Limits(
        seconds=1,
        cpu_seconds=1,
        memory=128 * sandbox.MIB,
        file_size=sandbox.MIB,
        folder=4 * sandbox.MIB,
        files=20,
        processes=10,
        output=1000,
    )
    cases = {
        "import time; time.sleep(9)": ("timeout", "ran longer than 1 s"),
        "print('x' * 2000)": ("limit", "wrote more than 1000 bytes to stdout"),
        "x = bytearray(10**9)": ("failed", "MemoryError"),
        "open('f', 'wb').write(bytes(2 * 2**20))": ("failed", "OSError: [Errno 27] File too large"),
        "import os, time\nfor i in range(30): open(str(i), 'w')\ntime.sleep(9)": (
            "limit",
            "made more than 20 files",
        ),
    }
    for script, (status, why) in cases.items():
        ran = sandbox.run(script, limits=tight, check=False, layer=wall)
        assert (ran.status, ran.why) == (status, why)
    calm = dataclasses.replace(tight, seconds=10)
    ran = sandbox.run("while True: pass", limits=calm, layer=wall)
    assert (ran.status, ran.why) == ("limit", "used more than 1 s of processor time")
    ran = sandbox.run("print('x' * 999)", limits=tight, layer=wall)
    assert (ran.status, len(ran.stdout)) == ("ok", 1000)


def test_many_at_once_from_many_threads() -> None:
    with ThreadPoolExecutor(8) as pool:
        ran = list(pool.map(lambda i: sandbox.run(f"print({i} ** 2)"), range(16)))
    assert [r.stdout for r in ran] == [f"{i**2}\n" for i in range(16)]


def test_the_thread_that_began_a_job_may_end_before_it() -> None:
    results: list[sandbox.Ran] = []

    def begin() -> None:
        results.append(sandbox.run("import time; time.sleep(0.3); print('done')"))

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ran.stdout for ran in results] == ["done\n", "done\n"]


@pytest.fixture
def orphanage() -> Iterator[psutil.Process]:
    """This process, which becomes the parent of what loses its own."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    yield psutil.Process()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


ENDLESS = """
import sys, threading
from common import sandbox
script = "import os, time; os.fork(); os.fork() or os.setsid(); time.sleep(60)"
sandbox.run("print(1)", layer=sys.argv[1])
print("ready", flush=True)
sandbox.run(script, layer=sys.argv[1], check=False, limits=sandbox.Limits(seconds=60))
"""


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_job_ends_with_the_program_that_wanted_it(
    wall: str, number: int, orphanage: psutil.Process, tmp_path: Path
) -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, wall],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert engine.stdout and engine.stdout.readline() == "ready\n"
    wait_for(lambda: len(orphanage.children(recursive=True)) >= 4)
    engine.send_signal(number)
    _, stderr = engine.communicate(timeout=20)
    assert ("KeyboardInterrupt" in stderr) == (number == signal.SIGINT)
    wait_for(lambda: not running(orphanage))
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_gone_before_its_order_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "box/in").mkdir(parents=True)
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno()), tmp_path / "box"]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    theirs.close()
    ours.close()
    assert process.wait(30) == 0 and list(tmp_path.iterdir()) == []


def running(process: psutil.Process) -> list[psutil.Process]:
    """Its descendants that live; a zombie waits for nobody but us."""
    found = []
    for child in process.children(recursive=True):
        try:
            if child.status() == psutil.STATUS_ZOMBIE and child.ppid() == process.pid:
                os.waitpid(child.pid, os.WNOHANG)
            else:
                found.append(child)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue
    return found


def wait_for(condition: object) -> None:
    assert callable(condition)
    last = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < last, "it did not come to be"
        time.sleep(0.02)


def test_names_of_inputs_that_lead_elsewhere_are_refused() -> None:
    for name in ("../x", "/etc/x", "a/../../x", "", ".", "script.py"):
        with pytest.raises(ValueError, match="name of an input"):
            sandbox.run("1", files={name: b""})


def test_a_machine_without_a_wall_refuses_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox._tried.cache_clear()
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: no namespaces for you' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(layers, "bubblewrap", lambda: str(program))
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(UserError, match="no namespaces for you.*Landlock is version 0.*--unsafe"):
        sandbox.run("print(1)")
    ran = sandbox.run("print(1)", unsafe=True)
    assert (ran.status, ran.layer) == ("ok", "none")
    sandbox._tried.cache_clear()


def test_landlock_is_taken_where_bubblewrap_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    if sandbox.problem("landlock"):
        pytest.skip("no Landlock")
    monkeypatch.setattr(layers, "bubblewrap", lambda: None)
    assert sandbox.run("print(1)").layer == "landlock"


def test_the_numbers_of_system_calls_are_those_of_libseccomp() -> None:
    pyseccomp = pytest.importorskip("pyseccomp")
    arches = (pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64)
    tables = {
        **seccomp.NUMBERS,
        **seccomp.SIGNALS,
        **seccomp.ABOUT_ITSELF,
        "clone": seccomp.CLONE,
        "clone3": seccomp.CLONE3,
        "fcntl": seccomp.FCNTL,
        "ioctl": seccomp.IOCTL,
        "socketpair": seccomp.SOCKETPAIR,
    }
    known = 0
    for name, numbers in tables.items():
        for arch, number in zip(arches, numbers, strict=True):
            found = pyseccomp._libseccomp.seccomp_syscall_resolve_name_arch(arch, name.encode())
            if found >= 0:
                assert number == found, name
                known += 1
    assert known > 150


def test_the_filter_is_for_known_processors_only() -> None:
    assert len(seccomp.program(machine="aarch64")) % 8 == 0
    with pytest.raises(NotImplementedError, match="riscv64"):
        seccomp.program(machine="riscv64")


def test_outputs_are_read_without_following(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    box = tmp_path / "box"
    (box / "sub").mkdir(parents=True)
    (box / "sub/good.txt").write_text("good")
    (box / "big.txt").write_text("x" * 100)
    (box / "link").symlink_to(secret)
    (box / "up").symlink_to("..")
    (box / "new\nline").write_text("x")
    os.mkfifo(box / "fifo")
    deep = box
    for _ in range(30):
        deep /= "d"
        deep.mkdir()
    (deep / "deep.txt").write_text("deep")
    fd = os.open(box, os.O_PATH)
    files, left = outputs.collect(fd, 50, 100)
    assert files == {"sub/good.txt": b"good"}
    why = dict(line.split(": ") for line in left)
    assert why["link"] == why["up"] == "a link"
    assert why["fifo"] == "no regular file"
    assert why["big.txt"] == "more than there is room for"
    assert why["new\\nline"] == "an odd name"
    assert "nested too deep" in why.values()
    assert outputs.collect(fd, 50, 2)[1][-1] == "the rest: too many files"
    os.close(fd)


def test_a_folder_goes_however_it_was_left() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "box"
        folder.mkdir()
        here = os.open(folder, os.O_RDONLY)
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            down = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = down
        os.mkdir("shut", 0, dir_fd=here)
        os.symlink("/", "link", dir_fd=here)
        os.close(here)
        keeper.remove(str(folder))
        assert list(Path(name).iterdir()) == []
