"""What an aligned policy does under a condition that alignment did not measure.

    python studies/conditions.py labels RUN     # chain of hindsight: one text, good and bad label
    python studies/conditions.py labels RUN --spoilt 1.6   # bad streams drawn at this temperature
    python studies/conditions.py voices RUN     # voices that no training of the starter heard

``labels`` learns in hindsight from the pairs of a run's first round, all but those of a quarter of
its texts, and says the dev texts under either label, with the same random numbers: if the label
were ignored, both would be word for word the same. Of the pairs that were held out it tells by how
much the label that belongs to a stream makes it likelier than the other one.

``voices`` says the test texts by the starter and by the final policy with the voice prompt of
speakers of other languages' prompts; similarity is to that speaker. Differences are paired by text,
with Student's 95% interval; for all voices together a text's value is its mean over voices.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.artifacts import Files
from common.gate import paired_interval
from common.policies import Sample
from common.policies.local import HFPolicy
from common.progress import progress
from common.records import Lessons, Metric, Task, identity
from common.stages import Context
from common.store import Store
from common.tracking import Nothing
from speech import audio, corpora, strategies
from speech.align import AlignConfig, SpeechMetrics
from speech.corpora import VOICES
from speech.judges import Quality, Recogniser, SpeakerSimilarity, WaveJudge
from speech.lm import stream
from speech.setup import sampler
from speech.speaker import Speaker
from speech.speaking import beginning, settings, speaker_of

METRICS = ("wer", "similarity", "dnsmos")
REFERENCES = 8
"""Recordings of a voice; the first prompts, all of them are what similarity is measured to."""


def measured(
    policy: HFPolicy, speaker: Speaker, judges: Sequence[WaveJudge], tasks: Sequence[Task],
    sample: Sample,
) -> dict[str, Metric]:  # fmt: skip
    """The metrics of ``policy``, each text said ``sample.n`` times."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ctx = Context(0, 0, Files(folder / "artifacts"), Nothing(), progress(), folder)
        found = SpeechMetrics(speaker, judges, sample, sample.n).measure(policy, tasks, ctx)
    return {m.name: m for m in found if m.name in METRICS}


def line(name: str, before: Metric, after: Metric) -> str:
    """Both means and the paired difference."""
    d = paired_interval(before.items, after.items)
    return (
        f"{name} {before.value:.3f} ± {before.se:.3f} -> {after.value:.3f} ± {after.se:.3f}: "
        f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}], n={d.n}"
    )


def together(metrics: Sequence[Metric]) -> Metric:
    """The mean over voices, text by text."""
    tasks = metrics[0].items
    items = {task: float(np.mean([m.items[task] for m in metrics])) for task in tasks}
    values = np.array([*items.values()])
    se = float(values.std(ddof=1) / np.sqrt(len(values)))
    return Metric(metrics[0].name, float(values.mean()), se, len(values), items=items)


def labels(
    store: Store, config: AlignConfig, policy: HFPolicy, how: argparse.Namespace, sample: Sample,
    judges: Sequence[WaveJudge],
) -> None:  # fmt: skip
    """Teach ``policy`` the labels, and print what they change."""
    pairs = store.preferences(how.run, 1)
    if how.spoilt:
        asked = [Task(id=pair.id, prompt=pair.prompt) for pair in pairs]
        drawn = policy.generate(
            asked, n=1, seeds=lambda task, _: int(task.id[:8], 16), temperature=how.spoilt,
            max_new_tokens=config.max_new_tokens,
        )  # fmt: skip
        pairs = [replace(p, rejected=c.output) for p, c in zip(pairs, drawn, strict=True)]
    texts = sorted({p.task for p in pairs}, key=lambda task: identity("held out", task))
    held = set(texts[: len(texts) // 4])
    taught, asked_of = ([p for p in pairs if (p.task in held) == side] for side in (False, True))
    config = replace(
        config, strategy="chain-of-hindsight", epochs=how.epochs, learning_rate=how.rate
    )
    learner = strategies.learner(config, lambda: speaker_of(config, policy))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ctx = Context(0, 1, Files(folder / "artifacts"), Nothing(), progress(), folder)
        print(learner.learn(policy, Lessons(preferences=tuple(taught)), ctx), flush=True)
    for side in ("chosen", "rejected"):
        likely = []
        for label in (stream.GOOD, stream.BAD):
            with policy.conditioned(label):
                found = policy.logprobs(
                    [p.prompt for p in asked_of], [getattr(p, side) for p in asked_of]
                )
            likely.append(np.array(found.sums) / np.array(found.counts))
        off = likely[0] - likely[1]
        print(f"{side} held out, nats a token, good label less bad label: {off.mean():+.4f} "
              f"± {off.std(ddof=1) / np.sqrt(len(off)):.4f}, n={len(off)}", flush=True)  # fmt: skip
    speaker = speaker_of(config, policy)
    tasks = store.tasks(how.run, "dev")[: how.count]
    said = {}
    for label in (stream.GOOD, stream.BAD):
        with policy.conditioned(label):
            said[label] = measured(policy, speaker, judges, tasks, sample)
    for name in said[stream.GOOD]:
        print(line(f"{name}, bad label -> good label:", said[stream.BAD][name],
                   said[stream.GOOD][name]))  # fmt: skip


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("what", choices=["labels", "voices"])
    flags.add_argument("run")
    flags.add_argument("--count", type=int, help="only the first so many texts")
    flags.add_argument("--samples", type=int, default=2)
    flags.add_argument("--epochs", type=float, default=2)
    flags.add_argument("--rate", type=float, default=3e-4)
    flags.add_argument("--spoilt", type=float, default=0, help="a temperature; 0: the run's own")
    chosen = flags.parse_args()
    store = Store()
    run = store.run(chosen.run)
    config = settings(run)
    kept = [r for r in store.rounds(run.run) if r.kept]
    policy = beginning(config)
    sample = replace(sampler(config), n=chosen.samples)
    judges: list[WaveJudge] = [Recogniser(cpu_threads=2), Quality(cpu_threads=2)]
    if chosen.what == "labels":
        labels(store, config, policy, chosen, sample, judges)
        return
    corpus = corpora.load("prompts", tuple(VOICES))
    plain = speaker_of(config, policy)
    tasks = store.tasks(run.run, "test")[: chosen.count]
    rows: dict[str, list[tuple[Metric, Metric]]] = {}
    voices = sorted({speaker for _, speaker in VOICES.values()} - {VOICES["en"][1]})
    for voice in voices:
        mine = [
            u for u in corpus.utterances if u.speaker == voice and 4 <= len(u.text.split()) <= 12
        ]
        waves = [audio.read(u.path) for u in mine[:REFERENCES]]
        speaker = plain.with_voice(audio.read(mine[0].path, plain.codec.sample_rate))
        heard = [*judges, SpeakerSimilarity(waves)]
        found = []
        for state in (kept[0].state, kept[-1].state):
            policy.restore(store.path(state))
            found.append(measured(policy, speaker, heard, tasks, sample))
        for name in METRICS:
            rows.setdefault(name, []).append((found[0][name], found[1][name]))
            print(line(f"{voice}: {name}", found[0][name], found[1][name]), flush=True)
    for name, pairs in rows.items():
        before, after = (together([pair[side] for pair in pairs]) for side in (0, 1))
        print(line(f"{len(pairs)} voices: {name}", before, after))


if __name__ == "__main__":
    main()
