"""``upspiral speech gap``: how far a policy's codes are from those of recordings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.stages import Progress
    from common.store import Run, Store
    from speech import gap

FILE = "gap.json"
"""The figures, in the folder that was asked for and in a run's own, for its report."""


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
    """Only so many texts, drawn by what they say."""
    seed: int = 0
    """Another seed, another reading."""
    temperature: float = 0.7
    """Alignment samples at 0.7."""

    def run(self, out: Output) -> dict[str, Any]:
        if self.count is not None and self.count < 5:
            raise UserError(f"{self.count} texts", "ask for 5 or more")
        from common.commands.outcome import made
        from speech.commands.say import check

        check(self.policy, self.temperature)
        folder = made(self.out, "--out")
        from common.store import Store

        store = Store()
        run = _run(store, self.policy)
        if run and not any(r.kept for r in store.rounds(run.run)):
            raise UserError(
                f"no round of {run.run!r} has ended yet", f"see: upspiral runs show {run.run}"
            )
        from speech import gap, gap_report

        try:
            found = self.analyse(store, run, out.progress())
        except gap.TooFewError as error:
            raise UserError(str(error), "give more texts, or another policy") from None
        pictures = {
            "embedding.svg": gap_report.embedding(found),
            "rounds.svg": gap_report.curves(found),
        }
        found.save(folder / FILE)
        for file, svg in pictures.items():
            (folder / file).write_text(svg, encoding="utf-8")
        out.table(gap_report.HEADINGS, gap_report.rows(found))
        out.print()
        out.table(gap_report.MEASURED, gap_report.differences(found))
        out.print(f"\n{len(found.texts)} texts; pictures and figures: {self.out}")
        return found.facts(points=False) | {"out": self.out}

    def analyse(self, store: Store, run: Run | None, progress: Progress) -> gap.Gap:
        """The gap of ``run``, kept in its folder for its report, or of a policy that is no run.

        Raises:
            UserError: a single-stream model, or a run of another corpus than the prompts.
            TooFewError: as :func:`speech.gap.analyse`.
        """
        from common.records import identity
        from speech import corpora, gap
        from speech.setup import judges
        from speech.speaker import Golden, recordings_of
        from speech.speaking import (
            beginning,
            is_pair,
            kept_states,
            load_policy,
            settings,
            speaker_of,
            streams,
            text_tasks,
        )
        from speech.tasks import unique
        from speech.vocoder import Vocoder

        config = settings(run)
        # The embedder is what the run began with, whatever its strategy wrapped around it.
        load = partial(beginning, config) if run else partial(load_policy, self.policy)
        embedder, policy = load(), load()
        if not is_pair(policy):
            raise UserError(
                f"{self.policy!r} is a single-stream model; the gap is of the AR of a pair",
                "compare its sound: upspiral speech evaluate, or speech listen",
            )
        if config.corpus != "prompts":
            raise UserError(
                f"the gap is from the recorded prompts, {self.policy!r} is of {config.corpus!r}",
                "compare its sound: upspiral speech evaluate, or speech listen",
            )
        states: dict[str, Path | None] = {self.policy: None}
        if run:
            states = {**kept_states(store, run.run)}
            embedder.restore(cast(Path, states["starter"]))
        longest = config.max_new_tokens

        def say(state: Path | None, tasks: Any) -> list[str]:
            if state is not None:
                policy.restore(state)
            return streams(policy, tasks, self.temperature, self.seed, longest)

        versions = {name: partial(say, state) for name, state in states.items()}
        corpus, speaker = corpora.load("prompts"), speaker_of(config, policy)
        assert isinstance(speaker, Vocoder)  # as every pair's
        recordings = corpus.split(self.split)
        texts = sorted(unique(u.text for u in recordings), key=identity)[: self.count]
        tasks = text_tasks(texts, speaker)
        recorded = Golden(recordings_of(tasks, recordings), speaker)
        scores = store.folder("gap") / speaker.fingerprint()
        scores.mkdir(exist_ok=True)
        name = run.run if run else self.policy
        found = gap.analyse(name, embedder, speaker, judges(corpus), tasks, recorded, versions,
                            self.seed, progress, scores)  # fmt: skip
        found = replace(found, split=self.split)
        if run:
            found.save(store.folder(run.run) / FILE)
        return found


def keep(store: Store, run: Run, out: Output) -> None:
    """Analyse the gap of an aligned ``run`` for its report, unless that is done already.

    A line on stderr says why where it cannot be.
    """
    from speech import gap
    from speech.speaking import kept_states, settings

    config = settings(run)
    path = store.folder(run.run) / FILE
    if not config.gap_texts:
        return
    if path.is_file():
        there = [version.name for version in gap.Gap.load(path).versions]
        if there == [*kept_states(store, run.run)]:
            return
    out.note("how far the codes are from those of recordings ...")
    asked = Gap(run.run, count=config.gap_texts, seed=run.seed, temperature=config.temperature)
    try:
        asked.analyse(store, run, out.progress())
    except (UserError, gap.TooFewError) as error:
        out.note(f"no gap to the recordings: {error}")


def _run(store: Store, policy: str) -> Run | None:
    """The run called ``policy``; None if that is the starter, a folder or a hub name."""
    from common.commands.runs import find

    if policy != "last" and policy not in {run.run for run in store.runs()}:
        return None
    run = find(store, policy)
    if not run.recipe.startswith("speech/"):
        raise UserError(f"run {run.run!r} is of {run.recipe!r}", "name a run of speech align")
    return run
