"""Does the rater wear headphones? Three tones, and one is quieter (Woods et al. 2017).

Woods, Siegel, Traer & McDermott, "Headphone screening to facilitate web-based auditory
experiments", Attention, Perception & Psychophysics 79 (2017). Of three tones of 200 Hz one is 6 dB
quieter, and one has its two channels in opposite phase: over loudspeakers these cancel in the air,
so that the wrong tone seems quieter; over headphones nothing meets. Whoever guesses gets five of
six with probability 13/729.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from common.records import identity

KINDS = ("quiet", "antiphase", "plain")
ARRANGEMENTS = list(permutations(KINDS))
TRIALS, NEEDED = 6, 5
RATE = 16_000
FREQUENCY, SECONDS, RAMP, GAP = 200.0, 1.0, 0.1, 0.5
PEAK = 0.25


def arrangement(seed: int, rater: str, attempt: int, trial: int) -> tuple[str, ...]:
    """The kinds of the three tones of one trial, in the order in which they are heard."""
    drawn = int(identity("headphones", seed, rater, attempt, trial), 16)
    return ARRANGEMENTS[drawn % len(ARRANGEMENTS)]


def right(seed: int, rater: str, attempt: int, picks: Sequence[int]) -> int:
    """How many of ``picks`` (0 to 2, a trial each) are the quiet tone."""
    return sum(
        arrangement(seed, rater, attempt, trial).index("quiet") == pick
        for trial, pick in enumerate(picks)
    )


def sound(kinds: Sequence[str]) -> NDArray[np.float32]:
    """The tones one after the other, ``(samples, 2)`` at ``RATE`` Hz, in [-1, 1]."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    ramp = np.clip(np.minimum(time, SECONDS - time) / RAMP, 0, 1)
    tone = PEAK * np.sin(2 * np.pi * FREQUENCY * time) * (1 - np.cos(np.pi * ramp)) / 2
    gap = np.zeros((round(GAP * RATE), 2))
    gains = {"quiet": (10 ** (-6 / 20),) * 2, "antiphase": (1.0, -1.0), "plain": (1.0, 1.0)}
    parts = [part for kind in kinds for part in (tone[:, None] * gains[kind], gap)]
    return np.asarray(np.concatenate(parts[:-1]), np.float32)


def wav(kinds: Sequence[str]) -> bytes:
    """:func:`sound` as the content of a 16-bit wav file."""
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, RATE, np.round(sound(kinds) * 32767).astype(np.int16))
    return buffer.getvalue()
