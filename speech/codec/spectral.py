"""A codec with a mel front end and an inverse-STFT head: the body of the starter.

Two convolutional encoders read a log-mel spectrogram. One predicts a speech recogniser's states
and its output is clustered: that is the first codebook, phonetic and cheap to predict from text.
The other feeds a residual vector quantiser beside it, and the sum of both is decoded: the split
quantiser of Mimi (arXiv 2410.00037, section 3.3). The decoder predicts magnitude and
phase of an STFT (Vocos, arXiv 2306.00814), which CPUs train and run far faster than transposed
convolutions on samples. Blocks are ConvNeXt (arXiv 2201.03545) in one dimension.

Deviations: the first codebook is the set of k-means centroids of the *predicted* states, in the
linear projection that tells phones apart best, and takes no reconstruction gradient, so it stays
phonetic (CosyVoice, arXiv 2407.05407, section 2.1, supervises its tokens by a recogniser with the
same aim); a learnt table puts it into the acoustic latent, so any number of codebooks decodes. The
quantiser codes the acoustic latent and not what the table leaves of it: then a codebook went to
undoing the table (``docs/lab-notes.md``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from encodec.quantization.core_vq import ResidualVectorQuantization
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

from speech.codec.quantizer import mend


@dataclass(frozen=True)
class SpectralConfig:
    """Sizes of a :class:`SpectralCodec`; the defaults are the starter's."""

    sample_rate: int = 16_000
    hop: int = 320
    mels: int = 80
    width: int = 192
    semantic_width: int = 160
    latent: int = 64
    semantic_size: int = 256
    discriminants: int = 32
    acoustic_size: int = 512
    acoustic_books: int = 3
    encoder_blocks: tuple[int, int] = (2, 2)
    semantic_blocks: tuple[int, int] = (2, 3)
    decoder_blocks: tuple[int, int] = (2, 5)


class Block(nn.Module):
    """A ConvNeXt block over ``(B, C, T)``: depthwise convolution, then a two-layer perceptron."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return x + y.transpose(1, 2)


def _blocks(width: int, count: int, total: int) -> list[nn.Module]:
    return [Block(width, 1.0 / total) for _ in range(count)]


class Encoder(nn.Module):
    """Log-mel at twice the frame rate ``(B, mels, 2F)`` → ``(B, latent, F)``."""

    def __init__(self, mels: int, width: int, blocks: tuple[int, int], latent: int) -> None:
        super().__init__()
        total = sum(blocks)
        self.layers = nn.Sequential(
            nn.Conv1d(mels, width, 7, padding=3),
            *_blocks(width, blocks[0], total),
            nn.Conv1d(width, width, 4, stride=2, padding=1),
            *_blocks(width, blocks[1], total),
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, latent)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(self.layers(x).transpose(1, 2)))
        return y.transpose(1, 2)


class Decoder(nn.Module):
    """Latents ``(B, latent, F)`` → samples ``(B, F * hop)`` through an inverse STFT."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        width, (slow, fast) = config.width, config.decoder_blocks
        self.hop = config.hop // 2
        self.size = 4 * self.hop
        self.enter = nn.Conv1d(config.latent, width, 7, padding=3)
        self.slow = nn.Sequential(*_blocks(width, slow, slow + fast))
        self.widen = nn.Conv1d(width, 2 * width, 1)
        self.fast = nn.Sequential(*_blocks(width, fast, slow + fast))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, self.size + 2)
        self.window = nn.Buffer(torch.hann_window(self.size), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        x = self.widen(self.slow(self.enter(z)))
        batch, _, frames = x.shape
        x = x.view(batch, 2, -1, frames).permute(0, 2, 3, 1).reshape(batch, -1, 2 * frames)
        x = self.out(self.norm(self.fast(x).transpose(1, 2))).transpose(1, 2)
        log_magnitude, phase = x.chunk(2, dim=1)
        magnitude = log_magnitude.clamp(max=5.0).exp()
        return self._inverse(torch.polar(magnitude, phase))

    def _inverse(self, spectrum: Tensor) -> Tensor:
        """Overlap-add with the padding that gives exactly ``hop`` samples a frame."""
        frames = torch.fft.irfft(spectrum, self.size, dim=1) * self.window[:, None]
        count = frames.shape[-1]
        length = (count - 1) * self.hop + self.size
        fold = {"output_size": (1, length), "kernel_size": (1, self.size), "stride": (1, self.hop)}
        wave = F.fold(frames, **fold)[:, 0, 0]
        square = self.window.square()[None, :, None].expand(1, -1, count)
        envelope = F.fold(square, **fold)[:, 0, 0]
        trim = (self.size - self.hop) // 2
        return (wave / envelope.clamp(min=1e-4))[:, trim : trim + count * self.hop]


class SpectralCodec(nn.Module):
    """See the module's docstring. Satisfies :class:`speech.codec.Codec`."""

    kind = "spectral"

    def __init__(self, config: SpectralConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SpectralConfig()
        self.semantic = Encoder(c.mels, c.semantic_width, c.semantic_blocks, c.latent)
        self.acoustic = Encoder(c.mels, c.width, c.encoder_blocks, c.latent)
        self.projection = nn.Buffer(torch.zeros(c.latent, c.discriminants))
        self.centroids = nn.Buffer(torch.zeros(c.semantic_size, c.discriminants))
        self.table = nn.Embedding(c.semantic_size, c.latent)
        self.residual = ResidualVectorQuantization(
            num_quantizers=c.acoustic_books,
            dim=c.latent,
            codebook_size=c.acoustic_size,
            decay=0.98,
            kmeans_init=True,
            kmeans_iters=20,
            threshold_ema_dead_code=0.2,
        )
        mend(self.residual)
        self.decoder = Decoder(c)
        bank = melscale_fbanks(
            513, 0.0, c.sample_rate / 2, c.mels, c.sample_rate, "slaney", "slaney"
        )
        self.bank = nn.Buffer(bank.T.contiguous(), persistent=False)
        self.window = nn.Buffer(torch.hann_window(640), persistent=False)

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def hop(self) -> int:
        return self.config.hop

    @property
    def frame_rate(self) -> int:
        return self.config.sample_rate // self.config.hop

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (
            self.config.semantic_size,
            *[self.config.acoustic_size] * self.config.acoustic_books,
        )

    @property
    def codebooks(self) -> int:
        return len(self.codebook_sizes)

    @property
    def context_frames(self) -> int:
        """Frames each side that reach a frame: 7-wide convolutions, halved above the frame rate."""
        c = self.config
        encoder = max(
            2 + (3 * (blocks[0] + 1)) // 2 + 3 * blocks[1]
            for blocks in (c.encoder_blocks, c.semantic_blocks)
        )
        slow, fast = c.decoder_blocks
        return max(encoder, 5 + 3 * slow + (3 * fast) // 2)

    def log_mel(self, wave: Tensor) -> Tensor:
        """Samples ``(B, T)`` → ``(B, mels, 2 * ceil(T / hop))``, about zero mean and unit scale."""
        half = self.hop // 2
        frames = 2 * -(-wave.shape[-1] // self.hop)
        left = (1024 - half) // 2
        padded = F.pad(wave, (left, frames * half - wave.shape[-1] + 1024 - half - left))
        spectrum = torch.stft(
            padded, 1024, half, 640, self.window, center=False, return_complex=True
        ).abs()
        return ((self.bank @ spectrum).clamp(min=1e-4).log() + 4.0) / 2.5

    def semantic_codes(self, mel: Tensor) -> Tensor:
        """First codebook ``(B, F)``: the centroid nearest to the projected state."""
        states = self.semantic(mel).transpose(1, 2) @ self.projection
        return torch.cdist(states, self.centroids.expand(len(states), -1, -1)).argmin(-1)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q' <= Q, F)`` → acoustic latents ``(B, latent, F)``."""
        latent = self.table(codes[:, 0]).transpose(1, 2)
        if codes.shape[1] > 1:
            latent = latent + self.residual.decode(codes[:, 1:].transpose(0, 1))
        return torch.as_tensor(latent)

    @torch.inference_mode()
    def encode(self, wave: Tensor) -> Tensor:
        """Samples ``(B, T)`` in [-1, 1] → codes ``(B, Q, ceil(T / hop))``."""
        mel = self.log_mel(wave)
        rest = self.residual.encode(self.acoustic(mel)).transpose(0, 1)
        return torch.cat([self.semantic_codes(mel)[:, None], rest], 1)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q' <= Q, F)`` → samples ``(B, F * hop)``."""
        return torch.as_tensor(self.decoder(self.embed(codes)))

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and half-precision ``model.safetensors`` into ``folder``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: (t.half() if t.is_floating_point() else t).contiguous()
            for name, t in self.state_dict().items()
            if not name.endswith((".embed_avg", ".cluster_size"))  # only training needs them
        }
        save_file(weights, folder / "model.safetensors")
        settings = {"kind": self.kind, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        settings: dict[str, Any] = json.loads((folder / "config.json").read_text())
        settings.pop("kind", None)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
        }
        codec = cls(SpectralConfig(**values))
        weights = {
            k: t.float() if t.is_floating_point() else t
            for k, t in load_file(folder / "model.safetensors").items()
        }
        codec.load_state_dict(weights, strict=False)
        return codec.eval()
