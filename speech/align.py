"""SpeechAlign (arXiv 2404.05600): preference optimisation of a codec language model, in rounds.

Each round the model says every text several times, a judge listens, the better and the worse
become preference pairs, DPO with a likelihood anchor learns from them, and the gate keeps the
round only if dev got better. Only the autoregressive model learns; the NAR and the codec turn its
codes into sound and stay as they are.

Replaces: propose (speech is sampled and made audible), select (golden over sampled as in the
paper, best over worst of the model's own, or both), measure. Learn is ``common.learners``.

Deviations from the paper: a golden stream stands for the recorded codes; self-sampled pairs are
used beside golden ones, which alone taught two later studies a shortcut (2409.12403, 2502.05236);
the judge that rewards is a phone model trained on log-mel features, the judges that evaluate are a
recogniser, a speaker encoder and a quality model.

    upspiral speech align --recipe starter --rounds 3 --seed 0
    upspiral speech align --recipe paper --codec xcodec2 --lm PATH --corpus libritts:/data/LibriTTS
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from common.errors import UserError
from common.pairing import best_worst, golden_over_sampled
from common.policies import Generator, Sample
from common.records import Candidate, Lessons, Metric, Preference, Split, Task, identity
from common.stages import Context
from speech import audio
from speech.text import normalise, phonemes
from speech.texts import practice

if TYPE_CHECKING:  # torch takes seconds to import, a mistyped setting should not
    from speech.corpora import Corpus, Utterance
    from speech.judges import WaveJudge
    from speech.speaker import Speaker
    from speech.voices import VoicePrompts

Pairs = Literal["self", "golden", "both"]
WORDS = (3, 40)
"""Least and most words of a text of a user's corpus: about one to fifteen seconds."""
LOWER = frozenset({"wer", "cer", "phone_error"})
"""Scores of which less is better."""


@dataclass(frozen=True)
class AlignConfig:
    """One run of alignment. The learning settings are those of the sweep in docs/lab-notes.md."""

    rounds: int = 3
    texts: int = 192
    """Texts that are practised on; half are recorded ones, half nobody recorded."""
    samples: int = 6
    """Candidates a text and round."""
    dev_texts: int = 96
    test_samples: int = 3
    """Samples of each test text; their mean is that text's value."""
    temperature: float = 0.7
    pairs: Pairs = "both"
    pairs_per_text: int = 2
    min_margin: float = 0.1
    """Least difference in nats a phone between chosen and rejected."""
    beta: float = 0.1
    nll_weight: float = 0.5
    learning_rate: float = 1e-4
    epochs: float = 2.0
    batch_size: int = 16
    max_new_tokens: int = 600
    policy: str = "starter"
    """The model that learns: starter, a run, a folder, or a hub name."""
    codec: str = "starter"
    nar: str = "starter"
    """The folder of an AR's NAR; a single-stream model has none."""
    corpus: str = "prompts"
    test_texts: int = 0
    """Texts that test says; 0 is all that are recorded."""
    voice_prompts: bool = False
    """Whether a single-stream model hears another recording of the text's speaker first."""
    reward: str = "ctc"
    """What ranks a model's own samples: the starter's phone model, or a faster-whisper model."""
    steps: int = 0
    """Optimiser steps a round, instead of epochs; 0 goes by epochs."""
    grad_accum: int = 1
    """Batches of batch_size before each optimiser step."""
    max_length: int = 1024
    """Tokens of prompt and completion that are learnt from."""
    lora: int = 0
    """Rank of an adapter that learns in the model's place; 0 trains all weights."""

    def __post_init__(self) -> None:
        least = {"rounds": 1, "texts": 2, "samples": 2, "dev_texts": 2, "test_samples": 1,
                 "pairs_per_text": 1, "batch_size": 1, "max_new_tokens": 1, "test_texts": 0,
                 "steps": 0, "grad_accum": 1, "max_length": 2, "lora": 0}  # fmt: skip
        if self.pairs == "golden":
            least["samples"] = 1
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name}={getattr(self, name)}", f"give {minimum} or more")
        if self.pairs not in get_args(Pairs):
            raise UserError(f"no pairs {self.pairs!r}", f"use {', '.join(get_args(Pairs))}")
        if not self.temperature > 0:
            raise UserError(
                f"a temperature of {self.temperature:g} says the same every time", "give 0.6 to 1"
            )


def starter() -> AlignConfig:
    """Three full rounds of the starter: up to 90 minutes on two cores."""
    return AlignConfig()


def demo() -> AlignConfig:
    """The starter's first round, measured on fewer samples: a quarter of an hour."""
    return AlignConfig(rounds=1, dev_texts=60, test_samples=1)


def tiny() -> AlignConfig:
    """Seconds, for tests."""
    return AlignConfig(rounds=1, texts=4, samples=3, dev_texts=3, test_samples=1, test_texts=3,
                       max_new_tokens=400, epochs=1.0, batch_size=2, min_margin=0.0)  # fmt: skip


def paper() -> AlignConfig:
    """The sizes that SpeechAlign publishes, for a model, codec and corpus of yours.

    50,000 golden pairs a round, 2,000 steps of 128 pairs at 5e-7, three rounds. The paper does not
    say beta, how it sampled, or which policy each round's reference is.
    """
    return AlignConfig(texts=50_000, samples=1, dev_texts=200, test_texts=500, test_samples=1,
                       temperature=1.0, pairs="golden", pairs_per_text=1, nll_weight=0.0,
                       learning_rate=5e-7, steps=2_000, batch_size=16, grad_accum=8,
                       max_new_tokens=1_500, max_length=2_048, voice_prompts=True)  # fmt: skip


RECIPES: dict[str, Callable[[], AlignConfig]] = {
    "starter": starter,
    "demo": demo,
    "tiny": tiny,
    "paper": paper,
}


def tasks(config: AlignConfig, corpus: Corpus, speaker: Speaker | None = None) -> list[Task]:
    """Texts to say. Test is the recorded test split: nothing it says is practised or tuned on.

    Without a ``speaker`` prompts are those of the starter's stream.
    """
    splits: tuple[Split, ...] = ("train", "dev", "test")
    texts = {split: unique(u.text for u in corpus.split(split)) for split in splits}
    held_out = {normalise(t) for split in ("dev", "test") for t in texts[split]}
    recorded = [t for t in texts["train"] if 3 <= len(normalise(t).split()) <= 14]
    recorded = sorted(recorded, key=identity)[: config.texts // 2]
    train = [*recorded, *practice("train", config.texts - len(recorded), held_out)]
    in_dev = [t for t in texts["dev"] if len(normalise(t).split()) >= 3][: config.dev_texts // 3]
    avoid = {normalise(t) for t in texts["test"]}
    dev = [*in_dev, *practice("dev", config.dev_texts - len(in_dev), avoid)]
    test = [t for t in texts["test"] if len(normalise(t).split()) >= 3]
    test = test[: config.test_texts or None]
    found: list[Task] = []
    for split, lines in zip(splits, (train, dev, test), strict=True):
        prompts = speaker.prompts(lines) if speaker else _stream(lines)
        for text, prompt in zip(lines, prompts, strict=True):
            found.append(Task(identity(split, text), prompt, split, text))
    return found


def _stream(lines: Sequence[str]) -> list[str]:
    from speech.lm import stream

    return [stream.prompt(phones) for phones in phonemes(lines)]


def recorded_tasks(
    config: AlignConfig,
    corpus: Corpus,
    speaker: Speaker,
    voices: VoicePrompts | None = None,
) -> list[Task]:
    """The texts of a user's own corpus, each once, with the recording that says it.

    With ``voices`` each text is said in the voice of the one who recorded it. ``meta`` names a
    task's utterance, speaker and voice prompt.

    Raises:
        UserError: fewer than two texts to practise, or to measure on.
    """
    splits: tuple[Split, ...] = ("train", "dev", "test")
    wanted = {"train": config.texts, "dev": config.dev_texts, "test": config.test_texts}
    taken = voices.ids if voices else set()
    found: list[Task] = []
    said: set[str] = set()
    for split in reversed(splits):  # what test says nobody practises, whatever the corpus thinks
        by_text: dict[str, Utterance] = {}
        for u in corpus.split(split):
            text = normalise(u.text, u.language)
            if u.id not in taken and text not in said and WORDS[0] <= len(text.split()) <= WORDS[1]:
                by_text.setdefault(text, u)
        said |= by_text.keys()
        chosen = sorted(by_text.values(), key=lambda u: identity(u.id))[: wanted[split] or None]
        heard = [voices.heard(u) for u in chosen] if voices else None
        prompts = speaker.prompts([u.text for u in chosen], heard)
        mine = []
        for u, prompt in zip(chosen, prompts, strict=True):
            own = voices.of(u) if voices else None
            meta = {"utterance": u.id, "speaker": u.speaker, "voice": own.id if own else None}
            if prompt:
                mine.append(Task(identity(split, u.id), prompt, split, u.text, u.language, meta))
        if split != "test" and len(mine) < 2:
            raise UserError(
                f"{corpus.name!r} has {len(mine)} {split} texts of {WORDS[0]} to {WORDS[1]} words",
                "add recordings; LibriTTS and LibriSpeech need a train, a dev and a test subset",
            )
        found = mine + found
    return found


def unique(texts: Iterable[str]) -> list[str]:
    """One of each that says the same."""
    return list({normalise(text): text for text in texts}.values())


@dataclass(frozen=True)
class Speak:
    """Propose: sample streams of codes and make them audible; the artifact is a sound file."""

    vocoder: Speaker
    sample: Sample

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        """Candidates with sound, except those without a single code."""
        found = self.sample.propose(policy, tasks, ctx)
        waves = self.vocoder.waves([c.output for c in found], ctx.progress)
        rate = self.vocoder.codec.sample_rate
        return [
            replace(
                c,
                artifact=ctx.artifacts.put(audio.encode(wave, rate), ".wav") if len(wave) else None,
            )
            for c, wave in zip(found, waves, strict=True)
        ]


@dataclass(frozen=True)
class SelectSpeech:
    """Select: pairs by the rewarding judge's score ``by``, and recorded over sampled streams.

    ``golden`` maps a task to the stream of its recording. Only candidates of the newest round are
    compared with one another: an earlier policy's mistakes are not this one's. Those without sound
    are left out, unless nobody made them ``audible``.
    """

    pairs: Pairs
    by: str
    per_text: int
    min_margin: float
    golden: Mapping[str, str]
    audible: bool = True

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        fresh = [c for c in pool if c.round == ctx.round and (c.artifact or not self.audible)]
        found: list[Preference] = []
        if self.pairs in ("self", "both"):
            found += best_worst(
                tasks,
                fresh,
                key=self.by,
                better="lower" if self.by in LOWER else "higher",
                min_margin=self.min_margin,
                pairs_per_task=self.per_text,
                round=ctx.round,
            )
        if self.pairs in ("golden", "both"):
            from speech.speaker import Golden

            if isinstance(self.golden, Golden):
                self.golden.fill([c.task for c in fresh], ctx.progress)
            found += golden_over_sampled(
                tasks,
                self.golden,
                fresh,
                pairs_per_task=self.per_text,
                seed=ctx.seed_for("golden", ctx.round),
                round=ctx.round,
            )
        return Lessons(tuple(found))


@dataclass(frozen=True)
class SpeechMetrics:
    """Measure: say each text and judge it; ``test_samples`` times on test, where they are averaged.

    Every policy is measured with the same random numbers, so differences between policies are
    not differences of luck.
    """

    vocoder: Speaker
    judges: Sequence[WaveJudge]
    sample: Sample
    test_samples: int = 1

    def measure(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        same = replace(ctx, round=0)
        times = self.test_samples if tasks and tasks[0].split == "test" else self.sample.n
        found = Speak(self.vocoder, replace(self.sample, n=times)).propose(policy, tasks, same)
        by_id = {task.id: task for task in tasks}
        scores: list[dict[str, float]] = [{} for _ in found]
        for judge in self.judges:
            for row, new in zip(scores, judge.judge(by_id, found, same), strict=True):
                row |= new
        return [self._metric(name, found, scores) for name in scores[0]]

    @staticmethod
    def _metric(
        name: str, found: Sequence[Candidate], scores: Sequence[Mapping[str, float]]
    ) -> Metric:
        values: dict[str, list[float]] = {}
        for candidate, row in zip(found, scores, strict=True):
            values.setdefault(candidate.task, []).append(row[name])
        items = {task: float(np.mean(v)) for task, v in values.items()}
        spread = np.array(list(items.values()))
        se = float(spread.std(ddof=1) / np.sqrt(len(spread))) if len(spread) > 1 else float("inf")
        return Metric(
            name,
            float(spread.mean()),
            se,
            len(items),
            better="lower" if name in LOWER else "higher",
            items=items,
        )
