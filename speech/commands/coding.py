"""``upspiral speech encode`` and ``decode``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output


@dataclass(frozen=True)
class Encode:
    """Code a recording of any length, format and sample rate; memory stays bounded."""

    sound: tyro.conf.Positional[Path]
    """The recording: whatever libsndfile or FFmpeg reads."""
    out: Path = Path("codes.npz")
    """Where the codes go."""
    codec: str = "starter"
    """starter, encodec-24khz, or a folder or file with a codec."""

    def run(self, out: Output) -> dict[str, Any]:
        from speech.codec import load_codec
        from speech.codec.stream import encode_file

        held = encode_file(load_codec(self.codec), self.sound, self.out)
        books, frames = held.codes.shape
        seconds = held.length / held.sample_rate
        out.print(f"{seconds:.2f} s as {books} x {frames} codes in {self.out}")
        return {"out": self.out, "codebooks": books, "frames": frames, "seconds": seconds}


@dataclass(frozen=True)
class Decode:
    """Turn codes back into sound."""

    codes: tyro.conf.Positional[Path]
    """What encode wrote."""
    out: Path = Path("out.wav")
    """Where the sound goes; the suffix names the format (wav, flac, ogg)."""
    codec: str = "starter"
    """The codec that encoded."""
    codebooks: int | None = None
    """Use the first so many codebooks only."""

    def run(self, out: Output) -> dict[str, Any]:
        from speech.codec import load_codec
        from speech.codec.stream import decode_file

        codec = load_codec(self.codec)
        decode_file(codec, self.codes, self.out, self.codebooks)
        out.print(f"wrote {self.out} at {codec.sample_rate} Hz")
        return {"out": self.out, "sample_rate": codec.sample_rate}
