"""Files out of Debian packages, without root: ``apt-get download``, then ``dpkg-deb -x``.

The lists of packages that the system holds are used where they are there; otherwise lists of our
own are fetched into the cache. apt checks signatures; we check the content against a hash where
one is recorded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from common.errors import UserError

TIMEOUT = 600
"""Seconds after which a fetch counts as no network."""


def fetch(packages: Mapping[str, str | None], folder: Path, lists: Path, remedy: str) -> None:
    """Unpack ``packages`` (name or ``name=version`` → sha256 of the .deb, or None) into ``folder``.

    A download that does not match its hash is fetched once more. ``lists`` is where package lists
    of our own may be kept.

    Raises:
        UserError: no apt, no network, no such package, or twice a download that does not match.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise UserError("Debian packages need apt-get and dpkg-deb, which are not here", remedy)
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    for package, wanted in packages.items():
        for attempt in (1, 2):
            try:
                deb = _download(package, debs, lists)
                _verify(deb, wanted)
                break
            except _CannotFetchError as error:
                for left in debs.glob("*"):
                    left.unlink()
                if attempt == 2:
                    raise UserError(f"cannot fetch {package}: {error}", remedy) from error
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True, capture_output=True)
        deb.unlink()
    debs.rmdir()


class _CannotFetchError(Exception):
    """One attempt failed; the message is apt's, or says what does not match."""


def _verify(deb: Path, wanted: str | None) -> None:
    if wanted and hashlib.sha256(deb.read_bytes()).hexdigest() != wanted:
        raise _CannotFetchError("the download does not match the recorded sha256")


def _download(package: str, folder: Path, lists: Path) -> Path:
    """Download one package into ``folder``, with lists of our own if the system's do not help."""
    try:
        _apt(["download", package], folder)
    except _CannotFetchError:
        # No lists, stale ones, or a package they do not know: try with fresh ones of our own.
        state = lists / "state"
        (state / "lists/partial").mkdir(parents=True, exist_ok=True)
        (lists / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        own = ["-o", f"Dir::State={state}", "-o", f"Dir::State::Lists={state / 'lists'}"]
        own += ["-o", f"Dir::State::status={state / 'status'}", "-o", f"Dir::Cache={lists}/cache"]
        _apt([*own, "update", "--error-on=any"], folder)
        _apt([*own, "download", package], folder)
    found = sorted(folder.glob("*.deb"))
    if len(found) != 1:
        raise _CannotFetchError("apt-get left no package behind")
    return found[0]


def _apt(words: list[str], folder: Path) -> None:
    # As root apt drops to a user who may not write here; we are no more privileged than it was.
    calm = ["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"]
    try:
        done = subprocess.run(
            ["apt-get", *calm, *words],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _CannotFetchError(f"no answer in {TIMEOUT} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err"))]
        raise _CannotFetchError(lines[0].removeprefix("E: ") if lines else "apt-get failed")
