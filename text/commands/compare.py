"""``upspiral text compare``: methods side by side, over seeds, with equal budgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output
from common.errors import UserError
from common.records import identity
from text.commands.improve import recipe
from text.improve import ImproveConfig

METRICS = ("accuracy", "points", "strict", "pass@4", "strict_pass@4", "pass@2", "strict_pass@2",
           "pass@10", "strict_pass@10", "best_by_logprob", "refined", "off_target", "distinct_n",
           "answer_entropy", "length", "self_score", "independent", "valid")  # fmt: skip
"""What the tables are about, where it was measured."""
ROUNDS = 20
"""How many rounds a budget of tokens may be spread over."""


@dataclass(frozen=True)
class Compare:
    """Improve by each of several methods with the same budget, and tabulate what test says.

    Runs are named by their settings and seed: the same command continues where it was stopped, and
    started twice at once it shares the work. What two runs have in common is done once.
    """

    methods: tuple[str, ...] = ("vanilla",)
    """Methods, apart or with commas between them; settings of one after a slash, as in
    dive/pool=round."""
    task: str | None = None
    """As in `upspiral text improve`."""
    model: str | None = None
    """smollm2, a run of text, a folder, or a hub name."""
    recipe: str = "starter"
    """The budget of a run: starter, demo, tiny, large."""
    rounds: int | None = None
    """How many rounds a run has; the recipe's by default, and as many as the tokens last with
    --budget-tokens."""
    budget_tokens: float = 0
    """Tokens sampled and trained that a run may take, as in 2e6; 0: as many as its rounds take."""
    seeds: int = 3
    """How many seeds: 0, 1, and so on."""
    out: Path = Path("table")
    """The folder for table.md, table.json and a figure for each metric."""
    name: str = "compare"
    """What the runs' names begin with."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the recipe for all methods, as in --set samples=4."""

    def run(self, out: Output) -> dict[str, Any]:
        configs = self.configs()
        from common import comparison
        from common.commands import arms
        from common.commands.outcome import made
        from common.memo import Memo
        from common.store import Store
        from text.commands.improve import execute
        from text.setup import stored

        folder = made(self.out, "--out")
        plan = [
            arms.Planned(arm, seed, run_name(self.name, config, seed), stored(config))
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
        return {"out": self.out, "pending": pending, "methods": comparison.facts(methods)}

    def configs(self) -> dict[str, ImproveConfig]:
        """The configuration of each arm.

        Raises:
            UserError: no such method, recipe or setting.
        """
        from text.methods import method
        from text.setup import with_settings

        if self.seeds < 1:
            raise UserError(f"{self.seeds} seeds", "give 1 or more, 3 to tell luck from skill")
        if not 0 <= self.budget_tokens < 1e15:
            raise UserError(f"{self.budget_tokens:g} tokens", "give a number such as 2e6")
        budget = int(self.budget_tokens)
        given = {
            "task": self.task,
            "model": self.model,
            "rounds": self.rounds or (ROUNDS if budget else None),
            "budget_tokens": budget or None,
        }
        chosen: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        base = with_settings(replace(recipe(self.recipe), **chosen), self.set)
        arms = [arm for word in self.methods for arm in word.split(",") if arm]
        found = {}
        for arm in arms:
            name, *settings = arm.split("/")
            config = with_settings(replace(base, method=name), settings)
            method(config.method, config.settings)  # known, before hours of work
            found[arm] = config
        if not found:
            raise UserError("no methods", "give --methods vanilla, and others to compare it with")
        return found


def run_name(name: str, config: ImproveConfig, seed: int) -> str:
    """The name of a run: its method, and a hash of all its settings."""
    from text.setup import stored

    method = config.method.replace(":", "-")
    return f"{name}-{method}-{identity(stored(config))[:8]}-s{seed}"
