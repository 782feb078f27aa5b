"""Reading, streaming and writing sound: real files in, one-line errors out."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.errors import UserError
from speech import audio


def tone(seconds: float, rate: int, hertz: float = 440.0) -> audio.Wave:
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(0.5 * np.sin(2 * np.pi * hertz * time), np.float32)


def encode_by_ffmpeg(path: Path, wave: audio.Wave, rate: int, codec: str, form: str) -> None:
    """A file in a format that libsndfile does not write."""
    import av

    with av.open(str(path), "w", format=form) as container:
        output: Any = container.add_stream(codec, rate=rate)
        output.layout = "mono"
        size = output.codec_context.frame_size or 1024
        for start in range(0, len(wave) - size + 1, size):
            part = (wave[None, start : start + size] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate = rate
            for converted in av.AudioResampler(output.format.name, "mono", rate).resample(frame):
                container.mux(output.encode(converted))
        container.mux(output.encode(None))


def dominant(wave: audio.Wave, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(wave))) * rate / len(wave))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_resampled_tone_keeps_pitch_level_and_length(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate)
    wave = audio.read(tmp_path / "a.wav")
    assert wave.dtype == np.float32
    assert abs(len(wave) - 16_000) <= 2
    assert dominant(wave, 16_000) == pytest.approx(440, abs=2)
    assert np.abs(wave[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)


def test_stereo_is_averaged(tmp_path: Path) -> None:
    left = tone(0.5, 16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros_like(left)], 1), 16_000)
    assert np.allclose(audio.read(tmp_path / "a.wav"), left / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [(".g722", "g722", "g722"), (".m4a", "aac", "ipod"), (".mka", "aac", "matroska")],
)
def test_formats_beyond_libsndfile(tmp_path: Path, suffix: str, codec: str, form: str) -> None:
    path = tmp_path / f"a{suffix}"
    encode_by_ffmpeg(path, tone(2.0, 16_000), 16_000, codec, form)
    wave = audio.read(path)
    assert len(wave) / 16_000 == pytest.approx(2.0, abs=0.15)
    assert dominant(wave, 16_000) == pytest.approx(440, abs=2)
    assert audio.duration(path) == pytest.approx(len(wave) / 16_000)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_stream_joins_to_read(tmp_path: Path, rate: int) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(7.3 * rate)).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", noise, rate)
    chunks = list(audio.stream(tmp_path / "a.flac", 16_000, 2.0))
    assert [len(c) for c in chunks[:-1]] == [32_000] * 3
    assert np.array_equal(np.concatenate(chunks), audio.read(tmp_path / "a.flac"))


def test_streaming_a_long_file_takes_bounded_memory(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 16_000, 1) as file:
        for _ in range(40):  # forty minutes: 154 MB as floats
            file.write(np.zeros(60 * 16_000, np.float32))
    tracemalloc.start()
    total = sum(len(chunk) for chunk in audio.stream(tmp_path / "a.wav", 16_000, 5.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 40 * 60 * 16_000
    assert peak < 8e6


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_write_then_read(tmp_path: Path, suffix: str) -> None:
    wave = tone(1.0, 16_000)
    audio.write(tmp_path / f"a{suffix}", wave)
    again = audio.read(tmp_path / f"a{suffix}")
    assert len(again) == len(wave)
    assert np.abs(again - wave).max() < (0.1 if suffix == ".ogg" else 1e-4)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


def test_peaks_are_clipped_not_wrapped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audio.write(tmp_path / "a.wav", 4 * tone(0.1, 16_000))
    wave = audio.read(tmp_path / "a.wav")
    assert np.abs(wave).max() <= 1
    assert np.abs(np.diff(wave)).max() < 0.75  # a wrapped sample would jump by two
    assert "clipped" in caplog.text


def bad_files(folder: Path) -> dict[str, Path]:
    """Each kind of broken input → its path."""
    paths = {k: folder / f"{k}.wav" for k in ("missing", "empty", "text", "nothing", "nan", "rate")}
    paths["empty"].touch()
    paths["text"].write_text("this is not sound\n" * 50)
    soundfile.write(paths["nothing"], np.zeros(0, np.float32), 16_000)
    soundfile.write(paths["nan"], np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    soundfile.write(paths["rate"], np.zeros(100, np.float32), 7)
    paths["folder"] = folder
    paths["cut"] = folder / "cut.m4a"
    encode_by_ffmpeg(paths["cut"], tone(1.0, 16_000), 16_000, "aac", "ipod")
    paths["cut"].write_bytes(paths["cut"].read_bytes()[:400])
    return paths


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "text", "nothing", "nan", "rate", "cut"]
)
def test_bad_files_are_named_with_a_remedy(tmp_path: Path, kind: str) -> None:
    path = bad_files(tmp_path)[kind]
    with pytest.raises(UserError) as caught:
        audio.read(path)
    assert path.name in caught.value.message
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_silence_and_absurd_wishes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600, np.float32), 16_000)
    assert len(audio.read(tmp_path / "a.wav")) == 1600
    with pytest.raises(UserError, match="silent"):
        audio.read(tmp_path / "a.wav", allow_silence=False)
    with pytest.raises(UserError, match="sample rate"):
        audio.read(tmp_path / "a.wav", 3)
    with pytest.raises(UserError, match="no sample"):
        audio.stream(tmp_path / "a.wav", 16_000, 0.0)
    with pytest.raises(UserError, match="cannot write"):
        audio.write(tmp_path / "a.mp9", tone(0.1, 16_000))
    with pytest.raises(UserError, match="not there"):
        audio.write(tmp_path / "no" / "a.wav", tone(0.1, 16_000))
    with pytest.raises(ValueError, match="finite"):
        audio.write(tmp_path / "b.wav", np.full(10, np.nan, np.float32))


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    """A process that may write no more than 4 KiB to a file meets its limit as a full disk."""
    audio.write(tmp_path / "a.wav", tone(0.01, 16_000))
    before = (tmp_path / "a.wav").read_bytes()
    program = f"""
import resource, signal
import numpy as np
from common.errors import UserError
from speech import audio
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    audio.write({str(tmp_path / "a.wav")!r}, np.zeros(16000, np.float32))
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "no space left" in done.stdout
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
