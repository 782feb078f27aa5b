"""States of a speech recogniser's encoder, the teacher of the first quantiser.

SpeechTokenizer (arXiv 2308.16692) distils its first quantiser towards HuBERT; the encoder of
Whisper tiny.en, which comes inside a package, also runs at 50 frames a second and serves here.
It is a relative of the judge that scores word errors, which is why a second judge
(``speech/ctc.py``, trained on log-mel features alone) evaluates too: see ``docs/judges.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE = 16_000
HOP = 320
WINDOW = 30 * RATE
GAP = HOP * 15  # 0.3 s of silence between recordings that share a window
MIN_WINDOWS = 20


def encoder_states(
    waves: Sequence[Floats], progress: Callable[[int, int, str], None] | None = None
) -> list[Floats]:
    """Encoder states of each 16 kHz recording: ``(ceil(T / 320), 384)`` at 50 frames a second.

    The encoder always sees 30 s, so recordings are packed into windows, each recording whole
    unless it is longer than a window; it then continues in the next. Its states say where in the
    window they are (the first seven principal components of tiny.en do little else), so the mean
    state of each place is subtracted, which needs many windows: ``MIN_WINDOWS`` or more.
    """
    from faster_whisper import WhisperModel
    from faster_whisper.feature_extractor import FeatureExtractor

    from common import registry

    folder = registry.get("whisper-tiny.en")
    model = WhisperModel(str(folder), device="cpu", compute_type="float32")
    extract = FeatureExtractor()
    states: list[list[Floats]] = [[] for _ in waves]
    windows = list(_pack([len(wave) for wave in waves]))
    for number, window in enumerate(windows):
        audio = np.zeros(WINDOW, np.float32)
        for index, start, length, at in window:
            audio[at : at + length] = waves[index][start : start + length]
        encoded = model.encode(extract(audio, padding=0)[:, :3000])
        frames = np.asarray(encoded, dtype=np.float32)[0]
        for index, _, length, at in window:
            states[index].append(frames[at // HOP : at // HOP + -(-length // HOP)].copy())
        if progress:
            progress(number + 1, len(windows), "recogniser states")
    if len(windows) < MIN_WINDOWS:
        raise ValueError(f"{len(windows)} windows of 30 s: at least {MIN_WINDOWS} are needed")
    places: list[list[NDArray[np.int64]]] = [[] for _ in waves]
    for window in windows:
        for index, _, length, at in window:
            places[index].append(at // HOP + np.arange(-(-length // HOP)))
    return _without_place(
        [np.concatenate(parts) for parts in states], [np.concatenate(p) for p in places]
    )


def _without_place(states: list[Floats], places: list[NDArray[np.int64]]) -> list[Floats]:
    """Subtract the mean state of each place in the window, in steps of half a second."""
    bins = np.concatenate(places) // (HALF_SECOND := 25)
    everything = np.concatenate(states)
    sums = np.zeros((WINDOW // HOP // HALF_SECOND, everything.shape[1]))
    np.add.at(sums, bins, everything)
    counts = np.bincount(bins, minlength=len(sums)).clip(min=1)
    means = (sums / counts[:, None]).astype(np.float32)
    centres = (np.arange(len(sums)) + 0.5) * HALF_SECOND
    every = np.arange(WINDOW // HOP)
    trend = np.stack([np.interp(every, centres, column) for column in means.T], 1)
    return [s - trend[p].astype(np.float32) for s, p in zip(states, places, strict=True)]


def _pack(lengths: Sequence[int]) -> Iterator[list[tuple[int, int, int, int]]]:
    """Windows as lists of (recording, start in it, length, place in the window), in samples."""
    window: list[tuple[int, int, int, int]] = []
    at = 0
    for index, total in enumerate(lengths):
        for start in range(0, total, WINDOW):
            length = min(WINDOW, total - start)
            if at + length > WINDOW:
                yield window
                window, at = [], 0
            window.append((index, start, length, at))
            at += -(-length // HOP) * HOP + GAP
    if window:
        yield window
