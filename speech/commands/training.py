"""``upspiral speech train``: how the starters are made."""

from __future__ import annotations

import errno
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common.commands import Output
from common.commands.outcome import made
from common.errors import UserError


@dataclass(frozen=True)
class Train:
    """Train one part of the starter on the recorded prompts. Run it again to continue."""

    part: tyro.conf.Positional[Literal["codec", "ar", "ar-small", "nar", "ctc", "voice"]]
    """codec first, ar, ar-small and nar need it; ctc and voice are the rewarding judges."""
    recipe: str = "starter"
    """starter (hours), seanet (EnCodec's architecture; wants a GPU), or tiny (minutes, unclear)."""
    folder: Path | None = None
    """Where checkpoints, curves and the result go; under UPSPIRAL_HOME by default."""
    threads: int | None = None
    """Processor threads; all by default."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.home import home

        if self.threads is not None and self.threads < 1:
            raise UserError(f"{self.threads} threads", "ask for one or more")
        import torch

        from speech.train import RECIPES, train

        if self.recipe not in RECIPES:
            raise UserError(f"unknown recipe {self.recipe!r}", f"use {', '.join(RECIPES)}")
        folder = made(self.folder or home() / "train" / self.recipe)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        out.resume = self.command()
        try:
            result = train(self.part, RECIPES[self.recipe](), folder, out.progress())
        except RuntimeError as error:
            if "unexpected pos" not in str(error):
                raise
            # What torch.save says when a file cannot grow.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        out.print(f"{self.part} is in {result}")
        return {"part": self.part, "folder": result}

    def command(self) -> str:
        """The command line that continues this training."""
        words = ["upspiral", "speech", "train", self.part, "--recipe", self.recipe]
        if self.folder is not None:
            words += ["--folder", str(self.folder)]
        if self.threads is not None:
            words += ["--threads", str(self.threads)]
        return shlex.join(words)
