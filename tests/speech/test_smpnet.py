"""The network of SMPConv: its published sizes, what it may see, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.training import run_steps
from speech import smpnet
from speech.sequences import Sequences, standardised
from speech.smpconv import SMALLEST, Points
from speech.smpnet import (
    PUBLISHED,
    DilatedNet,
    NetConfig,
    NetTraining,
    SMPNet,
    dilation_base,
    fit,
    like,
    logits_of,
    parameters,
)

SMALL = NetConfig(1, 2, 200, 0.02, width=6, blocks=2, points=6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_parameters(name: str) -> None:
    with torch.device("meta"):
        assert parameters(SMPNet(PUBLISHED[name].net)) == PUBLISHED[name].parameters
    assert {p.parameters for p in PUBLISHED.values()} == {370_960, 373_480, 373_790, 391_840}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_control_has_as_many(name: str) -> None:
    config = PUBLISHED[name].net
    other = like(config)
    with torch.device("meta"):
        count = parameters(DilatedNet(other))
    assert count == pytest.approx(PUBLISHED[name].parameters, rel=0.01)
    base = dilation_base(config.length, config.blocks)
    assert 1 + 16 * sum(base**i for i in range(config.blocks)) >= config.length
    assert base == 1 or 1 + 16 * sum((base - 1) ** i for i in range(config.blocks)) < config.length


@pytest.mark.parametrize("kind", [SMPNet, DilatedNet])
def test_the_last_step_sees_the_first_and_no_step_the_future(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    net = kind(SMALL).double().eval()
    # At first the points crowd at the latest steps; a sequence's first is seen once they moved.
    for made in net.modules():
        if isinstance(made, Points):
            made.coords.data.uniform_(-1, 1)
    x = torch.randn(1, 1, 200, dtype=torch.double, requires_grad=True)
    (seen,) = torch.autograd.grad(net(x).sum(), x)
    assert (seen[0, 0, :8].abs().sum() > 0) and seen[0, 0, -1] != 0
    inner = net.blocks(x)[0, :, 120].sum()  # type: ignore[operator]
    (seen,) = torch.autograd.grad(inner, x)
    assert seen[0, 0, :121].abs().sum() > 0 and seen[0, 0, 121:].abs().max() < 1e-12
    with pytest.raises(ValueError, match="not \\(B, 1, 200\\)"):
        net(x[..., :100])


def echoes(count: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Noise; in class 1 its first half comes again, 100 steps later."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(count, 1, 200)), rng.integers(2, size=count)
    x[y == 1, :, 100:] = x[y == 1, :, :100] * 0.9 + 0.1 * x[y == 1, :, 100:]
    x[:, 0] *= 1 + np.linspace(0, 2, 200) * y[:, None]
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def data() -> Sequences:
    return standardised("echoes", ["no", "yes"], echoes(128, 0), echoes(32, 1), echoes(96, 2))


@pytest.mark.parametrize("kind", [SMPNet, DilatedNet])
def test_it_learns(kind: type[torch.nn.Module], data: Sequences, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = kind(SMALL)
    curve = fit(net, data, NetTraining(40, 1e-2, 16), tmp_path, 0)
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    said = logits_of(net, data.test)
    assert said.shape == (96, 2) and (said.argmax(1) == data.test.y).mean() > 0.8
    for points in net.modules():
        if isinstance(points, Points):
            assert points.radius.min() >= SMALLEST


def test_a_killed_training_ends_where_a_whole_one_does(
    data: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def often(*args: object, **kw: object) -> object:
        return run_steps(*args, **kw, checkpoint_seconds=-1, log_every=1)  # type: ignore[arg-type]

    monkeypatch.setattr(smpnet, "run_steps", often)

    def train(folder: Path, stop: int | None = None) -> SMPNet:
        def progress(done: int, total: int, what: str) -> None:
            if done == stop:
                raise Killed

        torch.manual_seed(0)
        net = SMPNet(SMALL)
        fit(net, data, NetTraining(6, 1e-2, 8), folder, 3, progress)
        return net

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "cut", 4)
    continued = train(tmp_path / "cut")
    for a, b in zip(whole.parameters(), continued.parameters(), strict=True):
        assert torch.equal(a, b)
