"""Labelled sequences: published layouts written here and read back, and stretches of prompts."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from common.errors import UserError
from speech import corpora
from speech.sequences import COMMANDS, Part, languages, load


def idx(path: Path, values: NDArray[Any]) -> None:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def mnist(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 10)):
        images, labels = rng.integers(256, size=(count, 28, 28)), rng.integers(10, size=count)
        idx(folder / f"{split}-images-idx3-ubyte", images)
        idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return images, labels


def test_images_pixel_by_pixel(tmp_path: Path) -> None:
    images, labels = mnist(tmp_path)
    found = load("smnist", tmp_path)
    assert (len(found.train), len(found.dev), len(found.test)) == (36, 4, 10)
    assert (found.channels, found.length) == (1, 784)
    x, y = found.test.batch(range(10))
    assert y.tolist() == labels.tolist()
    pixels = x[:, 0].numpy() * found.train.deviation + found.train.mean
    assert np.allclose(pixels, images.reshape(10, 784), atol=1e-3)
    x, _ = found.train.batch(range(36))
    assert abs(float(x.mean())) < 1e-5 and float(x.std()) == pytest.approx(1, abs=1e-3)
    moved = load("pmnist", tmp_path).test
    assert not np.array_equal(moved.x[0], found.test.x[0])
    assert np.array_equal(np.sort(moved.x[0]), np.sort(found.test.x[0]))
    # Gzipped as they are fetched, and torn.
    path = tmp_path / "train-images-idx3-ubyte"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_suffix(".gz").write_bytes(packed)
    assert len(load("smnist", tmp_path).train) == 36
    path.with_suffix(".gz").write_bytes(packed[:-20])
    with pytest.raises(UserError, match="is torn"):
        load("smnist", tmp_path)


def test_colours_are_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        rows = rng.integers(256, size=(4, 3073), dtype=np.uint8)
        rows[:, 0] = [0, 3, 9, 1]
        (tmp_path / name).write_bytes(rows.tobytes())
    found = load("scifar10", tmp_path)
    assert (found.channels, found.length) == (3, 1024) and len(found.train) == 18
    assert found.test.y.tolist() == [0, 3, 9, 1] and found.classes[3] == "cat"
    assert np.array_equal(found.test.x[0].ravel(), rows[0, 1:])


def test_words_of_speakers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for word in COMMANDS:
        (tmp_path / word).mkdir()
        for speaker in range(24):
            size = 16_000 if speaker else 9_000  # the first is too short a clip
            clip = rng.normal(scale=0.1, size=size)
            soundfile.write(str(tmp_path / word / f"{speaker:08x}_nohash_0.wav"), clip, 16_000)
    raw = load("speech-commands", tmp_path)
    assert (raw.channels, raw.length, len(raw.classes)) == (1, 16_000, 10)
    counts = [len(part) for part in (raw.train, raw.dev, raw.test)]
    assert sum(counts) == 23 * 10 and all(count % 10 == 0 for count in counts)
    assert counts[0] > counts[1] + counts[2]
    cepstra = load("speech-commands-mfcc", tmp_path)
    assert (cepstra.channels, cepstra.length) == (20, 161)
    assert cepstra.train.y.tolist() == raw.train.y.tolist()


def test_stretches_of_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corpora.load("prompts", ("en", "es"))
    few = tuple(u for s in ("train", "dev", "test") for n in ("en", "es")
                for u in whole.split(s, n)[:8])  # fmt: skip
    monkeypatch.setattr(corpora, "load", lambda *_: replace(whole, utterances=few))
    found = languages(4_000, 2_000, ("en", "es"))
    assert found.classes == ("en", "es") and set(found.train.y.tolist()) == {0, 1}
    assert 8 < len(found.train) <= 16 and 8 < len(found.test) <= 16
    kept, some = languages(4_000, 8_000, ("en", "es")).train, found.train
    assert len(kept) < len(some) and min(x.shape[-1] for x in kept.x) >= 8_000
    x, y = found.test.batch([0, 1])
    assert x.shape == (2, 1, 2_000) and y.shape == (2,)
    assert x.std((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-2)
    again, _ = found.test.batch([0, 1])
    assert (again == x).all()


def test_a_stretch_at_random_and_in_the_middle() -> None:
    whole = [np.arange(10.0)[None]]
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    part = Part(whole, np.array([3]), 4, zero, one)
    assert part.batch([0])[0].tolist() == [[[3, 4, 5, 6]]]
    rng = np.random.default_rng(0)
    starts = {int(part.batch([0], rng)[0][0, 0, 0]) for _ in range(60)}
    assert starts == set(range(7))


@pytest.mark.parametrize(
    ("name", "said"),
    [("smnist", "no train-images"), ("scifar10", "no data_batch_1.bin"),
     ("speech-commands", "no yes/"), ("imagenet", "no sequences 'imagenet'")],
)  # fmt: skip
def test_files_that_are_not_there(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load(name, tmp_path)
    with pytest.raises(UserError, match=r"is not there|no sequences"):
        load(name, tmp_path / "nowhere")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    mnist(tmp_path)
    idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(7))
    with pytest.raises(UserError, match="and 7 labels"):
        load("smnist", tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"PK not this")
    with pytest.raises(UserError, match="no whole IDX file"):
        load("smnist", tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="no batch of CIFAR-10"):
        load("scifar10", tmp_path)
