"""A causal network of long convolutions for sequences, and the dilated one that it is held against.

The one-dimensional network of SMPConv (arXiv 2304.02330, section 4.1, from the published code): six
residual blocks of width 30, two convolutions each, and a linear head on the last step.

    conv(x)  = BatchNorm(SMPConv(x)) + BatchNorm(CausalConv5(x))
    block(x) = relu(conv(dropout(relu(conv(x)))) + shortcut(x))

The kernels of SMPConv are as long as the sequence. With the published sizes the parameters come to
the published 371, 373, 374 and 392 thousand; for that the short convolutions carry a bias unless
the sequence has one channel, and the first block's shortcut is a 1x1 convolution with a bias.

:class:`DilatedNet` is the control: the same blocks with dilated causal convolutions instead (Bai et
al., arXiv 1803.01271), whose dilation grows from block to block until the last step sees as far,
and whose width makes the parameters equal (:func:`like`).

    python studies/smpconv.py languages
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from common.training import cosine, generator, run_steps
from speech.sequences import Part, Sequences
from speech.smpconv import SMPConv1d, clamp_after_steps, parameter_groups


@dataclass(frozen=True)
class NetConfig:
    """Sizes of a network for sequences of ``channels`` and ``length`` steps."""

    channels: int
    classes: int
    length: int
    radius: float
    """Of a point at first, where the kernel is 2 long: about one step."""
    width: int = 30
    blocks: int = 6
    points: int = 30
    short: int = 5
    """Steps of the short convolution beside each long one; of :class:`DilatedNet`'s kernels 9."""
    dropout: float = 0.0


@dataclass(frozen=True)
class Published:
    """A network and its training as they were published; ``accuracy`` in percent on test."""

    net: NetConfig
    parameters: int
    accuracy: float
    learning_rate: float
    epochs: int
    batch_size: int = 64
    """Not published for all; the code's for sequential images."""
    weight_decay: float = 1e-5


PUBLISHED: Mapping[str, Published] = {
    "smnist": Published(NetConfig(1, 10, 784, 0.002), 370_960, 99.75, 1e-4, 200),
    "pmnist": Published(NetConfig(1, 10, 784, 0.002), 370_960, 99.10, 1e-4, 200),
    "scifar10": Published(NetConfig(3, 10, 1024, 0.002), 373_480, 84.86, 2e-4, 200),
    "character-trajectories": Published(NetConfig(3, 20, 182, 0.012), 373_790, 99.53, 1e-4, 300),
    "speech-commands-mfcc": Published(
        NetConfig(20, 10, 161, 0.012, dropout=0.2), 391_840, 97.71, 2e-3, 300
    ),
    "speech-commands": Published(
        NetConfig(1, 10, 16_000, 2e-4, dropout=0.1), 370_960, 94.95, 1e-3, 160
    ),
}


class BothConv(nn.Module):
    """A convolution as long as the sequence beside one of a few steps, each normalised; causal."""

    def __init__(self, channels: int, config: NetConfig) -> None:
        super().__init__()
        self.long = SMPConv1d(
            channels, config.width, config.length, config.points, config.radius, padding="causal"
        )
        self.short = nn.Conv1d(channels, config.width, config.short, bias=config.channels > 1)
        self.norms = nn.ModuleList([nn.BatchNorm1d(config.width) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, I, L)`` to ``(B, O, L)``."""
        short = self.short(F.pad(x, (self.short.kernel_size[0] - 1, 0)))
        out: Tensor = self.norms[0](self.long(x)) + self.norms[1](short)
        return out


class DilatedConv(nn.Module):
    """A causal convolution of nine steps ``dilation`` apart, normalised."""

    TAPS = 9

    def __init__(self, channels: int, config: NetConfig, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, config.width, self.TAPS, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, I, L)`` to ``(B, O, L)``."""
        out: Tensor = self.norm(self.conv(F.pad(x, ((self.TAPS - 1) * self.conv.dilation[0], 0))))
        return out


class Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(
        self, channels: int, config: NetConfig, make: Callable[[int, NetConfig], nn.Module]
    ) -> None:
        super().__init__()
        self.first, self.second = make(channels, config), make(config.width, config)
        self.dropout = nn.Dropout(config.dropout)
        same = channels == config.width
        self.shortcut = nn.Identity() if same else nn.Conv1d(channels, config.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.relu(self.first(x)))
        return F.relu(self.second(y) + self.shortcut(x))


class _Net(nn.Module):
    """Blocks, and a linear head on the last step."""

    def __init__(
        self, config: NetConfig, make: Callable[[int], Callable[[int, NetConfig], nn.Module]]
    ) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels, *[config.width] * (config.blocks - 1)]
        self.blocks = nn.Sequential(
            *(Block(width, config, make(i)) for i, width in enumerate(widths))
        )
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, L)`` to ``(B, classes)``; what was learnt holds for sequences of one length."""
        if x.shape[1:] != (self.config.channels, self.config.length):
            wanted = f"(B, {self.config.channels}, {self.config.length})"
            raise ValueError(f"sequences of shape {tuple(x.shape)}, not {wanted}")
        logits: Tensor = self.head(self.blocks(x)[..., -1])
        return logits


class SMPNet(_Net):
    """The network of SMPConv; see the module."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config, lambda _: BothConv)


class DilatedNet(_Net):
    """The same network with dilated convolutions; block i is dilated by base ** i."""

    def __init__(self, config: NetConfig) -> None:
        base = dilation_base(config.length, config.blocks)

        def made(i: int) -> Callable[[int, NetConfig], nn.Module]:
            return lambda channels, of: DilatedConv(channels, of, base**i)

        super().__init__(config, made)


def dilation_base(length: int, blocks: int) -> int:
    """The least growth of the dilation with which the last step sees ``length`` steps."""
    reach = 2 * (DilatedConv.TAPS - 1)
    base = 1
    while 1 + reach * sum(base**i for i in range(blocks)) < length:
        base += 1
    return base


def parameters(model: nn.Module) -> int:
    """How many numbers ``model`` learns."""
    return sum(p.numel() for p in model.parameters())


def like(config: NetConfig) -> NetConfig:
    """The sizes of a :class:`DilatedNet` with as many parameters as :class:`SMPNet` of ``config``.

    As near as a whole width gets.
    """

    def count(width: int) -> int:
        with torch.device("meta"):
            return parameters(DilatedNet(replace(config, width=width)))

    with torch.device("meta"):
        wanted = parameters(SMPNet(config))
    above = bisect.bisect_left(range(8 * config.width), wanted, lo=2, key=count)
    nearest = min((above - 1, above), key=lambda width: abs(count(width) - wanted))
    return replace(config, width=nearest)


@dataclass(frozen=True)
class NetTraining:
    """How a network is fitted: Adam, half a cosine of the rate, as published."""

    steps: int
    learning_rate: float
    batch_size: int = 32
    weight_decay: float = 1e-5
    warmup: int = 20


def fit(
    model: nn.Module,
    data: Sequences,
    how: NetTraining,
    folder: Path,
    seed: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` on the train split, continuing where ``folder`` left off; its curve."""
    optimizer = torch.optim.Adam(parameter_groups(model, how.learning_rate, how.weight_decay))
    clamp_after_steps(optimizer, model)

    def step(i: int) -> dict[str, float]:
        rng = generator(seed, data.name, i)
        chosen = rng.choice(len(data.train), min(how.batch_size, len(data.train)), replace=False)
        x, y = data.train.batch(chosen.tolist(), rng)
        logits = model.train()(x)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "accuracy": (logits.argmax(1) == y).float().mean().item()}

    torch.manual_seed(seed)
    try:
        return run_steps(
            "network", folder, how.steps, step, {"model": model}, {"optimizer": optimizer},
            schedule=lambda i: cosine(i, how.steps, min(how.warmup, how.steps // 10), 0.0),
            progress=progress,
        )  # fmt: skip
    finally:
        model.eval()


@torch.no_grad()
def logits_of(model: nn.Module, part: Part, batch_size: int = 32) -> NDArray[np.float32]:
    """What ``model`` says of each example of a split, ``(N, classes)``."""
    model.eval()
    found = [
        model(part.batch(range(start, min(start + batch_size, len(part))))[0])
        for start in range(0, len(part), batch_size)
    ]
    return np.asarray(torch.cat(found))
