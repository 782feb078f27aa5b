"""Which phone is heard in which frame: a monophone hidden Markov model from a flat start.

The textbook recipe of speech recognition toolkits (Young et al., The HTK Book, chapter 3): divide
each recording evenly among its phones, estimate a Gaussian per state, find the best path
(Viterbi), estimate again. Phones have two states, so at least two frames; silence may stand at
both ends and between words. Minutes of one voice are enough, nothing pretrained is needed beyond
the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speech.text import WORD_END

Floats = NDArray[np.float32]
SILENCE = "_"


class Segment(NamedTuple):
    """``phone`` (or :data:`SILENCE`) is heard from frame ``start`` up to ``end``."""

    phone: str
    start: int
    end: int


class _Chain(NamedTuple):
    """The states of one recording in order; ``skippable`` marks silences between words."""

    names: list[str]
    states: NDArray[np.int64]
    skippable: NDArray[np.bool_]


def segment(
    features: Sequence[Floats],
    phones: Sequence[Sequence[str]],
    quiet: Sequence[NDArray[np.bool_]],
    iterations: int = 12,
) -> list[list[Segment] | None]:
    """Segments of each recording, or ``None`` where it is too short for its phones.

    Args:
        features: ``(F, D)`` per recording, any features that tell phones apart.
        phones: phones with :data:`speech.text.WORD_END` after each word.
        quiet: ``(F,)`` frames without sound, used for the first estimate of silence only.
    """
    names = [SILENCE, *sorted({p for line in phones for p in line} - {WORD_END})]
    number = {name: i for i, name in enumerate(names)}
    chains = [_chain(line, number) for line in phones]
    usable = [
        len(chain.states) > 2 and int((~chain.skippable).sum()) - 2 <= len(x)
        for chain, x in zip(chains, features, strict=True)
    ]
    members = [i for i, good in enumerate(usable) if good]
    paths = {i: _even(chains[i], quiet[i]) for i in members}
    count = 2 * len(names)
    for _ in range(iterations):
        mean, variance = _estimate(
            [features[i] for i in members], [chains[i].states[paths[i]] for i in members], count
        )
        paths = {i: _viterbi(chains[i], _loglik(features[i], mean, variance)) for i in members}
    return [_segments(chains[i], paths[i]) if usable[i] else None for i in range(len(features))]


def _chain(line: Sequence[str], number: dict[str, int]) -> _Chain:
    names, states, skippable = [SILENCE], [0], [True]
    for phone in line:
        if phone == WORD_END:
            names.append(SILENCE)
            states.append(0)
            skippable.append(True)
        else:
            names += [phone, phone]
            states += [2 * number[phone], 2 * number[phone] + 1]
            skippable += [False, False]
    return _Chain(names, np.array(states), np.array(skippable))


def _even(chain: _Chain, quiet: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The flat start: quiet ends are silence, the rest is shared evenly among the phone states."""
    frames = len(quiet)
    needed = np.flatnonzero(~chain.skippable)
    loud = np.flatnonzero(~quiet)
    start, end = (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, frames)
    if end - start < len(needed):
        start, end = 0, frames
    path = np.empty(frames, np.int64)
    path[:start], path[end:] = 0, len(chain.states) - 1
    path[start:end] = needed[np.arange(end - start) * len(needed) // (end - start)]
    return path


def _estimate(
    features: list[Floats], states: list[NDArray[np.int64]], count: int
) -> tuple[Floats, Floats]:
    x, s = np.concatenate(features), np.concatenate(states)
    weight = np.bincount(s, minlength=count).astype(np.float32)[:, None]
    prior, strength = x.mean(0), 2.0
    sums, squares = np.zeros((2, count, x.shape[1]), np.float32)
    np.add.at(sums, s, x)
    np.add.at(squares, s, x * x)
    mean = (sums + strength * prior) / (weight + strength)
    # A state seen a few times borrows the variance of everything.
    spread = squares - 2 * mean * sums + weight * mean**2
    variance = (spread + 20 * x.var(0)) / (weight + 20)
    return mean, variance.clip(1e-3)


def _loglik(x: Floats, mean: Floats, variance: Floats) -> Floats:
    precision = 1 / variance
    constant = -0.5 * (np.log(variance) + mean**2 * precision).sum(1)
    result: Floats = constant + x @ (mean * precision).T - 0.5 * (x * x) @ precision.T
    return result


def _viterbi(chain: _Chain, loglik: Floats) -> NDArray[np.int64]:
    """Best path from the first or second state (silence may be left out) to the last or the one
    before."""
    emission = loglik[:, chain.states]
    frames, states = emission.shape
    # From where a state may be entered: itself, the one before, or over a skippable silence.
    before_is_skippable = np.zeros(states, bool)
    before_is_skippable[2:] = chain.skippable[1:-1]
    score = np.full(states, -np.inf, np.float32)
    score[0] = emission[0, 0]
    if states > 1:
        score[1] = emission[0, 1]
    back = np.zeros((frames, states), np.int8)
    # A phone's first state may not repeat into itself for ever: both may loop, costs are equal.
    for t in range(1, frames):
        options = np.full((3, states), -np.inf, np.float32)
        options[0] = score
        options[1, 1:] = score[:-1]
        options[2, 2:] = np.where(before_is_skippable[2:], score[:-2], -np.inf)
        back[t] = options.argmax(0)
        score = options[back[t], np.arange(states)] + emission[t]
    last = states - 1 if score[-1] >= score[-2] else states - 2
    path = np.empty(frames, np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = last
        last -= back[t, last]
    return path


def _segments(chain: _Chain, path: NDArray[np.int64]) -> list[Segment]:
    """Runs of states as segments; the two states of a phone are one segment."""
    segments: list[Segment] = []
    unit = np.cumsum(
        [
            1 if i == 0 or chain.skippable[i] or chain.skippable[i - 1] or _starts(chain, i) else 0
            for i in range(len(chain.states))
        ]
    )
    for t, state in enumerate(path):
        name = chain.names[state]
        if t and unit[state] == unit[path[t - 1]]:
            segments[-1] = segments[-1]._replace(end=t + 1)
        else:
            segments.append(Segment(name, t, t + 1))
    return segments


def _starts(chain: _Chain, i: int) -> bool:
    """Whether state ``i`` is the first of its phone (even state numbers are)."""
    return bool(chain.states[i] % 2 == 0)
