"""Landlock: a program that walls itself in and then becomes another one, without namespaces.

Run as a file by an interpreter that sees nothing of this project (``python -I -S landlock.py JSON
COMMAND ...``), it is to Landlock what ``bwrap`` is to namespaces. The JSON object names the paths
that may be read, those that may be written too, and the descriptor of a seccomp filter. All else
in the file system, TCP, and signals to processes outside are refused by the kernel (Linux
``Documentation/userspace-api/landlock.rst``). What Landlock leaves open (attributes of files, local
sockets, signals before Linux 6.12) the filter of :mod:`common.sandbox.seccomp` refuses. That a file
exists, and how large it is, can still be seen: bubblewrap is the better wall.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import stat
import struct
import sys
from collections.abc import Sequence

OLDEST = 3
"""The first version that keeps a file from being truncated: Linux 6.2."""
SCOPED = 6
"""The first version that keeps signals inside: Linux 6.12."""
READ = 0b1101
"""Execute (bit 0), read a file (2) and list a folder (3)."""
OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""Rights that a rule about a single file may give."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 22, 24, 38
CAPSET = {"x86_64": 126, "aarch64": 91}

libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock that the kernel has; 0 where there is none."""
    version: int = libc.syscall(CREATE_RULESET, None, 0, 1)
    return max(0, version)


def restrict(read: Sequence[str], write: Sequence[str], abi: int) -> None:
    """Leave this process, and what it starts, nothing of the file system but these paths.

    Raises:
        OSError: the kernel refused.
    """
    # Bits 0-12 are version 1, 13 (refer) is 2, 14 (truncate) is 3, 15 (devices' ioctl) is 5.
    handled = (1 << 15) - 1 | (1 << 15 if abi >= 5 else 0)
    # Making devices, FIFOs and sockets (bits 6, 9, 10, 11) is nobody's right, nor is running what
    # was written (bit 0).
    writable = handled & ~(1 << 0 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 15)
    attributes = struct.pack("=QQQ", handled, 0b11 if abi >= 4 else 0, 0b11 if abi >= SCOPED else 0)
    attributes = attributes[: 24 if abi >= SCOPED else 16 if abi >= 4 else 8]
    rules = _checked(libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))
    for paths, rights in ((read, READ), (write, writable)):
        for path in paths:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            given = rights if stat.S_ISDIR(os.fstat(fd).st_mode) else rights & OF_FILES
            if stat.S_ISCHR(os.fstat(fd).st_mode):
                given = 0b110  # /dev/null is also written to
            rule = struct.pack("=Qi", given, fd)
            _checked(libc.syscall(ADD_RULE, rules, 1, rule, 0))
            os.close(fd)
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(RESTRICT_SELF, rules, 0))
    os.close(rules)


def drop_capabilities() -> None:
    """Give up what makes root more than another user.

    Raises:
        OSError: the kernel refused.
    """
    with contextlib.suppress(OSError):
        for capability in range(64):
            _checked(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
    header = struct.pack("=Ii", 0x20080522, 0)
    _checked(libc.syscall(CAPSET[os.uname().machine], header, bytes(24)))


def load_filter(filter: bytes) -> None:
    """Load a seccomp filter into this process.

    Raises:
        OSError: the kernel refused.
    """
    code = ctypes.create_string_buffer(filter, len(filter))
    program = struct.pack("@HP", len(filter) // 8, ctypes.addressof(code))
    _checked(libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def main() -> None:
    """Wall this process in as the first argument says, and become the command behind it."""
    wall = json.loads(sys.argv[1])
    with os.fdopen(wall["filter"], "rb") as file:
        filter = file.read()
    drop_capabilities()
    restrict(wall["read"], wall["write"], wall["abi"])
    load_filter(filter)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
