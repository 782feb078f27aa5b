"""What people compare by ear: the same texts said by two versions of a run's policy.

A version is ``starter``, ``final`` (the last round that was kept), ``round-2`` and the like, or
``recording``. The same version twice means two samples of it: on train texts, answers to these are
preferences that the next run may learn from (:func:`human`). Train tasks only: what a test says
about dev and test texts is for reading.

Each clip is brought to the same level (ITU-T P.808 asks for -26 dB below overload; here by the
root mean square of the whole clip, where the standard's active level leaves pauses out): the louder
of two sounds is liked better, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.annotation.ratings import preferences
from common.errors import UserError
from common.records import Comparison, Preference, Round, Split, Stimulus, Task, identity
from common.stages import Progress
from common.store import Run, Store
from speech import audio
from speech.audio import Wave

LEVEL = -26.0
"""dB below full scale."""
UNSAID = 0.3
"""Seconds of silence that stand for a clip without a single code."""
SHARD = 8
"""Texts that are said, and kept, at once."""
QUESTION = "Which recording says this better?"


@dataclass(frozen=True)
class Version:
    """One side of a test: its name, the policy's state (None: the recording), and which sample."""

    name: str
    state: str | None
    sample: int = 0


@dataclass(frozen=True)
class Test:
    """A listening test of a run: the baseline, the contender, and the texts' split."""

    versions: tuple[Version, Version]
    split: Split

    @property
    def name(self) -> str:
        return "/".join([*(version.name for version in self.versions), self.split])


def plan(store: Store, run: Run, names: tuple[str, str], split: Split) -> Test:
    """The test of the versions called ``names``, baseline first; nothing heavy is imported.

    Raises:
        UserError: no such version, or both are one recording, or final is the starter.
    """
    kept = [r for r in store.rounds(run.run) if r.kept]
    if not kept:
        raise UserError(
            f"no round of {run.run!r} has ended yet", f"see: upspiral runs show {run.run}"
        )
    first, second = (_version(run, kept, name) for name in names)
    if first.name == second.name:
        if first.state is None:
            raise UserError("a recording against itself", "name a policy on one side")
        if names[0] != names[1]:
            raise UserError(
                f"{names[0]} and {names[1]} of {run.run!r} are the same policy",
                "name another round, or the same version twice to compare two samples of it",
            )
        second = Version(f"{second.name}-again", second.state, 1)
    return Test((first, second), split)


def _version(run: Run, kept: Sequence[Round], name: str) -> Version:
    if name == "recording":
        return Version(name, None)
    states = {"starter" if r.index == 0 else f"round-{r.index}": r.state for r in kept}
    found = [*states][-1] if name == "final" else name
    if found not in states:
        raise UserError(
            f"no version {name!r} of {run.run!r}", f"use {', '.join([*states, 'final, recording'])}"
        )
    return Version(found, states[found])


def prepare(store: Store, run: Run, test: Test, count: int, progress: Progress) -> list[Comparison]:
    """The comparisons of ``test`` for ``count`` texts; those that the store has are not made again.

    Made clips are committed a few texts at a time. Which texts: a draw by the tasks' ids, so that
    a larger ``count`` adds to a smaller one.

    Raises:
        UserError: the split has no texts of which both versions can be had.
    """
    wanted = sorted(store.tasks(run.run, test.split), key=lambda t: identity("listen", t.id))
    if any(version.state is None for version in test.versions):
        recorded = recordings(str(run.config.get("corpus", "prompts")))
        wanted = [t for t in wanted if t.reference in recorded]
    wanted = wanted[:count]
    if not wanted:
        raise UserError(
            f"run {run.run!r} has no {test.split} texts for {test.name}", "choose another --split"
        )
    ids = {identity("comparison", test.name, task.id): task for task in wanted}
    there = {c.id for c in store.comparisons(run.run)}
    missing = [(name, task) for name, task in ids.items() if name not in there]
    say = _speaker(store, run) if missing else None
    for begin in range(0, len(missing), SHARD):
        assert say is not None
        progress(begin, len(missing), "texts said")
        part = missing[begin : begin + SHARD]
        tasks = [task for _, task in part]
        sides = [say(version, tasks) for version in test.versions]
        store.add(
            run.run,
            [
                Comparison(name, test.name, task.id, str(task.reference), (first, second))
                for (name, task), first, second in zip(part, *sides, strict=True)
            ],
        )
        progress(begin + len(part), len(missing), "texts said")
    return [c for c in store.comparisons(run.run) if c.id in ids]


def _speaker(store: Store, run: Run) -> Callable[[Version, Sequence[Task]], list[Stimulus]]:
    """What says tasks as a version would, with the random numbers of the run's seed."""
    from speech.speaking import beginning, settings, speaker_of, streams

    config = settings(run)
    policy = beginning(config)
    speaker = speaker_of(config, policy)
    rate = speaker.codec.sample_rate

    def say(version: Version, tasks: Sequence[Task]) -> list[Stimulus]:
        if version.state is None:
            recorded = recordings(config.corpus)
            outputs = [""] * len(tasks)
            waves = [audio.read(recorded[str(task.reference)], rate) for task in tasks]
        else:
            policy.restore(store.path(version.state))
            seed, longest = run.seed + version.sample, config.max_new_tokens
            outputs = streams(policy, tasks, config.temperature, seed, longest)
            waves = speaker.waves(outputs)
        clips = [store.put(audio.encode(levelled(w), rate, ".ogg"), ".ogg") for w in waves]
        return [Stimulus(version.name, o, clip) for o, clip in zip(outputs, clips, strict=True)]

    return say


def recordings(corpus: str) -> dict[str, Path]:
    """Where the recording of each recorded text of ``corpus`` lies."""
    from speech import corpora

    return {u.text: u.path for u in corpora.load(corpus).utterances}


def levelled(wave: Wave) -> Wave:
    """``wave`` (samples,) at ``LEVEL``, or as near as it comes without clipping; silence stays."""
    if audio.is_silent(wave):
        return np.zeros(max(len(wave), round(UNSAID * audio.SAMPLE_RATE)), np.float32)
    gain = 10 ** (LEVEL / 20) / np.sqrt(np.mean(np.square(wave, dtype=np.float64)))
    return np.asarray(wave * min(gain, 1 / np.abs(wave).max()), dtype=np.float32)


def human(store: Store, run: str, tasks: Mapping[str, Task], round: int = 0) -> list[Preference]:
    """What people preferred of the outputs of ``run`` for ``tasks``; for ``--pairs human``.

    Give the train tasks, of this run or of another with the same texts: a task's id is its text's.
    """
    return preferences(store.comparisons(run), store.ratings(run), tasks, round)
