"""``upspiral speech say`` and ``evaluate``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output
from common.errors import UserError
from speech.align import STARTERS

if TYPE_CHECKING:
    from speech.audio import Wave

BREATH = 12
"""Words that are said at once: the starter practised phrases up to this long."""
SHORTEST = 1.0
"""Seconds of the shortest voice prompt that is taken."""
PAUSE = 0.25
"""Seconds of silence between phrases."""


@dataclass(frozen=True)
class Say:
    """Speak a text with the starter, a run's final policy, or a model of yours."""

    text: tyro.conf.Positional[str]
    """What to say; of any length, phrase by phrase."""
    policy: str = "starter"
    """starter, a run (or last), a folder, or a hub name."""
    codec: str | None = None
    """The codec of a single-stream model of yours; a run knows its own."""
    out: Path = Path("said.wav")
    """Where the sound goes (wav, flac, ogg)."""
    voice: Path | None = None
    """A recording whose first three seconds set the voice (the starter knows one voice well)."""
    seed: int = 0
    """Another seed, another reading."""
    temperature: float = 0.7
    """Lower is safer, higher livelier; 0 always says the same."""

    def run(self, out: Output) -> dict[str, Any]:
        import numpy as np

        from speech import audio

        # What the user may have mistyped is asked for before the seconds that torch takes.
        file = audio.writable(self.out)
        check(self.policy, self.temperature)
        said = phrases(self.text)
        if self.voice:
            voice_of(self.voice)
        from speech.speaking import speaking, text_tasks, utter

        policy, speaker, config = speaking(self.policy, self.codec)
        rate = speaker.codec.sample_rate
        if self.voice:
            speaker = speaker.with_voice(voice_of(self.voice, rate))
        tasks = text_tasks(said, speaker)
        waves = utter(policy, speaker, tasks, self.temperature, self.seed, config.max_new_tokens)
        if not all(len(wave) for wave in waves):
            raise UserError(f"{self.policy!r} found nothing to say", "try another --seed")
        pause = np.zeros(round(PAUSE * rate), np.float32)
        wave = np.concatenate([part for w in waves for part in (w, pause)][:-1])
        audio.write(file, wave, rate)
        out.print(f"wrote {self.out}: {len(wave) / rate:.2f} s")
        return {"out": self.out, "seconds": len(wave) / rate, "sample_rate": rate}


@dataclass(frozen=True)
class Evaluate:
    """Word and character errors, voice, quality and phone likelihood over texts, with n and se."""

    policy: str = "starter"
    """starter, a run (or last), a folder, or a hub name."""
    codec: str | None = None
    """The codec of a single-stream model of yours; a run knows its own."""
    texts: Path | None = None
    """A file with a sentence a line; by default the recorded dev texts."""
    count: int | None = None
    """Only the first so many texts."""
    voice: Path | None = None
    """A recording that sets the voice and is the reference for similarity."""
    whisper: str | None = None
    """A faster-whisper model that hears in place of tiny.en: large-v3, or a folder."""
    wavlm: str | None = None
    """Adds speaker similarity by WavLM: microsoft/wavlm-base-plus-sv, or a folder."""
    utmos: str | None = None
    """Adds UTMOS: balacoon/utmos, or a folder with utmos.jit."""
    seed: int = 0
    """Another seed, another reading."""
    temperature: float = 0.7
    """1 is what the policy learnt; lower is safer. Alignment measures at 0.7."""

    def run(self, out: Output) -> dict[str, Any]:
        from speech import corpora

        if self.count is not None and self.count < 1:
            raise UserError(f"{self.count} texts", "ask for one or more")
        check(self.policy, self.temperature)
        own = read_texts(self.texts) if self.texts else None
        voice = voice_of(self.voice) if self.voice else None
        from common.stages import Context
        from common.store import Store
        from speech.align import SpeechMetrics
        from speech.ctc import CTCJudge
        from speech.hub_judges import UTMOS, WavLMSimilarity
        from speech.judges import SpeakerSimilarity
        from speech.setup import judges, sampler
        from speech.setup import voice_of as voice_in
        from speech.speaking import speaking, text_tasks
        from speech.tasks import unique

        policy, speaker, config = speaking(self.policy, self.codec)
        corpus = corpora.load("prompts")
        lines = own or unique(u.text for u in corpus.split("dev"))
        evaluate = judges(corpus, recogniser=self.whisper)
        if self.voice and voice is not None:
            speaker = speaker.with_voice(voice_of(self.voice, speaker.codec.sample_rate))
            similarity = SpeakerSimilarity([voice])
            similarity.voice  # noqa: B018 - heard now: a recording without a voice is a mistake
            evaluate[1] = similarity
        if self.wavlm:
            evaluate.append(
                WavLMSimilarity([voice] if voice is not None else voice_in(corpus), self.wavlm)
            )
        if self.utmos:
            evaluate.append(UTMOS(self.utmos))
        tasks = text_tasks(lines[: self.count], speaker)
        sample = replace(sampler(config), n=1, temperature=self.temperature)
        store = Store()
        scratch = store.folder("evaluate")
        pace = _Figures()
        context = Context(self.seed, 0, store.artifacts, pace, out.progress(), scratch)
        found = SpeechMetrics(speaker, [*evaluate, CTCJudge()], sample).measure(
            policy, tasks, context
        )
        rows = [(m.name, m.value, m.se, m.n) for m in found]
        out.table(("score", "mean", "standard error", "n"), rows)
        facts: dict[str, Any] = {m.name: {"mean": m.value, "se": m.se, "n": m.n} for m in found}
        factor = pace.values.get("measure/real_time_factor")
        if factor is not None:
            out.print(f"{factor:.2f} seconds of work a second of sound")
        return {
            "policy": self.policy,
            "scores": facts,
            "real_time_factor": factor,
            "texts": [t.reference for t in tasks],
        }


class _Figures:
    """A tracker that keeps the newest value of each figure."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def log(self, values: Mapping[str, float], step: int) -> None:  # noqa: ARG002
        self.values |= values


def voice_of(path: Path, rate: int = 16_000) -> Wave:
    """The first half minute of a voice prompt at ``rate`` Hz; more is not needed of any file.

    Raises:
        UserError: as :func:`speech.audio.read`, or it is shorter than :data:`SHORTEST`.
    """
    from speech import audio

    wave = next(audio.stream(path, rate, seconds=30.0))
    if len(wave) < SHORTEST * rate:
        raise UserError(
            f"{str(path)!r} holds {len(wave) / rate:.1f} s of sound, too little for a voice",
            f"give {SHORTEST:g} s or more; three are used as the prompt",
        )
    if audio.is_silent(wave):
        raise UserError(f"{str(path)!r} is silent", "check the recording, or choose another file")
    return wave


def check(policy: str, temperature: float) -> None:
    """Whether ``policy`` and ``temperature`` can be, as far as that is known without torch.

    Raises:
        UserError: no such run, folder or hub name (which has an owner: ``owner/name``); a
            temperature below 0.
    """
    if not 0 <= temperature < math.inf:
        raise UserError(f"a temperature of {temperature:g}", "give 0 or more, 1 at most as a rule")
    if policy in STARTERS or "/" in policy or Path(policy).exists():
        return
    from common.cli import unknown
    from common.commands.runs import find
    from common.store import Store

    store = Store()
    if policy == "last":
        find(store, policy)
    elif policy not in (names := [run.run for run in store.runs()]):
        raise unknown("policy", policy, [*STARTERS, *names])


def phrases(text: str, longest: int = BREATH) -> list[str]:
    """``text`` in phrases of at most ``longest`` words: its sentences, and these at commas.

    Raises:
        UserError: there is not a word in it.
    """
    from speech.text import phonemes

    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?;:…])\s+|\n+", text):
        words = sentence.split()
        while len(words) > longest:
            even = math.ceil(len(words) / math.ceil(len(words) / longest))
            commas = [i for i, word in enumerate(words[:longest], 1) if word.endswith(",")]
            end = max(commas, default=even)
            found.append(" ".join(words[:end]))
            words = words[end:]
        found.append(" ".join(words))
    said = [phrase for phrase, phones in zip(found, phonemes(found), strict=True) if phones]
    if not said:
        raise UserError(f"there is nothing to say in {text!r}", "give words or numbers")
    return said


def read_texts(path: Path) -> list[str]:
    """The different lines of ``path`` that say something.

    Raises:
        UserError: the file is missing, is no text, is empty, or a line has no words.
    """
    from speech.text import phonemes

    remedy = "give a UTF-8 text file, a sentence a line"
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read texts from {str(path)!r}: {error.strerror}", remedy
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{str(path)!r} is not UTF-8 text", remedy) from error
    texts = list(dict.fromkeys(stripped for line in lines if (stripped := line.strip())))
    if not texts:
        raise UserError(f"{str(path)!r} holds no text", remedy)
    for text, phones in zip(texts, phonemes(texts), strict=True):
        if not phones:
            raise UserError(
                f"there is nothing to say in the line {text!r}", "give words or numbers"
            )
    return texts
