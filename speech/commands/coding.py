"""``upspiral speech encode`` and ``decode``."""

from __future__ import annotations

import errno
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from common.commands import Output

if TYPE_CHECKING:
    from speech.codec import Codec

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Encode:
    """Code a recording of any length, format and sample rate; memory stays bounded."""

    sound: tyro.conf.Positional[Path]
    """The recording: whatever libsndfile or FFmpeg reads."""
    out: Path = Path("codes.npz")
    """Where the codes go (npz)."""
    codec: str = "starter"
    """starter, encodec-24khz, dac-16khz, dac-24khz, dac-44khz, mimi, xcodec2, a folder or file
    with a codec, or a hub repository."""

    def run(self, out: Output) -> dict[str, Any]:
        from speech import audio

        file = audio.writable(self.out, (".npz",))
        audio.stream(self.sound)  # asks only whether the file is there, before torch is imported
        codec = load(self.codec)
        from speech.codec.stream import encode_file

        known = self.sound.expanduser().is_file()  # a pipe can be read only once
        seconds = audio.duration(self.sound) if known else 0.0
        with audio.saving(file) as partial, chunks(out, "coding", seconds) as progress:
            held = encode_file(codec, self.sound, partial, progress=progress)
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
        import soundfile

        from speech import audio

        file = audio.writable(self.out)
        codec = load(self.codec)
        from speech.codec.stream import decode_file, read_codes

        seconds = read_codes(self.codes).length / codec.sample_rate
        with audio.saving(file) as partial, chunks(out, "decoding", seconds) as progress:
            length = decode_file(codec, self.codes, partial, self.codebooks, progress=progress)
            # libsndfile does not say that an ogg file was cut short by a full disk.
            if soundfile.info(str(partial)).frames != length:
                raise OSError(errno.EIO, "it was cut short")
        out.print(f"wrote {self.out}: {seconds:.2f} s at {codec.sample_rate} Hz")
        return {"out": self.out, "seconds": seconds, "sample_rate": codec.sample_rate}


@contextmanager
def chunks(out: Output, what: str, seconds: float) -> Iterator[Report | None]:
    """Progress of coding ``seconds`` of sound; none for the one chunk of a short recording."""
    from speech.codec.stream import CHUNK_SECONDS

    total = math.ceil(seconds / CHUNK_SECONDS)
    if total < 2:
        yield None
        return
    progress = out.progress()
    # The last chunk takes what is left, be it more than a chunk or less: its end is the end.
    yield lambda done, _total, _what: progress(min(done, total - 1), total, what)
    progress(total, total, what)


def load(name: str) -> Codec:
    """The codec called ``name``, without what its libraries warn their own developers of."""
    from speech.codec import load_codec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return load_codec(name)
