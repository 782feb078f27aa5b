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

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from common.errors import UserError
from common.pairing import (
    Direction,
    best_worst,
    chosen,
    distinct,
    golden_over_sampled,
    pareto_best_worst,
)
from common.policies import Generator, Sample
from common.pool import of_round
from common.records import Better, Candidate, Lessons, Metric, Preference, Task
from common.stages import Context
from speech import audio

if TYPE_CHECKING:  # torch takes seconds to import, a mistyped setting should not
    from speech.judges import WaveJudge
    from speech.speaker import Speaker

Pairs = Literal["self", "golden", "both", "human"]
Strategy = Literal["dpo", "sft", "chain-of-hindsight", "ppo", "grpo", "best-of-n"]
Rank = Literal["reward", "pareto"]
RewardKind = Literal["tokens", "wave", "smpconv"]
STARTERS = {"starter": "starter-ar", "starter-small": "starter-ar-small"}
"""The models that come with the package, as the registry has them."""
LOWER = frozenset({"wer", "cer", "phone_error", "repetition", "early_stop", "duration_error"})
"""Scores of which less is better."""
NEITHER = frozenset({"duration_ratio"})
"""Scores of which neither less nor more is."""


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
    strategy: Strategy = "dpo"
    pairs: Pairs = "both"
    pairs_per_text: int = 2
    rank: Rank = "reward"
    """What is better among a model's own samples: the reward, or the Pareto front of the reward and
    the voice."""
    min_margin: float = 0.1
    """Least difference between chosen and rejected, in nats a phone; on the front in standard
    deviations."""
    ratings: str = ""
    """The run whose listening test gives human pairs."""
    accumulate: bool = False
    """Whether pairs of earlier rounds are learnt from again."""
    reference: Literal["previous", "start"] = "previous"
    """The policy that a round must not leave: as the round found it, or as the run started."""
    reward_model: RewardKind = "tokens"
    """What the reward model of ppo, grpo and best-of-n judges: the codec tokens, or their sound,
    by frames (wave) or by long kernels of points (smpconv)."""
    reward_rate: float = 1e-3
    """Learning rate of a reward model of tokens; a tenth of it fits next to nothing."""
    kl_coef: float = 0.05
    """What ppo and grpo pay for leaving the reference, in normalised rewards a nat."""
    max_pairs: int = 0
    """At most so many pairs a round, drawn at random; 0 learns from all."""
    beta: float = 0.1
    nll_weight: float = 0.5
    learning_rate: float = 1e-4
    epochs: float = 2.0
    batch_size: int = 16
    max_new_tokens: int = 600
    policy: str = "starter"
    """The model that learns: starter, starter-small, a run, a folder, or a hub name."""
    codec: str = "starter"
    nar: str = "starter"
    """The folder of an AR's NAR; a single-stream model has none."""
    corpus: str = "prompts"
    test_texts: int = 0
    """Texts that test says; 0 is all that are recorded."""
    voice_prompts: bool = False
    """Whether a single-stream model hears another recording of the text's speaker first."""
    reward: str = "ctc"
    """What ranks a model's own samples: the starter's phone model (ctc), a network that is taught
    what tells recordings from samples (smpconv), or a faster-whisper model."""
    steps: int = 0
    """Optimiser steps a round, instead of epochs; 0 goes by epochs."""
    grad_accum: int = 1
    """Batches of batch_size before each optimiser step."""
    max_length: int = 1024
    """Tokens of prompt and completion that are learnt from."""
    best_of: int = 8
    """Samples of which best-of-n says one."""
    lora: int = 0
    """Rank of an adapter that learns in the model's place; 0 trains all weights."""
    gap_texts: int = 30
    """Recorded dev texts of which the report shows the gap to the recordings; 0: no gap."""

    def __post_init__(self) -> None:
        least = {"rounds": 1, "texts": 2, "samples": 2, "dev_texts": 2, "test_samples": 1,
                 "pairs_per_text": 1, "batch_size": 1, "max_new_tokens": 1, "test_texts": 0,
                 "steps": 0, "grad_accum": 1, "max_length": 2, "lora": 0, "best_of": 1,
                 "max_pairs": 0, "gap_texts": 0}  # fmt: skip
        if self.pairs == "golden":
            least["samples"] = 1
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name}={getattr(self, name)}", f"give {minimum} or more")
        for name, known in (("pairs", Pairs), ("strategy", Strategy), ("rank", Rank),
                            ("reward_model", RewardKind)):  # fmt: skip
            if getattr(self, name) not in get_args(known):
                remedy = f"use {', '.join(get_args(known))}"
                raise UserError(f"no {name} {getattr(self, name)!r}", remedy)
        if (self.pairs == "human") != bool(self.ratings):
            raise UserError(
                "pairs of people need a run that people rated, and no other pairs do",
                "give --pairs human --ratings RUN, after upspiral speech listen RUN",
            )
        if not self.temperature > 0:
            raise UserError(
                f"a temperature of {self.temperature:g} says the same every time", "give 0.6 to 1"
            )


def starter() -> AlignConfig:
    """Three full rounds of the starter: up to 90 minutes on two cores."""
    return AlignConfig()


def demo() -> AlignConfig:
    """The starter's first round, measured on fewer samples: a quarter of an hour."""
    return AlignConfig(rounds=1, dev_texts=60, test_samples=1, gap_texts=12)


def compare() -> AlignConfig:
    """A run of a comparison: a third of the starter's texts, for there are many runs.

    Nor the gap, which ``upspiral speech gap RUN`` adds to those that deserve a look.
    """
    return AlignConfig(texts=64, dev_texts=60, test_samples=2, gap_texts=0)


def tiny() -> AlignConfig:
    """Seconds, for tests."""
    return AlignConfig(rounds=1, texts=4, samples=3, dev_texts=3, test_samples=1, test_texts=3,
                       max_new_tokens=400, epochs=1.0, batch_size=2, min_margin=0.0,
                       gap_texts=0)  # fmt: skip


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
    "compare": compare,
    "tiny": tiny,
    "paper": paper,
}


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
    """Select: pairs of the model's own samples, recorded over sampled streams, or what people said.

    Own samples are ranked by ``objectives``: by the one score, or on the Pareto front of several.
    ``golden`` maps a task to the stream of its recording, ``human`` gives the pairs of a listening
    test. Only candidates of one round are compared with one another: an earlier policy's mistakes
    are not this one's. Those without sound are left out, unless nobody made them ``audible``. With
    ``imitate`` the chosen streams are demonstrations instead.
    """

    pairs: Pairs
    objectives: Mapping[str, Direction]
    per_text: int
    min_margin: float
    golden: Mapping[str, str]
    audible: bool = True
    accumulate: bool = False
    imitate: bool = False
    max_pairs: int = 0
    human: Callable[[Mapping[str, Task], int], list[Preference]] | None = None

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        found = self.human(tasks, ctx.round) if self.human is not None else []
        for number in range(1 if self.accumulate else ctx.round, ctx.round + 1):
            fresh = of_round(pool, number, lambda c: bool(c.artifact) or not self.audible)
            if self.pairs in ("self", "both"):
                found += self._ranked(tasks, fresh, ctx.round)
            if self.pairs in ("golden", "both"):
                found += self._golden(tasks, fresh, number, ctx)
        found = distinct(found)
        if 0 < self.max_pairs < len(found):
            order = random.Random(ctx.seed_for("max_pairs", ctx.round)).sample(
                range(len(found)), self.max_pairs
            )
            found = [found[i] for i in sorted(order)]
        if self.imitate:
            return Lessons(demonstrations=tuple(chosen(found)))
        return Lessons(tuple(found))

    def _ranked(
        self, tasks: Mapping[str, Task], fresh: Sequence[Candidate], round: int
    ) -> list[Preference]:
        shared: Any = {
            "min_margin": self.min_margin,
            "pairs_per_task": self.per_text,
            "round": round,
        }
        if len(self.objectives) > 1:
            return pareto_best_worst(tasks, fresh, objectives=self.objectives, **shared)
        ((key, better),) = self.objectives.items()
        return best_worst(tasks, fresh, key=key, better=better, **shared)

    def _golden(
        self, tasks: Mapping[str, Task], fresh: Sequence[Candidate], number: int, ctx: Context
    ) -> list[Preference]:
        from speech.speaker import Golden

        if isinstance(self.golden, Golden):
            self.golden.fill([c.task for c in fresh], ctx.progress)
        return golden_over_sampled(
            tasks,
            self.golden,
            fresh,
            pairs_per_task=self.per_text,
            seed=ctx.seed_for("golden", number),
            round=ctx.round,
        )


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
        begun = time.perf_counter()
        found = Speak(self.vocoder, replace(self.sample, n=times)).propose(policy, tasks, same)
        wall = time.perf_counter() - begun
        said = sum(audio.duration(ctx.artifacts.path(c.artifact)) for c in found if c.artifact)
        if said:
            ctx.tracker.log({"measure/real_time_factor": wall / said}, ctx.round)
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
        better: Better = "lower" if name in LOWER else "neither" if name in NEITHER else "higher"
        return Metric.of(name, items, better)
