"""Convolution of long sequences with long kernels by the Fourier transform of both."""

from __future__ import annotations

from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.autograd.function import once_differentiable


def by_fourier(x: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """``F.conv1d`` without padding, by the Fourier transform of both."""
    length, dtype = x.shape[-1], x.dtype
    if dtype in (torch.float16, torch.bfloat16):  # which have no Fourier transform
        x, kernel = x.float(), kernel.float()
    # Circular correlation of the padded input: what wraps around lies beyond the part that is kept.
    size = next_fast_len(length, real=True)
    if groups > 1:
        product = torch.fft.rfft(x, n=size) * torch.fft.rfft(kernel, n=size).conj()[:, 0]
        out: Tensor = torch.fft.irfft(product, n=size)
    else:
        out = _Correlation.apply(x, kernel, size)  # type: ignore[no-untyped-call]
    return out[..., : length - kernel.shape[-1] + 1].to(dtype)


class _Correlation(torch.autograd.Function):
    """Circular correlation ``(B, I, L)`` with ``(O, I, K)`` to ``(B, O, size)``.

    Spectra are held frequency first, ``(F, 2, rows, channels)`` with the real part before the
    imaginary one, so that the sum over channels is a batched real matrix product a frequency,
    forward and twice backward. Getting there is one matrix's transposition, which is fast.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, size: int) -> Tensor:
        ctx.shapes = x.shape[-1], kernel.shape[-1], size
        signal, filters = _spectrum(x, size), _spectrum(kernel, size)
        ctx.save_for_backward(signal, filters)
        # X conj(W) = (Xr Wr + Xi Wi) + i (Xi Wr - Xr Wi), out of all four products at once.
        products = signal.flatten(1, 2) @ filters.flatten(1, 2).transpose(1, 2)
        four = products.unflatten(2, (2, -1)).unflatten(1, (2, -1))  # (F, 2, B, 2, O)
        real = four[:, 0, :, 0] + four[:, 1, :, 1]
        return _samples(real, four[:, 1, :, 0] - four[:, 0, :, 1], size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        signal, filters = ctx.saved_tensors
        length, taps, size = ctx.shapes
        heard = _spectrum(gradient, size)
        real, imaginary = heard.unbind(1)
        wrt_x = wrt_kernel = None
        if ctx.needs_input_grad[0]:  # G W
            both = heard.flatten(1, 2)
            first = (both @ filters[:, 0]).unflatten(1, (2, -1))
            second = (both @ filters[:, 1]).unflatten(1, (2, -1))
            wrt_x = _samples(first[:, 0] - second[:, 1], first[:, 1] + second[:, 0], size)
            wrt_x = wrt_x[..., :length]
        if ctx.needs_input_grad[1]:  # X conj(G), summed over the batch
            across = heard.flatten(1, 2).transpose(1, 2) @ signal.flatten(1, 2)
            crossed = real.transpose(1, 2) @ signal[:, 1] - imaginary.transpose(1, 2) @ signal[:, 0]
            wrt_kernel = _samples(across, crossed, size)[..., :taps]
        return wrt_x, wrt_kernel, None


def _spectrum(x: Tensor, size: int) -> Tensor:
    """The transform of ``(A, C, L)`` as ``(F, 2, A, C)``, real part and imaginary part."""
    found = torch.view_as_real(torch.fft.rfft(x, n=size)).flatten(0, 1).flatten(1, 2)
    return found.t().contiguous().view(-1, 2, *x.shape[:2])


def _samples(real: Tensor, imaginary: Tensor, size: int) -> Tensor:
    """Back from the parts, ``(F, A, C)`` each, to ``(A, C, size)``."""
    rows = torch.stack([real, imaginary], 1).view(2 * len(real), -1).t().contiguous()
    parts = torch.view_as_complex(rows.view(*real.shape[1:], -1, 2))
    found: Tensor = torch.fft.irfft(parts, n=size)
    return found
