"""Arms of a comparison: which runs there are, one after the other, and the tables they come to.

An arm is a name and a configuration; it has a run for each seed. Runs are named by what they are,
so that the same command continues where it was stopped, and started twice at once shares the work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.commands import Output
from common.errors import RunBusyError, UserError

if TYPE_CHECKING:
    from common.comparison import Method
    from common.store import Store


class Planned(NamedTuple):
    """One run of an arm; ``config`` is what it is stored with."""

    arm: str
    seed: int
    run: str
    config: Mapping[str, Any]


def work(
    plan: Sequence[Planned],
    execute: Callable[[Planned], object],
    store: Store,
    folder: Path,
    metrics: Sequence[str],
    out: Output,
) -> tuple[list[Method], list[str]]:
    """Carry out what is not done yet, and write the tables after each run.

    Returns the methods and the runs that another process is at.

    Raises:
        UserError: a run of that name was begun with other settings.
    """
    for one in plan:  # before hours of work
        check(store, one.run, one.config)
    begun = time.monotonic()
    worked = 0
    for done, one in enumerate(plan):
        if status_of(store, one.run) in ("done", "running"):
            continue
        left = _left(begun, worked, len(plan) - done)
        out.note(f"[{done + 1}/{len(plan)}] {one.arm}, seed {one.seed}{left}")
        try:
            execute(one)
        except RunBusyError:  # another process of this comparison began it since
            continue
        worked += 1
        write(store, plan, folder, metrics)
    methods = write(store, plan, folder, metrics)
    return methods, [one.run for one in plan if status_of(store, one.run) != "done"]


def write(
    store: Store, plan: Sequence[Planned], folder: Path, metrics: Sequence[str]
) -> list[Method]:
    """What the runs that are done came to, written to ``folder``."""
    from common import comparison
    from common.cli import plain

    runs: dict[str, list[str]] = {}
    for one in plan:
        if status_of(store, one.run) == "done":
            runs.setdefault(one.arm, []).append(one.run)
    methods = comparison.compare(store, runs)
    if methods:
        metrics = [m for m in metrics if all(m in method.changes for method in methods)]
        tables = [f"## overview\n\n{comparison.lines(*comparison.overview(methods, metrics))}"]
        tables += [f"## {metric}\n\n{comparison.markdown(methods, metric)}" for metric in metrics]
        tables.append(f"## cost\n\n{comparison.lines(comparison.COSTS, comparison.costs(methods))}")
        (folder / "table.md").write_text("\n".join(tables), encoding="utf-8")
        text = json.dumps(plain(comparison.facts(methods)), indent=1)
        (folder / "table.json").write_text(text, encoding="utf-8")
        for metric in metrics:
            svg = comparison.figure(methods, metric)
            (folder / f"{metric}.svg").write_text(svg, encoding="utf-8")
    return methods


def tell(
    methods: Sequence[Method], pending: Sequence[str], metrics: Sequence[str], out: Output
) -> None:
    """The tables, for people."""
    from common import comparison

    for metric in metrics:
        if methods and all(metric in method.changes for method in methods):
            out.print(f"\n{metric}")
            out.table(comparison.HEADINGS, comparison.rows(methods, metric))
    if methods:
        out.print(
            "\nfinal on test (paired change from the starter ± its standard error over tasks)"
        )
        out.table(*comparison.overview(methods, metrics))
        out.print("\ncost")
        out.table(comparison.COSTS, comparison.costs(methods))
    if pending:
        out.print(f"\nat work elsewhere: {', '.join(pending)}; the tables are without them")


def status_of(store: Store, run: str) -> str | None:
    """The run's status; None if it was not begun."""
    return next((row.status for row in store.runs() if row.run == run), None)


def check(store: Store, run: str, config: Mapping[str, Any]) -> None:
    """Whether ``run``, if it was begun, has the settings of ``config``.

    Raises:
        UserError: it has others.
    """
    row = next((row for row in store.runs() if row.run == run), None)
    if row is None:
        return
    other = [name for name, value in row.config.items() if config.get(name, value) != value]
    if other:
        name = other[0]
        raise UserError(
            f"{run!r} was begun with {name}={row.config[name]}, not {config[name]}",
            "give --name for a comparison of its own",
        )


def _left(begun: float, worked: int, remaining: int) -> str:
    """How long the rest will take, as runs went so far; empty before the first has ended."""
    from common.progress import duration

    if not worked:
        return ""
    return f", about {duration((time.monotonic() - begun) / worked * remaining)} left"
