"""Sequences with a label each: the languages of recorded prompts, images pixel by pixel, words.

| name | a sequence is | from |
|---|---|---|
| languages | raw samples out of a recorded prompt | ``upspiral data get prompts`` |
| smnist, pmnist | 784 pixels, in order or in one random order | a folder with MNIST's IDX files |
| scifar10 | 1,024 pixels of three colours | a folder with CIFAR-10's binary batches |
| speech-commands | 16,000 raw samples, ten words | a folder of Speech Commands v0.02 |
| speech-commands-mfcc | 161 frames of 20 cepstral coefficients of the same | the same |

Nothing is unpickled. Deviations from the published experiments: values are standardised by channel
(there Speech Commands is standardised by time step, which no stream can be); Speech Commands is
split 70/15/15 by speaker and not by clip; a tenth of MNIST's and CIFAR-10's train set is dev.

The languages are spoken by four people, of whom one speaks English and Spanish: telling those two
apart is telling languages apart, the rest may be telling voices and rooms apart. All stretches are
brought to one level.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from common.training import generator

Values = NDArray[Any]
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""The ten words of the published experiments."""
QUIET = 10 ** (-35 / 20)
"""A stretch is taken from where the samples pass this share of the recording's peak."""


@dataclass(frozen=True)
class Part:
    """Examples of a split: ``x`` are ``(C, L)`` each, or longer, of which ``length`` are taken.

    A stretch at random in training, the middle otherwise. ``level`` brings each to deviation 1.
    """

    x: Sequence[Values] | Values
    y: NDArray[np.int64]
    length: int
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    level: bool = False

    def __len__(self) -> int:
        return len(self.y)

    def batch(
        self, chosen: Sequence[int], rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The examples ``chosen`` as ``(B, C, length)`` and ``(B,)``."""
        rows = []
        for i in chosen:
            room = self.x[i].shape[-1] - self.length
            start = int(rng.integers(room + 1)) if rng is not None else room // 2
            row = self.x[i][:, start : start + self.length].astype(np.float32)
            row = (row - self.mean[:, None]) / self.deviation[:, None]
            rows.append(row / max(1e-5, float(row.std())) if self.level else row)
        return torch.from_numpy(np.stack(rows)), torch.from_numpy(self.y[list(chosen)])


@dataclass(frozen=True)
class Sequences:
    """Labelled sequences in three splits."""

    name: str
    classes: tuple[str, ...]
    train: Part
    dev: Part
    test: Part

    @property
    def channels(self) -> int:
        return int(self.train.x[0].shape[0])

    @property
    def length(self) -> int:
        return self.train.length


def languages(rate: int, length: int, names: Sequence[str]) -> Sequences:
    """Stretches of ``length`` samples at ``rate`` out of the prompts in the languages ``names``.

    Recordings that are shorter between their quiet ends are left out. Splits share no phrase.
    """
    from speech import audio, corpora

    corpus = corpora.load("prompts", names)
    waves: dict[str, list[Values]] = {}
    labels: dict[str, list[int]] = {}
    for u in corpus.utterances:
        wave = audio.read(u.path, rate)
        loud = np.flatnonzero(np.abs(wave) > QUIET * np.abs(wave).max())
        if len(loud) and loud[-1] + 1 - loud[0] >= length:
            waves.setdefault(u.split, []).append(wave[None, loud[0] : loud[-1] + 1])
            labels.setdefault(u.split, []).append(names.index(u.language))
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    parts = [
        Part(waves[split], np.array(labels[split]), length, zero, one, level=True)
        for split in ("train", "dev", "test")
    ]
    return Sequences("languages", tuple(names), *parts)


def load(name: str, folder: Path) -> Sequences:
    """A published data set out of its files.

    Raises:
        UserError: no such data set; the files are not there, or not what they should be.
    """
    known: dict[str, Callable[[Path], Sequences]] = {
        "smnist": lambda path: _mnist(path, permuted=False),
        "pmnist": lambda path: _mnist(path, permuted=True),
        "scifar10": _cifar10,
        "speech-commands": lambda path: _commands(path, mfcc=False),
        "speech-commands-mfcc": lambda path: _commands(path, mfcc=True),
    }
    if name not in known:
        raise UserError(f"no sequences {name!r}", f"use {', '.join(known)}")
    if not folder.is_dir():
        raise UserError(f"the folder {str(folder)!r} is not there", "name one that holds the files")
    return known[name](folder)


def split_off(
    name: str, classes: Sequence[str], train: tuple[Values, Values], test: tuple[Values, Values]
) -> Sequences:
    """Arrays ``(N, C, L)`` and labels as sequences; a tenth of train, drawn once, is dev."""
    order = generator(0, name, "dev").permutation(len(train[1]))
    held, rest = np.split(order, [len(order) // 10])
    return standardised(
        name, classes, (train[0][rest], train[1][rest]), (train[0][held], train[1][held]), test
    )


def standardised(name: str, classes: Sequence[str], *splits: tuple[Values, Values]) -> Sequences:
    """Train, dev and test arrays, standardised by the channels of train."""
    x = splits[0][0]
    mean = x.mean((0, 2), dtype=np.float64).astype(np.float32)
    deviation = x.std((0, 2), dtype=np.float64).astype(np.float32).clip(1e-6)
    parts = [Part(x, y.astype(np.int64), x.shape[-1], mean, deviation) for x, y in splits]
    return Sequences(name, tuple(classes), *parts)


def _mnist(folder: Path, permuted: bool) -> Sequences:
    order = generator(0, "pmnist").permutation(784) if permuted else np.arange(784)
    pairs = []
    for split in ("train", "t10k"):
        images = _idx(folder, f"{split}-images-idx3-ubyte", 3)
        labels = _idx(folder, f"{split}-labels-idx1-ubyte", 1)
        if images.shape[1:] != (28, 28) or len(images) != len(labels):
            raise UserError(
                f"{split} in {str(folder)!r} has images of {images.shape[1:]}, {len(images)} of "
                f"them, and {len(labels)} labels",
                "name a folder with MNIST's four files",
            )
        pairs.append((images.reshape(-1, 1, 784)[..., order], labels))
    return split_off("pmnist" if permuted else "smnist", [*map(str, range(10))], *pairs)


def _idx(folder: Path, name: str, dims: int) -> Values:
    """An IDX file of bytes, gzipped or not."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            break
    else:
        raise UserError(f"no {name} in {str(folder)!r}", "name a folder with MNIST's four files")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is torn: {error}", "fetch it again") from error
    sizes = np.frombuffer(data[4 : 4 + 4 * dims], ">u4").astype(int)
    body = np.frombuffer(data, np.uint8, offset=min(len(data), 4 + 4 * dims))
    if data[:4] != bytes([0, 0, 8, dims]) or len(body) != sizes.prod():
        raise UserError(f"{path} is no whole IDX file of {dims} dimensions", "fetch it again")
    return body.reshape(sizes)


def _cifar10(folder: Path) -> Sequences:
    record = 1 + 3 * 1024
    found = []
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        path = folder / name
        if not path.is_file():
            raise UserError(f"no {name} in {str(folder)!r}", "use CIFAR-10's binary version")
        data = np.frombuffer(path.read_bytes(), np.uint8)
        if not len(data) or len(data) % record or (data[::record] > 9).any():
            raise UserError(f"{path} is no batch of CIFAR-10's binary version", "fetch it again")
        found.append(data.reshape(-1, record))
    x = [rows[:, 1:].reshape(-1, 3, 1024) for rows in found]
    y = [rows[:, 0] for rows in found]
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    return split_off("scifar10", names, (np.concatenate(x[:5]), np.concatenate(y[:5])),
                     (x[5], y[5]))  # fmt: skip


def _commands(folder: Path, mfcc: bool) -> Sequences:
    """Clips of exactly a second; a speaker is in one split."""
    import soundfile

    found: dict[str, tuple[list[Values], list[int]]] = {
        s: ([], []) for s in ("train", "dev", "test")
    }
    for label, word in enumerate(COMMANDS):
        paths = sorted((folder / word).glob("*.wav"))
        if not paths:
            raise UserError(
                f"no {word}/*.wav in {str(folder)!r}", "name the folder of Speech Commands v0.02"
            )
        for path in paths:
            try:
                wave, rate = soundfile.read(str(path), dtype="int16")
            except soundfile.LibsndfileError as error:
                raise UserError(f"{path} is no sound: {error}", "fetch it again") from error
            if rate != 16_000 or wave.shape != (16_000,):
                continue
            share = generator(0, "speaker", path.name.partition("_")[0]).random()
            split = "train" if share < 0.7 else "dev" if share < 0.85 else "test"
            found[split][0].append(_cepstra(wave) if mfcc else wave[None])
            found[split][1].append(label)
    if not all(labels for _, labels in found.values()):
        raise UserError(f"{str(folder)!r} has too few speakers", "use all of Speech Commands v0.02")
    return standardised(
        "speech-commands-mfcc" if mfcc else "speech-commands",
        COMMANDS,
        *((np.stack(x), np.array(y)) for x, y in found.values()),
    )


def _cepstra(wave: Values) -> Values:
    """Twenty coefficients of 161 frames, as published."""
    import torchaudio

    transform = torchaudio.transforms.MFCC(
        16_000, n_mfcc=20, log_mels=True, melkwargs={"n_fft": 200, "n_mels": 64}
    )
    made: Values = transform(torch.from_numpy(wave.astype(np.float32) / 32_768)).numpy()
    return made
