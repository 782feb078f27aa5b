"""EnCodec's architecture (arXiv 2210.13438) at 16 kHz and 50 frames a second.

Encoder, decoder and quantiser are the encodec package's modules, its codebooks mended
(:mod:`speech.codec.quantizer`): strided convolutions with residual units and two LSTM layers,
residual vector quantisation with codebooks that follow running means, and the mirror of the
encoder. A linear layer on the first quantiser's output may
predict a teacher's states, as in SpeechTokenizer (arXiv 2308.16692, section 3.2), so that the
first codebook becomes phonetic. Trained by :mod:`speech.codec.train_seanet`.

Deviations: strides multiply to 320 at 16 kHz, not 24 kHz; the default is half as wide and its
codebooks have 512 entries (:data:`PUBLISHED` has the paper's sizes); an entry counts as dead
when its mean use falls under ``dead_use`` a batch, because the published 2 would replace every
entry for ever with batches as small as a CPU affords.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from encodec.modules.seanet import SEANetDecoder, SEANetEncoder
from encodec.quantization.vq import ResidualVectorQuantizer
from torch import Tensor, nn

from speech.codec.quantizer import mend

LSTM_CONTEXT_SECONDS = 2.0


@dataclass(frozen=True)
class SEANetConfig:
    """Sizes of a :class:`SEANetCodec`.

    ``ratios`` are the decoder's strides; their product is the hop in samples. ``lstm=0`` makes
    the context finite, so that chunked coding is exact. ``teacher`` is the width of the states
    that the first quantiser learns to predict, 0 for none.
    """

    sample_rate: int = 16_000
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    filters: int = 16
    latent: int = 64
    lstm: int = 2
    causal: bool = True
    codebooks: int = 8
    entries: int = 512
    dead_use: float = 0.2
    teacher: int = 0


PUBLISHED = SEANetConfig(filters=32, latent=128, entries=1024, dead_use=2.0)


class Reconstruction(NamedTuple):
    """What a forward pass gives. B clips, T samples, Q codebooks used, D latents, F frames."""

    wave: Tensor  # (B, T)
    codes: Tensor  # (B, Q, F); Q is 0 without the quantiser
    commitment: Tensor  # scalar: mean square distance of latents from their entries
    first: Tensor  # (B, D, F): the first quantiser's output, or the latents without it


class SEANetCodec(nn.Module):
    """See the module's docstring. Satisfies :class:`speech.codec.Codec`."""

    kind = "seanet"

    def __init__(self, config: SEANetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SEANetConfig()
        shape: dict[str, Any] = {
            "dimension": c.latent,
            "n_filters": c.filters,
            "ratios": list(c.ratios),
            "lstm": c.lstm,
            "causal": c.causal,
        }
        self.encoder = SEANetEncoder(**shape)
        self.decoder = SEANetDecoder(**shape)
        self.quantizer = ResidualVectorQuantizer(
            dimension=c.latent,
            n_q=c.codebooks,
            bins=c.entries,
            threshold_ema_dead_code=c.dead_use,  # type: ignore[arg-type]
        )
        mend(self.quantizer.vq)
        self.projection = nn.Linear(c.latent, c.teacher) if c.teacher else None
        self.sample_rate = c.sample_rate
        self.hop = math.prod(c.ratios)
        self.frame_rate = c.sample_rate // self.hop
        self.codebooks = c.codebooks
        self.codebook_sizes = (c.entries,) * c.codebooks

    @property
    def context_frames(self) -> int:
        """Frames each side that reach a frame; for an LSTM two seconds, which is approximate.

        A kernel of k samples at stride s reaches (k - 1) s samples, behind it if causal, else
        half on each side. The decoder's transposed convolutions reach one step of their input.
        """
        side = 1.0 if self.config.causal else 0.5
        encoder, stride = 6, 1
        for ratio in reversed(self.config.ratios):
            encoder += 2 * stride + (2 * ratio - 1) * stride
            stride *= ratio
        encoder += 6 * stride
        decoder = 6 * stride
        for ratio in self.config.ratios:
            decoder += stride  # both neighbours of a step, whatever is trimmed
            stride //= ratio
            decoder += 2 * stride
        decoder += 6
        finite = math.ceil(side * max(encoder, decoder) / self.hop) + 1
        if not self.config.lstm:
            return finite
        return max(finite, round(LSTM_CONTEXT_SECONDS * self.frame_rate))

    def forward(
        self, wave: Tensor, books: int | None = None, quantise: bool = True
    ) -> Reconstruction:
        """Samples ``(B, T)`` through the first ``books`` codebooks (all by default) and back.

        Without the quantiser the latents pass as they are. In training mode the codebooks move.
        """
        latent = self.encoder(wave[:, None])
        first = total = latent
        codes = latent.new_zeros((len(wave), 0, latent.shape[-1]), dtype=torch.int64)
        commitment = latent.new_zeros(())
        if quantise:
            residual, outputs, indices, losses = latent, [], [], []
            for layer in self.quantizer.vq.layers[: books or self.codebooks]:
                output, index, loss = layer(residual)
                residual = residual - output
                outputs.append(output)
                indices.append(index)
                losses.append(loss)
            first, total = outputs[0], torch.stack(outputs).sum(0)
            codes, commitment = torch.stack(indices, 1), torch.cat(losses).mean()
        made = self.decoder(total)[:, 0, : wave.shape[-1]]
        return Reconstruction(made, codes, commitment, first)

    @torch.no_grad()
    def standardise(self, wave: Tensor) -> None:
        """Set the encoder so that ``wave (B, T)`` moves each of its channels with unit spread.

        Before training: the initialisation that belongs to weight normalisation (Salimans and
        Kingma, arXiv 1602.07868, section 3). Without it speech moves the latents by a thousandth
        of their size, the decoder learns an average sound and all frames share one entry.
        """

        def hook(layer: nn.Module, _: object, out: Tensor) -> Tensor:
            mean, spread = out.mean((0, 2)), out.std((0, 2)) + 1e-5
            at: Any = layer
            at.weight_g.div_(spread[:, None, None])
            at.bias.copy_((at.bias - mean) / spread)
            return (out - mean[:, None]) / spread[:, None]

        layers = [m for m in self.encoder.modules() if isinstance(m, nn.Conv1d)]
        handles = [layer.register_forward_hook(hook) for layer in layers]
        try:
            self.encoder(wave[:, None])
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def seed_codebooks(self, wave: Tensor) -> None:
        """k-means over the latents of ``wave (B, T)``, each codebook on what the last left.

        Once, before the quantiser trains: from random entries it collapses onto a few. Memory
        grows with frames × entries × latent.
        """
        latent = self.encoder(wave[:, None])
        training = self.training
        self.quantizer.eval()  # eval seeds as well, and replaces nothing
        residual = latent
        for layer in self.quantizer.vq.layers:
            output, _, _ = layer(residual)
            residual = residual - output
        self.quantizer.train(training)

    @property
    def seeded(self) -> bool:
        """Whether the codebooks hold anything yet."""
        layers: Any = self.quantizer.vq.layers
        return all(bool(layer._codebook.inited) for layer in layers)

    @torch.inference_mode()
    def encode(self, wave: Tensor) -> Tensor:
        """Samples ``(B, T)`` in [-1, 1] → codes ``(B, Q, ceil(T / hop))``."""
        codes = self.quantizer.vq.encode(self.encoder(wave[:, None]))
        return torch.as_tensor(codes.transpose(0, 1))

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q' <= Q, F)`` → samples ``(B, F * hop)``."""
        wave = self.decoder(self.quantizer.vq.decode(codes.transpose(0, 1)))
        return torch.as_tensor(wave[:, 0, : codes.shape[-1] * self.hop])

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors``, in full precision, and ``config.json`` into ``folder``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors")
        settings = {"kind": self.kind, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        settings = json.loads((folder / "config.json").read_text())
        settings.pop("kind", None)
        codec = cls(SEANetConfig(**settings | {"ratios": tuple(settings["ratios"])}))
        codec.load_state_dict(load_file(folder / "model.safetensors"))
        return codec.eval()
