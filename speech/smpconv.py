"""SMPConv: continuous convolution by self-moving points (arXiv 2304.02330), 1D and 2D.

A kernel is a function on [-1, 1]^d, made of points that move and widen as they learn (section 3):

    g_oi(x) = relu(1 - |x - p_oi|_1 / r_oi)
    K_oc(x) = sum_i w_oci g_oi(x) / (number of points with g_oi(x) > 0, and 1e-6)

It is sampled at the taps of a grid, and convolved with as any other kernel. A point reaches a few
taps only, so the kernel is built by adding each point to the taps it reaches: O(points x taps
reached) in time and memory, where the formula over all taps costs O(points x taps). Both are here
and agree (``dense=True`` is for tests and benchmarks).

    conv = SMPConv1d(1, 30, kernel_size=16000, points=30, radius=2e-4, padding="causal")
    optimiser = torch.optim.AdamW(parameter_groups(model, 1e-3, weight_decay=1e-5))
    clamp_after_steps(optimiser, model)

Unlike ``nn.Conv`` a layer has no bias unless told so, as published, no ``dilation`` (a kernel of
more taps with the same points is one) and pads with zeros only.

Deviations: the number of points at a tap is not averaged by in depthwise kernels, as in the
published ImageNet code (``average``); 2D kernels are not transposed and flipped, which only
matters to somebody who loads published weights; a kernel whose points reach half of all taps is
built densely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.fourier import by_fourier

SMALLEST, LARGEST = 1e-4, 1.0
"""Bounds of a radius, where the kernel is 2 wide."""
SOFT = 1e-6
FFT_FROM, FFT_FROM_OF_MANY = 128, 32
"""Taps from which a Fourier transform convolves a sequence as fast, and ``MANY`` of them
(``benchmarks/smpconv.py``)."""
MANY = 8
Padding = int | tuple[int, ...] | Literal["same", "causal", "valid"]


class Points(nn.Module):
    """Points of a kernel, and the kernel that they make.

    Shapes: ``coords`` (G, P, d), ``radius`` (G, P), ``weight`` (G, C, P); G are groups of channels
    that share points, C the channels of a group. The kernel is (G, C, K, ...).

    Args:
        towards: where points crowd at first: at +1, the most recent tap of a causal kernel, or
            around the middle.
        spread: deviation of the coordinates at first; half of it in kernel units for ``recent``.
        average: divide by the number of points at a tap.
    """

    def __init__(
        self,
        groups: int,
        channels: int,
        points: int,
        dims: int,
        radius: float,
        *,
        towards: Literal["recent", "middle"],
        spread: float,
        average: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.average = average
        self.coords = nn.Parameter(torch.empty(groups, points, dims, **made))
        self.radius = nn.Parameter(torch.full((groups, points), radius, **made))
        self.weight = nn.Parameter(torch.empty(groups, channels, points, **made))
        with torch.no_grad():
            if towards == "recent":
                nn.init.trunc_normal_(self.coords, 0.0, spread, -1.0, 0.0)
                self.coords.mul_(2).add_(1)
            else:
                nn.init.trunc_normal_(self.coords, 0.0, spread, -1.0, 1.0)
            nn.init.trunc_normal_(self.weight, std=0.02)

    def clamp_(self, smallest: float = SMALLEST) -> None:
        """Bring radii within their bounds; to be done after each step of an optimiser."""
        with torch.no_grad():
            self.radius.clamp_(smallest, LARGEST)

    def kernel(self, taps: int, dense: bool = False) -> Tensor:
        """The kernel at ``taps`` evenly spaced places along each axis, both ends included."""
        dims = self.coords.shape[-1]
        axis = torch.linspace(-1, 1, taps, device=self.coords.device, dtype=self.coords.dtype)
        reach = taps
        if not dense and taps > 1:
            reach = math.ceil(float(self.radius.detach().max()) * (taps - 1)) + 2
        if 2 * reach >= taps:
            places = torch.stack(torch.meshgrid(*[axis] * dims, indexing="ij"), -1)
            found = self.at(places.reshape(-1, dims))
            return torch.as_tensor(found.unflatten(-1, (taps,) * dims))
        return self._scattered(axis, reach)

    def at(self, places: Tensor) -> Tensor:
        """The kernel anywhere: ``places`` (N, d) to (G, C, N), by the formula."""
        away = (places[None, None] - self.coords[:, :, None]).abs().sum(-1)
        tent_GPN = (1 - away / self.radius[..., None]).relu()
        if self.average:
            tent_GPN = tent_GPN / ((tent_GPN > 0).to(tent_GPN).sum(1, keepdim=True) + SOFT)
        kernel: Tensor = torch.einsum("gcp,gpn->gcn", self.weight, tent_GPN)
        return kernel

    def _scattered(self, axis: Tensor, reach: int) -> Tensor:
        """The kernel on a grid: each point is added to ``reach`` taps around it along each axis."""
        groups, _, dims = self.coords.shape
        taps, channels = len(axis), self.weight.shape[1]
        with torch.no_grad():
            step = 2 / (taps - 1)
            first = ((self.coords - self.radius[..., None] + 1) / step).floor().long()
            near = first[..., None] + torch.arange(reach, device=axis.device)  # (G, P, d, reach)
            inside = (near >= 0) & (near < taps)
            near = near.clamp(0, taps - 1)
        away = (axis[near] - self.coords[..., None]).abs()
        # The combinations of taps along the axes: (G, P, reach ** d).
        distance, place, known = away[:, :, 0], near[:, :, 0], inside[:, :, 0]
        for d in range(1, dims):
            distance = (distance[..., None] + away[:, :, d, None]).flatten(2)
            place = (place[..., None] * taps + near[:, :, d, None]).flatten(2)
            known = (known[..., None] & inside[:, :, d, None]).flatten(2)
        tent_GPT = ((1 - distance / self.radius[..., None]) * known).relu()
        place_GN = place.flatten(1)
        if self.average:
            counts = tent_GPT.new_zeros(groups, taps**dims)
            counts.scatter_add_(1, place_GN, (tent_GPT > 0).flatten(1).to(counts.dtype).detach())
            tent_GPT = tent_GPT / (counts.gather(1, place_GN).view_as(tent_GPT) + SOFT)
        parts_GCN = (self.weight[..., None] * tent_GPT[:, None]).flatten(2)
        kernel = parts_GCN.new_zeros(groups, channels, taps**dims)
        place_GCN = place_GN[:, None].expand_as(parts_GCN)
        return kernel.scatter_add(2, place_GCN, parts_GCN).view(groups, channels, *[taps] * dims)


class _SMPConv(nn.Module):
    """What both dimensions share. Depthwise kernels have one set of points for all channels."""

    dims: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        points: int,
        radius: float,
        *,
        padding: Padding = "same",
        stride: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = False,
        spread: float | None = None,
        average: bool | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kernel_size, stride = self._equal(kernel_size), self._equal(stride)
        if not isinstance(padding, str):
            padding = self._equal(padding)
        elif padding not in ("same", "causal", "valid"):
            raise ValueError(f"padding={padding!r}: a number, same, causal or valid")
        depthwise = groups == in_channels == out_channels and groups > 1
        if groups != 1 and not depthwise:
            raise ValueError(f"groups={groups}: 1, or as many as channels go in and out")
        if kernel_size < 2 or points < 1 or radius <= 0 or stride < 1:
            raise ValueError("kernel_size is 2 or more, points, stride and radius are positive")
        if isinstance(padding, int) and padding < 0:
            raise ValueError(f"padding={padding}: 0 or more")
        if padding == "causal" and self.dims > 1:
            raise ValueError("pictures have no past: padding is a number, same or valid")
        if padding == "same" and stride > 1:
            raise ValueError("padding same needs stride 1")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.padding, self.stride = kernel_size, padding, stride
        causal = padding == "causal"
        self.points = Points(
            1 if depthwise else out_channels,
            out_channels if depthwise else in_channels,
            points,
            self.dims,
            radius,
            towards="recent" if causal else "middle",
            spread=spread if spread is not None else 0.1 if causal else 0.2,
            average=not depthwise if average is None else average,
            device=device,
            dtype=dtype,
        )
        made = {"device": device, "dtype": dtype}
        self.bias = nn.Parameter(torch.zeros(out_channels, **made)) if bias else None
        self._cached: tuple[tuple[Any, ...], Tensor] | None = None

    def _equal(self, given: int | tuple[int, ...]) -> int:
        """What is the same along all axes: kernels are square."""
        each = set(given) if isinstance(given, tuple) else {given}
        if len(each) != 1 or (isinstance(given, tuple) and len(given) not in (1, self.dims)):
            raise ValueError(f"{given}: a number, or the same one for each of {self.dims} axes")
        return each.pop()

    def train(self, mode: bool = True) -> Self:
        self._cached = None
        return super().train(mode)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"padding={self.padding!r}, stride={self.stride}, groups={self.groups}"
        )

    def taps(self, rate: float) -> int:
        """Taps of the kernel for an input at ``rate`` times the rate that it was made for."""
        return max(2, round((self.kernel_size - 1) * rate) + 1)

    def weights(self, rate: float = 1.0, dense: bool = False) -> Tensor:
        """The kernel as ``nn.Conv`` wants it: (O, I, K, ...), or (C, 1, K, ...) depthwise.

        At another rate the same function is sampled, and scaled so that a sum over taps stays the
        same integral. In eval mode it is kept until a parameter changes, ``.data`` excepted, which
        torch does not count as a change: call ``eval()`` again after writing to it.
        """
        own = self.points
        keep = not self.training and not torch.is_grad_enabled()
        keep = keep and not any(p.is_inference() for p in own.parameters())
        state: tuple[Any, ...] = ()
        if keep:
            state = (rate, dense, *((p.data_ptr(), p._version) for p in own.parameters()))
        if keep and self._cached is not None and self._cached[0] == state:
            return self._cached[1]
        taps = self.taps(rate)
        kernel = own.kernel(taps, dense)
        if taps != self.kernel_size:
            # What a tap stands for; those at the ends for half of it and half an old one.
            share = (self.kernel_size - 1) / (taps - 1)
            along = kernel.new_full((taps,), share)
            along[[0, -1]] = (share + 1) / 2
            for d in range(self.dims):
                kernel = kernel * along.view(-1, *[1] * d)
        if self.groups > 1:
            kernel = kernel.transpose(0, 1)
        if keep:
            self._cached = (state, kernel)
        return kernel

    def _pads(self, taps: int) -> tuple[int, int]:
        """Zeros before and behind, along each axis."""
        if self.padding == "causal":
            return taps - 1, 0
        if self.padding == "same":
            return (taps - 1) // 2, taps - 1 - (taps - 1) // 2
        number = self.padding if isinstance(self.padding, int) else 0
        return number, number


class SMPConv1d(_SMPConv):
    """As ``nn.Conv1d``: ``(B, I, L)`` or ``(I, L)`` to ``(B, O, L')`` or ``(O, L')``;
    ``padding="causal"`` sees no future."""

    dims = 1

    def forward(self, x: Tensor, rate: float = 1.0) -> Tensor:
        """``rate`` is that of ``x`` over the rate that the kernel was made for.

        Raises:
            RuntimeError: the padded input is shorter than the kernel.
        """
        if x.dim() == 2:
            return self(x[None], rate)[0]  # type: ignore[no-any-return]
        kernel = self.weights(rate)
        taps = kernel.shape[-1]
        x = F.pad(x, self._pads(taps))
        many = len(x) >= MANY and self.groups == 1
        if (
            taps >= (FFT_FROM_OF_MANY if many else FFT_FROM)
            and self.stride == 1
            and taps <= x.shape[-1]  # else conv1d says what is wrong
        ):
            out = by_fourier(x, kernel, self.groups)
            return out if self.bias is None else out + self.bias[:, None]
        return F.conv1d(x, kernel, self.bias, self.stride, groups=self.groups)

    def irregular(self, x: Tensor, times: Tensor, asked: Tensor) -> Tensor:
        """The response to samples taken at any times: ``x`` (B, I, L), ``times`` (L,) rising.

        Times are in samples of the rate that the kernel was made for. The sum over samples becomes
        an integral by the trapezoid rule; (B, O, len(asked)) for a causal or centred kernel.
        """
        between = times.diff()
        share = torch.cat([between[:1], between[:-1] + between[1:], between[-1:]]) / 2
        length = self.kernel_size - 1
        # Tap K - 1 of a causal kernel is now; the middle one of a centred kernel is.
        now = 1.0 if self.padding == "causal" else 0.0
        place_AL = now - 2 * (asked[:, None] - times[None, :]) / length
        inside = place_AL.abs() <= 1 + 1e-9
        kernel = self.points.at(place_AL.reshape(-1, 1)).unflatten(-1, place_AL.shape) * inside
        if self.groups > 1:
            return torch.einsum("cal,bcl->bca", kernel[0], x * share)
        return torch.einsum("oial,bil->boa", kernel, x * share)


class SMPConv2d(_SMPConv):
    """As ``nn.Conv2d`` with a square kernel: ``(B, I, H, W)`` to ``(B, O, H', W')``."""

    dims = 2

    def forward(self, x: Tensor, rate: float = 1.0) -> Tensor:
        """``rate`` is that of ``x`` over the rate that the kernel was made for."""
        kernel = self.weights(rate)
        before, behind = self._pads(kernel.shape[-1])
        x = F.pad(x, (before, behind, before, behind))
        return F.conv2d(x, kernel, self.bias, self.stride, groups=self.groups)


def _all_points(model: nn.Module) -> Iterator[Points]:
    return (m for m in model.modules() if isinstance(m, Points))


def clamp_after_steps(
    optimiser: torch.optim.Optimizer, model: nn.Module, smallest: float = SMALLEST
) -> Any:
    """Keep radii within their bounds after every step of any optimiser; the hook's handle.

    ``smallest`` is 1e-4 as published for sequences; for pictures it was 1e-3.
    """
    found = list(_all_points(model))

    def clamp(*_: Any) -> None:
        for points in found:
            points.clamp_(smallest)

    return optimiser.register_step_post_hook(clamp)


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, radius_share: float = 0.1
) -> list[dict[str, Any]]:
    """Groups for an optimiser: radii at a tenth of the rate, and they and coordinates undecayed."""
    radii = [points.radius for points in _all_points(model)]
    coords = [points.coords for points in _all_points(model)]
    apart = {id(p) for p in (*radii, *coords)}
    rest: Iterable[nn.Parameter] = [p for p in model.parameters() if id(p) not in apart]
    return [
        {"params": [*rest], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": coords, "lr": learning_rate, "weight_decay": 0.0},
        {"params": radii, "lr": learning_rate * radius_share, "weight_decay": 0.0},
    ]
