"""Claim: at 16,000 taps a kernel of points takes a tenth of the dense formula's time, or less.

    python benchmarks/smpconv.py
    python benchmarks/smpconv.py --threads 2 --plot cost.svg   # on cores that are free

30 channels in and out, 30 points, radii of 1.6 taps, as published for raw speech; forward and
backward. The base is the formula over all taps (``dense=True``) in the same run. Correctness first,
in float64: in float32 a tap within rounding of a tent's edge counts as a neighbour or not.

Then: what is kept for the backward pass, besides the kernel itself, which must not grow with the
taps; the whole layer; and from how many taps on a Fourier transform convolves faster than a direct
convolution: ``FFT_FROM`` and ``FFT_FROM_OF_MANY`` in ``speech/smpconv.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from claim import of, tell
from torch import Tensor
from torch.nn import functional as F

from common.training import keep_memory
from speech.fourier import by_fourier
from speech.smpconv import FFT_FROM, FFT_FROM_OF_MANY, MANY, SMPConv1d

CHANNELS, POINTS, LENGTH = 30, 30, 16_000
LENGTHS = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
TAPS = (16, 32, 64, 128, 256)
SEQUENCES = (1, 8)


def layer(taps: int, dtype: torch.dtype = torch.float32) -> SMPConv1d:
    """A layer of ``taps``, of which each point reaches the same few whatever their number."""
    torch.manual_seed(0)
    return SMPConv1d(CHANNELS, CHANNELS, taps, POINTS, 3.2 / taps, padding="causal", dtype=dtype)


def check() -> None:
    """Stop unless both formulations agree."""
    made = layer(LENGTH, torch.float64)
    kernels = [made.points.kernel(LENGTH, dense) for dense in (False, True)]
    mix = torch.randn_like(kernels[0])
    ours, theirs = (
        torch.autograd.grad((kernel * mix).sum(), [*made.parameters()]) for kernel in kernels
    )
    off = float((kernels[0] - kernels[1]).detach().abs().max())
    gap = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))
    print(f"float64, {LENGTH} taps: kernels differ by {off:.1e}, gradients by {gap:.1e}")
    if off > 1e-12 or gap > 1e-10:
        raise SystemExit("the fast kernel is not the formula's")


def seconds(work: Callable[[], Tensor], times: int) -> float:
    """The fastest of ``times`` forward and backward passes, in seconds of processor time.

    Other work on the machine disturbs that less than the clock, and the least of several least.
    """
    gradient = torch.ones_like(work())
    found = []
    for _ in range(times + 1):
        begun = time.process_time()
        work().backward(gradient)
        found.append(time.process_time() - begun)
    return min(found[1:])


def kept(work: Callable[[], Tensor]) -> int:
    """Bytes that the backward pass of ``work`` needs, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(storages.values())


def costs(times: int) -> dict[str, dict[int, tuple[float, int]]]:
    """Seconds and kept bytes of both formulations, by taps."""
    found: dict[str, dict[int, tuple[float, int]]] = {"points": {}, "dense": {}}
    for taps in LENGTHS:
        made = layer(taps)
        for name, row in found.items():

            def work(dense: bool = name == "dense", made: SMPConv1d = made) -> Tensor:
                return made.points.kernel(made.kernel_size, dense)

            row[taps] = seconds(work, times), kept(work)
    return found


def crossing(sequences: int, times: int) -> list[tuple[int, float, float]]:
    """Taps, seconds of the direct convolution and by Fourier, of sequences of 1,000."""
    rows = []
    for taps in TAPS:
        torch.manual_seed(0)
        x = torch.randn(sequences, CHANNELS, 999 + taps, requires_grad=True)
        kernel = torch.randn(CHANNELS, CHANNELS, taps, requires_grad=True)
        with torch.no_grad():
            one, other = F.conv1d(x, kernel), by_fourier(x, kernel, 1)
            off = float((one - other).abs().max() / one.abs().max())
        if off > 1e-4:
            raise SystemExit(f"{taps} taps: the two convolutions differ by {off:.1e}")

        def direct(x: Tensor = x, kernel: Tensor = kernel) -> Tensor:
            return F.conv1d(x, kernel)

        def fourier(x: Tensor = x, kernel: Tensor = kernel) -> Tensor:
            return by_fourier(x, kernel, 1)

        rows.append((taps, seconds(direct, times), seconds(fourier, times)))
    return rows


def draw(path: Path, found: dict[str, dict[int, tuple[float, int]]]) -> None:
    """Time and memory against taps, both axes logarithmic."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "smpconv"}):
        drawing = Figure(figsize=(8, 3), layout="constrained")
        titles = "forward and backward (ms)", "kept for the backward pass (MB)"
        for axes, i, title, unit in zip(
            drawing.subplots(1, 2), (0, 1), titles, (1e3, 1e-6), strict=True
        ):
            for name, colour in (("dense", "#a1a1aa"), ("points", "#2563eb")):
                values = [pair[i] * unit for pair in found[name].values()]
                axes.loglog([*found[name]], values, marker="o", markersize=4, color=colour)
                axes.annotate(name, (LENGTHS[-1], values[-1]), xytext=(6, -3),
                              textcoords="offset points", color=colour, fontsize=9)  # fmt: skip
            axes.set_title(title, fontsize=9, loc="left")
            axes.set_xlabel("taps", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0.14)
        drawing.savefig(path, metadata={"Date": None})


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--times", type=int, default=5)
    flags.add_argument("--plot", type=Path, help="where to draw cost against taps, as SVG")
    chosen = flags.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    keep_memory()
    check()
    found = costs(chosen.times)
    print(f"\nkernel, threads: {chosen.threads}, processor time, least of {chosen.times}")
    print(f"{'taps':>6} {'points ms':>10} {'dense ms':>9} {'ratio':>6} {'points MB':>10} dense MB")
    for taps in LENGTHS:
        (fast, little), (slow, much) = found["points"][taps], found["dense"][taps]
        print(f"{taps:>6} {fast * 1e3:>10.2f} {slow * 1e3:>9.1f} {slow / fast:>6.1f} "
              f"{little / 1e6:>10.2f} {much / 1e6:>8.1f}")  # fmt: skip
    (fast, _), (slow, _) = found["points"][LENGTH], found["dense"][LENGTH]
    made, x = layer(LENGTH), torch.randn(1, CHANNELS, LENGTH)
    whole = seconds(lambda: made(x), chosen.times)

    def densely() -> Tensor:
        kernel = made.points.kernel(LENGTH, dense=True)
        return by_fourier(F.pad(x, (LENGTH - 1, 0)), kernel, 1)

    slower = seconds(densely, chosen.times) / whole
    print(f"layer, one sequence of {LENGTH}: {whole * 1e3:.0f} ms, "
          f"{slower:.1f} times faster than with the dense kernel")  # fmt: skip
    for sequences in SEQUENCES:
        print(f"\nconvolution of {sequences} sequences of 1,000")
        print(f"{'taps':>6} {'direct ms':>10} {'Fourier ms':>11} {'ratio':>6}")
        for taps, direct, fourier in crossing(sequences, chosen.times):
            first = FFT_FROM_OF_MANY if sequences >= MANY else FFT_FROM
            mark = " <- by Fourier from here" if taps == first else ""
            print(f"{taps:>6} {direct * 1e3:>10.2f} {fourier * 1e3:>11.2f} "
                  f"{direct / fourier:>6.2f}{mark}")  # fmt: skip
    if chosen.plot:
        draw(chosen.plot, found)
        print(f"\nplot: {chosen.plot}")
    print()
    tell(of(f"SMPConv's kernel at {LENGTH} taps", [slow / fast], "the dense formula", aim=10))


if __name__ == "__main__":
    main()
