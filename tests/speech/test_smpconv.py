"""SMPConv: the fast kernel is the formula's, the layer is nn.Conv's, the function has no rate."""

from __future__ import annotations

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from speech import smpconv
from speech.fourier import by_fourier
from speech.smpconv import (
    Points,
    SMPConv1d,
    SMPConv2d,
    clamp_after_steps,
    parameter_groups,
)

DOUBLE = torch.float64


def points(
    groups: int, channels: int, count: int, dims: int, radius: float, average: bool
) -> Points:
    made = Points(
        groups, channels, count, dims, radius,
        towards="recent" if dims == 1 else "middle", spread=0.2, average=average, dtype=DOUBLE,
    )  # fmt: skip
    with torch.no_grad():
        made.radius.mul_(0.5 + torch.rand_like(made.radius))
        made.coords.add_(0.3 * torch.randn_like(made.coords))  # some lie beyond the edge
    return made


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000), st.sampled_from([1, 2]), st.booleans(), st.integers(2, 40),
    st.floats(0.001, 0.4),
)  # fmt: skip
def test_scattered_points_make_the_kernel_of_the_formula(
    seed: int, dims: int, average: bool, taps: int, radius: float
) -> None:
    torch.manual_seed(seed)
    made = points(3, 2, 5, dims, radius, average)
    fast, slow = made.kernel(taps), made.kernel(taps, dense=True)
    assert fast.shape == (3, 2, *[taps] * dims)
    assert torch.allclose(fast, slow, rtol=0, atol=1e-12)
    mix = torch.randn_like(fast)
    ours, theirs = (
        torch.autograd.grad((kernel * mix).sum(), list(made.parameters()))
        for kernel in (fast, slow)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-10 * (1 + b.abs().max())


def test_long_kernels_are_exact_and_touch_few_taps() -> None:
    torch.manual_seed(0)
    made = points(4, 3, 30, 1, 2e-4, True)
    fast, slow = made.kernel(16_000), made.kernel(16_000, dense=True)
    assert (fast - slow).abs().max() <= 1e-12
    assert (fast != 0).any(1).sum(1).max() <= 30 * 6


@torch.no_grad()
def test_a_kernel_by_hand() -> None:
    made = Points(1, 1, 2, 1, 0.5, towards="middle", spread=0.1, dtype=DOUBLE)
    with torch.no_grad():
        made.coords[0, :, 0] = torch.tensor([0.0, 0.5])
        made.weight[0, 0] = torch.tensor([2.0, 4.0])
    # At -0.25 one point is half away, at 0.25 both are: halves are averaged.
    found = made.at(torch.tensor([[-0.25], [0.25], [0.5], [1.0]], dtype=DOUBLE))[0, 0]
    assert found == pytest.approx(
        torch.tensor([1.0, (1 + 2) / 2, 4.0, 0.0], dtype=DOUBLE).tolist(), abs=1e-5
    )


CASES: list[tuple[dict[str, object], dict[str, object]]] = [
    ({"padding": "same"}, {"padding": "same"}),
    ({"padding": "valid"}, {"padding": 0}),
    ({"padding": 3, "stride": 2}, {"padding": 3, "stride": 2}),
    ({"padding": 2, "groups": 6, "bias": True}, {"padding": 2, "groups": 6, "bias": True}),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES)
@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("taps", [9, 10])
def test_it_is_a_convolution(
    ours: dict[str, object], theirs: dict[str, object], dims: int, taps: int
) -> None:
    torch.manual_seed(0)
    kind, plain = (SMPConv1d, nn.Conv1d) if dims == 1 else (SMPConv2d, nn.Conv2d)
    own = kind(6, 6, taps, 8, 0.3, dtype=DOUBLE, **ours)  # type: ignore[arg-type]
    other = plain(6, 6, taps, dtype=DOUBLE, **{"bias": False, **theirs})  # type: ignore[arg-type]
    with torch.no_grad():
        other.weight.copy_(own.weights())
        if own.bias is not None and other.bias is not None:
            own.bias.normal_()
            other.bias.copy_(own.bias)
    x = torch.randn(2, 6, *[23] * dims, dtype=DOUBLE)
    assert torch.allclose(own(x), other(x), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 4])
def test_the_fourier_path_is_the_same(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    own = SMPConv1d(4, 4, 700, 9, 0.02, padding="causal", groups=groups, bias=True, dtype=DOUBLE)
    x = torch.randn(2, 4, 900, dtype=DOUBLE)
    long = own(x)
    monkeypatch.setattr(smpconv, "FFT_FROM", 10**9)
    assert torch.allclose(long, own(x), atol=1e-12)


def test_the_fourier_path_has_the_gradients_of_a_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 300, dtype=DOUBLE, requires_grad=True)
    kernel = torch.randn(4, 2, 131, dtype=DOUBLE, requires_grad=True)
    mix = torch.randn(3, 4, 170, dtype=DOUBLE)
    ours, theirs = (
        torch.autograd.grad((out * mix).sum(), (x, kernel))
        for out in (by_fourier(x, kernel, 1), F.conv1d(x, kernel))
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_causal_kernels_see_no_future() -> None:
    torch.manual_seed(0)
    own = SMPConv1d(1, 2, 640, 30, 0.01, padding="causal")
    x = torch.randn(1, 1, 800)
    changed = x.clone()
    changed[..., 500:] += 1
    before, after = own(x), own(changed)
    assert before.shape == (1, 2, 800)
    assert torch.allclose(before[..., :500], after[..., :500], atol=1e-6)
    assert not torch.allclose(before[..., 500:], after[..., 500:], atol=1e-3)


def wave(times: Tensor) -> Tensor:
    """A signal that half the rate still resolves, (1, 1, L)."""
    return (torch.sin(times / 40) + 0.5 * torch.cos(times / 23))[None, None]


@torch.no_grad()
@pytest.mark.parametrize("padding", ["causal", "same"])
def test_half_the_rate_gives_the_same_response(padding: str) -> None:
    torch.manual_seed(0)
    own = SMPConv1d(1, 3, 201, 6, 0.4, padding=padding, dtype=DOUBLE)  # type: ignore[arg-type]
    times = torch.arange(2001, dtype=DOUBLE)
    full, half = own(wave(times)), own(wave(times[::2]), rate=0.5)
    middle = slice(200, 800)
    wanted = full[..., ::2][..., middle]
    # Where a point begins the average over points jumps, and each rate has its taps elsewhere.
    assert (half[..., middle] - wanted).abs().max() < 0.03 * wanted.std()


@torch.no_grad()
@pytest.mark.parametrize("padding", ["causal", "same"])
def test_irregular_samples_give_the_same_response(padding: str) -> None:
    torch.manual_seed(0)
    own = SMPConv1d(1, 3, 201, 6, 0.4, padding=padding, dtype=DOUBLE)  # type: ignore[arg-type]
    times = torch.arange(2001, dtype=DOUBLE)
    asked = torch.arange(400, 1600, 7, dtype=DOUBLE)
    wanted = own(wave(times))[..., asked.long()]
    uneven = (times[:-1] + 0.8 * torch.rand(2000, dtype=DOUBLE)).sort().values
    found = own.irregular(wave(uneven), uneven, asked)
    # A causal kernel ends abruptly at now, and samples near it lie where they like.
    assert (found - wanted).abs().max() < 0.08 * wanted.std()
    assert (found - wanted).square().mean().sqrt() < 0.03 * wanted.std()


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Rprop])
def test_radii_stay_within_bounds(optimiser: type[torch.optim.Optimizer]) -> None:
    own = SMPConv1d(2, 2, 31, 5, 0.01, padding="causal")
    chosen = optimiser(own.parameters(), lr=10.0)  # type: ignore[call-arg]
    clamp_after_steps(chosen, own)
    for sign in (1.0, -1.0):
        own.zero_grad()
        (own.points.radius.sum() * sign).backward()
        chosen.step()
        radius = own.points.radius
        assert radius.min() >= smpconv.SMALLEST - 1e-9 and radius.max() <= smpconv.LARGEST
    own.points.clamp_(1e-3)  # as published for pictures
    assert radius.min() >= 1e-3 - 1e-9


def test_radii_learn_slowly_and_are_not_decayed() -> None:
    model = nn.Sequential(SMPConv1d(1, 2, 9, 3, 0.2), nn.Conv1d(2, 2, 3))
    rest, coords, radii = parameter_groups(model, 1e-2, 0.1)
    assert radii["lr"] == pytest.approx(1e-3) and radii["weight_decay"] == 0
    assert coords["lr"] == 1e-2 and coords["weight_decay"] == 0
    found = {id(p) for group in (rest, coords, radii) for p in group["params"]}
    assert found == {id(p) for p in model.parameters()}


@torch.no_grad()
def test_the_published_start() -> None:
    torch.manual_seed(0)
    own = SMPConv1d(1, 64, 784, 30, 0.002, padding="causal")
    coords = own.points.coords
    # Crowded at the most recent tap: 1 - 2 |N(0, 0.1)|, whose mean is 1 - 0.2 sqrt(2 / pi).
    assert coords.max() <= 1 and coords.mean() == pytest.approx(
        1 - 0.2 * math.sqrt(2 / math.pi), abs=0.01
    )
    assert own.points.weight.std() == pytest.approx(0.02, rel=0.1)
    assert (own.points.radius == 0.002).all()
    flat = SMPConv2d(1, 64, 31, 30, 0.05).points  # around the middle, in both directions
    assert flat.coords.shape == (64, 30, 2)
    assert flat.coords.std() == pytest.approx(0.2, rel=0.05) and abs(flat.coords.mean()) < 0.01
    assert flat.weight.std() == pytest.approx(0.02, rel=0.1)


def test_a_kept_kernel_follows_its_parameters() -> None:
    own = SMPConv1d(1, 1, 31, 5, 0.2).eval()
    x = torch.randn(1, 1, 50)
    with torch.no_grad():
        before = own(x)
        assert own.weights() is own.weights()
        own.points.weight.mul_(2)
        assert torch.allclose(own(x), 2 * before, atol=1e-6)
        own.points.weight.data.mul_(2)  # which torch does not count as a change
        assert torch.allclose(own.eval()(x), 4 * before, atol=1e-6)
    file = io.BytesIO()
    torch.save(own.state_dict(), file)
    file.seek(0)
    other = SMPConv1d(1, 1, 31, 5, 0.2)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.allclose(other(x), own(x), atol=1e-6)


def test_senseless_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=2"):
        SMPConv1d(4, 4, 9, 3, 0.1, groups=2)
    with pytest.raises(ValueError, match="no past"):
        SMPConv2d(1, 1, 9, 3, 0.1, padding="causal")
    with pytest.raises(ValueError, match="stride 1"):
        SMPConv1d(1, 1, 9, 3, 0.1, stride=2)


def test_it_takes_what_nn_conv_takes() -> None:
    x = torch.randn(2, 3, 400)
    for taps in (31, 301):  # convolved directly, and by Fourier transforms
        own = SMPConv1d(3, 4, (taps,), 9, 0.1, padding=(2,), stride=(1,))
        assert own(x).shape == nn.Conv1d(3, 4, taps, padding=2)(x).shape
        assert torch.allclose(own(x[0]), own(x)[0], atol=1e-6)
        with pytest.raises(RuntimeError, match="[Kk]ernel size"):
            own(x[..., : taps - 5])
    two = SMPConv2d(1, 2, (7, 7), 4, 0.5, padding=(1, 1))
    assert two(x[:, None, 0, :, None].expand(-1, -1, -1, 9)).shape == (2, 2, 396, 5)
    for wrong in ({"padding": "zzz"}, {"padding": -1}, {"padding": (1, 2)}, {"stride": (1, 1)}):
        with pytest.raises(ValueError, match=r"padding=|axes"):
            SMPConv1d(1, 1, 9, 3, 0.1, **wrong)  # type: ignore[arg-type]
    with torch.inference_mode():
        assert SMPConv1d(3, 1, 9, 3, 0.1).eval()(x).shape == (2, 1, 400)


def test_many_sequences_are_convolved_alike() -> None:
    own = SMPConv1d(2, 3, 64, 9, 0.1, padding="causal", dtype=DOUBLE)
    x = torch.randn(smpconv.MANY, 2, 300, dtype=DOUBLE)
    assert torch.allclose(own(x), torch.stack([own(one) for one in x]), atol=1e-12)


def test_half_precision_and_gradients_reach_everything() -> None:
    own = SMPConv2d(1, 2, 7, 4, 0.5)
    own(F.pad(torch.randn(1, 1, 9, 9), (1, 1))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in own.parameters())
    assert own.to(torch.bfloat16)(torch.randn(1, 1, 9, 9).bfloat16()).dtype == torch.bfloat16
    long = SMPConv1d(1, 2, 200, 5, 0.1, padding="causal").bfloat16()
    assert long(torch.randn(1, 1, 300).bfloat16()).dtype == torch.bfloat16
