"""What a domain offers to the command line.

An entry point of the group ``upspiral.domains`` resolves to a :class:`Domain`. Its module must be
light: a command's work is named (``"module:attribute"``) and imported only when it runs. The name
leads to a frozen dataclass whose fields are the configuration and the flags (tyro), with::

    def run(self, out: Output) -> Mapping[str, Any] | None

The mapping that it returns is the JSON object of ``--json``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from common.errors import UserError

if TYPE_CHECKING:
    from common.stages import Progress


@dataclass(frozen=True)
class Command:
    """One command: a line of help, an example that works as pasted, and where its work is."""

    help: str
    example: str
    target: str
    """``module:attribute`` of a frozen dataclass with ``run(out)``."""


@dataclass(frozen=True)
class Domain:
    """The commands of a domain by name; a space in a name makes a group (``train codec``), of which
    ``groups`` says what it is.

    ``resume`` is ``module:function`` of ``function(run: str, out: Output) -> Mapping | None``: it
    continues a run of this domain from the configuration that the store holds. A run belongs to
    the domain that the recipe starts with, as in ``speech/align:starter``. ``report`` is
    ``module:function`` of ``function(run: str) -> common.report.Extra``: what to listen to or look
    at in the run's report beside its figures. ``lifelong`` is ``module:function`` of
    ``function(tasks, recipe, method, model, rounds, settings) -> common.lifelong.run.Course``, for
    domains whose policies can go through several tasks.
    """

    name: str
    help: str
    commands: Mapping[str, Command]
    groups: Mapping[str, str] = field(default_factory=dict)
    resume: str | None = None
    report: str | None = None
    lifelong: str | None = None


class Output:
    """Where a command speaks: results on stdout, everything else on stderr.

    While a command runs ``sys.stdout`` is stderr, so that no library can spoil the output. With
    ``json`` the results for people go to stderr too, and stdout gets the one object.
    """

    def __init__(self, stdout: TextIO, json: bool = False) -> None:
        self.json = json
        self.run: str | None = None
        """Name of the run that can be resumed; a command sets it as soon as the run exists."""
        self.resume: str | None = None
        """The command line that continues work which is no run, set once there is such work."""
        self.code = 0
        """The exit code after a result: 1 where the result itself is that something failed."""
        self._stdout = stdout
        self._progress: Progress | None = None

    def print(self, text: str = "") -> None:
        """A line of the result, for people."""
        print(text, file=sys.stderr if self.json else self._stdout, flush=True)

    def note(self, text: str) -> None:
        """A line about what goes on, on stderr."""
        print(text, file=sys.stderr, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under headings, each column as wide as it needs; numbers to the right."""
        cells = [[cell(value) for value in row] for row in rows]
        widths = [max(len(c) for c in column) for column in zip(columns, *cells, strict=True)]
        numeric = [
            bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
            for i in range(len(columns))
        ]
        for line in [list(columns), *cells]:
            parts = zip(line, widths, numeric, strict=True)
            self.print("  ".join(f"{c:>{w}}" if n else f"{c:<{w}}" for c, w, n in parts).rstrip())

    def progress(self) -> Progress:
        """Progress on stderr: a bar on a terminal, a line per shard elsewhere."""
        from common.progress import progress

        if self._progress is None:
            self._progress = progress()
        return self._progress

    def close(self) -> None:
        """Give the terminal back from bars that an error left standing."""
        close = getattr(self._progress, "close", None)
        if close is not None:
            close()


def cell(value: object) -> str:
    """A value as a table shows it; three decimals for a fraction, a dash for nothing."""
    if value is None or value != value:  # NaN is the one value that differs from itself
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def resolve(target: str) -> Any:
    """What ``module:attribute`` names.

    Raises:
        UserError: the module needs a package that is not installed.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        own = {"common", "speech", "scenes", "text"}
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] in own | {package}:
            raise
        extra = f"[{package}]" if package in own - {"common"} else ""
        raise UserError(
            f"the package {error.name} is not installed", f"pip install 'upspiral{extra}'"
        ) from error
