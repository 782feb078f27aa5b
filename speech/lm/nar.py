"""The non-autoregressive model: first-codebook tokens → the other codebooks, in parallel.

Masked token modelling codebook by codebook, coarse to fine, decoded in a few steps that keep the
most confident tokens first: MaskGIT (arXiv 2202.04200, section 3.2) as SoundStorm applies it to
codecs (arXiv 2305.09636, section 3.2). Preference optimisation leaves it alone, as in SpeechAlign.

Deviations: blocks are ConvNeXt with one self-attention layer in the middle instead of a
Conformer, and the voice prompt enters as the mean of its encoded frames, which costs nothing per
generated frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech.codec.spectral import Block
from speech.training import generator, run_steps

Report = Callable[[int, int, str], None]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class NARConfig:
    """Sizes; ``sizes`` are the codebooks' entries, the first one's first."""

    sizes: tuple[int, ...] = (256, 512, 512, 512)
    width: int = 224
    blocks: int = 6
    heads: int = 4
    steps: tuple[int, ...] = (8, 2, 1)
    """Decoding steps of each codebook after the first."""


@dataclass(frozen=True)
class NARTraining:
    """How the starter is trained."""

    model: NARConfig = NARConfig()
    seed: int = 0
    steps: int = 2200
    batch: int = 16
    frames: int = 128
    voice_frames: int = 150
    learning_rate: float = 1.5e-3


class MaskedCodes(nn.Module):
    """Predicts masked tokens of one codebook from the first, the coarser ones and a voice."""

    kind = "masked"

    def __init__(self, config: NARConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or NARConfig()
        # One more entry stands for "masked", and for "not known yet" in finer codebooks.
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, c.width) for size in c.sizes)
        self.level = nn.Embedding(len(c.sizes), c.width)
        self.enter = nn.Conv1d(c.width, c.width, 5, padding=2)
        half = c.blocks // 2
        self.before = nn.Sequential(*[Block(c.width, 1 / c.blocks) for _ in range(half)])
        self.attention = nn.TransformerEncoderLayer(
            c.width, c.heads, 2 * c.width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.after = nn.Sequential(*[Block(c.width, 1 / c.blocks) for _ in range(c.blocks - half)])
        self.norm = nn.LayerNorm(c.width)
        self.heads = nn.ModuleList(nn.Linear(c.width, size) for size in c.sizes[1:])
        self.voice = nn.Sequential(
            nn.Linear(c.width, c.width), nn.GELU(), nn.Linear(c.width, c.width)
        )

    def _sum(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q, F)`` → summed embeddings ``(B, F, width)``."""
        parts = [table(codes[:, q]) for q, table in enumerate(self.embeddings)]
        return torch.stack(parts).sum(0)

    def forward(self, codes: Tensor, level: int, voice: Tensor, known: Tensor) -> Tensor:
        """Logits ``(B, F, size)`` of codebook ``level``.

        Args:
            codes: ``(B, Q, F)``; masked tokens hold the codebook's size.
            level: 1 for the second codebook, and so on.
            voice: ``(B, Q, V)`` codes of a voice prompt, all known.
            known: ``(B, F)`` false where a frame is padding.
        """
        prompt = self.voice(self._sum(voice)).mean(1, keepdim=True)
        x = self._sum(codes) + prompt + self.level.weight[level]
        x = x * known[..., None]
        x = self.before(self.enter(x.transpose(1, 2))).transpose(1, 2)
        x = self.attention(x, src_key_padding_mask=~known)
        x = self.after((x * known[..., None]).transpose(1, 2)).transpose(1, 2)
        return torch.as_tensor(self.heads[level - 1](self.norm(x)))

    @torch.inference_mode()
    def generate(
        self,
        first: Sequence[Sequence[int]],
        voice: Tensor,
        seeds: Sequence[int],
        temperature: float = 0.7,
        batch: int = 32,
    ) -> list[Tensor]:
        """All codebooks ``(Q, F)`` for each list of first-codebook codes.

        ``voice`` is ``(Q, V)``. What is drawn depends on ``seeds``, one a row, and not on the
        batch a row is in.
        """
        results: list[Tensor | None] = [None] * len(first)
        order = sorted(range(len(first)), key=lambda i: len(first[i]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            codes = self._decode(
                [first[i] for i in rows], voice, [seeds[i] for i in rows], temperature
            )
            for i, row in zip(rows, codes, strict=True):
                results[i] = row[:, : len(first[i])]
        return [r for r in results if r is not None]

    def _decode(
        self, first: Sequence[Sequence[int]], voice: Tensor, seeds: Sequence[int], heat: float
    ) -> Tensor:
        sizes, lengths = self.config.sizes, [len(f) for f in first]
        longest = max(1, *lengths)
        codes = torch.stack([torch.full((len(first), longest), size) for size in sizes], 1)
        known = torch.arange(longest) < torch.tensor(lengths)[:, None]
        for row, line in enumerate(first):
            codes[row, 0, : len(line)] = torch.tensor(line)
        voices = voice[None].expand(len(first), -1, -1)
        random = [np.random.default_rng(seed) for seed in seeds]
        # Each row draws for its own length only, so its numbers do not depend on the batch.
        for level, steps in enumerate(self.config.steps, 1):
            hidden = known.clone()
            for step in range(steps):
                logits = self(codes, level, voices, known)
                noise = np.zeros(logits.shape, np.float32)
                for row, length in enumerate(lengths):
                    uniform = random[row].random((length, sizes[level]), dtype=np.float32)
                    noise[row, :length] = -np.log(-np.log(uniform.clip(1e-9, 1 - 1e-7)))
                drawn = (logits + heat * torch.from_numpy(noise)).argmax(-1)
                certainty = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
                certainty = certainty.masked_fill(~hidden, -math.inf)
                still = math.cos(math.pi / 2 * (step + 1) / steps) if step + 1 < steps else 0.0
                for row, length in enumerate(lengths):
                    reveal = int(hidden[row].sum()) - int(still * length)
                    best = certainty[row].topk(max(reveal, 0)).indices
                    codes[row, level, best] = drawn[row, best]
                    hidden[row, best] = False
        return codes

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and half-precision ``model.safetensors``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: t.half() for k, t in self.state_dict().items()}, folder / "model.safetensors")
        settings = {"kind": self.kind, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        settings = json.loads((folder / "config.json").read_text())
        settings.pop("kind")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
        }
        model = cls(NARConfig(**values))
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict({k: t.float() for k, t in weights.items()})
        return model.eval()


def masked_loss(
    model: MaskedCodes, codes: Tensor, voice: Tensor, known: Tensor, random: np.random.Generator
) -> tuple[Tensor, int]:
    """Cross-entropy of randomly masked tokens of a random codebook, and which codebook."""
    sizes = model.config.sizes
    weights = np.array(model.config.steps, float) + 1
    level = 1 + int(random.choice(len(sizes) - 1, p=weights / weights.sum()))
    shown = codes.clone()
    for finer in range(level + 1, len(sizes)):
        shown[:, finer] = sizes[finer]
    share = np.cos(np.pi / 2 * random.random((len(codes), 1)))
    hidden = torch.from_numpy(random.random((len(codes), codes.shape[2])) < share) & known
    hidden[:, 0] |= known[:, 0]  # never nothing to predict
    shown[:, level] = torch.where(hidden, sizes[level], shown[:, level])
    logits = model(shown, level, voice, known)
    return F.cross_entropy(logits[hidden], codes[:, level][hidden]), level


def train_nar(
    config: NARTraining,
    recordings: Sequence[tuple[str, Codes]],
    held_out: Sequence[tuple[str, Codes]],
    folder: Path,
    progress: Report | None = None,
) -> MaskedCodes:
    """Train on ``(speaker, codes (Q, F))``; voice prompts come from the same speaker."""
    torch.manual_seed(config.seed)
    model = MaskedCodes(config.model)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    books = len(config.model.sizes)

    def batch(
        source: Sequence[tuple[str, Codes]], random: np.random.Generator, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        by_speaker: dict[str, list[Codes]] = {}
        for speaker, codes in source:
            by_speaker.setdefault(speaker, []).append(codes)
        weights = np.array([codes.shape[1] for _, codes in source], float)
        codes_out = torch.stack(
            [torch.full((size, config.frames), s) for s in config.model.sizes], 1
        )
        known = torch.zeros(size, config.frames, dtype=torch.bool)
        voices = []
        for row, i in enumerate(random.choice(len(source), size, p=weights / weights.sum())):
            speaker, codes = source[i]
            piece = crop(codes[:books], config.frames, random)
            codes_out[row, :, : piece.shape[1]] = torch.from_numpy(piece)
            known[row, : piece.shape[1]] = True
            others = by_speaker[speaker]
            voices.append(voice_prompt(others, books, config.voice_frames, random))
        return codes_out, torch.stack(voices), known

    def step(i: int) -> dict[str, float]:
        random = generator(config.seed, "nar", i)
        model.train()
        loss, level = masked_loss(model, *batch(recordings, random, config.batch), random)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        figures = {f"book{level + 1}": loss.item()}
        if held_out and (i + 1) % 250 == 0:
            model.eval()
            fixed = generator(config.seed, "held out")
            with torch.no_grad():
                losses = [
                    masked_loss(model, *batch(held_out, fixed, config.batch), fixed)[0].item()
                    for _ in range(6)
                ]
            figures["held_out"] = float(np.mean(losses))
        return figures

    run_steps(
        "nar", folder, config.steps, step, {"model": model}, {"nar": optimizer}, progress=progress
    )
    return model.eval()


def crop(codes: Codes, frames: int, random: np.random.Generator) -> Codes:
    """``frames`` of ``codes (Q, F)`` from a random place, or all of them."""
    start = int(random.integers(0, max(1, codes.shape[1] - frames + 1)))
    return codes[:, start : start + frames]


def voice_prompt(
    recordings: Sequence[Codes], books: int, frames: int, random: np.random.Generator
) -> Tensor:
    """``(books, frames)`` codes of one voice: a crop, repeated where the recording is shorter."""
    codes = crop(recordings[int(random.integers(len(recordings)))][:books], frames, random)
    repeats = -(-frames // codes.shape[1])
    return torch.from_numpy(np.tile(codes, (1, repeats))[:, :frames])
