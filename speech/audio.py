"""Audio files in and out: mono float32 waves in [-1, 1], whatever lies on the disk.

libsndfile (through soundfile) reads the uncompressed and common formats; FFmpeg (through PyAV)
reads the rest, among them telephone G.722, which has no header and is told by its suffix.
Resampling is soxr's. Every mistake a user can make with a file is a :class:`UserError` that names
the file and says what to do.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UserError

Wave = npt.NDArray[np.float32]
"""A mono signal, shape ``(samples,)``, nominally in [-1, 1]."""

SAMPLE_RATE = 16_000
RATES = (2_000, 384_000)
"""Sample rates in Hz outside this range are a broken header, not a recording."""
SILENCE = 1e-4
"""A peak below this (-80 dBFS) is silence."""
HEADERLESS = {".g722": "g722"}
"""Suffix of formats that do not say what they are → FFmpeg's name."""
WRITABLE = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
}

log = logging.getLogger(__name__)


def read(path: str | Path, sample_rate: int = SAMPLE_RATE, *, allow_silence: bool = True) -> Wave:
    """The whole file as a mono wave ``(samples,)`` at ``sample_rate`` Hz; channels are averaged.

    Raises:
        UserError: missing, a directory, empty, not audio, cut before the first sample, not
            finite, an absurd sample rate, or silent when ``allow_silence`` is false.
    """
    _check_wanted(sample_rate)
    wave = np.concatenate([*_resampled(_checked(path), sample_rate)])
    if not allow_silence and is_silent(wave):
        raise UserError(f"{str(path)!r} is silent", "check the recording, or choose another file")
    return wave


def stream(
    path: str | Path, sample_rate: int = SAMPLE_RATE, seconds: float = 10.0
) -> Iterator[Wave]:
    """Chunks of ``seconds`` (the last may be shorter) that join to what :func:`read` returns.

    Memory is bounded by the chunk, not by the file. At least one chunk with at least one sample
    comes, or an error is raised: the file's name and rates at once, its contents when reached.

    Raises:
        UserError: as :func:`read`.
    """
    _check_wanted(sample_rate)
    size = round(seconds * sample_rate)
    if size < 1:
        raise UserError(f"chunks of {seconds} s hold no sample", "use a second or more")
    return _rechunk(_resampled(_checked(path), sample_rate), size)


def duration(path: str | Path) -> float:
    """Length in seconds, from the header where it can be trusted and by decoding elsewhere.

    Raises:
        UserError: as :func:`read`.
    """
    import soundfile

    file = _checked(path)
    if file.suffix.lower() not in HEADERLESS:
        try:
            about = soundfile.info(str(file))
        except soundfile.LibsndfileError:
            pass
        else:
            _check_rate(about.samplerate, file)
            return float(about.frames / about.samplerate)
    return sum(len(block) / rate for rate, block in _decoded(file))


def encode(wave: Wave, sample_rate: int = SAMPLE_RATE, suffix: str = ".wav") -> bytes:
    """The file contents of ``wave``: 16-bit wav or flac, or ogg. Peaks above 1 are clipped.

    Raises:
        UserError: a suffix that cannot be written.
        ValueError: not a mono wave of finite samples.
    """
    import soundfile

    if suffix.lower() not in WRITABLE:
        raise UserError(f"cannot write {suffix!r} files", f"use one of {', '.join(WRITABLE)}")
    samples = np.asarray(wave, dtype=np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise ValueError(f"expected finite mono samples, got shape {samples.shape}")
    clipped = int((np.abs(samples) > 1).sum())
    if clipped:
        log.warning("clipped %d of %d samples above full scale", clipped, samples.size)
    form, subtype = WRITABLE[suffix.lower()]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(samples, -1, 1), sample_rate, format=form, subtype=subtype)
    return buffer.getvalue()


def write(path: str | Path, wave: Wave, sample_rate: int = SAMPLE_RATE) -> None:
    """Write ``wave`` in the format of the suffix; the file is there whole or not at all.

    Raises:
        UserError: as :func:`writable`; no space.
        ValueError: as :func:`encode`.
    """
    file = writable(path)
    data = encode(wave, sample_rate, file.suffix)
    with saving(file) as partial:
        partial.write_bytes(data)


def writable(path: str | Path, suffixes: Iterable[str] = tuple(WRITABLE)) -> Path:
    """``path`` as a file that can be written, asked before the work that fills it.

    Raises:
        UserError: another suffix than ``suffixes``, a folder, no such folder, no permission, or
            something else than a file (renaming a result onto ``/dev/null`` would replace it).
    """
    file, wanted = Path(path).expanduser(), [*suffixes]
    if file.is_dir():
        raise UserError(f"{str(path)!r} is a folder", "name a file inside it")
    if file.suffix.lower() not in wanted:
        raise UserError(f"cannot write {str(path)!r}", f"end its name in {' or '.join(wanted)}")
    if not file.parent.is_dir():
        raise UserError(f"folder {str(file.parent)!r} is not there", "create it first")
    if file.exists() and not file.is_file():
        raise UserError(f"{str(path)!r} is no ordinary file", "name another one")
    if not os.access(file.parent, os.W_OK):
        raise UserError(f"not allowed to write {str(path)!r}", "choose a folder you may write to")
    return file


@contextmanager
def saving(file: Path) -> Iterator[Path]:
    """A neighbour of ``file`` to write to, renamed onto it if nothing goes wrong.

    Raises:
        UserError: no space, no permission, or any other reason why nothing can be written.
    """
    import soundfile

    partial = file
    try:
        handle, name = tempfile.mkstemp(
            dir=file.parent, prefix=f".{file.stem}.", suffix=file.suffix
        )
        os.close(handle)
        partial = Path(name)
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # mkstemp makes private files; a result is an ordinary one
        partial.replace(file)
    except (OSError, soundfile.LibsndfileError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"not allowed to write {str(file)!r}", "choose a folder you may write to"
            ) from error
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"no space left to write {str(file)!r}"
        else:
            why = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].rstrip(".")
            message = f"cannot write {str(file)!r}: {why}"
        raise UserError(message, "free some space or write elsewhere") from error
    finally:
        if partial is not file:
            partial.unlink(missing_ok=True)


def is_silent(wave: Wave) -> bool:
    """Whether no sample rises above -80 dBFS."""
    return wave.size == 0 or float(np.abs(wave).max()) < SILENCE


def _checked(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if file.is_dir():
        raise UserError(f"{str(path)!r} is a folder", "name an audio file inside it")
    if not file.exists():
        raise UserError(f"audio file {str(path)!r} is not there", "check the path")
    if not os.access(file, os.R_OK):
        raise UserError(f"not allowed to read {str(path)!r}", "change its permissions")
    if file.stat().st_size == 0 and file.is_file():
        raise UserError(f"{str(path)!r} is empty", "record or download it again")
    return file


def _check_wanted(sample_rate: int) -> None:
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise UserError(f"a sample rate of {sample_rate} Hz makes no sense", "use 16000")


def _check_rate(rate: int, file: Path) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(
            f"{str(file)!r} claims a sample rate of {rate} Hz",
            "convert it to 16000 Hz first",
        )


def _rechunk(blocks: Iterator[Wave], size: int) -> Iterator[Wave]:
    held: list[Wave] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= size:
            joined = np.concatenate(held)
            whole = count // size * size
            yield from joined[:whole].reshape(-1, size)
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def _resampled(file: Path, sample_rate: int) -> Iterator[Wave]:
    import soxr

    resampler: Any = None
    samples, now = 0, 0
    for rate, block in _decoded(file):
        if not np.isfinite(block).all():
            raise UserError(f"{str(file)!r} holds samples that are not numbers", "export it again")
        samples, now = samples + len(block), now or rate
        if rate != now:
            raise UserError(f"{str(file)!r} changes its sample rate", "convert it to wav first")
        if rate == sample_rate:
            yield block
            continue
        resampler = resampler or soxr.ResampleStream(rate, sample_rate, 1)
        yield resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if not samples:
        raise UserError(f"{str(file)!r} holds no samples", "record or download it again")


def _decoded(file: Path) -> Iterator[tuple[int, Wave]]:
    """``(sample rate, mono block)`` from whichever library can read ``file``."""
    import soundfile

    if file.suffix.lower() not in HEADERLESS:
        try:
            sound = soundfile.SoundFile(str(file))
        except soundfile.LibsndfileError:
            pass  # FFmpeg knows many formats more
        else:
            yield from _by_libsndfile(sound, file)
            return
    yield from _by_ffmpeg(file)


def _by_libsndfile(sound: Any, file: Path) -> Iterator[tuple[int, Wave]]:
    import soundfile

    with sound:
        _check_rate(sound.samplerate, file)
        try:
            for block in sound.blocks(blocksize=1 << 16, dtype="float32", always_2d=True):
                yield sound.samplerate, np.ascontiguousarray(block.mean(axis=1))
        except soundfile.LibsndfileError as error:
            raise UserError(f"{str(file)!r} is corrupt", "record or download it again") from error


def _by_ffmpeg(file: Path) -> Iterator[tuple[int, Wave]]:
    import av

    try:
        with av.open(str(file), format=HEADERLESS.get(file.suffix.lower())) as container:
            if not container.streams.audio:
                raise UserError(f"{str(file)!r} holds no audio", "name an audio file")
            planar = av.AudioResampler(format="fltp")
            for frame in container.decode(audio=0):
                _check_rate(frame.sample_rate, file)
                for part in planar.resample(frame):
                    yield (
                        part.sample_rate,
                        part.to_ndarray().mean(axis=0, dtype=np.float32),
                    )
    except (av.error.FFmpegError, ValueError) as error:
        raise UserError(
            f"{str(file)!r} is corrupt or not audio",
            "convert it to wav, or download it again",
        ) from error
