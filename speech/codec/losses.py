"""Reconstruction losses of the codecs, and a balancer of their gradients.

The spectral distance follows EnCodec (arXiv 2210.13438, section 3.4, equation 2): L1 plus L2 over
mel spectrograms with windows of several sizes. Deviations: the L1 term compares *log* mel
spectrograms, as ears do; the L2 term compares amplitudes and has a small weight, so that loud
frames are right before quiet ones; the number of mel bins shrinks with the window, so that no mel
filter is empty; both signals are padded with zeros and not reflected, so clips may be short.

The balancer follows section 3.4, equation 4. The encodec package 0.1.1 does not hold one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.transforms import MelSpectrogram

# (window in samples, mel bins): 8 to 128 ms at 16 kHz. Hops are a quarter of the window.
SCALES = ((128, 10), (256, 20), (512, 40), (1024, 80), (2048, 80))
FLOOR = 1e-4  # -80 dB of a full-scale amplitude: what lies below is silence
SQUARE_WEIGHT = 0.1
WINDOWS = (512, 1024, 2048)
"""Of the linear spectra: their bins are 31, 16 and 8 Hz wide."""


@cache
def _mel(window: int, bins: int, sample_rate: int, device: torch.device) -> MelSpectrogram:
    """Amplitude mel spectrogram, unnormalised: a full-scale sine is about ``window / 4``."""
    return MelSpectrogram(
        sample_rate,
        n_fft=window,
        hop_length=window // 4,
        n_mels=bins,
        power=1.0,
        pad_mode="constant",
        mel_scale="slaney",
    ).to(device)


def multi_scale_mel(
    made: Tensor,
    target: Tensor,
    sample_rate: int,
    scales: tuple[tuple[int, int], ...] = SCALES,
) -> Tensor:
    """Spectral distance of ``made`` from ``target``, both ``(B, T)`` samples in [-1, 1].

    Mean over the scales of the L1 distance of log mel spectrograms (in nats) plus a tenth of the
    root mean square distance of mel amplitudes, relative to the target's. Zero for equal inputs.
    """
    if made.shape != target.shape:
        raise ValueError(f"shapes differ: {tuple(made.shape)} and {tuple(target.shape)}")
    total = made.new_zeros(())
    for window, bins in scales:
        transform = _mel(window, bins, sample_rate, made.device)
        # At every scale a full-scale sine is about 1, so that the floor means the same loudness.
        a, b = (transform(wave.float()) * (4 / window) for wave in (made, target))
        log_distance = F.l1_loss((a + FLOOR).log(), (b + FLOOR).log())
        square = (a - b).square().mean().clamp(min=1e-12).sqrt() - 1e-6
        scale = b.square().mean().sqrt() + FLOOR
        total = total + log_distance + SQUARE_WEIGHT * square / scale
    return total / len(scales)


def multi_scale_stft(made: Tensor, target: Tensor, windows: tuple[int, ...] = WINDOWS) -> Tensor:
    """Distance of the STFT magnitudes of two ``(B, T)``, which resolve every harmonic.

    Mean over windows of the L1 distance of log magnitudes plus half the spectral convergence
    (Parallel WaveGAN, arXiv 1910.11480, equations 4 to 6). Zero for equal inputs.
    """
    total = made.new_zeros(())
    for size in windows:
        a, b = (_magnitude(wave, size) for wave in (made, target))
        floor = FLOOR * size / 4
        distance = F.l1_loss((a + floor).log(), (b + floor).log())
        total = total + distance + 0.5 * (a - b).norm() / (b.norm() + 1e-3)
    return total / len(windows)


def _magnitude(wave: Tensor, size: int) -> Tensor:
    window = torch.hann_window(size, device=wave.device)
    spectrum = torch.stft(
        wave, size, size // 4, window=window, pad_mode="constant", return_complex=True
    )
    # The square root has no gradient at zero.
    return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()


class Balancer(nn.Module):
    """Scale the gradients of several losses to the shares that their weights name.

    Each loss's gradient at the decoder's output is divided by a running mean of its norm, so a
    weight is the share of the gradient that the loss gets, whatever its own scale is. A module
    only so that its running means go into checkpoints.
    """

    def __init__(self, weights: Mapping[str, float], decay: float = 0.999) -> None:
        super().__init__()
        if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ValueError("weights must be non-negative, and one of them positive")
        self.weights = dict(weights)
        self.decay = decay
        self.sums = nn.Buffer(torch.zeros(len(weights), dtype=torch.float64))
        self.counts = nn.Buffer(torch.zeros(len(weights), dtype=torch.float64))

    def backward(self, losses: Mapping[str, Tensor], output: Tensor) -> dict[str, float]:
        """Back-propagate the balanced sum of ``losses`` from ``output``; returns the shares.

        ``output`` is the tensor ``(B, T)`` on which all the losses depend. Losses that do not
        pass through it (the commitment loss) are back-propagated by the caller, before, with
        ``retain_graph``. The shares are the norms of the gradients after scaling, over their sum.
        """
        places = {name: place for place, name in enumerate(self.weights)}
        whole = sum(self.weights[name] for name in losses)
        combined = torch.zeros_like(output)
        norms: dict[str, float] = {}
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
            place = places[name]
            norm = gradient.flatten(1).norm(dim=1).mean().item()
            self.sums[place] = self.decay * self.sums[place] + norm
            self.counts[place] = self.decay * self.counts[place] + 1
            mean = (self.sums[place] / self.counts[place]).item()
            factor = self.weights[name] / whole / (mean + 1e-12)
            norms[name] = factor * norm
            combined = combined + factor * gradient
        torch.autograd.backward(output, combined)
        everything = sum(norms.values()) or 1.0
        return {name: norm / everything for name, norm in norms.items()}


def cosine_distillation(states: Tensor, teacher: Tensor, projection: nn.Module) -> Tensor:
    """How far projected first-quantiser output is from a teacher's states, in [0, 2].

    ``states (B, D, F)``, ``teacher (B, F, S)``; ``projection`` maps D to S. SpeechTokenizer
    (arXiv 2308.16692, section 3.2) maximises the log-sigmoid of the cosine; its plain complement
    is used here, per frame rather than per dimension.
    """
    predicted = projection(states.transpose(1, 2))
    return 1 - F.cosine_similarity(predicted, teacher, dim=-1).mean()
