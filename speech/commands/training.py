"""``upspiral speech train``: how the starters are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common.commands import Output


@dataclass(frozen=True)
class Train:
    """Train one part of the starter on the recorded prompts. Run it again to continue."""

    part: tyro.conf.Positional[Literal["codec", "ar", "nar", "ctc"]]
    """codec first, ar and nar need it; ctc is the rewarding judge."""
    recipe: str = "starter"
    """starter (hours) or tiny (minutes, not intelligible)."""
    folder: Path | None = None
    """Where checkpoints, curves and the result go; under UPSPIRAL_HOME by default."""
    threads: int | None = None
    """Processor threads; all by default."""

    def run(self, out: Output) -> dict[str, Any]:
        import torch

        from common.errors import UserError
        from common.home import home
        from speech.train import RECIPES, train

        if self.recipe not in RECIPES:
            raise UserError(f"unknown recipe {self.recipe!r}", f"use {' or '.join(RECIPES)}")
        if self.threads:
            torch.set_num_threads(self.threads)
        folder = self.folder or home() / "train" / self.recipe
        made = train(self.part, RECIPES[self.recipe](), folder, out.progress())
        out.print(f"{self.part} is in {made}")
        return {"part": self.part, "folder": made}
