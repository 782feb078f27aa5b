"""Where a run proposes and judges, as flags of a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from common.errors import UserError

if TYPE_CHECKING:
    from common.executor import Ray
    from common.loop import Loop


@dataclass(frozen=True)
class Hands:
    """Who proposes and judges; learning stays here, or with `accelerate launch`."""

    executor: Literal["local", "ray"] = "local"
    """local: this process; ray: workers of a Ray cluster, which all see UPSPIRAL_HOME."""
    address: str | None = None
    """The cluster's address, or auto; without one, Ray starts on this machine."""
    workers: int | None = None
    """Workers of the cluster; by default one for each GPU, or each core."""

    def start(self, build: Callable[[], Loop], home: Path, run: str, seed: int) -> Ray | None:
        """The executor, or None for this process itself.

        Raises:
            UserError: as :class:`common.executor.Ray`, or an address without ``--executor ray``.
        """
        if self.executor == "local":
            if self.address is not None or self.workers is not None:
                raise UserError("--address and --workers are for Ray", "add --executor ray")
            return None
        from common.executor import Ray

        return Ray(build, home, run, seed, self.address, self.workers)
