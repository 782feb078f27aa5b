"""What a job left behind: read without following a link, and without trusting a name.

Done when nothing of the job runs any more, through a descriptor of its folder, so that nothing can
be exchanged under the reader. Only regular files count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

DEPTH = 16
"""Folders nested deeper than this are not looked into."""


FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def collect(folder: int, size: int, entries: int) -> tuple[dict[str, bytes], list[str]]:
    """The files below a folder by relative path, and a line for each thing that was left.

    ``folder`` is a descriptor; ``size`` and ``entries`` bound the bytes and the number of files.
    """
    collector = _Collector(size, entries)
    try:
        collector.enter(folder, "", 0)
    except OSError as error:
        collector.left.append(f"the rest: {error.strerror}")
    return collector.files, collector.left


class _Collector:
    def __init__(self, size: int, entries: int) -> None:
        self.files: dict[str, bytes] = {}
        self.left: list[str] = []
        self.room = size
        self.entries = entries

    def enter(self, parent: int, path: str, depth: int) -> None:
        """Take what the folder holds that is at ``path``, the last name of it in ``parent``."""
        folder = os.open(path.rpartition("/")[2] or ".", FOLDER, dir_fd=parent)
        try:
            with os.scandir(folder) as found:
                names = sorted(entry.name for entry in found)
            for name in names:
                if self.entries == 0:
                    self.left.append("the rest: too many files")
                    return
                self.entries -= 1
                why = self._take(folder, name, f"{path}/{name}" if path else name, depth)
                if why:
                    self.left.append(f"{ascii(path)[1:-1]}/{ascii(name)[1:-1]}: {why}".lstrip("/"))
        finally:
            os.close(folder)

    def _take(self, folder: int, name: str, path: str, depth: int) -> str:
        """Take one entry; why it was left if it was."""
        if not name.isprintable():
            return "an odd name"
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            if depth == DEPTH:
                return "nested too deep"
            try:
                self.enter(folder, path, depth + 1)
            except PermissionError:
                return "a closed folder"
            return ""
        if stat.S_ISLNK(mode):
            return "a link"
        if not stat.S_ISREG(mode):
            return "no regular file"
        # Non-blocking: were it a FIFO by now, opening it must not wait for a writer.
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            return str(error.strerror)
        with os.fdopen(fd, "rb") as file:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > self.room:
                return "more than there is room for"
            data = file.read(self.room)
        self.room -= len(data)
        self.files[path] = data
        return ""


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Put collected files into a folder of the user's; what lies there as a link is replaced."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.new")
        scratch.unlink(missing_ok=True)
        scratch.write_bytes(data)
        os.replace(scratch, path)
