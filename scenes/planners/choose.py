"""The planner that a command's flags ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from common import registry
from common.errors import UserError
from common.policies.served import ServedPolicy
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

        return Served(served(model, base_url), keep=keep, progress=progress)
    if kind == "smollm2":
        from scenes.planners.smollm2 import SmolLM2

        return SmolLM2.load(adapter or registry.get("starter-planner"))
    from scenes.planners.rules import Rules

    return Rules()


def served(model: str | None, base_url: str | None, timeout: float = 300) -> ServedPolicy:
    """A served model; its key, if it wants one, is that of ``OPENAI_API_KEY``.

    Raises:
        UserError: the name of the model or the address is missing.
    """
    if not model or not base_url:
        missing = "--model" if not model else "--base-url"
        raise UserError(
            f"a served model needs {missing}",
            "give --model NAME --base-url http://HOST:PORT/v1; a key goes into OPENAI_API_KEY",
        )
    key = os.environ.get("OPENAI_API_KEY")
    return ServedPolicy(base_url, model, key, timeout=timeout, retries=3)
