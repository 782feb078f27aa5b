"""``upspiral scenes evaluate`` and ``learn``: the benchmark, its ablation, and the outer loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from common.commands import Output
from common.errors import UserError
from common.records import Metric, Split
from scenes.benchmark.arms import ARMS, Arm

if TYPE_CHECKING:
    from scenes.learn import LearnConfig


@dataclass(frozen=True)
class Evaluate:
    """Answer the queries of the benchmark, and those without each part of the system.

    By geometry alone, without Blender, unless --pictures. The figures are means over scenes with
    standard errors.
    """

    queries: Path | None = None
    """A JSONL file (docs/scenes-benchmark.md); the built-in test queries by default."""
    library: Path | None = None
    """A library of skills that `scenes learn` made; the built-in relations by default."""
    arms: str = ",".join(ARMS)
    """Which, with commas; the first is what others are compared with."""
    phrasings: Literal["all", "one", "known"] = "all"
    """Of the built-in queries: each scene in three ways, in one, or in one of those by which the
    planner was mended."""
    split: Literal["train", "dev", "test"] = "test"
    """Of the built-in queries. Mend with dev, and look at test at the end."""
    seed: int = 0
    pictures: int = 0
    """Render the answers to so many queries, spread evenly, and score them by CLIP."""
    clip: str = "starter"
    """The weights for that: starter, or ARCHITECTURE:TAG_OR_FILE of open_clip."""
    keep: Path | None = None
    """A file of answers, a line each: what is there is not made again."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.assets.furniture import index
        from scenes.benchmark.evaluate import FIGURES, evaluate
        from scenes.benchmark.pictures import Pictures, subset
        from scenes.benchmark.queries import builtin, load
        from scenes.clip.encoder import load as load_clip
        from scenes.planners.rules import Rules
        from scenes.render.pool import Workers
        from scenes.skills import opened

        wanted = [a.strip() for a in self.arms.split(",") if a.strip()]
        lost = [a for a in wanted if a not in ARMS]
        if lost or not wanted:
            raise UserError(f"no arm {', '.join(lost) or 'at all'}", f"use {', '.join(ARMS)}")
        arms: list[Arm] = [a for a in ARMS if a in wanted]
        queries = (
            load(self.queries)
            if self.queries
            else builtin(self.split, 3 if self.phrasings == "all" else 1, self.phrasings == "known")
        )
        skills = opened(self.library) if self.library is not None else None
        models, _ = index(progress=out.progress())
        with ExitStack() as stack:
            pictures = None
            if self.pictures > 0:
                workers = stack.enter_context(Workers(1))
                folder = Path(stack.enter_context(TemporaryDirectory()))
                pictures = Pictures(models, workers, load_clip(self.clip), folder)
            report = evaluate(
                queries, models, Rules(), library=skills, arms=arms, seed=self.seed,
                pictures=pictures, pictured=subset(queries, self.pictures), keep=self.keep,
                progress=out.progress(),
            )  # fmt: skip
        first = report.figures(arms[0])
        names = [n for n in FIGURES if n in first]
        rows = []
        for arm in report.arms:
            found = report.figures(arm)
            rows.append((arm, *(_told(found.get(n)) for n in names)))
        scenes = len({q.scene for q in queries})
        out.print(f"{len(queries)} texts of {scenes} scenes; mean ± standard error over scenes")
        out.table(("arm", *names), rows)
        for arm, gained in report.differences().items():
            said = "; ".join(
                f"{name} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for name, d in gained.items()
            )
            out.print(f"{arm} against {arms[0]}, paired, 95%: {said}")
        worst = report.broken(arms[0])
        if worst:
            told = ", ".join(f"{kind} {a} of {b}" for kind, (a, b) in worst.items())
            out.print(f"what did not hold of {arms[0]}: {told}")
        return report.facts()


@dataclass(frozen=True)
class Learn:
    """Learn a library of skills from queries: edits that help most of them are merged, and a round
    is kept only if the held-out constraint score does not fall.

    Without a served model the edits come from a search over numbers and parts of the skills.
    Resumable: `upspiral runs resume last`.
    """

    library: Path
    """The folder of the library; a new one is begun, one that is there goes on."""
    queries: Path | None = None
    """A JSONL file with queries of the splits train and dev, and of test if there are any (see
    docs/scenes-benchmark.md); the built-in ones by default, 20 to learn from."""
    start: Literal["published", "own"] = "published"
    """What a new library begins with: relations as the paper published them, or ours."""
    rounds: int = 3
    edits: int = 5
    """Tried for each query in each round."""
    model: str | None = None
    """A served model that proposes the edits."""
    base_url: str | None = None
    """Its address, as in http://localhost:8000/v1."""
    seed: int = 0
    name: str | None = None
    """Name of the run; made from the library and the seed by default."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.learn import LearnConfig

        if self.rounds < 1 or self.edits < 1:
            raise UserError("nothing to try", "ask for 1 round and 1 edit or more")
        folder = self.library.expanduser().absolute()
        config = LearnConfig(
            library=str(folder),
            queries=str(self.queries.absolute()) if self.queries else None,
            start=self.start,
            rounds=self.rounds,
            edits=self.edits,
            model=self.model,
            base_url=self.base_url,
        )
        run = self.name or f"learn-{folder.name}-{self.seed}-{time.strftime('%m%d-%H%M%S')}"
        return learn(config, run, self.seed, out)


def learn(config: LearnConfig, run: str, seed: int, out: Output) -> dict[str, Any]:
    """Run, or continue, the outer loop."""
    from common.policies.served import connect
    from common.store import Store
    from scenes.assets.furniture import index
    from scenes.benchmark.queries import LEARNT, builtin, load
    from scenes.learn import Answers, Search, Served, loop
    from scenes.planners.rules import Rules
    from scenes.skills import library, starting

    models, _ = index(progress=out.progress())
    splits: tuple[Split, ...] = ("train", "dev", "test")
    queries = [q for split in splits for q in builtin(split, each=1) if q.size <= LEARNT]
    if config.queries is not None:
        queries = load(Path(config.queries))
    asked = config.model is not None or config.base_url is not None
    editor = Served(connect(config.model, config.base_url)) if asked else Search()
    skills = library(Path(config.library))
    if not list(skills):
        skills.put(starting(config.start))
    method = loop(skills, queries, Answers(models, Rules(), seed), editor, config.edits)
    store = Store()
    out.run = run
    result = method.run(
        config.rounds, store, run, seed, "scenes/learn", asdict(config), shard_size=4,
        progress=out.progress(),
    )  # fmt: skip
    out.run = None
    last = [r for r in result.rounds if r.kept][-1]
    dev = {m.name: m for m in last.metrics}
    skills.scored(dev["constraint"].value)
    out.table(
        ("round", "kept", "constraint (dev)", "why"),
        [
            (r.index, "yes" if r.kept else "no", _figure(r.metrics, "constraint"), r.reason)
            for r in result.rounds
        ],
    )
    gained = gains(result.rounds[0].metrics, last.metrics)
    told = {"dev": gained}
    if result.test:
        told["test"] = gains(result.test["starter"], result.test["final"])
    for split, found in told.items():
        for name, d in found.items():
            out.print(
                f"{split}, {name}: {d['before']:.3f} -> {d['after']:.3f}, {d['gain']:+.3f} "
                f"[{d['low']:+.3f}, {d['high']:+.3f}], n={d['n']}"
            )
    new = [s for s in skills if s.provenance.get("origin") in ("search", "model")]
    for s in new:
        out.print(f"learnt: {s.provenance.get('edit') or s.name}, version {s.version}")
    return {
        "run": run,
        "library": config.library,
        "rounds": [{"kept": r.kept, "reason": r.reason} for r in result.rounds],
        "learnt": {s.name: dict(s.provenance) for s in new},
        **told,
    }


def resume(run: str, out: Output) -> dict[str, Any]:
    """Continue ``run`` with the configuration that it was started with."""
    from common.store import Store
    from scenes.learn import LearnConfig

    row = Store().run(run)
    return learn(LearnConfig(**row.config), run, row.seed, out)


def gains(before: Sequence[Metric], after: Sequence[Metric]) -> dict[str, dict[str, float]]:
    """Paired gains by metric, with 95% intervals."""
    from common.gate import paired_interval

    later = {m.name: m for m in after}
    found = {}
    for m in before:
        if m.name in later and m.items.keys() == later[m.name].items.keys():
            d = paired_interval(m.items, later[m.name].items)
            found[m.name] = {
                "before": m.value, "before_se": m.se, "after": later[m.name].value,
                "after_se": later[m.name].se, "gain": d.mean, "low": d.low, "high": d.high,
                "n": d.n,
            }  # fmt: skip
    return found


def _figure(metrics: Sequence[Metric], name: str) -> str:
    return _told(next((m for m in metrics if m.name == name), None))


def _told(metric: Metric | None) -> str:
    return "-" if metric is None else f"{metric.value:.3f} ± {metric.se:.3f}"
