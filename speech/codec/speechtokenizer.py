"""Published SpeechTokenizer weights behind the codec protocol (arXiv 2308.16692).

A folder as its authors publish it: ``config.json`` with ``n_q``, ``strides`` and so on, and one
state dict (``SpeechTokenizer.pt``). The network is EnCodec's, not causal, whose encoder has a
bidirectional LSTM; the first codebook was taught by HuBERT and holds what is said, the others how
it sounds. Built from the encodec package's modules, whose names the checkpoints share. The
authors' snake variant is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from encodec.modules.conv import SConv1d
from encodec.modules.seanet import SEANetDecoder, SEANetEncoder
from encodec.quantization.vq import ResidualVectorQuantizer
from torch import Tensor, nn

from common.errors import UserError

STATE_DICT = "SpeechTokenizer.pt"
# An LSTM has no finite context; two seconds leave nothing audible of what is cut.
CONTEXT_SECONDS = 2.0


class Bidirectional(nn.Module):
    """An LSTM over ``(B, C, F)`` in both directions → ``(B, 2 C, F)``, its input added to both."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.permute(2, 0, 1)
        both: Tensor = self.lstm(frames)[0] + frames.repeat(1, 1, 2)
        return both.permute(1, 2, 0)


class SpeechTokenizerCodec(nn.Module):
    """See the module's docstring. Satisfies :class:`speech.codec.Codec`.

    A batch of clips of different lengths, padded, gives other codes than each clip alone: the
    encoder's backward LSTM begins in the padding.
    """

    kind = "speechtokenizer"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if settings.get("activation", "ELU") != "ELU":
            raise UserError(
                f"a SpeechTokenizer with the activation {settings['activation']!r}",
                "use the published speechtokenizer_hubert_avg, whose activation is ELU",
            )
        self.settings = dict(settings)
        filters, layers = int(settings["n_filters"]), int(settings["lstm_layers"])
        latent, strides = int(settings["dimension"]), [int(s) for s in settings["strides"]]
        shape: dict[str, Any] = {
            "n_filters": filters,
            "dimension": latent,
            "ratios": strides,
            "lstm": layers,
            "n_residual_layers": int(settings["n_residual_layers"]),
            "residual_kernel_size": int(settings["residual_kernel_size"]),
            "dilation_base": int(settings["dilation_base"]),
        }
        self.encoder: Any = SEANetEncoder(**shape)
        self.decoder = SEANetDecoder(**shape)
        if settings["bidirectional"]:
            width = filters * 2 ** len(strides)
            at: Any = self.encoder.model
            at[-3] = Bidirectional(width, layers)
            at[-1] = SConv1d(2 * width, latent, 7, norm="weight_norm", pad_mode="reflect")
        self.codebooks, entries = int(settings["n_q"]), int(settings["codebook_size"])
        self.quantizer = ResidualVectorQuantizer(latent, self.codebooks, entries)
        taught = int(settings["semantic_dimension"])  # only training reads it; checkpoints hold it
        self.transform = nn.Linear(latent, taught) if taught != latent else nn.Identity()
        self.sample_rate, self.hop = int(settings["sample_rate"]), math.prod(strides)
        self.frame_rate = self.sample_rate // self.hop
        self.codebook_sizes = (entries,) * self.codebooks
        self.context_frames = round(CONTEXT_SECONDS * self.frame_rate)

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
        """Write ``config.json`` and the state dict, in the format that they came in."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), folder / STATE_DICT)
        settings = {**self.settings, "kind": self.kind}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a published folder, or what :meth:`save` wrote.

        Raises:
            UserError: there is not exactly one state dict beside ``config.json``, or it belongs
                to another network.
        """
        settings = json.loads((folder / "config.json").read_text())
        found = [p for p in sorted(folder.iterdir()) if p.suffix in (".pt", ".pth", ".ckpt")]
        if len(found) != 1:
            raise UserError(
                f"{folder} holds {len(found)} state dicts of a SpeechTokenizer",
                f"keep config.json and {STATE_DICT} of one model in it",
            )
        codec = cls(settings)
        try:
            codec.load_state_dict(torch.load(found[0], map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load lets pickle's, zipfile's and its own errors out
            raise UserError(
                f"{found[0]} does not hold the SpeechTokenizer that config.json describes",
                "download both of them again, from one folder",
            ) from error
        return codec.eval()
