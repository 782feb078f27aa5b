"""``upspiral text evolve``: a Gödel agent, its versions, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from text.godel.evolve import Result


@dataclass(frozen=True)
class EvolveConfig:
    """One run, as it is kept with it."""

    task: str = "game24"
    """game24, arithmetic and every other generated task with its settings; mgsm, drop, mmlu, gpqa,
    gsm8k, ... from the hub, or from files as in drop:FOLDER; jsonl:FILE; scenes (the schedule of
    the layout solver)."""
    model: str = "scripted:rewrite-to-search"
    """What decides: served:NAME with --base-url, scripted:NAME or scripted:FILE (a recording),
    smollm2, a run of text, a folder, or a hub name."""
    solver: str | None = None
    """What policies ask; the same model by default."""
    base_url: str | None = None
    """Address of the server, as in http://localhost:8000/v1; a key goes into OPENAI_API_KEY."""
    iterations: int = 30
    """Steps of the improver."""
    validation: int = 20
    """Questions that the agent may measure itself on."""
    test: int = 100
    """Questions that it is measured on at the end."""
    max_drop: float = 0.2
    """A change that scores lower than the best by more than this is rolled back."""
    seconds: float = 20.0
    """Of processor that a step, and an evaluation, may take; models do not count."""
    without: tuple[str, ...] = ()
    """Ablations: thinking, errors (error handling), code (run_code), llm (call_llm)."""
    budget_tokens: int = 0
    """Tokens of all models after which the run ends; 0: no limit. The test comes on top."""
    budget_usd: float = 0.0
    """Dollars after which it ends, by the prices."""
    prices: tuple[float, float] = (0.0, 0.0)
    """Of the model: dollars for a million tokens read, and written."""
    solver_prices: tuple[float, float] | None = None
    """Of the solver, if it is another model."""
    max_tokens: int = 2048
    """Of one answer of a model."""
    concurrency: int = 4
    """Questions that a served solver answers at a time."""
    out: str = "agent"
    """New or empty folder for the versions and the best one."""

    def __post_init__(self) -> None:
        from text.godel.workshop import SWITCHES

        least = min(self.iterations, self.concurrency, self.max_tokens)
        if least < 1 or min(self.validation, self.test) < 2:
            raise UserError(
                f"{self.iterations} steps on {self.validation} and {self.test} questions",
                "ask for 1 step, 2 questions of each, and 1 token at a time, or more",
            )
        if not 0 <= self.max_drop <= 1 or not self.seconds > 0:
            raise UserError(
                f"--max-drop {self.max_drop:g} --seconds {self.seconds:g}",
                "give a drop from 0 to 1 and more than 0 seconds",
            )
        prices = (*self.prices, *(self.solver_prices or ()))
        if min(self.budget_tokens, self.budget_usd, *prices) < 0:
            raise UserError("a budget or a price is below 0", "give 0 for none")
        if self.budget_usd and not any(prices):
            raise UserError(
                "--budget-usd without prices",
                "give --prices READ WRITTEN, dollars a million tokens",
            )
        for name in self.without:
            if name not in SWITCHES:
                from common.cli import unknown

                raise unknown("switch", name, SWITCHES)


@dataclass(frozen=True)
class Evolve(EvolveConfig):
    """An agent rewrites its own policy and improver, in the sandbox, for some steps; the best
    version is measured on test questions that it never saw."""

    name: str | None = None
    """Name of the run; made from task and time by default."""
    resume: Path | None = None
    """After Ctrl-C, a crash or a kill, go on with the run of this --out, as in --resume agent. Its
    options are kept with it; another --base-url, --budget-tokens or --budget-usd can be given."""
    diff: tuple[Path, str, str] | None = None
    """Show what changed between two versions of an --out, as in --diff agent 3 7, and do nothing
    else."""

    def run(self, out: Output) -> dict[str, Any]:
        from text.godel import folder

        if self.diff is not None:
            self._alone("diff")
            path, first, second = self.diff
            text = folder.diff(path, first, second)
            out.print(text or f"versions {first} and {second} are the same")
            return {"from": int(first), "to": int(second), "diff": text}
        if self.resume is not None:
            given = self._alone("resume", "base_url", "budget_tokens", "budget_usd")
            return resume(folder.run_of(self.resume), out, self.resume, given)
        from common.store import Store

        given = {name: getattr(self, name) for name in EvolveConfig.__dataclass_fields__}
        place = Path(self.out).expanduser().absolute()
        folder.vacant(place)
        config = EvolveConfig(**{**given, "out": str(place)})
        kind = self.task.partition(":")[0]
        run = self.name or f"evolve-{kind}-{time.strftime('%m%d-%H%M%S')}"
        if any(row.run == run for row in Store().runs()):
            raise UserError(
                f"there is a run {run} already",
                f"go on with it by upspiral runs resume {run}, or choose another --name",
            )
        return evolve(config, run, out)

    def _alone(self, flag: str, *may: str) -> dict[str, Any]:
        """What was given along with ``flag``; it is a mistake if that is more than ``may``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        default = {f.name: f.default for f in fields(self)}
        given = {k: v for k, v in values.items() if v != default[k] and k != flag}
        if more := [f"--{name.replace('_', '-')}" for name in given if name not in may]:
            raise UserError(f"--{flag} with {', '.join(more)}", f"leave out {', '.join(more)}")
        return given


def evolve(config: EvolveConfig, run: str, out: Output) -> dict[str, Any]:
    """Run or continue ``run`` and return the JSON of the command."""
    from common.commands import outcome
    from common.store import Store
    from text.godel import environment, folder, models
    from text.godel.broker import Broker, Budget
    from text.godel.evolve import MOST, Evolution
    from text.godel.workshop import ASKS, Rules

    task = environment.load(config.task, config.validation, config.test)
    optimiser = models.load(config.model, config.base_url, config.concurrency)
    solver = optimiser
    if config.solver is not None:
        solver = models.load(config.solver, config.base_url, config.concurrency)
    budget = Budget(
        config.budget_tokens, config.budget_usd, config.prices, config.solver_prices
    )  # fmt: skip
    served = f"{config.model} {config.solver}".count("served:")
    if served and not (config.budget_tokens or config.budget_usd):
        out.note(
            f"no budget: each of {config.iterations} steps may ask the model "
            f"{MOST['decide'] + MOST['call_llm']} times and the solver "
            f"{(MOST['interact'] + 1) * ASKS * config.validation} times; "
            "--budget-tokens or --budget-usd would end that"
        )
    place = outcome.made(Path(config.out), "--out")
    history: list[Any] = []

    def keep(evolution: Evolution) -> None:
        history[:] = evolution.agent.get("history") or []
        folder.write(place, run, evolution.versions, evolution.workshop.best.index, history)

    def begun() -> None:
        folder.begin(place, run)
        out.run = run

    out.run = None
    evolution = Evolution(
        task,
        Broker(optimiser, solver, budget, config.max_tokens),
        Store(),
        config.iterations,
        Rules(config.max_drop, config.seconds, config.without),
        out.progress(),
        keep,
        begun,
    )
    try:
        result = evolution.run(run, 0, asdict(config), config.task)
    except UserError as error:
        if out.run is None:
            raise
        raise RuntimeError(str(error)) from error  # no mistake: it was under way, and can go on
    told = tell(result, out)
    out.print(f"the best version is in {place / 'best'}")
    return {"run": run, "out": place, **told, "report": outcome.report(out, run)}


def tell(result: Result, out: Output) -> dict[str, Any]:
    """The versions as a table, the test, and both as JSON."""
    from common.report import paired
    from text.godel.folder import facts

    rows = []
    for v in result.versions:
        why = v.reason if v.kept else f"rolled back: {v.problem}"
        said = f"{v.metric.value:.3f} ± {v.metric.se:.3f}"
        kept = ("best" if v.index == result.best.index else "kept") if v.kept else "no"
        rows.append((v.index, v.step, said, kept, " ".join(why.split())[:90]))
    name = result.best.metric.name
    out.table(("version", "step", f"validation {name}", "kept", "why"), rows)
    if result.stopped:
        out.print(f"it ended early: {result.stopped}")
    found: dict[str, Any] = {
        "best": result.best.index,
        "stopped": result.stopped,
        "versions": [facts(v) for v in result.versions],
        "test": {},
    }
    for policy, m in result.test.items():
        out.print(f"test, {policy}: {name} {m.value:.3f} ± {m.se:.3f} (n={m.n})")
        found["test"][policy] = {name: m.value, f"{name}_se": m.se, "n": m.n}
    change = paired(result.test["start"], result.test["best"])
    if change is not None and result.best.index:
        interval = f"[{change.low:+.3f}, {change.high:+.3f}]"
        out.print(f"test {name} changed by {change.mean:+.3f}, 95% interval {interval}")
    for role, cost in result.spent.items():
        tokens = cost["prompt_tokens"] + cost["completion_tokens"]
        out.print(
            f"{role}: {cost['calls']} calls, {cost['remembered']} from memory, {tokens} tokens, "
            f"${cost['usd']:.4f}"
        )
    return {**found, "spent": result.spent}


def resume(
    run: str, out: Output, place: Path | None = None, changed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Continue ``run`` with the configuration that it was started with, but for what ``changed``.

    Raises:
        UserError: it is done, and has nothing left that a change could be for.
    """
    from common.store import Store

    store = Store()
    row = store.run(run)
    if changed and store.units(run, 0, "test"):
        raise UserError(f"run {run} is done", "leave out everything but --resume to see it again")
    known = EvolveConfig.__dataclass_fields__
    given: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in row.config.items() if k in known
    }
    config = EvolveConfig(**given | dict(changed or {}))
    if place is not None:
        config = replace(config, out=str(place.absolute()))
    return evolve(config, run, out)
