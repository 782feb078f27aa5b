"""Artifacts: files and folders addressed by the hash of their content.

Each is written under a temporary name, flushed to disk and renamed, so that an address leads to
the whole content or to nothing, wherever the process was killed. An artifact is never changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import UserError

_ADDRESS = re.compile(r"[0-9a-f]{40}(\.[A-Za-z0-9][A-Za-z0-9.]*)?")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)
_DAY = 86400.0


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a full or a read-only disk into a :class:`UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full_disk(where) from error
        if error.errno in _DENIED and error.filename is not None:
            raise UserError(
                f"cannot use {error.filename}: {error.strerror}",
                "check who owns it and how it is mounted, then resume the run",
            ) from error
        raise


def full_disk(where: Path) -> UserError:
    """The error for a full disk; nothing that was committed is lost by it."""
    return UserError(f"the disk that holds {where} is full", "free some space, then resume the run")


class Files:
    """The artifacts under ``folder``. Satisfies :class:`common.stages.Artifacts`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._temporary = folder / "tmp"
        with disk_errors(folder):
            self._temporary.mkdir(parents=True, exist_ok=True)
            self._sweep()

    def put(self, data: bytes, suffix: str = "") -> str:
        """Store ``data`` and return its address: 40 hexadecimal digits and ``suffix`` (``.wav``).

        Raises:
            UserError: the disk is full or cannot be written to.
        """
        address = hashlib.blake2b(data, digest_size=20).hexdigest() + suffix
        target = self._at(address)
        if not _renewed(target):
            half = self._half()
            try:
                with disk_errors(self.folder):
                    _write(half, data)
                    self._settle(half, target)
            finally:
                half.unlink(missing_ok=True)
        return address

    def put_folder(self, path: Path, move: bool = False) -> str:
        """Store the files under ``path`` as one artifact; its address hashes names and contents.

        With ``move`` the files themselves are taken and ``path`` is gone afterwards (it must lie
        on the same disk as the store, as :meth:`staging` does).

        Raises:
            UserError: the disk is full or cannot be written to.
        """
        address = hash_folder(path)
        target = self._at(address)
        with disk_errors(self.folder), self.staging() as folder:
            if not _renewed(target):
                source = path
                if not move:
                    source = folder / "copy"
                    shutil.copytree(path, source)
                for file in _files(source):
                    _flush(file)
                for inner in [source, *(p for p in source.rglob("*") if p.is_dir())]:
                    _flush(inner)
                self._settle(source, target)
            elif move:
                shutil.rmtree(path)
        return address

    def path(self, address: str) -> Path:
        """Where the artifact lies. Raises ``KeyError`` when it is unknown."""
        found = self._at(address)
        if not found.exists():
            raise KeyError(address)
        return found

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the store's disk, removed at the end of the block."""
        folder = self._half()
        with disk_errors(self.folder):
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _at(self, address: str) -> Path:
        if not _ADDRESS.fullmatch(address):
            raise KeyError(address)
        return self.folder / address[:2] / address

    def _half(self) -> Path:
        return self._temporary / f"{os.getpid()}-{uuid.uuid4().hex}"

    def _settle(self, source: Path, target: Path) -> None:
        target.parent.mkdir(exist_ok=True)
        try:
            source.rename(target)
        except OSError:
            if not target.exists():  # else another process has just stored the same content
                raise
        _flush(target.parent)

    def _sweep(self) -> None:
        """Remove what processes that were killed have left half written."""
        for left in self._temporary.iterdir():
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _DAY:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def hash_folder(path: Path) -> str:
    """Hash of the relative names and the contents of the files under ``path``, 40 hex digits.

    Raises:
        FileNotFoundError: ``path`` is no folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path))
    whole = hashlib.blake2b(digest_size=20)
    for file in _files(path):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20))
        whole.update(file.relative_to(path).as_posix().encode() + b"\0" + content.digest())
    return whole.hexdigest()


def _renewed(path: Path) -> bool:
    """Whether ``path`` is there already; it is then as young as if it had just been written, which
    tells :mod:`common.removal` that somebody is about to name it."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _flush(path: Path) -> None:
    """Bring a file's content, or a folder's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
