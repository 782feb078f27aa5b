"""Put a run of alignment together: policy, vocoder, judges, stages; and what its report plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from common import registry
from common.errors import UserError
from common.gate import Gate
from common.loop import Loop
from common.monitors import CollapseMonitor
from common.policies import Sample
from common.policies.local import HFPolicy
from common.records import Split, Task, identity
from common.report import Player
from common.report import Sample as Heard
from common.store import Store
from speech import audio, corpora
from speech.align import AlignConfig, SelectSpeech, Speak, SpeechMetrics, tasks
from speech.audio import Wave
from speech.corpora import Corpus
from speech.ctc import CTCJudge
from speech.judges import Quality, Recogniser, SpeakerSimilarity
from speech.lm import stream
from speech.text import phonemes
from speech.train import load_segments, stretch
from speech.vocoder import Vocoder

if TYPE_CHECKING:
    from common.learners.dpo import Preference

REFERENCES = 8
"""Recordings whose mean embedding is the voice that similarity is measured against."""


def load_policy(name: str) -> HFPolicy:
    """The autoregressive model called ``starter``, a run's final state, a folder or a hub name.

    Raises:
        UserError: there is no such model, or it does not know the symbols of the stream.
    """
    if name == "starter":
        policy = HFPolicy.load(registry.get("starter-ar"), device="cpu")
    elif any(run.run == name for run in Store().runs()) or name == "last":
        store = Store()
        run = store.run(store.runs()[0].run if name == "last" else name)
        policy = HFPolicy.load(registry.get("starter-ar"), device="cpu")
        kept = [r for r in store.rounds(run.run) if r.kept]
        if kept:
            policy.restore(store.path(kept[-1].state))
    else:
        policy = HFPolicy.load(name)
    if stream.SPEECH not in policy.tokenizer.get_vocab():
        raise UserError(
            f"{name!r} is no codec language model of ours: it lacks the symbol {stream.SPEECH}",
            "train one with upspiral speech train ar, or name a run",
        )
    tokenizer = policy.tokenizer
    policy.steer = lambda prompts: stream.Monotonic(tokenizer, prompts)
    return policy


def judges(corpus: Corpus) -> list[Recogniser | SpeakerSimilarity | Quality]:
    """The judges that evaluate; none of them rewards."""
    voice = [u for u in corpus.split("train") if len(u.text.split()) >= 5][:REFERENCES]
    threads = torch.get_num_threads()
    return [
        Recogniser(cpu_threads=threads),
        SpeakerSimilarity([audio.read(u.path) for u in voice]),
        Quality(cpu_threads=threads),
    ]


def golden(
    corpus: Corpus, vocoder: Vocoder, wanted: Sequence[Task], split: Split = "train"
) -> dict[str, str]:
    """The stream of the recording of each task that has one in ``split``, train or dev."""
    placed = load_segments(registry.get("starter-ar") / "segments.json.gz")
    by_text = {u.text: u for u in corpus.split(split) if u.id in placed}
    found: dict[str, str] = {}
    for task in wanted:
        if (utterance := by_text.get(task.reference or "")) is not None:
            wave = torch.from_numpy(audio.read(utterance.path))[None]
            codes = vocoder.codec.encode(wave)[0, 0].tolist()
            found[task.id] = stream.completion(stretch(placed[utterance.id][1], len(codes)), codes)
    return found


def sampler(config: AlignConfig) -> Sample:
    """How ``config`` samples."""
    return Sample(
        n=config.samples, temperature=config.temperature, max_new_tokens=config.max_new_tokens
    )


def text_tasks(texts: Sequence[str]) -> list[Task]:
    """A task for each text that someone wants to hear.

    Raises:
        UserError: a text without a single word.
    """
    found = []
    for text, phones in zip(texts, phonemes(texts), strict=True):
        if not phones:
            raise UserError(f"there is nothing to say in {text!r}", "give words or numbers")
        found.append(Task(identity("text", text), stream.prompt(phones), "dev", text))
    return found


def learner(config: AlignConfig) -> Preference:
    """How ``config`` learns; the reference of a round is the policy that it began with."""
    from common.learners.dpo import Preference  # its libraries take seconds: not for `say`

    return Preference(
        beta=config.beta,
        nll_weight=config.nll_weight,
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        batch_size=config.batch_size,
        reference="previous",
    )


def build(config: AlignConfig) -> Loop:
    """The loop of ``config``, ready to run."""
    policy = load_policy(config.policy)
    corpus = corpora.load("prompts")
    vocoder = Vocoder.starter()
    work = tasks(config, corpus)
    train = [task for task in work if task.split == "train"]
    sample = sampler(config)
    evaluate = judges(corpus)
    return Loop(
        policy=policy,
        tasks=work,
        propose=Speak(vocoder, sample),
        judge=[CTCJudge()],
        select=SelectSpeech(
            config.pairs,
            "ctc",
            config.pairs_per_text,
            config.min_margin,
            golden(corpus, vocoder, train) if config.pairs != "self" else {},
        ),
        learn=learner(config),
        measure=SpeechMetrics(
            vocoder, [*evaluate, CTCJudge()], replace(sample, n=1), config.test_samples
        ),
        gate=Gate("wer", guards=("similarity", "dnsmos")),
        monitors=[CollapseMonitor(metric="wer")],
    )


def listening(store: Store, run: str, count: int = 8) -> list[Heard]:
    """``count`` test texts said by the starter and by the final policy, and the recordings."""
    row = store.run(run)
    config = AlignConfig(**row.config)
    rounds = store.rounds(run)
    kept = [r.state for r in rounds if r.kept]
    if not kept:
        return []
    corpus = corpora.load("prompts")
    recorded = {u.text: u for u in corpus.split("test")}
    chosen = [t for t in store.tasks(run, "test") if t.reference in recorded][:count]
    vocoder, policy = Vocoder.starter(), load_policy(config.policy)
    versions: list[tuple[str, list[bytes]]] = []
    for label, state in (("starter", kept[0]), ("final", kept[-1])):
        policy.restore(store.path(state))
        waves = utter(policy, vocoder, chosen, config.temperature, row.seed)
        versions.append((label, [audio.encode(wave, suffix=".ogg") for wave in waves]))
    versions.append(
        (
            "recording",
            [
                audio.encode(audio.read(recorded[str(t.reference)].path), suffix=".ogg")
                for t in chosen
            ],
        )
    )
    return [
        Heard(
            str(task.reference),
            tuple(Player(label, sounds[i], "audio/ogg") for label, sounds in versions),
        )
        for i, task in enumerate(chosen)
    ]


def utter(
    policy: HFPolicy, vocoder: Vocoder, chosen: Sequence[Task], temperature: float, seed: int
) -> list[Wave]:
    """Each task's text said once."""
    return vocoder.waves(streams(policy, chosen, temperature, seed))


def streams(policy: HFPolicy, chosen: Sequence[Task], temperature: float, seed: int) -> list[str]:
    """The stream of symbols of each task's text, sampled once."""
    seeds = [int(identity(seed, task.id), 16) >> 17 for task in chosen]
    by_task = dict(zip((task.id for task in chosen), seeds, strict=True))
    found = policy.generate(
        chosen,
        n=1,
        seeds=lambda task, index: by_task[task.id] + index,
        temperature=temperature,
        max_new_tokens=AlignConfig().max_new_tokens,
    )
    return [c.output for c in found]
