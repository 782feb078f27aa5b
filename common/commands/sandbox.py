"""``upspiral sandbox``: run a script behind the wall, and say what it did and what stopped it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common import sandbox
from common.commands import Output
from common.errors import UserError
from common.sandbox import outputs


@dataclass(frozen=True)
class Run:
    """Run a script that nobody trusts. It starts in an empty folder; its inputs are in ../in."""

    script: tyro.conf.Positional[Path]
    """The Python script."""
    profile: Literal["python", "blender"] = "python"
    """What it is written for: the check allows other modules, the limits are wider."""
    files: tuple[Path, ...] = ()
    """Files and folders that it may read, as ../in/NAME."""
    out: Path | None = None
    """Folder for the files it leaves; without it they are only listed."""
    seconds: float | None = None
    """How long it may take; by default 30, with Blender 120."""
    memory_mib: int | None = None
    """MiB of memory that all its processes may hold; by default 2048, with Blender 4096."""
    check: bool = True
    """Look at the source first and refuse what would not work."""
    unsafe: bool = False
    """Run it even where no wall can be built around it."""

    def run(self, out: Output) -> dict[str, Any]:
        ran = sandbox.run(
            self.script,
            profile=self.profile,
            files=self._inputs(),
            limits=self._limits(),
            check=self.check,
            unsafe=self.unsafe,
        )
        if ran.stdout:
            out.print(plain(ran.stdout))
        if ran.stderr:
            out.note(plain(ran.stderr))
        for finding in ran.findings:
            out.note(f"{self.script}:{finding.line}: {finding.message}")
        if self.out:
            self._keep(self.out, ran.files)
        elif ran.files:
            out.note(f"it left {', '.join(ran.files)}; --out FOLDER keeps them")
        for left in ran.left:
            out.note(f"not taken: {left}")
        wall = "no wall around it" if ran.layer == "none" else f"behind {ran.layer}"
        if ran.status == "refused":
            out.note("not run: the check refused it; --no-check runs it behind the wall")
        else:
            why = f": {plain(ran.why)}" if ran.why else ""
            out.note(f"{ran.status} after {ran.seconds:.2f} s, {wall}{why}")
        out.code = 0 if ran.status == "ok" else 1
        return asdict(ran) | {"files": {name: len(data) for name, data in ran.files.items()}}

    def _inputs(self) -> dict[str, bytes | Path]:
        inputs: dict[str, bytes | Path] = {}
        for path in self.files:
            if not path.exists():
                raise UserError(f"there is no {path}", "name files or folders that are there")
            if path.resolve().name in inputs:
                raise UserError(f"two inputs are called {path.name}", "rename one")
            inputs[path.resolve().name] = path
        return inputs

    def _limits(self) -> sandbox.Limits:
        limits = sandbox.LIMITS[self.profile]
        if self.seconds is not None:
            if not 0 < self.seconds <= 86400:
                raise UserError(f"--seconds {self.seconds:g}", "give between 0 and 86400")
            processor = max(1, round(self.seconds * limits.cpu_seconds / limits.seconds))
            limits = dataclasses.replace(limits, seconds=self.seconds, cpu_seconds=processor)
        if self.memory_mib is not None:
            if self.memory_mib < 32:
                raise UserError(f"--memory-mib {self.memory_mib}", "Python needs at least 32")
            limits = dataclasses.replace(limits, memory=self.memory_mib * sandbox.MIB)
        return limits

    def _keep(self, folder: Path, files: Mapping[str, bytes]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            outputs.write(files, folder)
        except OSError as error:
            raise UserError(
                f"cannot write to {folder}: {error.strerror}", "name another folder"
            ) from error


def plain(text: str) -> str:
    """What a script printed, without the control characters that a terminal would obey."""
    shown = (c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text.rstrip("\n"))
    return "".join(shown)
