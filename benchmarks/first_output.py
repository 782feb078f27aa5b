"""How long until something useful is there: ``--help``, a spoken sentence, a scene.

    python benchmarks/first_output.py
    python benchmarks/first_output.py --turns 1 --only help

Each command is a process of its own, as a user starts it, in turns; seconds by the clock, start-up
included. One run of each comes before, so that data are there and files are in the disk's cache.
Checked: what the command was asked for is there (a sound of more than half a second; a picture of
the scene).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from claim import in_turns, of, tell

AIMS = {"help": 0.3, "say": 6.0, "craft": 15.0}
TEXT = "Please hold while I try that extension."
SCENE = "a round table with four chairs around it"


def upspiral(*words: str) -> str:
    """What the installed command prints."""
    command = Path(sys.executable).with_name("upspiral")
    done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"upspiral {' '.join(words)} failed: {done.stderr[-500:]}")
    return done.stdout


def helped(_: Path) -> None:
    if "speech" not in upspiral("--help"):
        raise SystemExit("help names no domain")


def said(folder: Path) -> None:
    file = folder / "said.wav"
    file.unlink(missing_ok=True)
    upspiral("speech", "say", TEXT, "--out", str(file))
    if file.stat().st_size < 16_000:  # half a second, 16 bits at 16 kHz
        raise SystemExit("nothing was said")


def crafted(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place) / "scene"
        upspiral("scenes", "craft", SCENE, "--out", str(out))
        if not any(out.rglob("*.png")):
            raise SystemExit("there is no picture")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--turns", type=int, default=3)
    flags.add_argument("--only", nargs="*", choices=list(AIMS), default=list(AIMS))
    chosen = flags.parse_args()
    works = {"help": helped, "say": said, "craft": crafted}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides: dict[str, Callable[[], object]] = {
            one: lambda one=one: works[one](folder) for one in chosen.only
        }
        for work in sides.values():
            work()
        times = in_turns(sides, chosen.turns)
    commands = {
        "help": "upspiral --help",
        "say": "upspiral speech say",
        "craft": "upspiral scenes craft",
    }
    tell(*(of(commands[one], found, "nothing: seconds by the clock", aim=AIMS[one], unit="s",
              better="lower") for one, found in times.items()))  # fmt: skip


if __name__ == "__main__":
    main()
