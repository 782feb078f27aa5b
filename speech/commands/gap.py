"""``upspiral speech gap``: how far a policy's codes are from those of recordings."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.store import Run, Store


@dataclass(frozen=True)
class Gap:
    """Golden against synthetic codes: pictures, two-sample statistics, n-grams, and what is heard.

    Of a run: before alignment and after every round that was kept.
    """

    policy: str = "starter"
    """starter, a run of speech align (or last), a folder, or a hub name."""
    out: Path = Path("gap")
    """The folder for gap.json and the pictures."""
    split: Literal["dev", "train"] = "dev"
    """The recorded texts; the starter was trained on those of train."""
    count: int | None = None
    """Only the first so many texts."""
    seed: int = 0
    """Another seed, another reading."""
    temperature: float = 0.7
    """Alignment samples at 0.7."""

    def run(self, out: Output) -> dict[str, Any]:
        if self.count is not None and self.count < 5:
            raise UserError(f"{self.count} texts", "ask for 5 or more")
        from speech.commands.say import check
        from speech.commands.training import made

        check(self.policy, self.temperature)
        folder = made(self.out, "--out")
        from common.store import Store

        store = Store()
        run = _run(store, self.policy)
        states = _states(store, run) if run else {self.policy: None}
        from speech import corpora, gap, gap_report
        from speech.setup import (
            beginning,
            is_pair,
            judges,
            load_policy,
            settings,
            speaker_of,
            streams,
            text_tasks,
        )
        from speech.speaker import Golden, recordings_of
        from speech.tasks import unique

        config = settings(run)
        # The embedder is what the run began with, whatever its strategy wrapped around it.
        embedder, policy = (
            (beginning(config), beginning(config))
            if run
            else (load_policy(self.policy), load_policy(self.policy))
        )
        if not is_pair(policy):
            raise UserError(
                f"{self.policy!r} is a single-stream model; the gap is of the AR of a pair",
                "compare its sound: upspiral speech evaluate, or speech listen",
            )
        say = functools.partial(streams, temperature=self.temperature, seed=self.seed)
        versions = {name: functools.partial(_say, say, policy, path)
                    for name, path in states.items()}  # fmt: skip
        if (first := next(iter(states.values()))) is not None:
            embedder.restore(first)
        corpus, speaker = corpora.load("prompts"), speaker_of(config, policy)
        recordings = corpus.split(self.split)
        tasks = text_tasks(unique(u.text for u in recordings)[: self.count], speaker)
        recorded = Golden(recordings_of(tasks, recordings), speaker)
        name = run.run if run else self.policy
        try:
            found = gap.analyse(name, embedder, speaker, judges(corpus), tasks, recorded, versions,
                                self.seed, out.progress(), store.folder("gap"))  # fmt: skip
        except gap.TooFewError as error:
            raise UserError(str(error), "give more texts, or another policy") from None
        pictures = {
            "embedding.svg": gap_report.embedding(found),
            "rounds.svg": gap_report.curves(found),
        }
        found.save(folder / "gap.json")
        for file, svg in pictures.items():
            (folder / file).write_text(svg, encoding="utf-8")
        if run:
            found.save(store.folder(run.run) / "gap.json")
        out.table(gap_report.HEADINGS, gap_report.rows(found))
        out.print()
        out.table(gap_report.MEASURED, gap_report.differences(found))
        out.print(f"\n{len(found.texts)} texts; pictures and figures: {self.out}")
        return found.facts(points=False) | {"out": self.out}


def _say(say: Any, policy: Any, state: Path | None, tasks: Any) -> Any:
    if state is not None:
        policy.restore(state)
    return say(policy, tasks)


def _run(store: Store, policy: str) -> Run | None:
    """The run called ``policy``; None if that is the starter, a folder or a hub name."""
    from common.commands.runs import find

    if policy != "last" and policy not in {run.run for run in store.runs()}:
        return None
    run = find(store, policy)
    if not run.recipe.startswith("speech/"):
        raise UserError(f"run {run.run!r} is of {run.recipe!r}", "name a run of speech align")
    return run


def _states(store: Store, run: Run) -> dict[str, Path | None]:
    """Where the state of each kept round lies, the start first.

    Raises:
        UserError: not even the start was measured yet.
    """
    kept = [r for r in store.rounds(run.run) if r.kept]
    if not kept:
        raise UserError(
            f"no round of {run.run!r} has ended yet", f"see: upspiral runs show {run.run}"
        )
    return {f"round {r.index}" if r.index else "starter": store.path(r.state) for r in kept}
