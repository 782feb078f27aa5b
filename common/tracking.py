"""Where the figures of a run go while it runs: accelerate's trackers, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.stages import Tracker

Kind = Literal["tensorboard", "trackio", "wandb", "mlflow", "none"]


def tracker(kind: Kind, run: str, folder: Path) -> Tracker:
    """A tracker for ``run``. TensorBoard writes under ``folder/RUN``; ``none`` drops everything."""
    return Nothing() if kind == "none" else Accelerate(kind, run, folder)


class Nothing:
    """Drops every figure; the store keeps those that matter."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...


class Accelerate:
    """One of accelerate's trackers, opened at the first figure.

    A tracker that breaks later (a server that goes away) raises: figures are not lost in silence.
    """

    def __init__(self, kind: str, run: str, folder: Path) -> None:
        self._kind, self._run, self._folder = kind, run, folder
        self._tracker: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        if self._tracker is None:
            self._tracker = self._open()
        self._tracker.log({name: float(value) for name, value in values.items()}, step=step)

    def _open(self) -> Any:
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # accelerate's loggers refuse to speak before it exists
        kind = LOGGER_TYPE_TO_CLASS[self._kind]
        where = {"logging_dir": str(self._folder)} if kind.requires_logging_directory else {}
        try:
            opened = kind(self._run, **where)
            opened.start()
        except ImportError as error:
            raise UserError(
                f"the tracker {self._kind} is not installed",
                f"pip install {self._kind}, or choose tensorboard or none",
            ) from error
        return opened

    def close(self) -> None:
        """Write out what is buffered."""
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None
