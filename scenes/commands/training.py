"""``upspiral scenes train clip``: how the starter CLIP is made."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class TrainClip:
    """Render the furniture and train the starter CLIP on it. Run it again to continue."""

    recipe: str = "starter"
    """starter (an hour or two on two cores), tower (words learnt from nothing), tiny (minutes)."""
    folder: Path | None = None
    """Where renders, checkpoints and the result go; in the cache by default."""
    threads: int = 1
    """Of the training. More help only where cores are idle."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.clip.train import RECIPES

        if self.recipe not in RECIPES:
            raise UserError(f"unknown recipe {self.recipe!r}", f"use {', '.join(RECIPES)}")
        if self.threads < 1:
            raise UserError(f"{self.threads} threads", "ask for one or more")
        import torch

        from common import registry
        from common.home import cache
        from common.records import identity
        from scenes.assets.furniture import models
        from scenes.clip import encoder, quality
        from scenes.clip.pictures import make
        from scenes.clip.train import train
        from scenes.render.pool import Workers

        recipe = RECIPES[self.recipe]()
        if recipe.initial is not None:
            registry.get(recipe.initial)  # before an hour is spent on renders
        folder = self.folder or cache() / "clip"
        out.resume = self._command()
        found = models()
        # Recipes with the same pictures share them.
        shots = folder / f"pictures-{identity(recipe.pictures)}"
        with Workers() as workers:
            pictures = make(found, shots, workers, recipe.pictures, out.progress())
        torch.set_num_threads(self.threads)
        result = folder / self.recipe
        train(recipe, found, pictures, shots, result, out.progress())
        mine = [p for p in pictures if p.split == "dev"]
        figures = quality.measure(encoder.load(str(result / "clip")), found, mine, shots)
        out.resume = None
        out.table(
            ("on dev", "share right", "standard error", "n", "by chance"),
            [tuple(f) for f in figures],
        )
        out.print(f"the towers are in {result / 'clip'}")
        return {"folder": str(result / "clip"), "dev": [f._asdict() for f in figures]}

    def _command(self) -> str:
        """The command line that continues this training."""
        words = ["upspiral", "scenes", "train", "clip", "--recipe", self.recipe]
        if self.folder is not None:
            words += ["--folder", str(self.folder)]
        return shlex.join([*words, "--threads", str(self.threads)])
