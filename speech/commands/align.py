"""``upspiral speech align``: configuration, the run itself, its gap and report, and resuming."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.commands import Output
from common.errors import UserError
from speech.align import RECIPES, AlignConfig, Pairs, Strategy

if TYPE_CHECKING:
    from common.loop import Result
    from common.memo import Memo

NAMES = {"similarity": "speaker_similarity"}
"""What a metric is called in the JSON of ``align``, where it differs."""


@dataclass(frozen=True)
class Align:
    """Align a codec language model: sample, judge, learn, and keep a round only if dev improved.

    Rounds are resumable: after Ctrl-C or a crash, `upspiral runs resume last` continues.
    """

    recipe: str = "starter"
    """starter (up to 90 minutes), demo (minutes), tiny (seconds, to see that it runs); paper: the
    published sizes, for a model of yours on a GPU (docs/your-own-model.md)."""
    rounds: int | None = None
    """How many rounds; the recipe's by default."""
    seed: int = 0
    """Everything random derives from it."""
    strategy: Strategy | None = None
    """dpo: from pairs; sft: imitates the chosen; chain-of-hindsight: quality as a label; ppo, grpo:
    by a reward model; best-of-n: a reward model picks what is said."""
    pairs: Pairs | None = None
    """self: best over worst sample; golden: recordings over samples; both; human: --ratings."""
    ratings: str | None = None
    """The run whose listening test (upspiral speech listen) gives human pairs."""
    policy: Annotated[str | None, tyro.conf.arg(aliases=["--lm"])] = None
    """The model that learns: starter, a run, a folder, or a hub name."""
    codec: str | None = None
    """starter, encodec-24khz, dac-16khz, dac-24khz, dac-44khz, mimi, xcodec2, a folder or file
    with a codec, or a hub repository."""
    corpus: str | None = None
    """prompts, or KIND:FOLDER with csv, ljspeech, libritts, librispeech or vctk."""
    name: str | None = None
    """Name of the run; made from the recipe, the seed and the time by default."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the recipe, as in --set beta=0.2 --set samples=8."""

    def run(self, out: Output) -> dict[str, Any]:
        if self.recipe not in RECIPES:
            raise UserError(f"unknown recipe {self.recipe!r}", f"use {', '.join(RECIPES)}")
        given = {"rounds": self.rounds, "pairs": self.pairs, "strategy": self.strategy,
                 "ratings": self.ratings, "policy": self.policy,
                 "codec": self.codec, "corpus": self.corpus}  # fmt: skip
        chosen = {k: v for k, v in given.items() if v is not None}
        config = replace(override(RECIPES[self.recipe](), self.set), **chosen)  # type: ignore[arg-type]
        run = self.name or f"align-{self.recipe}-{self.seed}-{time.strftime('%m%d-%H%M%S')}"
        return align(config, self.recipe, run, self.seed, out)


def override(config: AlignConfig, settings: Sequence[str]) -> AlignConfig:
    """``config`` with settings written as ``name=value``, each of the type of its default."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in asdict(config):
            known = ", ".join(asdict(config))
            raise UserError(f"no setting {setting!r}", f"write name=value; names: {known}")
        kind = type(getattr(config, name))
        typed: Any
        try:
            typed = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (ValueError, KeyError):
            remedy = "give true or false" if kind is bool else f"give a {kind.__name__}"
            raise UserError(f"{name}={value} is no {kind.__name__}", remedy) from None
        config = replace(config, **{name: typed})
    return config


def align(config: AlignConfig, recipe: str, run: str, seed: int, out: Output) -> dict[str, Any]:
    """Run or continue ``run`` and return the JSON of the command."""
    from common.commands.runs import find, write_report
    from common.store import Store
    from speech.commands.gap import keep

    result = execute(config, recipe, run, seed, out)
    rounds = [_facts(r.metrics) | {"round": r.index, "kept": r.kept, "reason": r.reason,
              "pairs": r.pairs, "seconds": round(r.seconds, 1)} for r in result.rounds]  # fmt: skip
    test = {name: _facts(metrics) for name, metrics in result.test.items()}
    table(out, rounds, test)
    _verdict(out, result.test)
    store = Store()
    keep(store, find(store, run), out)
    path = store.folder(run) / "report.html"
    out.note("writing the report ...")
    write_report(store, find(store, run), path)
    out.print(f"report: {path}")
    return {"run": run, "seed": seed, "rounds": rounds, "test": test, "report": path}


def execute(
    config: AlignConfig, recipe: str, run: str, seed: int, out: Output, memo: Memo | None = None
) -> Result:
    """Run or continue ``run``, over all processes; ``memo`` remembers what other runs did."""
    from common.distributed import Team, Together, world
    from common.store import Store
    from common.tracking import tracker
    from speech.setup import build, helper

    team = Team() if world() > 1 else None
    if team and not team.main:
        helper(config, team)
        raise SystemExit(0)  # what there is to say, the main process says
    store = Store()
    out.run = run
    loop = build(config, memo)
    if team:
        loop.learn = Together(loop.learn, team)
    try:
        return loop.run(
            config.rounds,
            store,
            run,
            seed=seed,
            recipe=f"speech/align:{recipe}",
            config=asdict(config),
            tracker=tracker("tensorboard", run, store.folder(run)),
            progress=out.progress(),
        )
    finally:
        if isinstance(loop.learn, Together):
            loop.learn.dismiss()


def _facts(metrics: Sequence[Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for m in metrics:
        name = NAMES.get(m.name, m.name)
        facts |= {name: m.value, f"{name}_se": m.se, "n": m.n}
    return facts


def table(
    out: Output, rounds: Sequence[Mapping[str, Any]], test: Mapping[str, Mapping[str, Any]]
) -> None:
    """Starter, rounds and test, each mean with its standard error."""

    def row(name: str, facts: Mapping[str, Any], gate: str) -> tuple[object, ...]:
        means = [
            f"{facts[m]:.3f} ± {facts[m + '_se']:.3f}" if m in facts else "-"
            for m in ("wer", "cer", "speaker_similarity", "dnsmos")
        ]
        counts = (facts.get("pairs", "-"), facts.get("seconds", "-"), facts.get("n", "-"))
        return (name, *means, *counts, gate)

    rows = [
        row("starter" if r["round"] == 0 else f"round {r['round']}", r,
            "" if r["round"] == 0 else "kept" if r["kept"] else "rolled back")
        for r in rounds
    ]  # fmt: skip
    rows += [row(f"test, {name}", facts, "") for name, facts in test.items()]
    out.table(("", "WER", "CER", "similarity", "DNSMOS", "pairs", "seconds", "n", "gate"), rows)


def _verdict(out: Output, test: Mapping[str, Sequence[Any]]) -> None:
    """What test says of the final policy against the starter, paired on the same texts."""
    from common.gate import paired_interval

    by_name = {side: {m.name: m for m in metrics} for side, metrics in test.items()}
    if {"starter", "final"} <= by_name.keys() and "wer" in by_name["starter"]:
        before, after = (by_name[side]["wer"] for side in ("starter", "final"))
        change = paired_interval(before.items, after.items)
        better = change.high < 0
        out.print(
            f"test WER changed by {change.mean:+.3f}, 95% interval [{change.low:+.3f}, "
            f"{change.high:+.3f}], {change.n} texts: "
            + ("it got better" if better else "no improvement is shown")
        )


def resume(run: str, out: Output) -> dict[str, Any]:
    """Continue ``run`` with the configuration that it was started with."""
    from common.store import Store

    row = Store().run(run)
    from speech.setup import settings

    return align(settings(row), row.recipe.partition(":")[2], run, row.seed, out)
