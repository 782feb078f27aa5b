"""The non-autoregressive model: first-codebook tokens → the other codebooks, in parallel.

Masked token modelling codebook by codebook, coarse to fine, decoded in a few steps that keep the
most confident tokens first: MaskGIT (arXiv 2202.04200, section 3.2) as SoundStorm applies it to
codecs (arXiv 2305.09636, section 3.2). Preference optimisation leaves it alone, as in SpeechAlign.

The text enters too, as in VALL-E (arXiv 2301.02111, section 4.2.2): each frame knows which phone it
belongs to, which the autoregressive model's stream says.

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

from common.training import generator, run_steps
from speech.codec.spectral import Block

Report = Callable[[int, int, str], None]
Codes = NDArray[np.int64]
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Codes ``(B, Q, F)``, phones ``(B, F)``, voices ``(B, Q, V)`` and which frames are known."""


@dataclass(frozen=True)
class NARConfig:
    """Sizes; ``sizes`` are the codebooks' entries, the first one's first."""

    sizes: tuple[int, ...] = (256, 512, 512, 512)
    phones: tuple[str, ...] = ()
    """The phones that it knows; a frame of any other belongs to none."""
    width: int = 224
    blocks: int = 6
    heads: int = 4
    steps: tuple[int, ...] = (8, 2, 1)
    """Decoding steps of each codebook after the first."""
    dropout: float = 0.1


@dataclass(frozen=True)
class NARTraining:
    """How the starter is trained."""

    model: NARConfig = NARConfig()
    seed: int = 0
    steps: int = 3200
    batch: int = 16
    frames: int = 128
    voice_frames: int = 150
    corruption: float = 0.2
    """Up to this share of the codes it reads are wrong: what a model made before it is, too."""
    unlabelled: float = 0.1
    """Share of examples whose phones are hidden, so that it also works from codes alone."""
    learning_rate: float = 1.5e-3
    shifts: tuple[int, ...] = (0, 80, 160, 240)
    """Each recording is encoded so many samples late, too: most of its finer codes change."""


@dataclass(frozen=True)
class Coded:
    """A recording as the NAR learns it: codes ``(Q, F)`` and each frame's phone, or none."""

    speaker: str
    codes: Codes
    phones: tuple[str, ...] = ()


class MaskedCodes(nn.Module):
    """Predicts masked tokens of one codebook from the first, the coarser ones and a voice."""

    kind = "masked"

    def __init__(self, config: NARConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or NARConfig()
        # One more entry stands for "masked", and for "not known yet" in finer codebooks.
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, c.width) for size in c.sizes)
        self.numbers = {phone: i for i, phone in enumerate(c.phones, 1)}
        self.phone = nn.Embedding(len(c.phones) + 1, c.width)
        self.level = nn.Embedding(len(c.sizes), c.width)
        self.enter = nn.Conv1d(c.width, c.width, 5, padding=2)
        half = c.blocks // 2
        self.before = nn.Sequential(*[Block(c.width, 1 / c.blocks) for _ in range(half)])
        self.attention = nn.TransformerEncoderLayer(
            c.width, c.heads, 2 * c.width, dropout=c.dropout, batch_first=True, norm_first=True
        )
        self.after = nn.Sequential(*[Block(c.width, 1 / c.blocks) for _ in range(c.blocks - half)])
        self.norm = nn.LayerNorm(c.width)
        self.drop = nn.Dropout(c.dropout)
        self.heads = nn.ModuleList(nn.Linear(c.width, size) for size in c.sizes[1:])
        self.voice = nn.Sequential(
            nn.Linear(c.width, c.width), nn.GELU(), nn.Linear(c.width, c.width)
        )

    def _sum(self, codes: Tensor) -> Tensor:
        """Codes ``(B, Q, F)`` → summed embeddings ``(B, F, width)``."""
        parts = [table(codes[:, q]) for q, table in enumerate(self.embeddings)]
        return torch.stack(parts).sum(0)

    def number(self, phones: Sequence[str]) -> list[int]:
        """The entry of each phone; 0 for one it does not know."""
        return [self.numbers.get(phone, 0) for phone in phones]

    def forward(
        self, codes: Tensor, phones: Tensor, level: int, voice: Tensor, known: Tensor
    ) -> Tensor:
        """Logits ``(B, F, size)`` of codebook ``level``.

        Args:
            codes: ``(B, Q, F)``; masked tokens hold the codebook's size.
            phones: ``(B, F)`` from :meth:`number`.
            level: 1 for the second codebook, and so on.
            voice: ``(B, Q, V)`` codes of a voice prompt, all known; ``(1, Q, V)`` is everybody's.
            known: ``(B, F)`` false where a frame is padding.
        """
        prompt = self.voice(self._sum(voice)).mean(1, keepdim=True)
        x = self._sum(codes) + self.phone(phones) + prompt + self.level.weight[level]
        x = self.drop(x) * known[..., None]
        x = self.before(self.enter(x.transpose(1, 2))).transpose(1, 2)
        x = self.attention(self.drop(x), src_key_padding_mask=~known)
        x = self.after((x * known[..., None]).transpose(1, 2)).transpose(1, 2)
        return torch.as_tensor(self.heads[level - 1](self.drop(self.norm(x))))

    @torch.inference_mode()
    def generate(
        self,
        first: Sequence[Sequence[int]],
        phones: Sequence[Sequence[str]],
        voice: Tensor,
        batch: int = 8,
    ) -> list[Tensor]:
        """All codebooks ``(Q, F)`` for each list of first-codebook codes and their phones.

        ``voice`` is ``(Q, V)``. The likeliest token is taken at each step: drawing at temperature
        0.7 raised the word error rate by half (``docs/lab-notes.md``).
        """
        results: list[Tensor | None] = [None] * len(first)
        order = sorted(range(len(first)), key=lambda i: len(first[i]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            codes = self._decode(
                [first[i] for i in rows],
                [self.number(phones[i]) for i in rows],
                voice,
            )
            for i, row in zip(rows, codes, strict=True):
                results[i] = row[:, : len(first[i])]
        return [r for r in results if r is not None]

    def _decode(
        self,
        first: Sequence[Sequence[int]],
        phones: Sequence[Sequence[int]],
        voice: Tensor,
    ) -> Tensor:
        sizes, lengths = self.config.sizes, [len(f) for f in first]
        longest = max(1, *lengths)
        codes = torch.stack([torch.full((len(first), longest), size) for size in sizes], 1)
        known = torch.arange(longest) < torch.tensor(lengths)[:, None]
        names = torch.zeros(len(first), longest, dtype=torch.long)
        for row, (line, said) in enumerate(zip(first, phones, strict=True)):
            codes[row, 0, : len(line)] = torch.tensor(line)
            names[row, : len(line)] = torch.tensor(said)
        for level, steps in enumerate(self.config.steps, 1):
            hidden = known.clone()
            for step in range(steps):
                logits = self(codes, names, level, voice[None], known)
                certainty, likeliest = logits.log_softmax(-1).max(-1)
                certainty = certainty.masked_fill(~hidden, -math.inf)
                still = math.cos(math.pi / 2 * (step + 1) / steps) if step + 1 < steps else 0.0
                for row, length in enumerate(lengths):
                    reveal = int(hidden[row].sum()) - int(still * length)
                    best = certainty[row].topk(max(reveal, 0)).indices
                    codes[row, level, best] = likeliest[row, best]
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
    model: MaskedCodes,
    codes: Tensor,
    phones: Tensor,
    voice: Tensor,
    known: Tensor,
    random: np.random.Generator,
    corruption: float = 0.0,
) -> tuple[Tensor, int]:
    """Cross-entropy of randomly masked tokens of a random codebook, and which codebook.

    Up to a share ``corruption`` of the coarser codebooks' tokens is replaced by any other.
    """
    sizes = model.config.sizes
    weights = np.array(model.config.steps, float) + 1
    level = 1 + int(random.choice(len(sizes) - 1, p=weights / weights.sum()))
    shown = codes.clone()
    for coarser in range(level):
        shown[:, coarser] = corrupt(shown[:, coarser], sizes[coarser], corruption, random)
    for finer in range(level + 1, len(sizes)):
        shown[:, finer] = sizes[finer]
    share = np.cos(np.pi / 2 * random.random((len(codes), 1)))
    hidden = torch.from_numpy(random.random((len(codes), codes.shape[2])) < share) & known
    hidden[:, 0] |= known[:, 0]  # never nothing to predict
    shown[:, level] = torch.where(hidden, sizes[level], shown[:, level])
    logits = model(shown, phones, level, voice, known)
    return F.cross_entropy(logits[hidden], codes[:, level][hidden]), level


def train_nar(
    config: NARTraining,
    recordings: Sequence[Coded],
    held_out: Sequence[Coded],
    folder: Path,
    progress: Report | None = None,
) -> MaskedCodes:
    """Train on ``recordings``; voice prompts come from others of the same speaker."""
    torch.manual_seed(config.seed)
    model = MaskedCodes(config.model)
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    books = len(config.model.sizes)

    def batch(source: Sequence[Coded], random: np.random.Generator) -> Batch:
        by_speaker: dict[str, list[Codes]] = {}
        for item in source:
            by_speaker.setdefault(item.speaker, []).append(item.codes)
        weights = np.array([item.codes.shape[1] for item in source], float)
        size, frames = config.batch, config.frames
        codes = torch.stack([torch.full((size, frames), s) for s in config.model.sizes], 1)
        phones = torch.zeros(size, frames, dtype=torch.long)
        known = torch.zeros(size, frames, dtype=torch.bool)
        voices = []
        for row, i in enumerate(random.choice(len(source), size, p=weights / weights.sum())):
            item = source[i]
            at = crop(item.codes.shape[1], frames, random)
            piece = torch.from_numpy(item.codes[:books, at])
            codes[row, :, : piece.shape[1]] = piece
            known[row, : piece.shape[1]] = True
            if item.phones and random.random() >= config.unlabelled:
                phones[row, : piece.shape[1]] = torch.tensor(model.number(item.phones[at]))
            others = by_speaker[item.speaker]
            voices.append(voice_prompt(others, books, config.voice_frames, random))
        return codes, phones, torch.stack(voices), known

    def step(i: int) -> dict[str, float]:
        random = generator(config.seed, "nar", i)
        model.train()
        codes, phones, voice, known = batch(recordings, random)
        loss, level = masked_loss(model, codes, phones, voice, known, random, config.corruption)
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
                    masked_loss(model, *batch(held_out, fixed), fixed)[0].item() for _ in range(6)
                ]
            figures["held_out"] = float(np.mean(losses))
        return figures

    run_steps(
        "nar", folder, config.steps, step, {"model": model}, {"nar": optimizer}, progress=progress
    )
    return model.eval()


def corrupt(codes: Tensor, size: int, most: float, random: np.random.Generator) -> Tensor:
    """``codes (B, F)`` with up to a share ``most`` of each row replaced by any of ``size``."""
    share = random.uniform(0, most, (len(codes), 1))
    swap = torch.from_numpy(random.random(codes.shape) < share)
    return torch.where(swap, torch.from_numpy(random.integers(0, size, codes.shape)), codes)


def crop(length: int, frames: int, random: np.random.Generator) -> slice:
    """A random place of ``frames`` in ``length``, or all of it."""
    start = int(random.integers(0, max(1, length - frames + 1)))
    return slice(start, min(length, start + frames))


def voice_prompt(
    recordings: Sequence[Codes], books: int, frames: int, random: np.random.Generator
) -> Tensor:
    """``(books, frames)`` codes of one voice: a crop, repeated where the recording is shorter."""
    codes = recordings[int(random.integers(len(recordings)))][:books]
    codes = codes[:, crop(codes.shape[1], frames, random)]
    repeats = -(-frames // codes.shape[1])
    return torch.from_numpy(np.tile(codes, (1, repeats))[:, :frames])
