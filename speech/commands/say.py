"""``upspiral speech say`` and ``evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class Say:
    """Speak a text with the starter, a run's final policy, or a model of yours."""

    text: tyro.conf.Positional[str]
    """What to say."""
    policy: str = "starter"
    """starter, a run (or last), a folder, or a hub name."""
    out: Path = Path("said.wav")
    """Where the sound goes (wav, flac, ogg)."""
    voice: Path | None = None
    """A recording whose first three seconds set the voice (the starter knows one voice well)."""
    seed: int = 0
    """Another seed, another reading."""
    temperature: float = 0.7
    """Lower is safer, higher livelier; 0 always says the same."""

    def run(self, out: Output) -> dict[str, Any]:
        from speech import audio
        from speech.setup import load_policy, text_tasks, utter
        from speech.vocoder import Vocoder

        (task,) = text_tasks([self.text])
        vocoder = Vocoder.starter()
        if self.voice is not None:
            vocoder = vocoder.with_voice(audio.read(self.voice, allow_silence=False))
        policy = load_policy(self.policy)
        (wave,) = utter(policy, vocoder, [task], self.temperature, self.seed)
        rate = vocoder.codec.sample_rate
        audio.write(self.out, wave, rate)
        out.print(f"wrote {self.out}: {len(wave) / rate:.2f} s")
        return {"out": self.out, "seconds": len(wave) / rate, "sample_rate": rate}


@dataclass(frozen=True)
class Evaluate:
    """Word and character errors, voice, quality and phone likelihood over texts, with n and se."""

    policy: str = "starter"
    """starter, a run (or last), a folder, or a hub name."""
    texts: Path | None = None
    """A file with a text a line; by default the recorded dev texts."""
    count: int | None = None
    """Only the first so many texts."""
    voice: Path | None = None
    """A recording that sets the voice and is the reference for similarity."""
    seed: int = 0
    temperature: float = 1.0

    def run(self, out: Output) -> dict[str, Any]:
        from common.stages import Context
        from common.store import Store
        from common.tracking import Nothing
        from speech import audio, corpora
        from speech.align import AlignConfig, SpeechMetrics
        from speech.ctc import CTCJudge
        from speech.judges import SpeakerSimilarity
        from speech.setup import judges, load_policy, sampler, text_tasks
        from speech.vocoder import Vocoder

        corpus = corpora.load("prompts")
        lines = read_texts(self.texts) if self.texts else [u.text for u in corpus.split("dev")]
        if self.count is not None and self.count < 1:
            raise UserError(f"{self.count} texts", "ask for one or more")
        tasks = text_tasks(lines[: self.count])
        vocoder = Vocoder.starter()
        evaluate = judges(corpus)
        if self.voice is not None:
            wave = audio.read(self.voice, allow_silence=False)
            vocoder = vocoder.with_voice(wave)
            evaluate[1] = SpeakerSimilarity([wave])
        policy = load_policy(self.policy)
        sample = sampler(replace(AlignConfig(), temperature=self.temperature, samples=1))
        store = Store()
        scratch = store.folder("evaluate")
        context = Context(self.seed, 0, store.artifacts, Nothing(), out.progress(), scratch)
        found = SpeechMetrics(vocoder, [*evaluate, CTCJudge()], sample).measure(
            policy, tasks, context
        )
        rows = [(m.name, m.value, m.se, m.n) for m in found]
        out.table(("score", "mean", "standard error", "n"), rows)
        facts = {m.name: {"mean": m.value, "se": m.se, "n": m.n} for m in found}
        return {"policy": self.policy, "scores": facts, "texts": [t.reference for t in tasks]}


def read_texts(path: Path) -> list[str]:
    """The lines of ``path`` that say something.

    Raises:
        UserError: the file is missing, is no text, or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read texts from {str(path)!r}: {error}", "give a UTF-8 text file"
        ) from error
    texts = [line for line in lines if line]
    if not texts:
        raise UserError(f"{str(path)!r} holds no text", "write one text a line")
    return texts
