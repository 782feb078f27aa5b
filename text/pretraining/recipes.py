"""One pre-training's settings, and recipes: ours for a core, the papers' for GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.cli import unknown
from common.errors import UserError
from text.pretraining import objectives, sentences

NAMES = (*objectives.NAMES, *sentences.NAMES)


@dataclass(frozen=True)
class PretrainConfig:
    """One pre-training. Defaults are of the tiny encoder; rates of the published ones are 1e-4."""

    objective: str = "rts"
    model: str = "tiny"
    """A size (tiny, mini, small, base) to begin from nothing; minilm, a folder or a hub name to
    continue."""
    corpus: str = "system"
    limit: int = 0
    """Documents that are read at most; 0 for all."""
    vocabulary: int = 8192
    """Pieces of the vocabulary that a new encoder learns first."""
    length: int = 128
    """Tokens of a block, or of a pair of sentences."""
    steps: int = 1000
    batch: int = 32
    accumulate: int = 1
    rate: float = 5e-4
    warmup: float = 0.1
    """Share of the steps in which the rate rises; then it falls on a line."""
    decay: float = 0.01
    clip: float = 1.0
    half: bool = False
    """bfloat16 arithmetic; for a GPU."""
    clusters: int = 100
    """How many clusters C-RTS builds."""
    clusters_file: str = ""
    """A file of clusters in their place, a line a token."""
    head: str = "IE_k"
    """Of MSPP: IE_k or AE_k."""
    selection: sentences.Selection = "same"
    """Of MSPP: same or following."""
    segment: int = 64
    """Tokens of a segment of MSPP."""
    checkpoint_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in NAMES:
            raise unknown("objective", self.objective, NAMES)
        least = {"limit": 0, "vocabulary": 100, "length": 8, "steps": 1, "batch": 1,
                 "accumulate": 1, "clusters": 2, "segment": 8, "checkpoint_every": 1}  # fmt: skip
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name}={getattr(self, name)}", f"give {minimum} or more")
        if not self.rate > 0 or not 0 <= self.warmup < 1:
            raise UserError(
                f"rate={self.rate:g}, warmup={self.warmup:g}",
                "give a rate above 0 and a warmup in [0, 1)",
            )
        if self.head not in ("IE_k", "AE_k"):
            raise unknown("head of MSPP", self.head, ("IE_k", "AE_k"))


def starter() -> PretrainConfig:
    """A tiny encoder in minutes of one core."""
    return PretrainConfig()


def small() -> PretrainConfig:
    """The small encoder of the paper (12 layers of 256); for a GPU."""
    return PretrainConfig(model="small", corpus="wikipedia", vocabulary=30_522, length=512,
                          steps=200_000, rate=5e-4, warmup=0.05, half=True)  # fmt: skip


def base() -> PretrainConfig:
    """The paper's: BERT-base, a million steps of 256 blocks of 512 tokens, on eight GPUs."""
    return PretrainConfig(model="base", corpus="wikipedia", vocabulary=30_522, length=512,
                          steps=1_000_000, batch=32, rate=1e-4, warmup=0.01, half=True)  # fmt: skip


def continued() -> PretrainConfig:
    """Sentence objectives on an existing encoder, as published for MSPP: 4,096 a step."""
    return PretrainConfig(objective="mspp", model="FacebookAI/roberta-base", corpus="wikipedia",
                          length=128, steps=100_000, batch=64, accumulate=8, rate=1e-4, warmup=0.1,
                          half=True)  # fmt: skip


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    "starter": starter,
    "small": small,
    "base": base,
    "continued": continued,
}
