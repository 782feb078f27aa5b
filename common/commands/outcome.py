"""A run from the command line: carried out, told in a table, and as the JSON of the command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.commands.hands import Hands
    from common.distributed import Team
    from common.loop import Loop, Result
    from common.records import Round

Facts = Mapping[str, Any]
Until = Callable[[Sequence["Round"]], bool]


def execute(
    build: Callable[[], Loop],
    rounds: int,
    run: str,
    seed: int,
    recipe: str,
    config: Facts,
    out: Output,
    *,
    help_to_learn: Callable[[Team], None],
    until: Until | None = None,
    hands: Hands | None = None,
) -> Result:
    """Run or continue ``run``, over all processes of a launcher.

    ``build`` makes the loop in the main process, and in each worker of ``hands``; the other
    processes of the launcher ``help_to_learn`` until the run has ended.
    """
    from common.distributed import Team, Together, world
    from common.store import Store
    from common.tracking import tracker

    team = Team() if world() > 1 else None
    if team and not team.main:
        help_to_learn(team)
        raise SystemExit(0)  # what there is to say, the main process says
    loop = build()  # a mistake in it leaves no run that could be resumed
    store = Store()
    executor = hands.start(build, store.home, run, seed) if hands else None
    out.run = run  # from here on there is something to resume
    if team:
        loop.learn = Together(loop.learn, team)
    try:
        return loop.run(
            rounds,
            store,
            run,
            seed=seed,
            recipe=recipe,
            config=config,
            until=until,
            tracker=tracker("tensorboard", run, store.folder(run)),
            progress=out.progress(),
            executor=executor,
        )
    finally:
        if executor is not None:
            executor.close()
        if isinstance(loop.learn, Together):
            loop.learn.dismiss()


def facts(result: Result, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``run``, ``seed``, ``rounds`` and ``test``: every metric with its standard error and ``n``.

    ``names`` are what metrics are called in the JSON, where it differs.
    """
    rounds = [
        {**_metrics(r.metrics, names or {}), "round": r.index, "kept": r.kept, "reason": r.reason,
         "pairs": r.pairs, "demonstrations": r.demonstrations, "seconds": round(r.seconds, 1)}
        for r in result.rounds
    ]  # fmt: skip
    test = {side: _metrics(metrics, names or {}) for side, metrics in result.test.items()}
    return {"run": result.run, "seed": result.seed, "rounds": rounds, "test": test}


def _metrics(metrics: Sequence[Any], names: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for m in metrics:
        name = names.get(m.name, m.name)
        found |= {name: m.value, f"{name}_se": m.se, "n": m.n}
    return found


def table(out: Output, told: Facts, columns: Mapping[str, str]) -> None:
    """Starter, rounds and test, each mean with its standard error; ``columns`` are metric: title.

    Columns that nothing was measured of are left out.
    """
    rows = [
        ("starter" if r["round"] == 0 else f"round {r['round']}", r,
         "" if r["round"] == 0 else "kept" if r["kept"] else "rolled back")
        for r in told["rounds"]
    ]  # fmt: skip
    rows += [(f"test, {side}", measured, "") for side, measured in told["test"].items()]
    shown = {m: title for m, title in columns.items() if any(m in r for _, r, _ in rows)}
    taught = [kind for kind in ("pairs", "demonstrations") if any(r.get(kind) for _, r, _ in rows)]
    counts = [*taught, "seconds", "n"]
    lines = [
        (name, *(f"{r[m]:.3f} ± {r[m + '_se']:.3f}" if m in r else "-" for m in shown),
         *(r.get(c, "-") for c in counts), gate)
        for name, r, gate in rows
    ]  # fmt: skip
    out.table(("", *shown.values(), *counts, "gate"), lines)


def verdict(out: Output, result: Result, metric: str, title: str, of: str) -> None:
    """What test says of the final policy against the starter, paired; ``of`` is what n counts."""
    from common.report import paired

    by_name = {side: {m.name: m for m in metrics} for side, metrics in result.test.items()}
    if not {"starter", "final"} <= by_name.keys() or metric not in by_name["starter"]:
        return
    before, after = (by_name[side][metric] for side in ("starter", "final"))
    change = paired(before, after)
    if change is None:
        return
    better = change.high < 0 if before.better == "lower" else change.low > 0
    out.print(
        f"test {title} changed by {change.mean:+.3f}, 95% interval [{change.low:+.3f}, "
        f"{change.high:+.3f}], {change.n} {of}: "
        + ("it got better" if better else "no improvement is shown")
    )


def report(out: Output, run: str) -> Path:
    """Write the run's report and say where it is."""
    from common.commands.runs import find, write_report
    from common.store import Store

    store = Store()
    path = store.folder(run) / "report.html"
    out.note("writing the report ...")
    write_report(store, find(store, run), path)
    out.print(f"report: {path}")
    return path


def made(folder: Path, flag: str = "--folder") -> Path:
    """``folder`` of ``flag``, there and writable, before minutes of work are spent for it.

    Raises:
        UserError: it is a file, or cannot be made or written to.
    """
    folder = folder.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{str(folder)!r} is a file", "name a folder") from None
    except OSError as error:
        raise UserError(
            f"cannot make the folder {str(folder)!r}: {error.strerror}", f"choose another {flag}"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"not allowed to write to {str(folder)!r}", f"choose another {flag}")
    return folder
