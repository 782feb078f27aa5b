"""Neural audio codecs: samples to a few integers a frame, and back.

Two bodies are trained here: ``spectral`` (mel front end, inverse-STFT head; the starter) and
``seanet`` (EnCodec's architecture). Published weights of six more stand behind the same protocol:
EnCodec, SpeechTokenizer, DAC, Mimi, X-codec and X-codec 2. Language models, judges and commands
know only :class:`Codec`.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import UserError

STARTER = "starter"
ENCODEC = "encodec-24khz"
HUB = {
    ENCODEC: "facebook/encodec_24khz",
    "dac-16khz": "descript/dac_16khz",
    "dac-24khz": "descript/dac_24khz",
    "dac-44khz": "descript/dac_44khz",
    "mimi": "kyutai/mimi",
    "xcodec2": "HKUSTAudio/xcodec2-hf",
}
"""Names of published codecs → the hub's repositories. Any other repository has its full name."""
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
        """Frames a second, rounded."""

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
    """The codec called ``"starter"`` or as in :data:`HUB`, or in a folder, file or hub repository.

    A folder holds what :meth:`Codec.save` wrote, a checkpoint of transformers (EnCodec, DAC, Mimi,
    X-codec, X-codec 2), or one of SpeechTokenizer; a file is a state dict of the encodec package.
    Raises :class:`UserError` if there is no codec there.
    """
    name = str(name_or_path)
    if name == STARTER:
        from common import registry

        return load_codec(registry.get("starter-codec"))
    path = Path(name_or_path).expanduser()
    if name in HUB or (re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not path.exists()):
        return _from_hub(HUB.get(name, name))
    if path.is_file():
        from speech.codec.pretrained import PretrainedCodec

        return PretrainedCodec.from_state_dict(path)
    settings = _settings(path)
    kind = settings.get("kind", settings.get("model_type"))
    if kind is None and {"n_q", "strides"} <= settings.keys():
        kind = "speechtokenizer"
    try:
        return _body(str(kind)).load(path)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        line = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the {kind} codec in {path} cannot be read: {line[0]}", "save or download it again"
        ) from error


def _body(kind: str) -> type[Codec]:
    """The class of a kind; imported here, because each brings libraries of its own."""
    if kind == "spectral":
        from speech.codec.spectral import SpectralCodec

        return SpectralCodec
    if kind == "seanet":
        from speech.codec.seanet import SEANetCodec

        return SEANetCodec
    if kind == "encodec":
        from speech.codec.pretrained import PretrainedCodec

        return PretrainedCodec
    if kind == "speechtokenizer":
        from speech.codec.speechtokenizer import SpeechTokenizerCodec

        return SpeechTokenizerCodec
    from speech.codec.hub import TransformersCodec

    if kind in TransformersCodec.CLASSES:
        return TransformersCodec
    known = ["spectral", "seanet", "encodec", "speechtokenizer", *TransformersCodec.CLASSES]
    raise UserError(f"no codec of the kind {kind!r}", f"the kinds are {', '.join(known)}")


def _from_hub(repository: str) -> Codec:
    """The codec in a repository of the model hub, or in its copy on this machine."""
    from speech.codec.hub import TransformersCodec
    from speech.codec.pretrained import PretrainedCodec

    if repository == HUB[ENCODEC]:
        return PretrainedCodec.from_hub()
    from transformers import AutoConfig

    from common.policies.weights import reach

    try:
        reach(repository)
        kind = AutoConfig.from_pretrained(repository).model_type
    except (OSError, ValueError) as error:
        remedy = "check the name, go online once, or download it elsewhere and give its folder"
        raise UserError(f"no codec {repository!r} here or on the hub", remedy) from error
    if kind == "encodec":
        return PretrainedCodec.from_hub(repository)
    if kind not in TransformersCodec.CLASSES:
        raise UserError(
            f"{repository!r} is a {kind} model, no codec",
            f"use encodec, {', '.join(TransformersCodec.CLASSES)}",
        )
    return TransformersCodec.from_hub(kind, repository)


def _settings(folder: Path) -> dict[str, object]:
    remedy = f"give {STARTER}, {', '.join(HUB)}, a folder with config.json or a hub repository"
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
