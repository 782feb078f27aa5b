"""Coding recordings of any length in bounded memory.

A recording is coded in chunks that overlap by the codec's context; what the overlap coded is
thrown away. For a codec with finite context the codes then equal those of coding all at once; an
LSTM's context is not finite, and there a few codes near the seams may differ.

A ``.npz`` of codes holds ``codes`` (uint16, codebooks × frames), ``sample_rate``, ``hop``,
``length`` (samples before padding to whole frames), ``codec`` (the fingerprint of the codec that
made them) and ``version``. Codes take two bytes an entry in memory, 800 bytes a second for eight
codebooks at 50 frames a second; samples are never held beyond a chunk.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from common.errors import UserError
from speech.codec import Codec, fingerprint

CHUNK_SECONDS = 10.0
VERSION = 1
FIELDS = ("codes", "sample_rate", "hop", "length", "codec", "version")

Floats = NDArray[np.float32]
Codes = NDArray[np.uint16]
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CodeFile:
    """What a ``.npz`` of codes holds; see the module's docstring."""

    codes: Codes
    sample_rate: int
    hop: int
    length: int
    codec: str


def encode_blocks(
    codec: Codec, blocks: Iterable[Floats], chunk_seconds: float = CHUNK_SECONDS
) -> Iterator[Codes]:
    """Codes ``(Q, f)`` of consecutive ``blocks`` of samples, of any lengths, chunk by chunk."""
    hop, context = codec.hop, codec.context_frames
    chunk = max(1, round(chunk_seconds * codec.frame_rate))
    device = _device(codec)
    held: list[Floats] = []
    samples = 0  # in ``held``
    start = 0  # the frame at which ``held`` begins
    done = 0  # frames already coded

    def code(wave: Floats, first: int, last: int | None) -> Codes:
        codes = codec.encode(torch.from_numpy(wave)[None].to(device))[0, :, first:last]
        return codes.cpu().numpy().astype(np.uint16)

    for block in blocks:
        held.append(np.asarray(block, np.float32))
        samples += len(block)
        while samples >= (needed := (done + chunk + context - start) * hop):
            wave = np.concatenate(held)
            yield code(wave[:needed], done - start, done - start + chunk)
            done += chunk
            drop = max(0, done - context - start)
            held, start = [wave[drop * hop :].copy()], start + drop
            samples = len(held[0])
    if samples > (done - start) * hop:
        yield code(np.concatenate(held), done - start, None)


def decode_blocks(
    codec: Codec, codes: Codes, chunk_seconds: float = CHUNK_SECONDS
) -> Iterator[Floats]:
    """Samples of ``codes (Q' <= Q, F)``, chunk by chunk, ``F * hop`` in all."""
    hop, context = codec.hop, codec.context_frames
    chunk = max(1, round(chunk_seconds * codec.frame_rate))
    device = _device(codec)
    frames = codes.shape[1]
    for start in range(0, frames, chunk):
        left = max(0, start - context)
        end = min(frames, start + chunk)
        piece = torch.from_numpy(codes[:, left : end + context].astype(np.int64))
        wave = codec.decode(piece[None].to(device))[0]
        yield wave[(start - left) * hop : (end - left) * hop].float().cpu().numpy()


def encode_file(
    codec: Codec,
    path: Path,
    out: Path,
    chunk_seconds: float = CHUNK_SECONDS,
    progress: Report | None = None,
) -> CodeFile:
    """Code the recording at ``path`` into the ``.npz`` file ``out``, which appears when whole.

    Raises :class:`UserError` if the recording cannot be read or is empty.
    """
    from speech import audio

    if max(codec.codebook_sizes) > 2**16:
        raise ValueError("codes of more than 16 bits do not fit the file format")
    length = 0

    def blocks() -> Iterator[Floats]:
        nonlocal length
        for block in audio.stream(path, codec.sample_rate, chunk_seconds):
            length += len(block)
            yield block

    parts = []
    for number, part in enumerate(encode_blocks(codec, blocks(), chunk_seconds)):
        parts.append(part)
        if progress:
            progress(number + 1, 0, f"{length / codec.sample_rate:.0f} s coded")
    if not parts:
        raise UserError(f"{path} holds no samples", "give a recording that is not empty")
    made = CodeFile(
        np.concatenate(parts, 1), codec.sample_rate, codec.hop, length, fingerprint(codec)
    )
    write_codes(out, made)
    return made


def decode_file(
    codec: Codec,
    path: Path,
    out: Path,
    codebooks: int | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    progress: Report | None = None,
) -> int:
    """Decode the ``.npz`` at ``path`` into the sound file ``out``; returns the samples written.

    ``codebooks`` uses only the first few. Raises :class:`UserError` if the file is damaged, was
    made by another codec, or ``out`` has a suffix that soundfile does not write.
    """
    held = read_codes(path)
    if held.codec != fingerprint(codec):
        raise UserError(
            f"{path} was made by codec {held.codec}, this one is {fingerprint(codec)}",
            "decode it with the codec that made it",
        )
    books = len(held.codes) if codebooks is None else codebooks
    if not 1 <= books <= len(held.codes):
        raise UserError(
            f"{books} codebooks wanted of {len(held.codes)} in {path}",
            f"choose 1 to {len(held.codes)}",
        )
    sizes = np.array(codec.codebook_sizes[: len(held.codes)], np.int64)
    if len(sizes) < len(held.codes) or (held.codes.max(axis=1) >= sizes).any():
        raise _damaged(path, "codes lie outside the codebooks")
    kind = out.suffix[1:].upper()
    if kind not in soundfile.available_formats():
        raise UserError(f"{out} has no suffix of a sound format", "call it .wav, .flac or .ogg")
    left = held.length
    with (
        _replacing(out) as partial,
        soundfile.SoundFile(partial, "w", codec.sample_rate, 1, format=kind) as file,
    ):
        for number, wave in enumerate(decode_blocks(codec, held.codes[:books], chunk_seconds)):
            file.write(wave[:left].clip(-1, 1))
            left -= min(left, len(wave))
            if progress:
                done = held.length - left
                progress(number + 1, 0, f"{done / codec.sample_rate:.0f} s decoded")
    return held.length


def write_codes(path: Path, held: CodeFile) -> None:
    """Write ``held`` to ``path``, which appears when whole or not at all."""
    # In memory first: a zip file that a full disk cuts short complains once more when it is freed.
    whole = io.BytesIO()
    np.savez_compressed(
        whole,
        codes=held.codes,
        sample_rate=np.int64(held.sample_rate),
        hop=np.int64(held.hop),
        length=np.int64(held.length),
        codec=np.array(held.codec),
        version=np.int64(VERSION),
    )
    with _replacing(path) as partial:
        partial.write_bytes(whole.getbuffer())


def read_codes(path: Path) -> CodeFile:
    """Read what :func:`write_codes` wrote. Raises :class:`UserError` if it is not that."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in FIELDS}
    except FileNotFoundError:
        raise UserError(f"no codes at {path}", "give a .npz that encoding wrote") from None
    except KeyError as error:
        raise _damaged(path, f"a field is missing: {error.args[0]}") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    scalars = [fields[name] for name in FIELDS[1:]]
    if any(a.ndim for a in scalars) or any(
        not np.issubdtype(fields[n].dtype, np.integer) for n in FIELDS if n != "codec"
    ):
        raise _damaged(path, "a field has the wrong shape or type")
    if fields["version"] != VERSION:
        raise UserError(f"{path} has format version {fields['version']}", "encode it again")
    codes = fields["codes"]
    hop, length = int(fields["hop"]), int(fields["length"])
    if codes.dtype != np.uint16 or codes.ndim != 2 or 0 in codes.shape:
        raise _damaged(path, f"codes are {codes.dtype} of shape {codes.shape}")
    if hop < 1 or -(-length // hop) != codes.shape[1]:
        raise _damaged(path, f"{codes.shape[1]} frames do not hold {length} samples")
    return CodeFile(codes, int(fields["sample_rate"]), hop, length, str(fields["codec"]))


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no whole file of codes: {why}", "encode the recording again")


def _device(codec: Codec) -> torch.device:
    return next(cast(nn.Module, codec).parameters()).device


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A neighbour of ``path`` to write to, renamed onto it if nothing goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
