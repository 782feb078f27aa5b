"""The pair's half that stays: the NAR fills in the codebooks after the first, the codec decodes.

This part is the same before and after alignment, so what changes between two policies is only
what the autoregressive model says. The AR reads and writes our own stream
(:mod:`speech.lm.stream`); codec, NAR and AR may be a user's own, trained with one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from common.policies.weights import digest
from common.records import identity
from speech import audio
from speech.codec import Codec, fingerprint, load_codec
from speech.corpora import Utterance
from speech.lm import stream
from speech.lm.nar import MaskedCodes
from speech.segmentation import Segment
from speech.speaker import Voice
from speech.text import phonemes

if TYPE_CHECKING:
    from common.policies.local import HFPolicy

Wave = NDArray[np.float32]
VOICE_SECONDS = 3.0


@dataclass
class Vocoder:
    """A codec, a NAR and a voice prompt's codes ``(Q, V)``. A :class:`speech.speaker.Speaker`.

    ``placed`` tells where the phones of a recording are (:func:`speech.train.load_segments`):
    without it a recording cannot be a golden completion.
    """

    codec: Codec
    nar: MaskedCodes
    voice: Tensor
    placed: Mapping[str, tuple[list[str], list[Segment]]] = field(default_factory=dict)

    @classmethod
    def starter(cls) -> Vocoder:
        """The starter codec and NAR with the starter's voice."""
        from common import registry

        return cls.load("starter", registry.get("starter-nar"))

    @classmethod
    def load(cls, codec: str, nar: Path) -> Vocoder:
        """A codec as :func:`speech.codec.load_codec` finds it, and the NAR in a folder.

        Raises:
            UserError: there is no NAR with a voice prompt, or it was trained on another codec.
        """
        if not (nar / "voice.npz").is_file() or not (nar / "config.json").is_file():
            raise UserError(
                f"no NAR with a voice prompt in {str(nar)!r}",
                "give a folder that upspiral speech train nar wrote",
            )
        loaded, model = load_codec(codec), MaskedCodes.load(nar)
        sizes = model.config.sizes
        if sizes != loaded.codebook_sizes[: len(sizes)]:
            raise UserError(
                f"the NAR in {str(nar)!r} is for codebooks of {sizes}, the codec {codec!r} has "
                f"{loaded.codebook_sizes}",
                "give the codec that it was trained with",
            )
        voice = np.load(nar / "voice.npz")["codes"].astype(np.int64)
        return cls(loaded, model, torch.from_numpy(voice))

    def fingerprint(self) -> str:
        """What names all that turns a completion into sound: codec, NAR and voice prompt."""
        own = {**self.nar.state_dict(), "voice": self.voice}
        return identity(fingerprint(self.codec), digest(own))

    def with_voice(self, wave: Wave) -> Vocoder:
        """The same with the first three seconds of ``wave`` (codec rate) as voice prompt."""
        voice = voice_codes(self.codec, wave, len(self.nar.config.sizes))
        return Vocoder(self.codec, self.nar, voice, self.placed)

    def prepare(self, policy: HFPolicy) -> None:
        """Nothing is left to set: :func:`speech.speaking.load_policy` steers an AR.

        Raises:
            UserError: the policy's codes are not those of the codec's first codebook.
        """
        vocabulary = policy.tokenizer.get_vocab()
        codes, size = (
            sum(map(bool, map(stream.CODE.fullmatch, vocabulary))),
            self.nar.config.sizes[0],
        )
        if codes != size:
            raise UserError(
                f"the policy's vocabulary holds {codes} codes, the codec's first codebook {size}",
                "give the codec and the NAR that it was trained with: --codec, --set nar=FOLDER",
            )

    def prompts(
        self,
        texts: Sequence[str],
        voices: Sequence[Voice | None] | None = None,  # noqa: ARG002 - the NAR has the voice
    ) -> list[str]:
        """The phones of each text as the AR reads them; empty for a text without words."""
        return [stream.prompt(phones) if phones else "" for phones in phonemes(texts)]

    def golden(self, utterance: Utterance) -> str | None:
        """The stream of a recording whose phones somebody placed, else None."""
        from speech.train import stretch

        if utterance.id not in self.placed:
            return None
        wave = torch.from_numpy(audio.read(utterance.path, self.codec.sample_rate))[None]
        codes = self.codec.encode(wave)[0, 0].tolist()
        return stream.completion(stretch(self.placed[utterance.id][1], len(codes)), codes)

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
