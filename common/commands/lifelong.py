"""``upspiral lifelong``: a policy's way through several tasks, and metrics of anybody's logs."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output, resolve
from common.errors import UserError

if TYPE_CHECKING:
    from common.lifelong import Lifetime as Lived
    from common.lifelong import Log, Measured

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""A lifetime's name: its runs have longer ones, which must still name a run."""


@dataclass(frozen=True)
class Measure:
    """What a lifetime over several tasks shows: what is kept, what transfers, how fast it learns.

    Reads logs of the published format (docs/lifelong.md). With logs of single-task experts the
    metrics that compare with one, RP and SE, are there too.
    """

    logs: tyro.conf.Positional[Path]
    """The folder of a lifetime's log."""
    ste: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """The folder of a single-task expert's log; once for each."""
    metric: str | None = None
    """The column to measure by, if there are several."""
    clamp: bool = False
    """Clamp each task's values to their 10th and 90th percentile."""
    smooth: bool = True
    """Smooth the curves of training."""
    normalise: bool = True
    """Bring each task to 1 to 101."""
    plot: Path | None = None
    """Draw the lifetime here, as SVG."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.lifelong import Preprocessing, prepare, read

        how = Preprocessing(self.smooth, self.clamp, self.normalise)
        log = read(self.logs, self.metric)
        experts = [read(path, self.metric) for path in self.ste]
        for one in (log, *experts):
            if one.begun is not None:
                out.note(f"{one.name}, block {one.begun}: begun, without an experience yet")
        life = prepare(log, experts, how)
        found = tell(out, life)
        if self.plot is not None:
            draw(self.plot, life, "performance, 1 to 101" if self.normalise else "performance")
            out.print(f"\nplot: {self.plot}")
        return {"experiences": len(log), **found.plain()}


@dataclass(frozen=True)
class Run:
    """Train one policy on several tasks, one after the other, and test it on all of them each time.

    Everything that happens goes into a log of the published format (docs/lifelong.md), which the
    metrics are then taken from. Killed anywhere, the same command with the same --name continues.
    """

    tasks: tuple[str, ...] = ()
    """The tasks in their order, apart or with commas between them; one may come again."""
    method: str | None = None
    """The method that learns; the domain's plainest by default."""
    model: str | None = None
    """What it begins with; the recipe's by default."""
    recipe: str = "starter"
    """The size of each training, as the domain's own command has it."""
    rounds: int | None = None
    """Rounds of each training; the recipe's by default."""
    seed: int = 0
    """Everything random derives from it."""
    experts: bool = False
    """Also train the starter on each task alone, for the metrics RP and SE: twice the work."""
    name: str | None = None
    """Name of the lifetime; made from the seed and the time by default."""
    domain: str | None = None
    """The domain that the tasks are of, if several have lifetimes."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the recipe or the method, as in --set samples=4."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.lifelong import prepare, read
        from common.lifelong.run import Course, Lifetime, held, slug
        from common.store import Store

        tasks = split(self.tasks)
        if not tasks:
            raise UserError("no tasks are named", "as in --tasks arithmetic,countdown,logic")
        domain, target = offered(self.domain)
        course: Course = resolve(target)(
            tasks, self.recipe, self.method, self.model, self.rounds, self.set
        )
        stamp = time.strftime("%m%d-%H%M%S")
        mine = replace(self, name=self.name or f"lifetime-{self.seed}-{stamp}")
        name = str(mine.name)
        if not NAME.fullmatch(name):
            raise UserError(
                f"{name!r} cannot name a lifetime", "use up to 40 letters, digits, '.', '_' and '-'"
            )
        store = Store()
        folder = store.folder(name)

        def begun() -> None:
            out.resume = mine.command()

        life = Lifetime(
            course, name, folder / "log", store, self.seed, f"{domain}/lifelong:{name}",
            asdict(mine), out.progress(), out.note, begun,
        )  # fmt: skip
        alone = []
        with held(folder, name):
            life.live(tasks)
            for task in dict.fromkeys(tasks) if self.experts else ():
                place = folder / "experts" / slug(task)
                expert = replace(life, name=f"{name}.expert", folder=place)
                expert.live([task], tests=False)
                alone.append(expert.folder)
        out.resume = None
        log = read(life.folder)
        lived = prepare(log, [read(path) for path in alone])
        tests = tested(log)
        columns = list(dict.fromkeys(task for row in tests for task in row if task != "after"))
        out.table(
            ("test after", *columns),
            [
                (row["after"] or "nothing", *(
                    f"{row[c]['mean']:.3f} ± {row[c]['se']:.3f} (n={row[c]['n']})" for c in columns
                ))
                for row in tests
            ],
        )  # fmt: skip
        out.print()
        found = tell(out, lived)
        draw(folder / "lifetime.svg", lived)
        out.print(f"\nlog: {life.folder}\nplot: {folder / 'lifetime.svg'}")
        return {
            "name": name, "log": life.folder, "ste": alone, "plot": folder / "lifetime.svg",
            "experiences": len(log), "tests": tests, **found.plain(),
        }  # fmt: skip

    def command(self) -> str:
        """The command line that continues this lifetime."""
        words = ["upspiral", "lifelong", "run", "--tasks", *self.tasks]
        for flag in ("method", "model", "recipe", "rounds", "seed", "name", "domain"):
            value = getattr(self, flag)
            if value is not None:
                words += [f"--{flag}", str(value)]
        words += ["--experts"] if self.experts else []
        words += [word for one in self.set for word in ("--set", one)]
        return shlex.join(words)


def resume(run: Any, out: Output) -> dict[str, Any]:
    """Continue the lifetime that ``run``, a run of the store, is a training of."""
    given = dict(run.config["lifetime"])
    return Run(**given | {"tasks": tuple(given["tasks"]), "set": tuple(given["set"])}).run(out)


def split(names: Sequence[str]) -> list[str]:
    """Names that stand apart or with commas between them; a comma before ``a=1`` is a setting's."""
    parts = [p for name in names for p in re.split(r",(?![A-Za-z_]+=)", name)]
    return [part.strip() for part in parts if part.strip()]


def offered(name: str | None) -> tuple[str, str]:
    """The domain called ``name``, or the only one that has lifetimes, and where they are.

    Raises:
        UserError: none has, or several have and none is named.
    """
    from common.cli import domains, load_domain

    known = {d: load_domain(d).lifelong for d in ([name] if name else sorted(domains()))}
    having = {domain: target for domain, target in known.items() if target}
    if len(having) == 1:
        return next(iter(having.items()))
    if name:
        raise UserError(f"{name} has no lifetimes", "leave --domain out")
    remedy = f"give --domain {' or '.join(having)}" if having else "install upspiral[text]"
    raise UserError(f"{len(having)} domains have lifetimes", remedy)


def tested(log: Log) -> list[dict[str, Any]]:
    """What each test block came to: the task trained ``after`` which it stands, and by task the
    mean with its standard error."""
    from common.lifelong.curves import regimes
    from common.records import Metric

    rows: list[dict[str, Any]] = []
    after = None
    for regime in regimes(log):
        if regime.train:
            after, block = regime.task, -1
            continue
        if not rows or regime.block != block:
            rows.append({"after": after})
        block = regime.block
        m = Metric.of(regime.task, {str(i): float(v) for i, v in enumerate(regime.values)})
        rows[-1][regime.task] = {"mean": m.value, "se": m.se, "n": m.n}
    return rows


def tell(out: Output, life: Lived) -> Measured:
    """Measure a lifetime and print its metrics."""
    from common.lifelong import measure

    found = measure(life)
    out.table(("metric", "value"), [*found.metrics.items()])
    names = list(next(iter(found.by_task.values())))
    out.print()
    out.table(
        ("task", *names),
        [(task, *(row[name] for name in names)) for task, row in found.by_task.items()],
    )
    lost = [task for task in found.by_task if task not in life.experts]
    if lost:
        out.note(f"without a single-task expert, no RP and SE: {', '.join(lost)}")
    trained = {r.task for r in life.regimes if r.train and r.wake}
    for name, why in (
        ("RP", "the expert's curve sums to 0"),
        ("SE", "the expert's best is 0, or the first experience was as good as any"),
    ):
        lost = [task for task in trained & set(life.experts) if found.by_task[task][name] is None]
        if lost:
            out.note(f"no {name}, as {why}: {', '.join(sorted(lost))}")
    for name in ("FT", "BT"):
        pairs = [f"{a} > {b}" for (a, b), value in found.transfer[name].items() if value is None]
        if pairs:
            out.note(f"no {name}, as the test before was at 0: {', '.join(pairs)}")
    unknown = sorted(set(life.experts) - set(life.tasks))
    if unknown:
        out.note(f"experts of tasks that the lifetime does not have: {', '.join(unknown)}")
    return found


def draw(path: Path, life: Lived, label: str = "performance, 1 to 101") -> None:
    """Draw a lifetime as SVG.

    Raises:
        UserError: the file cannot be written.
    """
    from common.lifelong.plot import figure

    try:
        path.write_text(figure(life, label), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "choose another file") from error
