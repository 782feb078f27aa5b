"""EnCodec's multi-scale STFT discriminator and its losses (arXiv 2210.13438, section 3.4).

The network is the encodec package's own. Deviations: fewer filters, windows for 16 kHz and half
the overlap, so that two CPU cores can train it; what it hears is pre-emphasised and has unit power,
because the faint high bands tell made speech from real (``docs/lab-notes.md``). Each term of the
feature matching loss is relative to the mean size of the real features, as in the paper.
"""

from __future__ import annotations

from typing import Any

import torch
from encodec.msstftd import MultiScaleSTFTDiscriminator
from torch import Tensor, nn
from torch.nn import functional as F

WINDOWS = (1024, 512, 256)  # 64, 32 and 16 ms at 16 kHz
EMPHASIS = 0.95


class Discriminator(nn.Module):
    """Judges samples ``(B, T)`` at several STFT sizes.

    ``overlap`` is the windows' length over their hop. The published network has 32 filters,
    windows of 2048, 1024 and 512 at 24 kHz, and overlap 4.
    """

    def __init__(
        self, filters: int = 8, windows: tuple[int, ...] = WINDOWS, overlap: int = 2
    ) -> None:
        super().__init__()
        self.network = MultiScaleSTFTDiscriminator(
            filters=filters,
            n_ffts=list(windows),
            win_lengths=list(windows),
            hop_lengths=[window // overlap for window in windows],
        )
        # Few channels over long rows: this layout halves the time on a CPU.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.longest = max(windows)

    def forward(self, wave: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Logits of each scale, and the features of each layer of each scale."""
        if wave.shape[-1] <= self.longest:
            raise ValueError(f"{wave.shape[-1]} samples: more than {self.longest} are needed")
        flat = wave[:, 1:] - EMPHASIS * wave[:, :-1]
        flat = flat / (flat.square().mean(1, keepdim=True).sqrt() + 1e-3)
        judged: Any = self.network(flat[:, None])
        return judged[0], judged[1]


def discriminator_loss(discriminator: Discriminator, real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the discriminator on ``real`` and detached ``made``, both ``(B, T)``.

    Mean over scales; 2 where it cannot tell them apart, 0 where it does with a margin.
    """
    # One pass over both halves costs less than two on a CPU.
    logits, _ = discriminator(torch.cat([real, made.detach()]))
    total = real.new_zeros(())
    for scale in logits:
        on_real, on_made = scale.chunk(2)
        total = total + F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean()
    return total / len(logits)


def generator_losses(
    discriminator: Discriminator, real: Tensor, made: Tensor
) -> tuple[Tensor, Tensor]:
    """``(fooling, matching)`` of ``made`` against ``real``, both ``(B, T)``.

    Fooling is the hinge loss of the generator, 1 where the discriminator is undecided. Matching
    is the L1 distance of the discriminator's features relative to the mean size of the real ones,
    0 for equal inputs. Gradients reach ``made`` alone: the discriminator's weights are not asked
    for theirs.
    """
    wanted = [p.requires_grad for p in discriminator.parameters()]
    discriminator.requires_grad_(False)
    try:
        with torch.no_grad():
            _, real_features = discriminator(real)
        logits, features = discriminator(made)
    finally:
        for parameter, want in zip(discriminator.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)
    fooling = torch.stack([F.relu(1 - scale).mean() for scale in logits]).mean()
    distances = [
        F.l1_loss(ours, theirs) / theirs.abs().mean().clamp(min=1e-6)
        for ours_scale, theirs_scale in zip(features, real_features, strict=True)
        for ours, theirs in zip(ours_scale, theirs_scale, strict=True)
    ]
    return fooling, torch.stack(distances).mean()
