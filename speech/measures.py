"""How speech goes wrong beyond wrong words: it loops, stops early, is too long, or comes too late.

| measure | what it is | better |
|---|---|---|
| ``repetition`` | 1 if words are heard twice running that the text does not repeat | lower |
| ``early_stop`` | 1 if the text's last word is not heard | lower |
| ``duration_ratio`` | seconds said over :func:`expected_seconds` | 1 |
| ``duration_error`` | size of its natural logarithm: twice is as bad as half | lower |
| ``real_time_factor`` | wall seconds of synthesis a second of sound | lower |

The means of the first two over clips are rates. Both are read off a recogniser's transcript: held
to the text's phones (``speech.lm.stream.Monotonic``), the stream itself neither repeats nor leaves
out a phone, whatever can be heard. So they hold the recogniser's own errors too; compare policies,
or recordings beside them.

The real-time factor is a fact of the machine: it is no score, no gate may look at it, and a run
that is resumed does not get the same one again. :class:`speech.align.SpeechMetrics` tells it to the
tracker.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from speech import audio
from speech.audio import SAMPLE_RATE, Wave
from speech.judges import Recogniser, WaveJudge, usable
from speech.text import WORD_END, normalise, phonemes

if TYPE_CHECKING:
    from speech.corpora import Corpus

LONGEST_RATIO = 10.0
"""What a clip gets that cannot be judged is as bad as ten times too long or too short."""


def repeats(words: Sequence[str]) -> set[tuple[str, ...]]:
    """The stretches of words that stand twice, one right after the other."""
    return {
        tuple(words[i : i + n])
        for n in range(1, len(words) // 2 + 1)
        for i in range(len(words) - 2 * n + 1)
        if list(words[i : i + n]) == list(words[i + n : i + 2 * n])
    }


def repetition(text: str, heard: str, language: str = "en") -> float:
    """1 if ``heard`` repeats a stretch of words at once that ``text`` does not repeat, else 0."""
    wanted, said = (normalise(line, language).split() for line in (text, heard))
    return float(bool(repeats(said) - repeats(wanted)))


def early_stop(text: str, heard: str, language: str = "en") -> float:
    """1 if the last word of ``text`` has no counterpart in ``heard``, else 0.

    In the alignment of least word errors; a wrong last word was said, if badly. A text without
    words cannot be left early.
    """
    import jiwer

    wanted, said = normalise(text, language), normalise(heard, language)
    if not wanted:
        return 0.0
    if not said:
        return 1.0
    last = jiwer.process_words(wanted, said).alignments[0][-1]
    return float(last.type == "delete")


class Fluency(Recogniser):
    """:class:`Recogniser` whose transcripts tell ``repetition`` and ``early_stop`` as well."""

    names: ClassVar[tuple[str, ...]] = ("wer", "cer", "repetition", "early_stop")
    worst: ClassVar[tuple[float, ...]] = (1.0, 1.0, 0.0, 1.0)  # who says nothing repeats nothing

    def rates(self, text: str, heard: str) -> dict[str, float]:
        return super().rates(text, heard) | {
            "repetition": repetition(text, heard, self.language),
            "early_stop": early_stop(text, heard, self.language),
        }


def phones_in(texts: Sequence[str], language: str = "en") -> list[int]:
    """How many phones each text has."""
    return [sum(p != WORD_END for p in line) for line in phonemes(texts, language)]


def seconds_per_phone(corpus: Corpus, language: str = "en") -> float:
    """Seconds of the train recordings over their phones, silences included.

    Raises:
        ValueError: no train recording in ``language`` has a phone.
    """
    found = corpus.split("train", language)
    phones = sum(phones_in([u.text for u in found], language))
    if not phones:
        raise ValueError(f"no train recording of {corpus.name} in {language!r} has a phone")
    return sum(audio.duration(u.path) for u in found) / phones


def expected_seconds(
    texts: Sequence[str], recorded: Mapping[str, float], pace: float, language: str = "en"
) -> list[float]:
    """How long each text should be: as its recording, else its phones at ``pace`` seconds each.

    ``recorded`` holds the seconds of recordings by text.
    """
    phones = phones_in(texts, language)
    return [recorded.get(text, n * pace) for text, n in zip(texts, phones, strict=True)]


class Duration(WaveJudge):
    """``duration_ratio`` and ``duration_error`` of clips, silences at the ends included."""

    names = ("duration_ratio", "duration_error")
    worst = (0.0, float(np.log(LONGEST_RATIO)))

    def __init__(self, corpus: Corpus, language: str = "en") -> None:
        """``corpus``: whose recordings say how long a text, or else a phone, is."""
        self.corpus, self.language = corpus, language

    @functools.cached_property
    def _pace(self) -> float:
        return seconds_per_phone(self.corpus, self.language)

    @functools.cached_property
    def _paths(self) -> dict[str, str]:
        return {u.text: str(u.path) for u in self.corpus.utterances if u.language == self.language}

    def score(self, waves: Sequence[Wave], texts: Sequence[str]) -> list[dict[str, float]]:
        recorded = {t: audio.duration(self._paths[t]) for t in set(texts) if t in self._paths}
        wanted = expected_seconds(texts, recorded, self._pace, self.language)
        return [
            self._rate(len(wave) / SAMPLE_RATE / seconds)
            if usable(wave) and seconds
            else self.lowest()
            for wave, seconds in zip(waves, wanted, strict=True)
        ]

    def _rate(self, ratio: float) -> dict[str, float]:
        error = min(abs(float(np.log(ratio))), self.worst[1])
        return dict(zip(self.names, (ratio, error), strict=True))
