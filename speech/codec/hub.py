"""Codecs of the transformers library behind the codec protocol: DAC, Mimi, X-codec, X-codec 2.

| model | paper | codebooks | first codebook |
|---|---|---|---|
| ``dac`` | arXiv 2306.06546 | residual, 8 to 12 | like the others |
| ``mimi`` | arXiv 2410.00037 | 1 semantic beside residual ones, 12.5 frames a second | semantic |
| ``xcodec`` | arXiv 2408.17175 | residual over acoustic and HuBERT features | mostly semantic |
| ``xcodec2`` | arXiv 2502.04128 | one of 65,536 entries; the codec of LLaSA | both at once |

Any checkpoint that ``save_pretrained`` wrote or that the hub has. The caller resamples: ``encode``
expects ``sample_rate``. What a network's odd strides lack or add at the end, at most a frame, is
filled with zeros or cut.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError

# Attention hears farther than any overlap; four seconds is a choice, and codes near the seams of
# chunks may differ from those of coding at once.
ATTENTION_SECONDS = 4.0


class TransformersCodec(nn.Module):
    """A codec of transformers. Satisfies :class:`speech.codec.Codec`.

    ``frame_rate`` is rounded (Mimi has 12.5 frames a second). X-codec and X-codec 2 normalise over
    the whole clip and Mimi attends, so a clip padded into a batch may get other codes than alone.
    """

    CLASSES = {  # noqa: RUF012
        "dac": "DacModel",
        "mimi": "MimiModel",
        "xcodec": "XcodecModel",
        "xcodec2": "Xcodec2Model",
    }

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network.eval()
        c: Any = network.config
        self.kind: str = c.model_type
        if getattr(c, "audio_channels", 1) != 1:
            raise UserError("only mono codecs are supported", "use a mono checkpoint")
        self.sample_rate = int(c.sample_rate if self.kind == "xcodec" else c.sampling_rate)
        self.hop = int(c.frame_size if self.kind == "mimi" else c.hop_length)
        self.frame_rate = max(1, round(self.sample_rate / self.hop))
        if self.kind == "xcodec2":
            self.codebook_sizes: tuple[int, ...] = (math.prod(c.quantization_levels),)
        else:
            books = c.n_codebooks if self.kind == "dac" else c.num_quantizers
            self.codebook_sizes = (int(c.codebook_size),) * int(books)
        self.codebooks = len(self.codebook_sizes)

    @property
    def context_frames(self) -> int:
        """Frames each side that reach a frame: exact for DAC, four seconds for the others."""
        if self.kind != "dac":
            return math.ceil(ATTENTION_SECONDS * self.sample_rate / self.hop)
        # Kernels of 7 with dilations 1, 3 and 9 reach 3 (1 + 3 + 9) steps in each block.
        encoder, step = 3, 1
        for stride in self.network.config.downsampling_ratios:
            encoder += 39 * step + stride * step
            step *= stride
        encoder += step
        decoder, step = 3 * self.hop, self.hop
        for stride in self.network.config.upsampling_ratios:
            decoder += step
            step //= stride
            decoder += 39 * step
        return math.ceil(max(encoder, decoder + 3) / self.hop) + 1

    @torch.inference_mode()
    def encode(self, wave: Tensor) -> Tensor:
        """Samples ``(B, T)`` in [-1, 1] → codes ``(B, Q, ceil(T / hop))``."""
        frames = -(-wave.shape[1] // self.hop)
        if self.kind == "xcodec2":
            coded = self.network.encode(**self._features(wave))
        else:
            whole = F.pad(wave, (0, frames * self.hop - wave.shape[1]))
            coded = self.network.encode(whole[:, None])
        return torch.as_tensor(coded.audio_codes[:, :, :frames].long())

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q' <= Q, F)`` → samples ``(B, F * hop)``."""
        made = self.network.decode(audio_codes=codes).audio_values
        wave, wanted = made.reshape(len(codes), -1), codes.shape[-1] * self.hop
        return torch.as_tensor(F.pad(wave, (0, max(0, wanted - wave.shape[1])))[:, :wanted])

    def _features(self, wave: Tensor) -> dict[str, Tensor]:
        """What X-codec 2 reads: samples, and the mel frames that its semantic encoder hears."""
        from transformers import Xcodec2FeatureExtractor

        extract = Xcodec2FeatureExtractor(sampling_rate=self.sample_rate, hop_length=self.hop)
        clips = [row.cpu().numpy() for row in wave]
        found = extract(clips, sampling_rate=self.sample_rate, return_tensors="pt")
        return {name: tensor.to(wave.device) for name, tensor in found.items()}

    def save(self, folder: Path) -> None:
        """Write what ``save_pretrained`` writes, and ``kind`` into ``config.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save_pretrained(folder)
        settings = json.loads((folder / "config.json").read_text()) | {"kind": self.kind}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` or ``save_pretrained`` wrote."""
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        return cls.from_hub(kind, folder)

    @classmethod
    def from_hub(cls, kind: str, name_or_folder: str | Path) -> Self:
        """The checkpoint of a model type, by hub name or from a folder.

        Raises:
            UserError: there is no whole checkpoint.
        """
        import transformers

        from common.policies.weights import no_bars, reach

        network_class = getattr(transformers, cls.CLASSES[kind])
        try:
            reach(name_or_folder)
            with no_bars():
                network, about = network_class.from_pretrained(
                    str(name_or_folder), output_loading_info=True
                )
        except (OSError, ValueError, RuntimeError) as error:
            remedy = "go online once, or download the repository elsewhere and give its folder"
            raise UserError(f"cannot load a {kind} codec from {name_or_folder}", remedy) from error
        if about["missing_keys"]:
            # A missing weight would be random, and everything after it noise.
            raise UserError(
                f"the {kind} codec in {name_or_folder} lacks {len(about['missing_keys'])} weights, "
                f"{min(about['missing_keys'])} among them",
                "download it again",
            )
        return cls(network)
