"""The planner that a command's flags ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from common import registry
from common.policies.served import connect
from common.stages import Progress
from scenes.planners import Planner

Kind = Literal["rules", "smollm2", "served"]


def planner(
    kind: Kind,
    *,
    model: str | None = None,
    base_url: str | None = None,
    adapter: Path | None = None,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Planner:
    """The planner called ``kind``.

    ``keep`` is the folder for a served model's answers; ``adapter`` one for SmolLM2, the starter's
    by default.

    Raises:
        UserError: what it needs was not given.
    """
    if kind == "served":
        from scenes.planners.served import Served

        return Served(connect(model, base_url), keep=keep, progress=progress)
    if kind == "smollm2":
        from scenes.planners.smollm2 import SmolLM2

        return SmolLM2.load(adapter or registry.get("starter-planner"))
    from scenes.planners.rules import Rules

    return Rules()
