"""``upspiral runs``: what has been run, and what to do with it. ``last`` names the newest run."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common.commands import Domain, Output, resolve
from common.errors import UserError
from common.records import Metric, Round
from common.report import Extra, Page, paired, write
from common.store import Run, Store


def find(store: Store, name: str) -> Run:
    """The run called ``name``, or the newest one for ``last``.

    Raises:
        UserError: there is no such run.
    """
    found = store.runs()
    if name == "last" and found:
        return found[0]
    for run in found:
        if run.run == name:
            return run
    if not found:
        raise UserError("there is no run yet", "start one, e.g.: upspiral speech align")
    from common.cli import unknown

    raise unknown("run", name, [run.run for run in found])


def domain_of(run: Run) -> Domain:
    """The domain that the run's recipe starts with."""
    from common.cli import load_domain

    return load_domain(run.recipe.partition("/")[0])


@dataclass(frozen=True)
class List:
    """All runs, newest first."""

    def run(self, out: Output) -> dict[str, Any]:
        runs = [
            {"run": r.run, "recipe": r.recipe, "status": r.status, "started": r.started}
            for r in Store().runs()
        ]
        if runs:
            out.table(("run", "recipe", "status", "started"), [list(r.values()) for r in runs])
        else:
            out.print("no run yet")
        return {"runs": runs}


@dataclass(frozen=True)
class Show:
    """The rounds of a run with their metrics on dev, and the test metrics if it is done."""

    name: tyro.conf.Positional[str]
    """A run of `upspiral runs list`, or last."""

    def run(self, out: Output) -> dict[str, Any]:
        store = Store()
        run = find(store, self.name)
        rounds = store.rounds(run.run)
        tests = tests_of(store, run)
        out.print(f"{run.run}  {run.recipe}  seed {run.seed}  {run.status}  {run.started}")
        names = list(dict.fromkeys(m.name for r in rounds for m in r.metrics))
        rows = [_row(r, names) for r in rounds]
        out.table(("round", "gate", *names, "pairs", "seconds", "why"), rows)
        for policy, metrics in tests.items():
            said = ", ".join(f"{m.name} {m.value:.3f} ± {m.se:.3f} (n={m.n})" for m in metrics)
            out.print(f"test, {policy}: {said}")
        if "final" in tests:
            for before, after in _both(tests["starter"], tests["final"]):
                d = paired(before, after)
                if d:
                    interval = f"[{d.low:+.3f}, {d.high:+.3f}]"
                    out.print(f"{before.name}: {d.mean:+.3f}, 95% {interval}, n={d.n}")
        return {
            "run": run.run,
            "recipe": run.recipe,
            "status": run.status,
            "started": run.started,
            "seed": run.seed,
            "rounds": [_round_facts(r) for r in rounds],
            "test": {policy: _metric_facts(found) for policy, found in tests.items()},
        }


@dataclass(frozen=True)
class Resume:
    """Continue a run that was cut off, from the first unit of work that is not in the store."""

    name: tyro.conf.Positional[str]
    """A run of `upspiral runs list`, or last."""

    def run(self, out: Output) -> Mapping[str, Any] | None:
        run = find(Store(), self.name)
        if run.recipe.partition("/")[2].startswith("lifelong:"):
            from common.commands import lifelong

            return lifelong.resume(run, out)
        domain = domain_of(run)
        if domain.resume is None:
            raise UserError(f"runs of {domain.name} cannot be resumed", "start the run again")
        out.run = run.run
        result: Mapping[str, Any] | None = resolve(domain.resume)(run.run, out)
        return result


@dataclass(frozen=True)
class Export:
    """Write the run's preferences as Parquet in TRL's format (prompt, chosen, rejected)."""

    name: tyro.conf.Positional[str]
    """A run of `upspiral runs list`, or last."""
    out: Path
    """The file to write."""

    def run(self, out: Output) -> dict[str, Any]:
        store = Store()
        run = find(store, self.name)
        pairs = store.export(run.run, self.out)
        out.print(f"{pairs} pairs of {run.run} are in {self.out}")
        return {"run": run.run, "pairs": pairs, "out": self.out}


@dataclass(frozen=True)
class Archive:
    """Write figures of finished runs to one file: configuration, rounds, and every task's metrics.

    Not their samples or weights. On another machine `upspiral runs import` takes them in, and a
    comparison there counts them as done.
    """

    names: tyro.conf.Positional[tuple[str, ...]]
    """Runs of `upspiral runs list`, or last."""
    out: Path
    """The file to write, as in runs.json.gz."""

    def run(self, out: Output) -> dict[str, Any]:
        from common import archive

        if not self.names:
            raise UserError("no run is named", "see: upspiral runs list")
        store = Store()
        runs = [find(store, name).run for name in self.names]
        size = archive.write(store, runs, self.out)
        out.print(f"{len(runs)} runs are in {self.out} ({size / 1024:.0f} KiB)")
        return {"runs": runs, "out": self.out, "bytes": size}


@dataclass(frozen=True)
class Import:
    """Take in runs that `upspiral runs archive` wrote; what is here already stays as it is."""

    archives: tyro.conf.Positional[tuple[Path, ...]]
    """Files of archived runs."""

    def run(self, out: Output) -> dict[str, Any]:
        from common import archive

        if not self.archives:
            raise UserError("no archive is named", "make one with upspiral runs archive")
        store = Store()
        new = [run for path in self.archives for run in archive.read(store, path)]
        out.print(f"{len(new)} runs are new here")
        return {"runs": new}


@dataclass(frozen=True)
class Remove:
    """Remove runs: records, samples, weights, reports. What another run names, too, stays.

    Without --yes it only says what would go. `upspiral runs archive` keeps the figures.
    """

    names: tyro.conf.Positional[tuple[str, ...]]
    """Runs of `upspiral runs list`, patterns such as 'compare-*', or last."""
    yes: bool = False
    """Remove them; there is no way back."""

    def run(self, out: Output) -> dict[str, Any]:
        from common import removal

        if not self.names:
            raise UserError("no run is named", "see: upspiral runs list")
        store = Store()
        every = [run.run for run in store.runs()]
        runs = [r for n in self.names for r in fnmatch.filter(every, n) or [find(store, n).run]]
        what = removal.plan(store, runs)
        size = f"{len(what.runs)} runs and {what.bytes / 2**20:.1f} MiB of files"
        if self.yes:
            removal.remove(store, what)
            out.print(f"{size} are gone")
        else:
            for name in what.runs:
                out.print(name)
            out.print(f"{size} would go; to remove them, add --yes")
        return {"runs": what.runs, "bytes": what.bytes, "removed": self.yes}


@dataclass(frozen=True)
class Report:
    """Write the run's report: one HTML file with rounds, curves, test and samples."""

    name: tyro.conf.Positional[str]
    """A run of `upspiral runs list`, or last."""
    out: Path | None = None
    """The file to write; report.html in the run's folder by default."""

    def run(self, out: Output) -> dict[str, Any]:
        store = Store()
        run = find(store, self.name)
        path = self.out or store.folder(run.run) / "report.html"
        if not path.parent.is_dir():
            raise UserError(f"the folder {path.parent} is not there", "make it, or change --out")
        write_report(store, run, path)
        out.print(f"report: {path}")
        return {"run": run.run, "report": path}


def write_report(store: Store, run: Run, path: Path) -> None:
    """Write the report of ``run``; the domain, where it is installed, adds its own to it."""
    extra = Extra()
    try:
        domain = domain_of(run)
    except UserError:  # a run of a domain that is not installed here still has its figures
        domain = None
    if domain is not None and domain.report is not None:
        extra = resolve(domain.report)(run.run)
    page = Page(
        run=run.run,
        recipe=run.recipe,
        status=run.status,
        started=run.started,
        seed=run.seed,
        rounds=store.rounds(run.run),
        tests=tests_of(store, run),
        extra=extra,
    )
    write(page, path)


def tests_of(store: Store, run: Run) -> dict[str, list[Metric]]:
    """Test metrics of the starter (round 0) and of the final policy (the last round measured).

    Where no round was kept, the final policy is the starter.
    """
    metrics = store.metrics(run.run, split="test")
    rounds = sorted({m.round for m in metrics})
    names = ["starter", *(["final"] if len(rounds) > 1 or run.status == "done" else [])]
    ends = [rounds[0], rounds[-1]] if rounds else []
    return {
        name: [m for m in metrics if m.round == index]
        for name, index in zip(names, ends, strict=False)
    }


def _both(before: list[Metric], after: list[Metric]) -> list[tuple[Metric, Metric]]:
    others = {m.name: m for m in after}
    return [(m, others[m.name]) for m in before if m.name in others]


def _row(r: Round, names: list[str]) -> list[object]:
    found = {m.name: f"{m.value:.3f} ± {m.se:.3f}" for m in r.metrics}
    gate = "kept" if r.kept else "rolled back"
    return [r.index, gate, *(found.get(n) for n in names), r.pairs, round(r.seconds), r.reason]


def _metric_facts(metrics: list[Metric]) -> dict[str, float]:
    facts = {m.name: m.value for m in metrics} | {f"{m.name}_se": m.se for m in metrics}
    return facts | ({"n": metrics[0].n} if metrics else {})


def _round_facts(r: Round) -> dict[str, Any]:
    facts = {"round": r.index, "kept": r.kept, "reason": r.reason, "pairs": r.pairs}
    return facts | {"seconds": r.seconds} | _metric_facts(list(r.metrics))
