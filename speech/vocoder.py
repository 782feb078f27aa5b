"""From first-codebook codes to sound: the NAR fills in the other codebooks, the codec decodes.

This part is the same before and after alignment, so what changes between two policies is only
what the autoregressive model says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.codec import Codec, load_codec
from speech.lm import stream
from speech.lm.nar import MaskedCodes

Wave = NDArray[np.float32]
VOICE_SECONDS = 3.0


@dataclass
class Vocoder:
    """A codec, a NAR and a voice prompt's codes ``(Q, V)``."""

    codec: Codec
    nar: MaskedCodes
    voice: Tensor

    @classmethod
    def starter(cls) -> Vocoder:
        """The starter codec and NAR with the starter's voice."""
        from common import registry

        nar = registry.get("starter-nar")
        voice = np.load(nar / "voice.npz")["codes"].astype(np.int64)
        return cls(load_codec("starter"), MaskedCodes.load(nar), torch.from_numpy(voice))

    def with_voice(self, wave: Wave) -> Vocoder:
        """The same with the first three seconds of ``wave`` (codec rate) as voice prompt."""
        return Vocoder(
            self.codec, self.nar, voice_codes(self.codec, wave, len(self.nar.config.sizes))
        )

    def waves(
        self,
        completions: Sequence[str],
        progress: Callable[[int, int, str], None] | None = None,
    ) -> list[Wave]:
        """Sound of each completion of the AR; empty where it holds no codes.

        The result of a row depends on its own codes only, not on the batch.
        """
        parsed = [stream.frames(text) for text in completions]
        spoken = [i for i, (codes, _) in enumerate(parsed) if codes]
        full = self.nar.generate(
            [parsed[i][0] for i in spoken],
            [parsed[i][1] for i in spoken],
            self.voice,
        )
        waves: list[Wave] = [np.zeros(0, np.float32) for _ in parsed]
        for done, (i, codes) in enumerate(zip(spoken, full, strict=True), 1):
            # A decoder overshoots by a few samples; said here, not warned of at every file.
            waves[i] = self.codec.decode(codes[None])[0].clamp(-1, 1).numpy()
            if progress:
                progress(done, len(spoken), "decode")
        return waves


def voice_codes(codec: Codec, wave: Wave, books: int, seconds: float = VOICE_SECONDS) -> Tensor:
    """Codes ``(books, frames)`` of the first ``seconds`` of ``wave``, repeated if it is shorter."""
    frames = round(seconds * codec.frame_rate)
    codes = codec.encode(torch.from_numpy(wave[: frames * codec.hop])[None])[0, :books]
    repeats = -(-frames // codes.shape[1])
    return codes.repeat(1, repeats)[:, :frames].clone()


def save_voice(codes: Tensor, folder: Path) -> None:
    """Write the voice prompt beside a NAR's weights."""
    np.savez_compressed(folder / "voice.npz", codes=codes.numpy().astype(np.uint16))
