"""``upspiral speech compare``: strategies or settings side by side, over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output
from common.errors import UserError
from common.settings import override
from speech.align import RECIPES, AlignConfig
from speech.comparisons import COMPARISONS

METRICS = ("wer", "cer", "similarity", "dnsmos")
"""What the tables are about."""


@dataclass(frozen=True)
class Compare:
    """Align by each of several strategies with the same budget, and tabulate what test says.

    Runs are named by comparison, arm and seed: the same command continues where it was stopped, and
    started twice at once it shares the work. What two runs have in common is done once.
    """

    what: str = "strategies"
    """strategies, pairs, data, size, iteration or reward; all is each of them."""
    arms: tuple[str, ...] = ()
    """Only these arms, by name."""
    recipe: str = "compare"
    """The budget of a run: compare (a quarter of an hour), demo, starter, tiny."""
    rounds: int | None = None
    """How many rounds a run has; the recipe's by default."""
    seeds: int = 3
    """How many seeds: 0, 1, and so on."""
    out: Path = Path("table")
    """The folder for table.md, table.json and a figure for each metric."""
    name: str = "compare"
    """What the runs' names begin with."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the recipe for all arms, as in --set texts=32."""

    def run(self, out: Output) -> dict[str, Any]:
        configs = self.configs()
        from common import comparison
        from common.commands import arms
        from common.commands.outcome import made
        from common.memo import Memo
        from common.store import Store
        from speech.commands.align import execute

        folder = made(self.out, "--out")
        base = self.base()
        plan = [
            arms.Planned(arm, seed, run_name(self.name, base, config, seed), asdict(config))
            for seed in range(self.seeds)
            for arm, config in configs.items()
        ]
        store = Store()
        memo = Memo(store.folder("compare") / "memo")

        def one(planned: arms.Planned) -> None:
            config = configs[planned.arm]
            execute(config, self.recipe, planned.run, planned.seed, out, memo)

        methods, pending = arms.work(plan, one, store, folder, METRICS, out)
        arms.tell(methods, pending, METRICS, out)
        out.print(f"\ntables and figures: {self.out}")
        return {
            "what": self.what,
            "out": self.out,
            "pending": pending,
            "arms": comparison.facts(methods),
        }

    def base(self) -> AlignConfig:
        """The recipe with what holds for all arms."""
        base = override(RECIPES[self.recipe](), self.set)
        return base if self.rounds is None else replace(base, rounds=self.rounds)

    def configs(self) -> dict[str, AlignConfig]:
        """The configuration of each arm.

        Raises:
            UserError: no such comparison, arm, recipe or setting.
        """
        from common.cli import unknown

        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        if self.what != "all" and self.what not in COMPARISONS:
            raise unknown("comparison", self.what, [*COMPARISONS, "all"])
        if self.seeds < 1:
            raise UserError(f"{self.seeds} seeds", "give 1 or more, 3 to tell luck from skill")
        chosen = COMPARISONS.values() if self.what == "all" else [COMPARISONS[self.what]]
        arms = {name: changes for arms in chosen for name, changes in arms.items()}
        for name in self.arms:
            if name not in arms:
                raise unknown("arm", name, list(arms))
        base = self.base()
        return {
            name: replace(base, **changes)
            for name, changes in arms.items()
            if not self.arms or name in self.arms
        }


def run_name(name: str, base: AlignConfig, config: AlignConfig, seed: int) -> str:
    """The name of a run: what it changes in the recipe, so that no two comparisons do it twice."""
    changed = {k: v for k, v in asdict(config).items() if v != getattr(base, k)}
    return "-".join([name, *(f"{k}-{v}" for k, v in changed.items()), f"s{seed}"])
