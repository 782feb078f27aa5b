"""How the starter codec is made: ``upspiral speech train codec --recipe starter``.

Four stages, each resumable. *Semantic*: one encoder learns to predict the recogniser's states
(first 64 principal components) and its outputs are clustered into the first codebook. *Acoustic*:
the rest learns to reconstruct from a random number of codebooks under a multi-scale loss.
*Decoder*: the decoder alone goes on under the same loss. *Adversarial*: it is sharpened against a
multi-scale STFT discriminator. Codes do not change in the last two, so language models may be
trained on them meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.training import generator, run_steps
from speech.codec.adversarial import Discriminator, discriminator_loss, generator_losses
from speech.codec.losses import Balancer, multi_scale_mel, multi_scale_stft
from speech.codec.spectral import SpectralCodec, SpectralConfig

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CodecTraining:
    """Steps, batch and rates of each stage; the defaults made the starter."""

    codec: SpectralConfig = field(default_factory=SpectralConfig)
    seed: int = 0
    semantic_steps: int = 1000
    acoustic_steps: int = 3600
    decoder_steps: int = 4000
    adversarial_steps: int = 900
    batch: int = 16
    acoustic_batch: int = 8
    semantic_seconds: float = 2.0
    acoustic_seconds: float = 1.0
    adversarial_seconds: float = 0.5
    adversarial_batch: int = 8
    learning_rate: float = 1e-3
    discriminator_rate: float = 1e-3
    """At a third of it the discriminator was still undecided after 800 steps."""
    head_start: int = 200
    """Adversarial steps in which the discriminator learns alone; without them it never decides."""
    phone_weight: float = 0.5
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"spectra": 4.0, "fooling": 1.0, "matching": 1.0}
    )
    """Of the gradient at the decoder's output, by EnCodec's balancer."""


class Crops:
    """Random crops, aligned to frames, from recordings laid end to end."""

    def __init__(self, waves: Sequence[Floats], hop: int) -> None:
        padded = [np.pad(wave, (0, -len(wave) % hop)) for wave in waves]
        self.wave = np.concatenate(padded)
        self.hop = hop

    def draw(self, seed: int, step: int, batch: int, seconds: float) -> tuple[Tensor, list[slice]]:
        """``(batch, T)`` samples at random loudness, and the frames that each crop covers."""
        random = generator(seed, "crops", step)
        frames = round(seconds * 16_000 / self.hop)
        starts = random.integers(0, len(self.wave) // self.hop - frames, batch)
        wave = self._cut(starts * self.hop, frames * self.hop, random)
        return wave, [slice(s, s + frames) for s in starts]

    def anywhere(self, seed: int, step: int, batch: int, seconds: float) -> Tensor:
        """``(batch, T)`` samples at random loudness, from any sample on: more crops to learn."""
        random = generator(seed, "anywhere", step)
        length = round(seconds * 16_000 / self.hop) * self.hop
        return self._cut(random.integers(0, len(self.wave) - length, batch), length, random)

    def _cut(self, starts: NDArray[np.int64], length: int, random: np.random.Generator) -> Tensor:
        gains = 10 ** random.uniform(-0.4, 0.15, (len(starts), 1))
        rows = np.stack([self.wave[s : s + length] for s in starts])
        return torch.from_numpy(rows * gains.astype(np.float32)).clamp(-1, 1)


def train_codec(
    config: CodecTraining,
    waves: Sequence[Floats],
    states: Sequence[Floats],
    phones: Sequence[Labels],
    folder: Path,
    progress: Report | None = None,
    coding: Callable[[SpectralCodec], None] | None = None,
) -> SpectralCodec:
    """Train a codec on 16 kHz ``waves`` with the recogniser's ``states`` (see ``teacher.py``).

    ``phones`` numbers the phone heard in each frame, -1 where it is not known. ``coding`` is
    called with the codec as soon as its codes are final, before the decoder is sharpened.

    Continues from what lies in ``folder``, where curves and checkpoints are kept.
    """
    torch.manual_seed(config.seed)
    codec = SpectralCodec(config.codec)
    crops = Crops(waves, codec.hop)
    train_semantic(config, codec, crops, states, phones, folder, progress)
    train_acoustic(config, codec, crops, folder, progress)
    if coding:
        coding(codec)
    train_decoder(config, codec, crops, folder, progress)
    train_adversarial(config, codec, crops, folder, progress)
    return codec.eval()


def principal_components(states: Floats, count: int) -> tuple[Floats, Floats, float]:
    """Mean, ``(D, count)`` directions, and the scale that gives the projection unit variance."""
    mean = states.mean(0)
    covariance = np.cov((states - mean).T.astype(np.float64))
    values, vectors = np.linalg.eigh(covariance)
    top = vectors[:, ::-1][:, :count].astype(np.float32)
    return mean, top, float(np.sqrt(values[::-1][:count].mean()))


def train_semantic(
    config: CodecTraining,
    codec: SpectralCodec,
    crops: Crops,
    states: Sequence[Floats],
    phones: Sequence[Labels],
    folder: Path,
    progress: Report | None = None,
) -> None:
    """Predict the recogniser's states and the phone from mel, then cluster the predictions.

    Clusters of the states themselves agree with the phones in 46% of the frames; in the
    projection of a linear discriminant analysis the same number of clusters does in 62%.
    """
    done = folder / "semantic-done.pt"
    if done.is_file():
        codec.load_state_dict(torch.load(done, weights_only=True), strict=False)
        return
    mean, top, scale = principal_components(np.concatenate(states), codec.config.latent)
    target = torch.from_numpy(np.concatenate([(s - mean) @ top / scale for s in states]))
    if len(target) != len(crops.wave) // codec.hop:
        raise ValueError(f"{len(target)} states for {len(crops.wave) // codec.hop} frames")
    heard = torch.from_numpy(np.concatenate(phones))
    head = torch.nn.Linear(codec.config.latent, int(heard.max()) + 1)
    optimizer = torch.optim.AdamW(
        [*codec.semantic.parameters(), *head.parameters()], config.learning_rate
    )

    def step(i: int) -> dict[str, float]:
        wave, frames = crops.draw(config.seed, i, config.batch, config.semantic_seconds)
        wanted = torch.stack([target[f] for f in frames])
        predicted = codec.semantic(codec.log_mel(wave)).transpose(1, 2)
        inner = slice(10, -10)  # the crop's edges lack the context that the teacher had
        regression = F.mse_loss(predicted[:, inner], wanted[:, inner])
        labels = torch.stack([heard[f] for f in frames])[:, inner].flatten()
        told = head(predicted[:, inner]).flatten(0, 1)
        known = labels >= 0
        naming = F.cross_entropy(told[known], labels[known], label_smoothing=0.1)
        loss = regression + config.phone_weight * naming
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.semantic.parameters(), 1.0)
        optimizer.step()
        explained = 1 - regression.item() / wanted.var().item()
        right = (told[known].argmax(-1) == labels[known]).float().mean().item()
        return {"explained": explained, "phones": right}

    run_steps(
        "semantic",
        folder,
        config.semantic_steps,
        step,
        {"semantic": codec.semantic, "head": head},
        {"semantic": optimizer},
        progress=progress,
    )
    cluster_predictions(config, codec, predict_states(codec, crops), heard)
    parts = ("semantic.", "projection", "centroids")
    keep = {k: v for k, v in codec.state_dict().items() if k.startswith(parts)}
    torch.save(keep, done)


def cluster_predictions(
    config: CodecTraining, codec: SpectralCodec, predicted: Tensor, heard: Tensor
) -> None:
    """Fill in the codec's projection and first codebook from predictions ``(F, latent)``."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    known = (heard >= 0).numpy()
    points = predicted.numpy()
    count = min(codec.config.discriminants, len(np.unique(heard[known])) - 1)
    analysis = LinearDiscriminantAnalysis(n_components=count)
    analysis.fit(points[known], heard.numpy()[known])
    codec.projection[:, :count] = torch.from_numpy(analysis.scalings_[:, :count].astype(np.float32))
    means = MiniBatchKMeans(
        codec.config.semantic_size, random_state=config.seed, batch_size=8192, n_init=3
    ).fit((predicted @ codec.projection).numpy())
    codec.centroids.copy_(torch.from_numpy(means.cluster_centers_.astype(np.float32)))


@torch.no_grad()
def predict_states(codec: SpectralCodec, crops: Crops) -> Tensor:
    """The recogniser's states as the codec predicts them, ``(frames, latent)``."""
    pieces = []
    chunk = 30 * codec.sample_rate
    for start in range(0, len(crops.wave), chunk):
        wave = torch.from_numpy(crops.wave[start : start + chunk])[None]
        pieces.append(codec.semantic(codec.log_mel(wave))[0].T)
    return torch.cat(pieces)


def train_acoustic(
    config: CodecTraining,
    codec: SpectralCodec,
    crops: Crops,
    folder: Path,
    progress: Report | None = None,
) -> None:
    """Acoustic encoder, residual quantiser, table and decoder, by reconstruction."""
    modules = {n: getattr(codec, n) for n in ("acoustic", "table", "residual", "decoder")}
    parameters = [p for module in modules.values() for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, betas=(0.8, 0.99))
    predicted = predict_states(codec, crops)
    first = torch.cdist(predicted @ codec.projection, codec.centroids).argmin(-1)
    codec.train()

    def step(i: int) -> dict[str, float]:
        wave, at = crops.draw(config.seed, i, config.acoustic_batch, config.acoustic_seconds)
        base = codec.table(torch.stack([first[frames] for frames in at])).transpose(1, 2)
        # Half of the batches hear all codebooks, as speech will be made; the rest fewer of them.
        random = generator(config.seed, "books", i)
        books = config.codec.acoustic_books
        if random.random() < 0.5:
            books = int(random.integers(0, books))
        latent, commitment = base, torch.zeros(())
        if books:
            quantised, _, losses = codec.residual(codec.acoustic(codec.log_mel(wave)), books)
            latent, commitment = base + quantised, losses.mean()
        made = codec.decoder(latent)
        mel_loss = multi_scale_mel(made, wave, codec.sample_rate)
        harmonics = multi_scale_stft(made, wave)
        loss = mel_loss + harmonics + F.l1_loss(made, wave) + 0.25 * commitment
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        name = "mel" if books else "mel_first"
        figures = {name: mel_loss.item(), "commitment": commitment.item()}
        return figures | {"harmonics": harmonics.item()}

    run_steps(
        "acoustic",
        folder,
        config.acoustic_steps,
        step,
        modules,
        {"acoustic": optimizer},
        progress=progress,
    )
    codec.eval()


@torch.no_grad()
def coded_latent(codec: SpectralCodec, wave: Tensor, seed: int, step: int) -> Tensor:
    """What the decoder hears of ``wave``, ``(batch, latent, frames)``: two codebooks or more."""
    books = int(generator(seed, "coded", step).integers(2, codec.codebooks + 1))
    return codec.embed(codec.encode(wave)[:, :books])


def train_decoder(
    config: CodecTraining,
    codec: SpectralCodec,
    crops: Crops,
    folder: Path,
    progress: Report | None = None,
) -> None:
    """The decoder alone, from codes of crops that start anywhere."""
    optimizer = torch.optim.AdamW(codec.decoder.parameters(), config.learning_rate, (0.8, 0.99))
    codec.eval()  # the quantiser's codebooks must not move
    codec.decoder.train()

    def step(i: int) -> dict[str, float]:
        wave = crops.anywhere(config.seed, i, config.acoustic_batch, config.acoustic_seconds)
        made = codec.decoder(coded_latent(codec, wave, config.seed, i))
        mel_loss = multi_scale_mel(made, wave, codec.sample_rate)
        harmonics = multi_scale_stft(made, wave)
        optimizer.zero_grad()
        (mel_loss + harmonics).backward()
        torch.nn.utils.clip_grad_norm_(codec.decoder.parameters(), 1.0)
        optimizer.step()
        return {"mel": mel_loss.item(), "harmonics": harmonics.item()}

    run_steps(
        "decoder",
        folder,
        config.decoder_steps,
        step,
        {"decoder": codec.decoder},
        {"decoder": optimizer},
        progress=progress,
    )
    codec.eval()


def train_adversarial(
    config: CodecTraining,
    codec: SpectralCodec,
    crops: Crops,
    folder: Path,
    progress: Report | None = None,
) -> None:
    """Sharpen the decoder against a multi-scale STFT discriminator (EnCodec, section 3.4)."""
    discriminator = Discriminator()
    rate = 0.2 * config.learning_rate
    generator_optimizer = torch.optim.AdamW(codec.decoder.parameters(), rate, betas=(0.5, 0.9))
    judge_optimizer = torch.optim.AdamW(
        discriminator.parameters(), config.discriminator_rate, betas=(0.5, 0.9)
    )
    balancer = Balancer(config.shares)
    codec.eval()  # the quantiser's codebooks must not move
    codec.decoder.train()

    def step(i: int) -> dict[str, float]:
        wave = crops.anywhere(
            config.seed + 1, i, config.adversarial_batch, config.adversarial_seconds
        )
        made = codec.decoder(coded_latent(codec, wave, config.seed + 1, i))
        judge_loss = discriminator_loss(discriminator, wave, made.detach())
        judge_optimizer.zero_grad()
        judge_loss.backward()
        judge_optimizer.step()
        if i < config.head_start:
            return {"discriminator": judge_loss.item()}
        mel_loss = multi_scale_mel(made, wave, codec.sample_rate)
        fooling, matching = generator_losses(discriminator, wave, made)
        harmonics = multi_scale_stft(made, wave)
        generator_optimizer.zero_grad()
        losses = {"spectra": mel_loss + harmonics, "fooling": fooling, "matching": matching}
        balancer.backward(losses, made)
        torch.nn.utils.clip_grad_norm_(codec.decoder.parameters(), 5.0)
        generator_optimizer.step()
        return {
            "mel": mel_loss.item(),
            "harmonics": harmonics.item(),
            "fooling": fooling.item(),
            "matching": matching.item(),
            "discriminator": judge_loss.item(),
        }

    run_steps(
        "adversarial",
        folder,
        config.adversarial_steps,
        step,
        {"decoder": codec.decoder, "discriminator": discriminator, "balancer": balancer},
        {"generator": generator_optimizer, "discriminator": judge_optimizer},
        progress=progress,
    )
    codec.eval()
