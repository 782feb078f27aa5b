"""The seccomp filter: system calls that no job needs are refused by the kernel.

A list of refusals, since interpreters and numerical libraries make too many different calls for a
list of permissions to outlive an update. It refuses what reaches other processes, the network, the
kernel's configuration, mounts, keys, tracing and the interfaces with a record of security holes;
calls newer than the list are unknown to the job. The filter is classic BPF, assembled here (Linux
``Documentation/userspace-api/seccomp_filter.rst``), so that it needs no library of the system.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator

KILL = 0x80000000
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
LOAD, EQUAL, ABOVE, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``."""

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The kernel's word for an architecture, and its column in ``NUMBERS``."""
NEWEST = 467
"""``open_tree_attr`` of Linux 6.15: calls above this number did not exist when this was written."""
NAMESPACES = 0x7E020000
"""Every ``CLONE_NEW*`` flag that clone(2) takes."""

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # other processes: their memory, descriptors, priorities
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    # sockets of any family: the network, and the servers of this machine
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # mounts, roots, namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    # special files, and attributes, which Landlock does not guard
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    # what outlives a job or is seen by others: keys, System V and POSIX queues, memory, semaphores
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # large parts of the kernel that have been ways out
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "vmsplice": (278, 75),
    "uselib": (134, None),
    "remap_file_pages": (216, 234),
    "lookup_dcookie": (212, 18),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
}
"""What is refused: the call's number on x86-64 and on AArch64, None where it does not exist."""

SIGNALS: dict[str, tuple[int | None, int | None]] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
}
"""Refused where nothing else keeps a job's signals to itself."""

CLONE = (56, 220)
CLONE3 = (435, 435)
ABOUT_ITSELF = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122)}
"""Calls whose first argument is a process, 0 for the caller: only 0 is let through."""
FCNTL, IOCTL = (72, 25), (16, 29)
OWNER = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: they make the kernel send a signal to another process."""
TERMINAL = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI and TIOCLINUX put keys into a terminal; FIOSETOWN and SIOCSPGRP are as ``OWNER``."""
SOCKETPAIR = (53, 199)

Step = tuple[int, int, int, int]
"""One instruction: code, jump if true, jump if false, constant."""


def program(signals: bool = True, machine: str | None = None) -> bytes:
    """The filter as an array of ``struct sock_filter``. ``signals``: whether kill(2) may be called.

    Raises:
        NotImplementedError: for a processor architecture whose numbers are not known here.
    """
    name = machine or platform.machine()
    if name not in ARCHITECTURES:
        raise NotImplementedError(f"there is no seccomp filter for {name}")
    word, column = ARCHITECTURES[name]
    steps = list(_steps(word, column, signals))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _steps(word: int, column: int, signals: bool) -> Iterator[Step]:
    yield LOAD, 0, 0, ARCH
    yield EQUAL, 1, 0, word
    yield RETURN, 0, 0, KILL  # calls of another architecture have other numbers
    yield LOAD, 0, 0, NUMBER
    # x32 calls of an x86-64 kernel are far above NEWEST as well.
    yield from _when(ABOVE, NEWEST, errno.ENOSYS)
    # clone3's flags lie in memory, out of a filter's sight; C libraries then fall back to clone.
    yield from _when(EQUAL, CLONE3[column], errno.ENOSYS)
    for numbers in (NUMBERS | ({} if signals else SIGNALS)).values():
        number = numbers[column]
        if number is not None and number <= NEWEST:
            yield from _when(EQUAL, number, errno.EPERM)
    yield from _argument(CLONE[column], 0, ANY_BIT, (NAMESPACES,))
    for both in ABOUT_ITSELF.values():
        yield from _argument(both[column], 0, ABOVE, (0,))
    yield from _argument(FCNTL[column], 1, EQUAL, OWNER)
    yield from _argument(IOCTL[column], 1, EQUAL, TERMINAL)
    yield from _argument(SOCKETPAIR[column], 0, ABOVE, (1,))  # 1 is AF_UNIX
    yield RETURN, 0, 0, ALLOW


def _when(test: int, value: int, error: int) -> Iterator[Step]:
    """Fail with ``error`` if what was loaded passes the test."""
    yield test, 0, 1, value
    yield RETURN, 0, 0, ERRNO | error


def _argument(number: int, index: int, test: int, values: tuple[int, ...]) -> Iterator[Step]:
    """Refuse call ``number`` if the low half of its argument passes the test with any value."""
    yield EQUAL, 0, 2 + 2 * len(values), number
    yield LOAD, 0, 0, ARGUMENTS + 8 * index
    for value in values:
        yield from _when(test, value, errno.EPERM)
    yield LOAD, 0, 0, NUMBER
