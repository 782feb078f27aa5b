"""A reward model of the sound itself, trained on which of two clips is better (Bradley-Terry).

    loss = -log sigmoid(r(chosen) - r(rejected))

A small one-dimensional convolutional network reads the samples at 16 kHz. Its first layer is a
bank of filter pairs whose summed squares, under a logarithm, are energies in bands; the filters
start as Hann-windowed sines and cosines spaced as mel bands are, and learn with the rest (in the
manner of LEAF, arXiv 2101.08596). Mean and spread over time become one number, which starts at
zero for every clip, so that the first loss is ln 2.

With ``context="points"`` what follows the bank are depthwise kernels of self-moving points, two
seconds long beside five frames (:mod:`speech.smpconv`, as in its blocks for pictures), in place of
nine frames each.

The network never sees the text: see docs/judges.md before rewarding with it alone.

:class:`SpokenReward` makes a policy's completions audible and asks that network, wherever a reward
model of tokens (:class:`common.learners.reward.RewardModel`) could stand.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import UserError
from common.policies.weights import digest
from common.records import Preference, identity
from common.stages import Context, Progress
from common.training import cosine, generator, run_steps
from speech.audio import SAMPLE_RATE, Wave
from speech.ctc import Block, CTCConfig
from speech.judges import WaveJudge, usable
from speech.smpconv import SMPConv1d, clamp_after_steps, parameter_groups
from speech.speaker import Speaker

BOUND = 10.0
"""Rewards lie between minus this and this: a difference of 20 is certainty already."""
WINDOW, HOP = 400, 160
"""Samples of a filter, and from one to the next: 25 and 10 ms."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a :class:`WaveNetwork`."""

    filters: int = 64
    width: int = 64
    blocks: int = 3
    kernel: int = 9
    dropout: float = 0.1
    context: Literal["frames", "points"] = "frames"
    """What sees along time: ``kernel`` frames, or ``POINTS`` over ``REACH`` frames and five."""


SMPCONV = NetworkConfig(context="points")
"""The network of ``--reward smpconv``."""
REACH, POINTS = 101, 25
"""Frames of 20 ms that a kernel of points covers, and its points, a quarter as many."""


@dataclass(frozen=True)
class WaveTraining:
    """How a :class:`WaveReward` is fitted; of a long clip it hears a stretch of ``seconds``."""

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 2e-3
    warmup: int = 20
    seconds: float = 3.0


class WaveNetwork(nn.Module):
    """Samples at 16 kHz → one number a clip, within ``BOUND`` of zero."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.filters = nn.Conv1d(1, 2 * config.filters, WINDOW, stride=HOP, bias=False)
        self.filters.weight.data = mel_spaced(config.filters)[:, None]
        self.stem = nn.Conv1d(config.filters, width, 5, stride=2, padding=2)
        like = CTCConfig(width=width, kernel=config.kernel, dropout=config.dropout)
        self.blocks = nn.ModuleList([Block(like) for _ in range(config.blocks)])
        if config.context == "points":
            for block in self.blocks:
                block.depthwise = LongShort(width)
        self.head = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, waves_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """``(B, samples)``, zero-padded, and true lengths ``(B,)`` → rewards ``(B,)``."""
        pairs = self.filters(waves_BN[:, None]).square()
        energy_BFT = (pairs[:, 0::2] + pairs[:, 1::2] + 1e-6).log()
        frames_B = (lengths_B - WINDOW) // HOP + 1
        x = self.stem((energy_BFT + 6) / 5 * within(frames_B, energy_BFT))
        frames_B = (frames_B + 1) // 2
        mask = within(frames_B, x)
        x = x * mask
        for block in self.blocks:
            x = block(x) * mask
        mean_BC = x.sum(2) / frames_B[:, None]
        spread_BC = ((x - mean_BC[:, :, None]).square() * mask).sum(2) / frames_B[:, None]
        pooled = torch.cat([mean_BC, (spread_BC + 1e-5).sqrt()], 1)
        return BOUND * torch.tanh(self.head(pooled)[:, 0] / BOUND)


class LongShort(nn.Module):
    """Depthwise kernels of points over :data:`REACH` frames beside kernels of five; centred."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # As published for pictures: a radius of two steps and more, no average over points.
        self.long = SMPConv1d(width, width, REACH, POINTS, 2 * 2 / REACH, groups=width)
        self.short = nn.Conv1d(width, width, 5, padding=2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T)`` to the same."""
        out: Tensor = self.long(x) + self.short(x)
        return out


def mel_spaced(count: int) -> Tensor:
    """Hann-windowed cosines and sines in turn, ``(2 * count, WINDOW)``, of 60 Hz to 7.6 kHz."""
    low, high = 2595 * np.log10(1 + np.array([60.0, 7600.0]) / 700)
    hertz = 700 * (10 ** (np.linspace(low, high, count) / 2595) - 1)
    phase = 2 * np.pi * hertz[:, None] * np.arange(WINDOW) / SAMPLE_RATE
    bank = np.stack([np.cos(phase), np.sin(phase)], 1) * np.hanning(WINDOW)
    return torch.from_numpy(bank.reshape(2 * count, WINDOW)).float()


def within(lengths_B: Tensor, x_BCT: Tensor) -> Tensor:
    """1 where a frame of ``x`` is one of a row's own, 0 on padding: ``(B, 1, T)``."""
    return (torch.arange(x_BCT.shape[2]) < lengths_B[:, None])[:, None].to(x_BCT.dtype)


class WaveReward(WaveJudge):
    """``reward``: how good a clip sounds, as learnt from pairs; only differences mean something.

    Every clip is brought to one level first, so that loudness earns nothing.
    """

    names = ("reward",)
    worst = (-BOUND,)

    def __init__(
        self, network: WaveNetwork | None = None, training: WaveTraining | None = None
    ) -> None:
        self.training = training or WaveTraining()
        if network is None:
            network = fresh(NetworkConfig())
        self.network = network.eval()

    def score(
        self,
        waves: Sequence[Wave],
        texts: Sequence[str] = (),  # noqa: ARG002 - it hears sound, not words
    ) -> list[dict[str, float]]:
        return [{"reward": self._hear(w)} if usable(w) else self.lowest() for w in waves]

    @torch.inference_mode()
    def _hear(self, wave: Wave) -> float:
        return float(self.network(*stack([level(wave)]))[0])

    def fit(self, pairs: Sequence[tuple[Wave, Wave]], ctx: Context) -> Mapping[str, float]:
        """Train on pairs of a better and a worse clip; nothing is done when there are none.

        Pairs with a clip that nothing can be heard in are left out: it scores worst anyway.
        Continues where a killed training stopped. Returns ``loss``, ``reward_accuracy`` and
        ``reward_margin`` of the last tenth of the steps, ``loss_first`` of the first, ``pairs``
        and ``steps``.
        """
        from common.learners.data import summary

        how = self.training
        kept = [(level(a), level(b)) for a, b in pairs if usable(a) and usable(b)]
        if not kept:
            return {"pairs": 0.0, "steps": 0.0}
        waves = {
            f"{i}-{k}": torch.from_numpy(w) for i, p in enumerate(kept) for k, w in enumerate(p)
        }
        name = identity(asdict(how), digest(self.network.state_dict()), digest(waves))
        seed = ctx.seed_for("wave reward", ctx.round)
        longest = round(how.seconds * SAMPLE_RATE)
        optimizer = torch.optim.AdamW(parameter_groups(self.network, how.learning_rate, 0.05))
        clamp_after_steps(optimizer, self.network)

        def step(i: int) -> dict[str, float]:
            rng = generator(seed, "reward", i)
            part = rng.choice(len(kept), min(how.batch_size, len(kept)), replace=False)
            clips = [crop(kept[k][side], longest, rng) for side in (0, 1) for k in part]
            chosen, rejected = self.network.train()(*stack(clips)).chunk(2)
            margin = chosen - rejected
            loss = -functional.logsigmoid(margin).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            optimizer.step()
            return {
                "loss": loss.item(),
                "accuracy": (margin > 0).float().mean().item(),
                "margin": margin.mean().item(),
            }

        torch.manual_seed(seed % 2**63)
        try:
            curve = run_steps(
                "reward",
                ctx.workdir / f"wave-reward-{name}",
                how.steps,
                step,
                {"network": self.network},
                {"optimizer": optimizer},
                schedule=lambda s: cosine(s, how.steps, how.warmup),
                log_every=1,
                progress=lambda done, total, _: ctx.progress(done, total, "wave reward steps"),
            )
        finally:
            self.network.eval()
        for row in curve:
            ctx.tracker.log({f"reward/{k}": v for k, v in row.items()}, int(row["step"]))
        figures = summary(curve, {"accuracy": "reward_accuracy", "margin": "reward_margin"})
        return figures | {"pairs": float(len(kept))}

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.network.state_dict(), str(folder / "model.safetensors"))
        text = json.dumps(asdict(self.network.config), indent=1)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, training: WaveTraining | None = None) -> Self:
        """Raises UserError where :meth:`save` has not been."""
        from safetensors.torch import load_file

        if not (folder / "model.safetensors").is_file():
            raise UserError(
                f"no reward model of sound in {str(folder)!r}", "name a folder written by save"
            )
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network = WaveNetwork(NetworkConfig(**settings))
        network.load_state_dict(load_file(str(folder / "model.safetensors")))
        return cls(network, training)


class SpokenReward:
    """A :class:`WaveReward` of completions, which a speaker says aloud first.

    Fitting and scoring cost as much as saying, most of a sample's price.
    """

    def __init__(
        self,
        speaker: Callable[[], Speaker],
        training: WaveTraining | None = None,
        config: NetworkConfig = NetworkConfig(),
    ) -> None:
        """``speaker`` is asked for when something is first said."""
        self.wave, self._make = WaveReward(fresh(config), training), speaker

    @functools.cached_property
    def speaker(self) -> Speaker:
        return self._make()

    def fit(self, preferences: Sequence[Preference], ctx: Context) -> Mapping[str, float]:
        """Train on ``preferences``; what comes back is as of :meth:`WaveReward.fit`."""
        said = list(dict.fromkeys(text for p in preferences for text in (p.chosen, p.rejected)))
        waves = dict(zip(said, self._waves(said, ctx.progress), strict=True))
        return self.wave.fit([(waves[p.chosen], waves[p.rejected]) for p in preferences], ctx)

    def score(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:  # noqa: ARG002
        """The reward of each completion; the lowest where nothing can be heard."""
        return [row["reward"] for row in self.wave.score(self._waves(completions))]

    def _waves(self, completions: Sequence[str], progress: Progress | None = None) -> list[Wave]:
        import soxr

        rate = self.speaker.codec.sample_rate
        waves = self.speaker.waves(completions, progress)
        if rate == SAMPLE_RATE:
            return waves
        return [soxr.resample(w, rate, SAMPLE_RATE).astype(np.float32) for w in waves]

    def fingerprint(self) -> str:
        """A hash of the network's weights."""
        return digest(self.wave.network.state_dict())

    def save(self, folder: Path) -> None:
        """As :meth:`WaveReward.save`."""
        self.wave.save(folder)

    def restore(self, folder: Path) -> None:
        """Take the weights that :meth:`save` wrote."""
        saved = WaveReward.load(folder).network
        self.wave.network.load_state_dict(saved.state_dict())


def fresh(config: NetworkConfig) -> WaveNetwork:
    """A network that has learnt nothing, the same each time."""
    torch.manual_seed(0)
    return WaveNetwork(config)


def level(wave: Wave) -> Wave:
    """``wave`` at a root mean square of 0.1."""
    samples = np.ascontiguousarray(wave, np.float32)
    return samples * np.float32(0.1 / max(1e-5, float(np.sqrt(np.mean(np.square(samples))))))


def crop(wave: Wave, longest: int, rng: np.random.Generator) -> Wave:
    """A random stretch of ``longest`` samples, or the whole if it is shorter."""
    start = int(rng.integers(max(1, len(wave) - longest + 1)))
    return wave[start : start + longest]


def stack(waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
    """Clips ``(samples,)`` → a zero-padded ``(B, samples)`` and lengths."""
    tensors = [torch.from_numpy(wave) for wave in waves]
    lengths = torch.tensor([len(wave) for wave in tensors])
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True), lengths
