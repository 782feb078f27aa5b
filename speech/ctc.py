"""Intelligibility without a recogniser's language model: likelihood of the wanted phones.

A small convolutional network reads a log-mel spectrogram and is trained with connectionist
temporal classification (Graves et al., ICML 2006) on the recorded prompts' training split. The
score of a clip is ``log p(phones of the text | clip) / number of phones``, in nats: all
alignments summed, no search, no words. The network sees 0.6 s of context to either side, so it
hears sounds and knows no sentences; and it shares neither weights nor front end with Whisper,
whose states teach the codec. It is therefore the judge that rewards, and Whisper evaluates.

    upspiral speech train ctc --recipe starter        # how the starter was made

Deviation from the usual recipe: utterances are normalised by their own mean spectrum, since a
clip of a codec differs from a recording first of all in colour and level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common import registry
from common.errors import UserError
from common.training import generator, run_steps
from speech import audio
from speech.audio import Wave
from speech.corpora import Utterance
from speech.judges import WaveJudge, usable
from speech.text import WORD_END, phonemes

FLOOR = -10.0
"""Nats a phone: the score of silence, and of a text that cannot be in the clip at all."""
BATCH = 16


@dataclass(frozen=True)
class CTCConfig:
    """Sizes of a :class:`PhoneModel`; the defaults are the starter's (1.2 million parameters)."""

    symbols: tuple[str, ...] = ()
    mels: int = 80
    width: int = 192
    blocks: int = 5
    kernel: int = 11
    dropout: float = 0.15


class Block(nn.Module):
    """Depthwise convolution, then a two-layer perceptron, over ``(B, C, T)``."""

    def __init__(self, config: CTCConfig) -> None:
        super().__init__()
        width, kernel = config.width, config.kernel
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.dropout(self.down(functional.gelu(self.up(y))))
        return x + y.transpose(1, 2)


class PhoneModel(nn.Module):
    """Log-mel frames at 100 Hz → log-probabilities of phones (and blank, index 0) at 50 Hz."""

    def __init__(self, config: CTCConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv1d(config.mels, config.width, 5, stride=2, padding=2)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.blocks)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, len(config.symbols) + 1)

    def forward(self, mel_BMT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, mels, T)`` and valid frames ``(B,)`` → ``(B, T / 2, 1 + phones)`` and lengths.

        Padding is held at zero between layers, so a batch gives what single clips give.
        """
        lengths = (lengths_B + 1) // 2
        x = self.stem(mel_BMT)
        mask = (torch.arange(x.shape[-1]) < lengths[:, None])[:, None].to(x.dtype)
        x = x * mask
        for block in self.blocks:
            x = block(x) * mask
        return self.head(self.norm(x.transpose(1, 2))).log_softmax(-1), lengths

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` (16-bit) and ``config.json``."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        halves = {k: v.detach().half().contiguous() for k, v in self.state_dict().items()}
        save_file(halves, str(folder / "model.safetensors"))
        text = json.dumps(asdict(self.config), ensure_ascii=False, indent=1)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises UserError where :meth:`save` has not been."""
        from safetensors.torch import load_file

        if not (folder / "model.safetensors").is_file():
            raise UserError(f"no phone model in {str(folder)!r}", "upspiral speech train ctc")
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = cls(CTCConfig(**settings | {"symbols": tuple(settings["symbols"])}))
        weights = load_file(str(folder / "model.safetensors"))
        model.load_state_dict({k: v.float() for k, v in weights.items()})
        return model.eval()


class LogMel(nn.Module):
    """Waves at 16 kHz → log-mel frames at 100 Hz, each clip's mean spectrum taken off."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        self.mel = MelSpectrogram(audio.SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=mels)

    def forward(self, wave: Wave) -> Tensor:
        """``(samples,)`` → ``(mels, T)``."""
        x = torch.from_numpy(np.ascontiguousarray(wave, np.float32))
        x = x * (0.1 / x.square().mean().sqrt().clamp(min=1e-5))
        log_mel: Tensor = (self.mel(x) + 1e-4).log()
        return (log_mel - log_mel.mean(dim=1, keepdim=True)) / 2.5


def phones_of(texts: Sequence[str]) -> list[list[str]]:
    """Phones of English ``texts`` without word boundaries, which are not heard."""
    return [[p for p in line if p != WORD_END] for line in phonemes(texts)]


def stack(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames ``(mels, T)`` of several clips → a zero-padded ``(B, mels, T)`` and lengths."""
    lengths = torch.tensor([m.shape[1] for m in mels])
    padded = torch.zeros(len(mels), mels[0].shape[0], int(lengths.max()))
    for row, mel in zip(padded, mels, strict=True):
        row[:, : mel.shape[1]] = mel
    return padded, lengths


class CTCJudge(WaveJudge):
    """``ctc``: nats a phone, at most 0; ``phone_error``: of the greedy reading, 0 to 1.

    A clip that is silent or too short, or a text without phones, scores :data:`FLOOR` and 1.
    Phones that the training texts lack are left out of the wanted text.
    """

    names = ("ctc", "phone_error")
    worst = (FLOOR, 1.0)

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or registry.get("starter-ctc")
        self._loaded: tuple[PhoneModel, LogMel, dict[str, int]] | None = None

    @property
    def loaded(self) -> tuple[PhoneModel, LogMel, dict[str, int]]:
        """The model, its front end and the index of each phone; read on first use."""
        if self._loaded is None:
            model = PhoneModel.load(self.folder)
            index = {phone: i + 1 for i, phone in enumerate(model.config.symbols)}
            self._loaded = model, LogMel(model.config.mels).eval(), index
        return self._loaded

    def score(self, waves: Sequence[Wave], texts: Sequence[str]) -> list[dict[str, float]]:
        _, _, index = self.loaded
        scores = [self.lowest() for _ in waves]
        wanted = [[index[p] for p in line if p in index] for line in phones_of(texts)]
        good = [i for i, wave in enumerate(waves) if usable(wave) and wanted[i]]
        for part in _by_length(good, [len(w) for w in waves], BATCH):
            found = self._score([waves[i] for i in part], [wanted[i] for i in part])
            for i, row in zip(part, found, strict=True):
                scores[i] = row
        return scores

    @torch.inference_mode()
    def _score(self, waves: list[Wave], wanted: list[list[int]]) -> list[dict[str, float]]:
        model, front, _ = self.loaded
        logits_BTV, lengths = model(*stack([front(w) for w in waves]))
        nats = _ctc(logits_BTV, lengths, wanted)
        rows = []
        for b, phones in enumerate(wanted):
            best = logits_BTV[b, : lengths[b]].argmax(-1).unique_consecutive().tolist()
            score = max(FLOOR, -float(nats[b]) / len(phones))
            rows.append({"ctc": score, "phone_error": _error(phones, [p for p in best if p])})
        return rows


def _ctc(logits_BTV: Tensor, lengths: Tensor, wanted: Sequence[Sequence[int]]) -> Tensor:
    """Negative log-likelihood of each wanted sequence, in nats, ``(B,)``; infinite if too long."""
    targets = torch.tensor([p for line in wanted for p in line])
    sizes = torch.tensor([len(line) for line in wanted])
    return functional.ctc_loss(
        logits_BTV.transpose(0, 1), targets, lengths, sizes, reduction="none"
    )


def _error(wanted: Sequence[int], heard: Sequence[int]) -> float:
    """Edits over wanted phones, at most 1."""
    from rapidfuzz.distance import Levenshtein

    return min(1.0, Levenshtein.distance(wanted, heard) / len(wanted))


def _by_length(which: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Batches of ``size`` of about one length each, which wastes little padding."""
    order = sorted(which, key=lambda i: lengths[i])
    yield from (order[i : i + size] for i in range(0, len(order), size))


def train_ctc(
    utterances: Sequence[Utterance],
    folder: Path,
    *,
    steps: int = 1200,
    config: CTCConfig | None = None,
    learning_rate: float = 2e-3,
    seed: int = 0,
    longest: float = 12.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> CTCJudge:
    """Train on ``utterances`` and leave the model and its curve in ``folder``; resumable.

    Recordings above ``longest`` seconds are left out. Each is varied in speed, pitch, loudness
    of noise and by masked bands and stretches (SpecAugment), by the step's own random numbers.

    Raises:
        UserError: nothing to train on.
    """
    texts = phones_of([u.text for u in utterances])
    waves = [audio.read(u.path) for u in utterances]
    kept = [i for i, w in enumerate(waves) if texts[i] and usable(w) and len(w) < longest * 16_000]
    if not kept:
        raise UserError("no recording to train the phone model on", "choose another corpus")
    symbols = tuple(sorted({p for i in kept for p in texts[i]}))
    config = CTCConfig(**asdict(config or CTCConfig()) | {"symbols": symbols})
    wanted = [[symbols.index(p) + 1 for p in line if p in symbols] for line in texts]
    torch.manual_seed(seed)
    model, front = PhoneModel(config), LogMel(config.mels)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.05)

    def step(i: int) -> dict[str, float]:
        rng = generator(seed, "ctc", i)
        pool = rng.choice(kept, min(4 * BATCH, len(kept)), replace=False)
        parts = list(_by_length([int(k) for k in pool], [len(w) for w in waves], BATCH))
        part = parts[int(rng.integers(len(parts)))]
        logits, lengths = model.train()(*stack([_vary(waves[k], front, rng) for k in part]))
        nats = _ctc(logits, lengths, [wanted[k] for k in part])
        phones = torch.tensor([float(len(wanted[k])) for k in part])
        finite = nats.isfinite()  # a short clip spoken fast may lack frames for its phones
        loss = nats[finite].sum() / phones[finite].sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        return {"nats": float(loss.detach())}

    run_steps(
        "ctc", folder, steps, step, {"model": model}, {"optimizer": optimizer}, progress=progress
    )
    model.save(folder)
    return CTCJudge(folder)


def _vary(wave: Wave, front: LogMel, rng: np.random.Generator) -> Tensor:
    """Another way to have said it: log-mel frames of a varied copy of ``wave``."""
    import soxr

    pitch = math.exp(rng.uniform(-0.15, 0.15))
    wave = soxr.resample(wave, round(16_000 * pitch), 16_000, quality="LQ")
    if rng.random() < 0.5:
        level = np.sqrt(np.mean(np.square(wave))) * 10 ** (-rng.uniform(5, 40) / 20)
        spectrum = np.fft.rfft(rng.normal(size=len(wave)))
        tilt = np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, 1)
        noise = np.fft.irfft(spectrum * tilt, len(wave))
        wave = wave + level * noise / (np.std(noise) + 1e-9)
    mel = front(wave.astype(np.float32))
    # The speed of speech varies apart from its pitch: stretch the frames.
    size = max(4, round(mel.shape[1] * pitch * math.exp(rng.uniform(-0.15, 0.2))))
    mel = functional.interpolate(mel[None], size=size, mode="linear", align_corners=False)[
        0
    ].clone()
    for _ in range(2):
        band, bins = int(rng.integers(mel.shape[0])), int(rng.integers(12))
        mel[band : band + bins] = 0
        start, frames = int(rng.integers(size)), int(rng.integers(1 + min(12, size // 10)))
        mel[:, start : start + frames] = 0
    return mel


def held_out(judge: CTCJudge, utterances: Sequence[Utterance]) -> dict[str, float]:
    """How well ``judge`` hears recordings it has not seen.

    Mean phone error; mean nats a phone for the right text; and the chance that a right text
    outscores a wrong one (area under the curve): ``auc_other`` against another recording's text,
    ``auc_order`` against the same words in reverse order (texts of three words and more).
    """
    waves, texts = [audio.read(u.path) for u in utterances], [u.text for u in utterances]
    right = judge.score(waves, texts)
    half = len(texts) // 2  # neighbours often say the same
    other = judge.score(waves, texts[half:] + texts[:half])
    order = [i for i, text in enumerate(texts) if len(text.split()) >= 3]
    backwards = [" ".join(reversed(texts[i].split())) for i in order]
    reverse = judge.score([waves[i] for i in order], backwards)
    good = np.array([row["ctc"] for row in right])
    return {
        "n": len(waves),
        "phone_error": float(np.mean([row["phone_error"] for row in right])),
        "nats": float(good.mean()),
        "auc_other": _auc(good, other),
        "auc_order": _auc(good[order], reverse),
    }


def _auc(right: np.ndarray[Any, Any], wrong: Sequence[Mapping[str, float]]) -> float:
    low = np.array([row["ctc"] for row in wrong])
    above = (right[:, None] > low).mean() + 0.5 * (right[:, None] == low).mean()
    return float(above)
