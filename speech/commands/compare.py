"""``upspiral speech compare``: strategies or settings side by side, over seeds."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.errors import RunBusyError, UserError
from speech.align import RECIPES, AlignConfig
from speech.commands.align import override
from speech.comparisons import COMPARISONS

if TYPE_CHECKING:
    from common.comparison import Method
    from common.store import Store

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
        from speech.commands.training import made

        folder = made(self.out, "--out")
        base = self.base()
        plan = [
            (arm, seed, run_name(self.name, base, config, seed))
            for seed in range(self.seeds)
            for arm, config in configs.items()
        ]
        from common.memo import Memo
        from common.store import Store
        from speech.commands.align import execute

        store = Store()
        for arm, _, run in plan:  # before hours of work
            check(store, run, configs[arm])
        memo = Memo(store.folder("compare") / "memo")
        begun = time.monotonic()
        worked = 0
        for done, (arm, seed, run) in enumerate(plan):
            if status_of(store, run) in ("done", "running"):
                continue
            out.note(
                f"[{done + 1}/{len(plan)}] {arm}, seed {seed}{left(begun, worked, plan, done)}"
            )
            out.run = run
            try:
                execute(configs[arm], self.recipe, run, seed, out, memo)
            except RunBusyError:  # another process of this comparison began it since
                continue
            worked += 1
            write(store, plan, folder)
        methods = write(store, plan, folder)
        pending = [run for _, _, run in plan if status_of(store, run) != "done"]
        from common import comparison

        for metric in METRICS:
            rows = comparison.rows(methods, metric)
            if rows:
                out.print(f"\n{metric}")
                out.table(comparison.HEADINGS, rows)
        if pending:
            out.print(f"\nat work elsewhere: {', '.join(pending)}; the tables are without them")
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


def left(begun: float, worked: int, plan: Sequence[object], done: int) -> str:
    """How long the rest will take, as runs went so far; empty before the first has ended."""
    from common.progress import duration

    if not worked:
        return ""
    return f", about {duration((time.monotonic() - begun) / worked * (len(plan) - done))} left"


def status_of(store: Store, run: str) -> str | None:
    """The run's status; None if it was not begun."""
    return next((row.status for row in store.runs() if row.run == run), None)


def check(store: Store, run: str, config: AlignConfig) -> None:
    """Whether ``run``, if it was begun, has the settings of ``config``.

    Raises:
        UserError: it has others.
    """
    row = next((row for row in store.runs() if row.run == run), None)
    if row is None:
        return
    wanted = asdict(config)
    other = [name for name, value in row.config.items() if wanted.get(name, value) != value]
    if other:
        name = other[0]
        raise UserError(
            f"{run!r} was begun with {name}={row.config[name]}, not {wanted[name]}",
            "give --name for a comparison of its own",
        )


def write(store: Store, plan: Sequence[tuple[str, int, str]], folder: Path) -> list[Method]:
    """What the runs that are done came to, written to ``folder``."""
    from common import comparison
    from common.cli import plain

    runs: dict[str, list[str]] = {}
    for arm, _, run in plan:
        if status_of(store, run) == "done":
            runs.setdefault(arm, []).append(run)
    methods = comparison.compare(store, runs)
    if methods:
        tables = [f"## {metric}\n\n{comparison.markdown(methods, metric)}" for metric in METRICS]
        (folder / "table.md").write_text("\n".join(tables), encoding="utf-8")
        text = json.dumps(plain(comparison.facts(methods)), indent=1)
        (folder / "table.json").write_text(text, encoding="utf-8")
        for metric in METRICS:
            svg = comparison.figure(methods, metric)
            (folder / f"{metric}.svg").write_text(svg, encoding="utf-8")
    return methods
