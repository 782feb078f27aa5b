"""Is it the voice, by Gaussian mixtures: the judge of voices that may reward.

The classic of speaker verification (Reynolds, Quatieri and Dunn, Digital Signal Processing 10,
2000): a mixture over mel cepstra of many voices, the background model; the same with its means
moved towards one voice (maximum a posteriori, relevance factor 16); and, as score, the mean over
speech frames of the log-likelihood ratio of the two, in nats a frame. Above 0 the clip is nearer to
the voice than to voices in general.

It shares nothing with Resemblyzer, which evaluates, so it may reward. Blind to words and, since it
hears 25 ms at a time, to rhythm and melody.

    upspiral speech train voice        # how the background model was made, in a minute

Deviations: cepstra without subtraction of their mean. Over a telephone the mean is the line's; here
every voice has been recorded once, and it belongs to how the voice should sound.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common import registry
from common.errors import UserError
from speech.audio import SAMPLE_RATE, Wave
from speech.judges import WaveJudge, usable

Frames = NDArray[np.float64]
COEFFICIENTS = 19
COMPONENTS = 64
RELEVANCE = 16.0
LOUD = 30.0
"""Frames more than so many dB below the clip's loudest are taken for silence."""


@functools.cache
def _transform() -> Any:
    from torchaudio.transforms import MFCC

    mel = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "f_min": 60.0}
    return MFCC(SAMPLE_RATE, COEFFICIENTS + 1, melkwargs=mel)


def cepstra(wave: Wave) -> Frames:
    """Mel cepstra and their slopes ``(speech frames, 2 * COEFFICIENTS)``, 100 a second.

    The first coefficient, which is loudness, tells speech from silence and is left out.
    """
    from torchaudio.functional import compute_deltas

    found = _transform()(torch.from_numpy(wave))
    both = torch.cat([found[1:], compute_deltas(found)[1:]]).T.double().numpy()
    frames = np.pad(wave, (0, 400))
    power = np.array([np.mean(frames[i * 160 : i * 160 + 400] ** 2) for i in range(len(both))])
    decibels = 10 * np.log10(power + 1e-12)
    return np.asarray(both[decibels > decibels.max() - LOUD])


def train_background(waves: Sequence[Wave], seed: int = 0) -> dict[str, Frames]:
    """The mixture over all speech frames of ``waves``: ``weights``, ``means``, ``variances``.

    Raises:
        UserError: fewer than ten frames a component.
    """
    from sklearn.mixture import GaussianMixture

    frames = np.concatenate([cepstra(wave) for wave in waves])
    if len(frames) < 10 * COMPONENTS:
        raise UserError(
            f"{len(frames)} frames of speech are too few for a background model",
            "give a minute of speech or more, of several voices",
        )
    mixture = GaussianMixture(COMPONENTS, covariance_type="diag", random_state=seed, reg_covar=1e-3)
    mixture.fit(frames)
    return {
        "weights": mixture.weights_,
        "means": mixture.means_,
        "variances": mixture.covariances_,
    }


def save_background(background: dict[str, Frames], folder: Path) -> None:
    """Write the mixture to ``folder/background.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    single = {name: values.astype(np.float32) for name, values in background.items()}
    np.savez_compressed(folder / "background.npz", **single)


class VoiceLikelihood(WaveJudge):
    """``voice``: nats a frame in which a clip is nearer to the reference than to voices at large.

    Clipped to [-3, 3]; what cannot be judged gets -3.
    """

    names = ("voice",)
    worst = (-3.0,)

    def __init__(self, reference: Sequence[Wave], folder: Path | None = None) -> None:
        """``reference``: clips of the voice; ``folder`` holds a background model, else ours."""
        self.reference, self.folder = reference, folder

    @functools.cached_property
    def background(self) -> dict[str, Frames]:
        path = (self.folder or registry.get("starter-voice")) / "background.npz"
        with np.load(path) as held:
            return {name: held[name].astype(np.float64) for name in held}

    @functools.cached_property
    def adapted(self) -> Frames:
        """Means of the voice ``(COMPONENTS, 2 * COEFFICIENTS)``.

        Raises:
            UserError: there is nothing to hear in the reference.
        """
        heard = [cepstra(wave) for wave in self.reference if usable(wave)]
        if not heard:
            raise UserError("no speech in the reference recordings", "give clips of the voice")
        return adapt(self.background, np.concatenate(heard))

    def score(self, waves: Sequence[Wave], texts: Sequence[str] = ()) -> list[dict[str, float]]:  # noqa: ARG002 - a voice is one whatever it says
        return [{"voice": self._ratio(w)} if usable(w) else self.lowest() for w in waves]

    def _ratio(self, wave: Wave) -> float:
        frames, model = cepstra(wave), self.background
        voice = log_likelihood(frames, model["weights"], self.adapted, model["variances"])
        anyone = log_likelihood(frames, model["weights"], model["means"], model["variances"])
        return float(np.clip((voice - anyone).mean(), -3, 3))


def joint(frames: Frames, weights: Frames, means: Frames, variances: Frames) -> Frames:
    """Log density of each frame with each component, ``(T, K)``: diagonal Gaussians."""
    precision = 1 / variances
    square = (frames**2) @ precision.T - 2 * frames @ (means * precision).T
    square += (means**2 * precision).sum(1)
    constant = np.log(2 * np.pi * variances).sum(1)
    return np.asarray(np.log(weights) - 0.5 * (constant + square))


def log_likelihood(frames: Frames, weights: Frames, means: Frames, variances: Frames) -> Frames:
    """Log density of each frame, ``(T,)``."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(joint(frames, weights, means, variances), axis=1))


def adapt(background: dict[str, Frames], frames: Frames) -> Frames:
    """The background's means moved towards ``frames``: Reynolds et al., equations 10 to 14.

    A component that n frames (softly counted) fall to takes n / (n + RELEVANCE) of their mean.
    """
    both = joint(frames, background["weights"], background["means"], background["variances"])
    share = np.exp(both - both.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    count = share.sum(0)[:, None]
    mean = share.T @ frames / np.maximum(count, 1e-9)
    trust = count / (count + RELEVANCE)
    return np.asarray(trust * mean + (1 - trust) * background["means"])
