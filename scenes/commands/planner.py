"""``upspiral scenes train planner``: an adapter for the planner that is a small model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class TrainPlanner:
    """Train an adapter with which SmolLM2-135M plans scenes: --planner smollm2 --adapter FOLDER.

    Supervised learning on generated texts, then rounds of the loop, which a judge of constraints
    gates. Killed anywhere, it goes on where it was.
    """

    out: Path
    """The folder for the adapter; what a continued training needs lies beside it, in OUT-work."""
    pairs: int = 2000
    """Generated texts to begin with."""
    rounds: int = 1
    """Rounds of the loop after that."""
    texts: int = 96
    """Texts that a round proposes scenes for."""
    seed: int = 0

    def run(self, out: Output) -> dict[str, Any]:
        from common.store import Store
        from scenes.planners.train import Config, save, train

        if min(self.pairs, self.texts) < 1 or self.rounds < 0:
            raise UserError("nothing to train on", "give --pairs and --texts of 1 or more")
        config = Config(pairs=self.pairs, rounds=self.rounds, texts=self.texts, seed=self.seed)
        out.resume = (
            f"upspiral scenes train planner --out {self.out} --pairs {self.pairs} "
            f"--rounds {self.rounds} --texts {self.texts} --seed {self.seed}"
        )
        work = self.out.with_name(f"{self.out.name}-work")
        policy, result = train(config, Store(), work, out.progress())
        save(policy, self.out)
        figures = {
            metric.name: {"value": metric.value, "se": metric.se, "n": metric.n}
            for metric in (result.rounds[-1].metrics if result else ())
        }
        out.print(f"{self.out}: the adapter; try it with --planner smollm2 --adapter {self.out}")
        return {"adapter": str(self.out), "rounds": self.rounds, "dev": figures}
