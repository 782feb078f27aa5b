"""Put a run of alignment together: policy, speaker, judges, stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from common import registry
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
from common.policies.local import HFPolicy
from common.progress import progress
from common.records import Task, identity
from common.stages import Measure, Proposer
from common.store import Run, Store
from speech import audio, corpora
from speech.align import (
    STARTERS,
    AlignConfig,
    SelectSpeech,
    Speak,
    SpeechMetrics,
)
from speech.audio import Wave
from speech.codec import load_codec
from speech.corpora import Corpus
from speech.ctc import CTCJudge
from speech.golden_judge import golden_judge
from speech.judges import Quality, Recogniser, SpeakerSimilarity, WaveJudge
from speech.listen import human
from speech.lm import stream
from speech.lm.single import FILE, SingleStream, detect
from speech.measures import Duration, Fluency
from speech.reward import WaveReward
from speech.speaker import Golden, Speaker, recordings_of
from speech.strategies import learner, wrapped
from speech.tasks import recorded_tasks, tasks
from speech.text import phonemes
from speech.train import load_segments
from speech.vocoder import Vocoder
from speech.voice import VoiceLikelihood
from speech.voices import OwnVoice, VoicePrompts

REFERENCES = 8
"""Recordings whose mean embedding is the voice that similarity is measured against."""


def load_policy(name: str) -> HFPolicy:
    """A starter, a run's final state, a folder or a hub name.

    Raises:
        UserError: there is no such model, or it knows neither the symbols of our stream nor
            codec tokens as :mod:`speech.lm.single` reads them.
    """
    if name in STARTERS:
        policy = HFPolicy.load(registry.get(STARTERS[name]), device="cpu")
    elif any(run.run == name for run in Store().runs()) or name == "last":
        store = Store()
        run = store.run(store.runs()[0].run if name == "last" else name)
        policy = beginning(settings(run))
        kept = [r for r in store.rounds(run.run) if r.kept]
        if kept:
            policy.restore(store.path(kept[-1].state))
        return policy
    else:
        policy = HFPolicy.load(name)
    if is_pair(policy):
        # The tokenizer of the moment: learning may add symbols, and a roll-back takes them.
        policy.steer = lambda prompts: stream.Monotonic(policy.tokenizer, prompts)
    elif detect(policy.tokenizer, str(policy.source)) is None:
        raise UserError(
            f"{name!r} is no codec language model: its vocabulary has neither {stream.SPEECH} "
            "(our stream) nor <|s_0|> and the symbols around it (LLaSA)",
            f"give one, describe its own symbols in {FILE} in its folder, or name a run",
        )
    return policy


def settings(run: Run | None) -> AlignConfig:
    """What ``run`` was started with, as far as it is known today; the defaults without one."""
    known = AlignConfig.__dataclass_fields__
    return AlignConfig(**{k: v for k, v in run.config.items() if k in known} if run else {})


def beginning(config: AlignConfig) -> HFPolicy:
    """The policy that a run of ``config`` starts from, ready to be restored to what it became."""
    policy = load_policy(config.policy)
    return wrapped(config, policy, lambda: speaker_of(config, policy))


def kept_states(store: Store, run: str) -> dict[str, Path]:
    """Where the state of each round that was kept lies: ``starter``, ``round 1`` and so on."""
    kept = [r for r in store.rounds(run) if r.kept]
    return {f"round {r.index}" if r.index else "starter": store.path(r.state) for r in kept}


def is_pair(policy: HFPolicy) -> bool:
    """Whether ``policy`` is the AR half of a pair, which reads and writes our stream."""
    return stream.SPEECH in policy.tokenizer.get_vocab()


def speaker_of(config: AlignConfig, policy: HFPolicy) -> Speaker:
    """What ``policy`` needs around it to speak, and the policy made ready for it.

    Raises:
        UserError: codec, NAR and policy do not fit one another, or one of them is not there.
    """
    source = Path(str(policy.source))
    speaker: Speaker
    if is_pair(policy):
        nar = registry.get("starter-nar") if config.nar == "starter" else Path(config.nar)
        vocoder = Vocoder.load(config.codec, nar.expanduser())
        if (source / "segments.json.gz").is_file():
            vocoder.placed = load_segments(source / "segments.json.gz")
        speaker = vocoder
    else:
        codec = load_codec(config.codec)
        cast(torch.nn.Module, codec).to(policy.device)
        format = detect(policy.tokenizer, source)
        assert format is not None  # load_policy has asked
        speaker = SingleStream(codec, format, policy.tokenizer, config.max_new_tokens)
    speaker.prepare(policy)
    return speaker


def speaking(name: str, codec: str | None = None) -> tuple[HFPolicy, Speaker, AlignConfig]:
    """The policy called ``name`` with its speaker; a run's are those that it was started with."""
    run = next((run for run in Store().runs() if name in ("last", run.run)), None)
    config = settings(run)
    if codec:
        config = replace(config, codec=codec)
    policy = load_policy(name)
    return policy, speaker_of(config, policy), config


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


def text_tasks(texts: Sequence[str], speaker: Speaker | None = None) -> list[Task]:
    """A task for each text that someone wants to hear; prompts are the starter's by default.

    Raises:
        UserError: a text without a single word.
    """
    if speaker is None:
        prompts = [stream.prompt(phones) if phones else "" for phones in phonemes(texts)]
    else:
        prompts = speaker.prompts(texts)
    found = []
    for text, prompt in zip(texts, prompts, strict=True):
        if not prompt:
            raise UserError(f"there is nothing to say in {text!r}", "give words or numbers")
        found.append(Task(identity("text", text), prompt, "dev", text))
    return found


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


def utter(
    policy: HFPolicy,
    vocoder: Speaker,
    chosen: Sequence[Task],
    temperature: float,
    seed: int,
    max_new_tokens: int = AlignConfig().max_new_tokens,
) -> list[Wave]:
    """Each task's text said once."""
    return vocoder.waves(streams(policy, chosen, temperature, seed, max_new_tokens))


def streams(
    policy: HFPolicy,
    chosen: Sequence[Task],
    temperature: float,
    seed: int,
    max_new_tokens: int = AlignConfig().max_new_tokens,
) -> list[str]:
    """What the policy writes for each task's text, sampled once."""
    seeds = [int(identity(seed, task.id), 16) >> 17 for task in chosen]
    by_task = dict(zip((task.id for task in chosen), seeds, strict=True))
    found = policy.generate(
        chosen,
        n=1,
        seeds=lambda task, index: by_task[task.id] + index,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    return [c.output for c in found]
