"""What the report of a run adds for speech: the gap to the recordings, and clips to listen to.

Of the test texts half are the worst cases and half are drawn from the others: the worst alone make
any policy sound bad, and a choice by hand makes it sound good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from common.commands.runs import tests_of
from common.records import Metric, Task, identity
from common.report import Extra, Player, Sample
from common.stages import Context
from common.store import Store
from common.tracking import Nothing
from speech import audio, corpora, gap_report
from speech.align import Speak
from speech.audio import Wave
from speech.listen import levelled
from speech.setup import sampler
from speech.speaker import recordings_of
from speech.speaking import beginning, kept_states, settings, speaker_of

COUNT = 8
"""Texts that can be listened to."""


def extra(run: str) -> Extra:
    """What the report of ``run`` shows beside its figures."""
    store = Store()
    samples, caption = listening(store, run)
    gap = gap_report.section(store.folder(run))
    return Extra(samples, caption, [gap] if gap else [])


def listening(store: Store, run: str, count: int = COUNT) -> tuple[list[Sample], str]:
    """``count`` test texts by the starter, after each kept round and as recorded; and why these.

    A policy's clip is the first of the samples that are measured on test.
    """
    row = store.run(run)
    states = kept_states(store, run)
    config = settings(row)
    utterances = corpora.load(config.corpus).split("test")
    of_task = recordings_of(store.tasks(run, "test"), utterances)
    tasks = [task for task in store.tasks(run, "test") if of_task[task.id]]
    if not states or not tasks:
        return [], ""
    errors = [_errors(metrics) for metrics in tests_of(store, row).values()]
    final = errors[-1] if len(errors) == 2 else {}
    if len(states) == 1:  # no round was kept: the starter's is the final one
        errors = errors[-1:]
    chosen = choose(tasks, final, count)
    policy = beginning(config)
    speaker = speaker_of(config, policy)
    rate = speaker.codec.sample_rate
    # As in measuring: every policy gets the random numbers of round 0.
    context = Context(row.seed, 0, store.artifacts, Nothing(), _quiet, store.folder(run))
    speak = Speak(speaker, replace(sampler(config), n=1))
    versions: dict[str, list[Wave]] = {}
    for name, state in states.items():
        policy.restore(state)
        versions[name] = [
            audio.read(store.path(c.artifact), rate) if c.artifact else np.zeros(0, np.float32)
            for c in speak.propose(policy, chosen, context)
        ]
    versions["recording"] = [audio.read(of_task[task.id][0].path, rate) for task in chosen]
    samples = [
        Sample(
            str(task.reference),
            tuple(
                Player(name, audio.encode(levelled(waves[i]), rate, ".ogg"), "audio/ogg")
                for name, waves in versions.items()
            ),
            "WER " + " → ".join(f"{side[task.id]:.2f}" for side in errors) if final else "",
        )
        for i, task in enumerate(chosen)
    ]
    caption = _why(len(chosen), len(tasks), bool(final), [*states][-1], config.test_samples)
    return samples, caption


def choose(tasks: Sequence[Task], errors: Mapping[str, float], count: int) -> list[Task]:
    """``count`` of ``tasks``, the most errors first: half the worst, half a draw of the others.

    The draw is by the tasks' ids; it decides between equal errors too, and everything where
    nothing was measured (``errors`` is by task id, or empty).
    """
    drawn = sorted(tasks, key=lambda task: identity("listen", task.id))
    if not errors:
        return drawn[:count]
    ranked = sorted(drawn, key=lambda task: -errors[task.id])
    worst = ranked[: min(count, len(tasks)) // 2]
    others = [task for task in drawn if task not in worst][: count - len(worst)]
    return [task for task in ranked if task in worst or task in others]


def _why(shown: int, of: int, measured: bool, last: str, samples: int) -> str:
    """Which texts these are and what is played, for whoever listens."""
    worst = shown // 2
    who = f"starter → {last}" if last != "starter" else "starter, as no round was kept"
    if not measured:
        chosen = f"{shown} of {of} test texts, drawn by their ids: nothing of test is measured yet."
    elif shown == of:
        chosen = f"All {of} test texts, most word errors of the final policy first."
    else:
        chosen = (
            f"{shown} of {of} test texts, most word errors of the final policy first: the first "
            f"{worst} have the most, the other {shown - worst} were drawn from the rest by their "
            "ids."
        )
    if measured:
        heard = f"mean of {samples} samples, the first is played" if samples > 1 else "as played"
        chosen += f" WER: word error rate, {who} ({heard})."
    return chosen + " All clips are at the same loudness."


def _errors(metrics: Sequence[Metric]) -> Mapping[str, float]:
    return next((metric.items for metric in metrics if metric.name == "wer"), {})


def _quiet(done: int, total: int, what: str) -> None: ...
