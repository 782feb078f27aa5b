"""Put a run of alignment together: policy, speaker, judges, stages."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from common.cli import unknown
from common.distributed import Team, Together
from common.errors import UserError
from common.gate import Gate
from common.loop import Loop
from common.memo import Memo
from common.monitors import CollapseMonitor
from common.pairing import Direction
from common.policies import Sample
from common.policies.best_of import Alone
from common.progress import progress
from common.stages import Measure, Proposer
from common.store import Store
from speech import audio, corpora
from speech.align import (
    AlignConfig,
    SelectSpeech,
    Speak,
    SpeechMetrics,
)
from speech.audio import Wave
from speech.corpora import Corpus
from speech.ctc import CTCJudge
from speech.golden_judge import golden_judge
from speech.judges import Quality, Recogniser, SpeakerSimilarity, WaveJudge
from speech.listen import human
from speech.lm.single import SingleStream
from speech.measures import Duration, Fluency
from speech.reward import WaveReward
from speech.speaker import Golden, recordings_of
from speech.speaking import beginning, load_policy, speaker_of
from speech.strategies import learner
from speech.tasks import recorded_tasks, tasks
from speech.voice import VoiceLikelihood
from speech.voices import OwnVoice, VoicePrompts

REFERENCES = 8
"""Recordings whose mean embedding is the voice that similarity is measured against."""


def judges(
    corpus: Corpus, voices: VoicePrompts | None = None, recogniser: str | None = None
) -> list[WaveJudge]:
    """The judges that evaluate; none of them rewards. ``recogniser`` as of :class:`Recogniser`.

    Similarity is to each task's voice prompt, or to the one speaker of the corpus; it is left out
    where there are several and no prompts.
    """
    threads = torch.get_num_threads()
    similarity: list[WaveJudge] = []
    train = corpus.split("train")
    if voices:
        similarity = [OwnVoice({u.id: u.path for u in voices.chosen.values()})]
    elif len({u.speaker for u in train}) == 1:
        similarity = [SpeakerSimilarity(voice_of(corpus))]
    heard = [Fluency(recogniser, cpu_threads=threads), *similarity, Quality(cpu_threads=threads)]
    return [*heard, Duration(corpus)]


def sampler(config: AlignConfig) -> Sample:
    """How ``config`` samples."""
    return Sample(
        n=config.samples, temperature=config.temperature, max_new_tokens=config.max_new_tokens
    )


def helper(config: AlignConfig, team: Team) -> None:
    """What every process but the main one does: help to learn until the run has ended."""
    policy = load_policy(config.policy)
    speaker = speaker_of(config, policy)  # which sets the token that ends a completion
    Together(learner(config, lambda: speaker), team).serve(policy)


def rewarding(config: AlignConfig, corpus: Corpus) -> tuple[list[WaveJudge], dict[str, Direction]]:
    """The judges that rank a model's own samples, and the scores to rank by; none for golden pairs.

    The judge of ``smpconv`` is not among them yet: it is taught by what the policy says.

    Raises:
        UserError: the phone model for other voices than the starter's, or the recogniser that
            evaluates.
    """
    prompts = config.corpus == "prompts"
    if config.pairs == "golden" and not prompts:
        return [], {}
    judges: list[WaveJudge]
    if config.reward == "ctc":
        if not prompts:
            raise UserError(
                f"the phone model that ranks samples knows the starter's voice, not "
                f"{config.corpus!r}",
                "use --pairs golden, --reward smpconv, or a faster-whisper model, --reward base.en",
            )
        judges, by = [CTCJudge()], {"ctc": "higher"}
    elif config.reward == "smpconv":
        judges, by = [], {"reward": "higher"}
    elif Path(config.reward).name in ("tiny.en", "faster-whisper-tiny.en"):
        raise UserError(
            "tiny.en evaluates, so it cannot reward as well", "give another one, base.en for one"
        )
    else:
        if "/" not in config.reward and not Path(config.reward).exists():
            from faster_whisper import available_models

            if config.reward not in (names := available_models()):
                raise unknown("reward", config.reward, ["ctc", "smpconv", *names])
        judges = [Recogniser(config.reward, cpu_threads=torch.get_num_threads())]
        by = {"wer": "lower"}
    if config.rank == "pareto":
        judges.append(VoiceLikelihood(voice_of(corpus)))
        by["voice"] = "higher"
    return judges, cast(dict[str, Direction], by)


def voice_of(corpus: Corpus) -> list[Wave]:
    """A few recordings of the corpus's speaker."""
    clear = [u for u in corpus.split("train") if len(u.text.split()) >= 5][:REFERENCES]
    return [audio.read(u.path) for u in clear]


def build(config: AlignConfig, memo: Memo | None = None) -> Loop:
    """The loop of ``config``, ready to run; ``memo`` remembers what other runs proposed, measured.

    Best-of-N proposes what its policy says alone: the reward model picks when it is measured.
    """
    corpus = corpora.load(config.corpus)
    reward, objectives = rewarding(config, corpus)
    policy = beginning(config)
    speaker = speaker_of(config, policy)
    voices = None
    if config.corpus == "prompts":
        work = tasks(config, corpus, speaker)
    else:
        if config.voice_prompts and isinstance(speaker, SingleStream):
            voices = VoicePrompts(corpus, speaker.coder)
        work = recorded_tasks(config, corpus, speaker, voices)
    train = [task for task in work if task.split == "train"]
    golden = Golden(recordings_of(train, corpus.split("train")), speaker)
    if config.pairs == "golden" and next(iter(golden), None) is None:
        raise UserError(
            "no recording of a practised text can stand as a golden completion",
            "an AR needs segments.json.gz beside it; else raise max_new_tokens or use --pairs self",
        )
    sample = sampler(config)
    if "reward" in objectives:
        with_what = [config.codec, config.nar, config.corpus]
        reward.append(golden_judge(policy, golden, train, sample, progress(), with_what))
    evaluate = judges(corpus, voices)
    guards = [name for name in ("similarity", "dnsmos") if any(name in j.names for j in evaluate)]
    propose: Proposer = Speak(speaker, sample) if reward else sample
    measuring = [*evaluate, *(j for j in reward if isinstance(j, CTCJudge | WaveReward))]
    measure: Measure = SpeechMetrics(
        speaker,
        measuring,
        replace(sample, n=1),
        config.test_samples,
    )
    if memo:
        taught = [task.id for task in train] if "reward" in objectives else []
        around = [config.codec, config.nar, config.corpus, config.voice_prompts, *taught]
        scores = [name for judge in measuring for name in judge.names]
        propose = memo.propose(propose, asdict(sample), bool(reward), around)
        measure = memo.measure(measure, asdict(sample), config.test_samples, scores, around)
    return Loop(
        policy=policy,
        tasks=work,
        propose=Alone(propose) if config.strategy == "best-of-n" else propose,
        judge=reward,
        select=SelectSpeech(
            config.pairs,
            objectives,
            config.pairs_per_text,
            config.min_margin,
            golden if config.pairs in ("golden", "both") else {},
            audible=bool(reward),
            accumulate=config.accumulate,
            imitate=config.strategy == "sft",
            max_pairs=config.max_pairs,
            human=partial(human, Store(), config.ratings) if config.ratings else None,
        ),
        learn=learner(config, lambda: speaker),
        measure=measure,
        gate=Gate("wer", guards=tuple(guards)),
        monitors=[CollapseMonitor(metric="wer")],
    )
