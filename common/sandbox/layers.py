"""The walls: bubblewrap, or Landlock where namespaces are closed, each as a command in front.

Both leave a job the interpreter, its libraries, its inputs and one writable folder; both load the
filter of :mod:`common.sandbox.seccomp`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from common.home import cache
from common.sandbox import landlock, seccomp
from common.sandbox.keeper import FILTER

Layer = Literal["bubblewrap", "landlock", "none"]

INSIDE = "/box"
"""Where the job's folder is under bubblewrap."""
DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib")
SYSTEM_FILES = ("/etc/ld.so.cache",)


def bubblewrap() -> str | None:
    """The ``bwrap`` of the system, or the one that ``upspiral data get bubblewrap`` unpacked."""
    own = cache() / "bubblewrap/usr/bin/bwrap"
    return shutil.which("bwrap") or (str(own) if own.is_file() else None)


def interpreter() -> str:
    """The program of this interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(sys.executable)


def packages() -> list[str]:
    """The folders that installed packages are imported from."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(os.path.realpath(paths[name]) for name in ("purelib", "platlib")))


def readable() -> list[str]:
    """What an interpreter needs: itself, the standard library, packages, shared libraries."""
    wanted = [interpreter(), f"{os.path.realpath(sys.base_prefix)}/lib", *packages()]
    wanted += [path for path in (*SYSTEM, *SYSTEM_FILES) if not Path(path).is_symlink()]
    found: list[str] = []
    for path in sorted(wanted):  # a folder comes before what lies in it
        inside = any(path == other or path.startswith(f"{other}/") for other in found)
        if Path(path).exists() and not inside:
            found.append(path)
    return found


def prefix(layer: Layer, folder: Path, inputs: Mapping[str, Path], size: int) -> list[str]:
    """The command that walls in the command behind it.

    ``folder`` holds the inputs (``in``); ``inputs`` are those that lie elsewhere, by their names;
    ``size`` is what the writable folder may hold, in bytes.
    """
    if layer == "none":
        return []
    if layer == "landlock":
        return _landlock(folder, inputs)
    program = bubblewrap()
    assert program is not None
    words = [program, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net"]
    words += ["--unshare-uts", "--unshare-cgroup-try", "--uid", "65534", "--gid", "65534"]
    words += ["--hostname", "sandbox", "--new-session", "--die-with-parent", "--cap-drop", "ALL"]
    for path in readable():
        words += ["--ro-bind", path, path]
    for path in SYSTEM:
        if Path(path).is_symlink():
            words += ["--symlink", str(Path(path).readlink()), path]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    words += ["--size", str(size), "--tmpfs", INSIDE]
    for name in ("out", "tmp"):
        words += ["--dir", f"{INSIDE}/{name}"]
    words += ["--ro-bind", str(folder / "in"), f"{INSIDE}/in"]
    for name, real in inputs.items():
        words += ["--ro-bind", str(real), f"{INSIDE}/in/{name}"]
    return [*words, "--remount-ro", "/", "--chdir", INSIDE, "--seccomp", str(FILTER), "--"]


def _landlock(folder: Path, inputs: Mapping[str, Path]) -> list[str]:
    read = [*readable(), str(folder), *map(str, inputs.values())]
    read += [f"/dev/{name}" for name in DEVICES]
    write = [str(folder / "out"), str(folder / "tmp")]
    wall = {"read": read, "write": write, "abi": landlock.abi(), "filter": FILTER}
    return [interpreter(), "-I", "-S", landlock.__file__, json.dumps(wall)]


def hindrance(layer: Layer) -> str:
    """Why a wall cannot be there, as far as that is known without trying; "" if nothing is."""
    if layer == "none":
        return ""
    if sys.platform != "linux":
        return "it is for Linux"
    try:
        seccomp.program()
    except NotImplementedError as error:
        return str(error)
    if layer == "bubblewrap":
        return "" if bubblewrap() else "bwrap is not found"
    have = landlock.abi()
    return (
        "" if have >= landlock.OLDEST else f"Landlock is version {have}, {landlock.OLDEST} needed"
    )


def filter(layer: Layer) -> bytes:
    """The seccomp filter for a wall; signals are refused where nothing else keeps them inside."""
    return seccomp.program(signals=layer != "landlock" or landlock.abi() >= landlock.SCOPED)
