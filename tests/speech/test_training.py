"""A training that is cut off anywhere and run again ends like one that was not."""

from __future__ import annotations

import functools
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.training import generator, run_steps
from speech.codec.spectral import SpectralCodec, SpectralConfig
from speech.codec.train import CodecTraining, train_codec
from speech.lm.ar import ARTraining, Spoken, train_ar
from speech.lm.nar import Coded, NARConfig, NARTraining, train_nar
from speech.segmentation import SILENCE, Segment
from speech.text import WORD_END

STEPS = 10
Report = Callable[[int, int, str], None]
Weights = dict[str, Tensor]


class Cut(BaseException):
    """Stands for the end of the process."""


def fit(folder: Path, cut_at: int = -1, steps: int = STEPS) -> tuple[Weights, list[Any]]:
    """A line through noisy points, with an optimiser that has a state; cut off before a step."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)

    def step(i: int) -> dict[str, float]:
        if i == cut_at:
            raise Cut
        x = torch.from_numpy(generator(7, "points", i).normal(size=(8, 3))).float()
        loss = (model(x)[:, 0] - x @ torch.tensor([1.0, -2.0, 0.5])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    curve = run_steps(
        "line", folder, steps, step, {"model": model}, {"adam": optimizer},
        checkpoint_seconds=-1, log_every=3,
    )  # fmt: skip
    return model.state_dict(), curve


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, list[Any]]:
    return fit(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("cut_at", range(STEPS))
def test_cut_off_before_any_step(
    tmp_path: Path, whole: tuple[Weights, list[Any]], cut_at: int
) -> None:
    with pytest.raises(Cut):
        fit(tmp_path, cut_at)
    assert (tmp_path / "line.pt").is_file() == (cut_at >= 3)
    weights, curve = fit(tmp_path)
    assert same(weights, whole[0])
    assert curve == whole[1] and [row["step"] for row in curve] == [3, 6, 9, 10]
    written = (tmp_path / "line.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == curve


def test_cut_off_twice_and_once_while_saving(
    tmp_path: Path, whole: tuple[Weights, list[Any]]
) -> None:
    for cut_at in (4, 8):
        with pytest.raises(Cut):
            fit(tmp_path, cut_at)
        (tmp_path / "line.partial").write_bytes(b"half a checkpoint")
    weights, curve = fit(tmp_path)
    assert same(weights, whole[0]) and curve == whole[1]


def test_what_is_done_is_not_done_again(tmp_path: Path, whole: tuple[Weights, list[Any]]) -> None:
    fit(tmp_path)
    weights, curve = fit(tmp_path, cut_at=0)  # no step is taken, so none is cut off
    assert same(weights, whole[0]) and curve == whole[1]


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, whole: tuple[Weights, list[Any]]
) -> None:
    with pytest.raises(Cut):
        fit(tmp_path, 4)
    before = (tmp_path / "line.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises((OSError, RuntimeError)):
            fit(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "line.pt").read_bytes() == before
    weights, curve = fit(tmp_path)
    assert same(weights, whole[0]) and curve == whole[1]


def resumes(
    train: Callable[[Path, Report | None], Weights],
    module: str,
    cut: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``train`` cut off at step 4 of the part ``cut``, 2 steps after a checkpoint, goes on."""
    often = functools.partial(run_steps, log_every=2, checkpoint_seconds=-1)
    monkeypatch.setattr(f"{module}.run_steps", often)
    done: list[tuple[str, int]] = []

    def interrupt(step: int, total: int, what: str) -> None:
        done.append((what.partition(":")[0], step))
        if done[-1] == (cut, 4):
            raise Cut

    expected = train(folder / "whole", None)
    with pytest.raises(Cut):
        train(folder / "cut", interrupt)
    assert (folder / "cut" / f"{cut}.pt").is_file() and done[-2:] == [(cut, 2), (cut, 4)]
    torch.manual_seed(99)  # another process draws other numbers
    done.clear()
    got = train(folder / "cut", lambda step, _, what: done.append((what.partition(":")[0], step)))
    assert done[0] == (cut, 4)
    assert same(got, expected)


def said(seed: int) -> Spoken:
    random = np.random.default_rng(seed)
    names = [SILENCE, "k", "a", SILENCE, "t", "a"]
    ends = np.cumsum(random.integers(2, 5, len(names))).tolist()
    where = [Segment(n, a, b) for n, a, b in zip(names, [0, *ends], ends, strict=False)]
    codes = random.integers(0, 16, ends[-1])
    return Spoken(("k", "a", WORD_END, "t", "a", WORD_END), tuple(where), codes)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_ar_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float) -> None:
    config = ARTraining(width=32, layers=1, heads=1, steps=6, batch_tokens=200, dropout=dropout)

    def train(folder: Path, report: Report | None) -> Weights:
        corpus = [said(i) for i in range(4)]
        model, _ = train_ar(config, corpus, corpus[:1], 16, folder, report)
        return dict(model.state_dict())

    resumes(train, "speech.lm.ar", "ar", tmp_path, monkeypatch)


def test_the_nar_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = NARConfig((16, 32, 32), ("a", "b"), width=32, blocks=2, heads=2, steps=(4, 2))
    config = NARTraining(sizes, steps=6, batch=2, frames=10, voice_frames=6)
    data = [Coded("one", np.random.default_rng(i).integers(0, 16, (3, 20))) for i in range(3)]

    def train(folder: Path, report: Report | None) -> Weights:
        torch.manual_seed(3)
        return dict(train_nar(config, data, [], folder, report).state_dict())

    resumes(train, "speech.lm.nar", "nar", tmp_path, monkeypatch)


@pytest.mark.parametrize("stage", ["semantic", "acoustic", "decoder", "adversarial"])
def test_each_stage_of_the_codec_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    sizes = SpectralConfig(
        width=16, semantic_width=16, latent=8, semantic_size=8, acoustic_size=8, acoustic_books=2,
        semantic_blocks=(1, 1), encoder_blocks=(1, 1), decoder_blocks=(1, 1),
    )  # fmt: skip
    config = CodecTraining(
        sizes, semantic_steps=6, acoustic_steps=6, decoder_steps=6, adversarial_steps=6,
        head_start=2, batch=2, acoustic_batch=2, adversarial_batch=2,
    )  # fmt: skip
    random = np.random.default_rng(0)
    waves = [0.1 * random.normal(size=320 * 160).astype(np.float32) for _ in range(2)]
    states = [random.normal(size=(160, 16)).astype(np.float32) for _ in waves]
    phones = [np.arange(160) // 10 % 4 for _ in waves]

    def train(folder: Path, report: Report | None) -> Weights:
        codec: SpectralCodec = train_codec(config, waves, states, phones, folder, report)
        return dict(codec.state_dict())

    resumes(train, "speech.codec.train", stage, tmp_path, monkeypatch)
