"""Published EnCodec weights behind the codec protocol (arXiv 2210.13438).

Two formats of the same causal 24 kHz model: a transformers checkpoint (``facebook/encodec_24khz``
or a folder that ``save_pretrained`` wrote) and a state dict of the encodec package
(``encodec_24khz-d7cc33bc.th``). The caller resamples: ``encode`` expects ``sample_rate``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from common.errors import UserError

HUB_ID = "facebook/encodec_24khz"
KILOBITS = 6.0  # 8 codebooks at 24 kHz, the setting that most language models use
STATE_DICT = "encodec.th"
# The two LSTM layers have no finite context; two seconds leave nothing audible of what is cut.
CONTEXT_SECONDS = 2.0


class PretrainedCodec(nn.Module):
    """EnCodec, from either format, at one bandwidth. Satisfies :class:`speech.codec.Codec`.

    ``network`` is transformers' ``EncodecModel`` or the encodec package's; ``kilobits`` is the
    bandwidth in kbit/s and decides how many codebooks ``encode`` fills. Raises :class:`UserError`
    for a bandwidth or a variant (stereo, normalised, in segments) that codes alone cannot carry.
    """

    kind = "encodec"

    def __init__(self, network: nn.Module, kilobits: float | None = None) -> None:
        super().__init__()
        self.network: Any = network.eval()
        self.hugging_face = hasattr(network, "config")
        facts: Any = network.config if self.hugging_face else network
        channels = facts.audio_channels if self.hugging_face else facts.channels
        segment = facts.chunk_length_s if self.hugging_face else facts.segment
        if channels != 1 or facts.normalize or segment is not None:
            raise UserError(
                "only mono EnCodec models without loudness scales or segments are supported",
                f"use the 24 kHz model, {HUB_ID}",
            )
        bandwidths = sorted(float(b) for b in facts.target_bandwidths)
        self.kilobits = kilobits or (KILOBITS if KILOBITS in bandwidths else bandwidths[-1])
        if self.kilobits not in bandwidths:
            choice = ", ".join(f"{b:g}" for b in bandwidths)
            raise UserError(f"no bandwidth of {self.kilobits:g} kbit/s", f"choose from {choice}")
        if self.hugging_face:
            self.sample_rate = int(facts.sampling_rate)
            self.hop = math.prod(facts.upsampling_ratios)
            entries = int(facts.codebook_size)
        else:
            self.sample_rate = int(facts.sample_rate)
            self.hop = math.prod(facts.encoder.ratios)
            entries = int(facts.quantizer.bins)
            network.set_target_bandwidth(self.kilobits)  # type: ignore[operator]
        self.frame_rate = math.ceil(self.sample_rate / self.hop)
        self.codebooks = int(1000 * self.kilobits // (self.frame_rate * math.log2(entries)))
        self.codebook_sizes = (entries,) * self.codebooks
        self.context_frames = round(CONTEXT_SECONDS * self.frame_rate)

    @classmethod
    def from_hub(cls, name_or_folder: str | Path = HUB_ID, kilobits: float | None = None) -> Self:
        """Load a transformers checkpoint by hub name or from a folder."""
        from transformers import EncodecModel

        from common.policies.weights import no_bars, reach

        try:
            reach(name_or_folder)
            with no_bars():
                network = EncodecModel.from_pretrained(str(name_or_folder))
        except (OSError, ValueError) as error:
            remedy = f"go online once, or download {HUB_ID} elsewhere and give its folder"
            raise UserError(f"cannot load EnCodec from {name_or_folder}", remedy) from error
        return cls(network, kilobits)

    @classmethod
    def from_state_dict(cls, path: Path, kilobits: float | None = None) -> Self:
        """Load a state dict of the encodec package's 24 kHz model."""
        from encodec.model import EncodecModel

        network = EncodecModel.encodec_model_24khz(pretrained=False)
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load lets pickle's, zipfile's and its own errors out
            remedy = "give encodec_24khz-d7cc33bc.th as the encodec package publishes it"
            raise UserError(f"{path} is no state dict of the 24 kHz EnCodec", remedy) from error
        return cls(network, kilobits)

    @torch.inference_mode()
    def encode(self, wave: Tensor) -> Tensor:
        """Samples ``(B, T)`` in [-1, 1] → codes ``(B, Q, ceil(T / hop))``."""
        if self.hugging_face:
            coded = self.network.encode(wave[:, None], bandwidth=self.kilobits)
            return torch.as_tensor(coded.audio_codes[0])
        ((codes, _),) = self.network.encode(wave[:, None])
        return torch.as_tensor(codes)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q' <= Q, F)`` → samples ``(B, F * hop)``."""
        if self.hugging_face:
            wave = self.network.decode(codes[None], [None]).audio_values
        else:
            wave = self.network.decode([(codes, None)])
        return torch.as_tensor(wave[:, 0, : codes.shape[-1] * self.hop])

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the weights in the format that they came in."""
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, object] = {}
        if self.hugging_face:
            self.network.save_pretrained(folder)
            settings = json.loads((folder / "config.json").read_text())
        else:
            torch.save(self.network.state_dict(), folder / STATE_DICT)
        settings |= {"kind": self.kind, "kilobits": self.kilobits}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote, or any transformers EnCodec checkpoint."""
        settings = json.loads((folder / "config.json").read_text())
        kilobits = settings.get("kilobits")
        if (folder / STATE_DICT).is_file():
            return cls.from_state_dict(folder / STATE_DICT, kilobits)
        return cls.from_hub(folder, kilobits)
