"""Neural audio codecs: samples to a few integers a frame, and back.

Three bodies stand behind one protocol: ``spectral`` (mel front end, inverse-STFT head; the
starter), ``seanet`` (EnCodec's architecture, trained here) and ``encodec`` (published EnCodec
weights). Language models, judges and commands know only :class:`Codec`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import UserError

STARTER = "starter"
ENCODEC = "encodec-24khz"
# Left out of a fingerprint: only training reads them and a saved codec may lack them.
_TRAINING_ONLY = (".embed_avg", ".cluster_size", ".inited")


@runtime_checkable
class Codec(Protocol):
    """What every body offers. B clips, T samples, Q codebooks, F frames.

    ``context_frames`` is how many frames on each side reach a frame, in encoding and in decoding:
    chunked coding (:mod:`speech.codec.stream`) overlaps its chunks by that much.
    """

    @property
    def sample_rate(self) -> int:
        """Samples a second, of what is encoded and of what is decoded."""

    @property
    def hop(self) -> int:
        """Samples a frame."""

    @property
    def frame_rate(self) -> int:
        """Frames a second."""

    @property
    def codebooks(self) -> int:
        """How many codebooks ``encode`` fills: Q."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of each codebook."""

    @property
    def context_frames(self) -> int:
        """Frames of context that chunked coding needs on each side."""

    def encode(self, wave: Tensor) -> Tensor:
        """Float32 samples ``(B, T)`` in [-1, 1] → int64 codes ``(B, Q, ceil(T / hop))``."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q', F)`` with ``1 <= Q' <= Q`` → samples ``(B, F * hop)``."""

    def save(self, folder: Path) -> None:
        """Write ``config.json`` (with its ``kind``) and weights into ``folder``."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote, ready to code."""


def load_codec(name_or_path: str | Path) -> Codec:
    """The codec called ``"starter"`` or ``"encodec-24khz"``, or the one in a folder or file.

    A folder holds what :meth:`Codec.save` wrote, or a transformers EnCodec checkpoint; a file is
    a state dict of the encodec package. Raises :class:`UserError` if there is no codec there.
    """
    from speech.codec.pretrained import PretrainedCodec

    if str(name_or_path) == ENCODEC:
        return PretrainedCodec.from_hub()
    if str(name_or_path) == STARTER:
        from common import registry

        return load_codec(registry.get("starter-codec"))
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return PretrainedCodec.from_state_dict(path)
    settings = _settings(path)
    kind = settings.get("kind", settings.get("model_type"))
    try:
        if kind == "spectral":
            from speech.codec.spectral import SpectralCodec

            return SpectralCodec.load(path)
        if kind == "seanet":
            from speech.codec.seanet import SEANetCodec

            return SEANetCodec.load(path)
        if kind == "encodec":
            return PretrainedCodec.load(path)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        line = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the {kind} codec in {path} cannot be read: {line[0]}", "save or download it again"
        ) from error
    raise UserError(
        f"{path / 'config.json'} names the codec kind {kind!r}",
        "the kinds are spectral, seanet and encodec",
    )


def _settings(folder: Path) -> dict[str, object]:
    remedy = f'give "{STARTER}", "{ENCODEC}", a folder with config.json, or an EnCodec state dict'
    try:
        settings = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no codec at {folder}", remedy) from None
    except ValueError as error:
        raise UserError(f"{folder / 'config.json'} is not JSON: {error}", remedy) from error
    if not isinstance(settings, dict):
        raise UserError(f"{folder / 'config.json'} is not a JSON object", remedy)
    return settings


def fingerprint(codec: Codec) -> str:
    """Sixteen hexadecimal digits that name a codec's weights: codes belong to one fingerprint.

    Weights are hashed in half precision, in which some bodies are saved, so that a codec has the
    same fingerprint before it is saved and after it is loaded.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(struct.pack("<3q", codec.sample_rate, codec.hop, codec.codebooks))
    for name, tensor in sorted(cast(nn.Module, codec).state_dict().items()):
        if name.endswith(_TRAINING_ONLY):
            continue
        half = tensor.half() if tensor.is_floating_point() else tensor
        digest.update(name.encode())
        digest.update(half.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
