"""Train a SEANet codec: ``upspiral speech train codec --recipe seanet``.

Three resumable stages. *Warm-up*: encoder and decoder alone, because the quantiser collapses
onto a few entries if it starts with them. *Quantised*: k-means seeds the codebooks, then a random
number of them is used in each batch. *Adversarial*: as in EnCodec (arXiv 2210.13438, section
3.4), against a multi-scale STFT discriminator, with balanced gradients.

Given a teacher's states, the first quantiser is drawn towards them in the last two stages
(SpeechTokenizer, arXiv 2308.16692). Deviations from EnCodec: separate stages, where EnCodec
trains all from the start; the discriminator learns in two steps of three, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import UserError
from common.training import generator, run_steps
from speech.codec.adversarial import Discriminator, discriminator_loss, generator_losses
from speech.codec.losses import Balancer, cosine_distillation, multi_scale_mel
from speech.codec.seanet import Reconstruction, SEANetCodec, SEANetConfig
from speech.codec.train import Crops, Floats, Report

# EnCodec's weights of the waveform, the spectrum, fooling the discriminator and its features.
BALANCE = {"wave": 0.1, "mel": 1.0, "fooling": 3.0, "matching": 3.0}
SEEDING_FRAMES = 4  # frames an entry that k-means sees


@dataclass(frozen=True)
class SEANetTraining:
    """Steps, batch, rates and weights; crops of ``seconds`` are drawn at 16 kHz."""

    codec: SEANetConfig = field(default_factory=SEANetConfig)
    seed: int = 0
    warmup_steps: int = 400
    steps: int = 20_000
    adversarial_steps: int = 20_000
    batch: int = 8
    seconds: float = 1.0
    learning_rate: float = 3e-4
    commitment: float = 0.25
    distillation: float = 1.0
    discriminator_filters: int = 8


def train_seanet(
    config: SEANetTraining,
    waves: Sequence[Floats],
    folder: Path,
    states: Sequence[Floats] | None = None,
    progress: Report | None = None,
) -> SEANetCodec:
    """Train on ``waves`` at the codec's rate; continues from what lies in ``folder``.

    ``states``: for each recording the teacher's ``(ceil(T / hop), config.codec.teacher)``.
    Raises :class:`UserError` if the recordings are shorter than one crop, ``ValueError`` if the
    states do not fit the recordings or the codec.
    """
    torch.manual_seed(config.seed)
    codec = SEANetCodec(config.codec)
    crops = Crops(waves, codec.hop)
    if len(crops.wave) <= config.seconds * codec.sample_rate:
        raise UserError(
            f"{len(crops.wave) / codec.sample_rate:.1f} s of recordings to train on",
            f"give more than the {config.seconds:g} s of one crop",
        )
    trainer = _Trainer(config, codec, crops, _teacher(config, codec, crops, states))
    trainer.warm_up(folder, progress)
    trainer.quantised(folder, progress)
    trainer.adversarial(folder, progress)
    return codec.eval()


def _teacher(
    config: SEANetTraining, codec: SEANetCodec, crops: Crops, states: Sequence[Floats] | None
) -> Tensor | None:
    width = config.codec.teacher
    if (states is None) != (width == 0):
        raise ValueError(f"the codec has a teacher of width {width}: states must be given with it")
    if states is None:
        return None
    everything = torch.from_numpy(np.concatenate(states))
    if everything.shape != (len(crops.wave) // codec.hop, width):
        wanted = (len(crops.wave) // codec.hop, width)
        raise ValueError(f"states of shape {tuple(everything.shape)}, not {wanted}")
    return everything


class _Trainer:
    """What the stages share: the crops, the teacher and the loss terms."""

    def __init__(
        self, config: SEANetTraining, codec: SEANetCodec, crops: Crops, teacher: Tensor | None
    ) -> None:
        self.config, self.codec, self.crops, self.teacher = config, codec, crops, teacher

    def pass_through(
        self, stage: str, step: int, quantise: bool
    ) -> tuple[Tensor, Reconstruction, dict[str, Tensor]]:
        """A batch, its reconstruction, and the losses that do not pass through the waveform."""
        c = self.config
        # Which crops, how many codebooks and what replaces dead entries depend on the step alone.
        random = generator(c.seed, stage, step)
        torch.manual_seed(int(random.integers(2**31)))
        books = int(random.integers(1, c.codec.codebooks + 1))
        crops_seed = int(random.integers(2**31))
        wave, frames = self.crops.draw(crops_seed, step, c.batch, c.seconds)
        made = self.codec(wave, books, quantise)
        extra = {"commitment": c.commitment * made.commitment} if quantise else {}
        if quantise and self.teacher is not None and self.codec.projection is not None:
            wanted = torch.stack([self.teacher[f] for f in frames])
            distance = cosine_distillation(made.first, wanted, self.codec.projection)
            extra["distillation"] = c.distillation * distance
        return wave, made, extra

    def sample(self) -> Tensor:
        """Crops ``(B, T)`` with several frames for each entry of a codebook."""
        c = self.config
        seconds = SEEDING_FRAMES * c.codec.entries / self.codec.frame_rate
        clips = max(1, round(seconds / c.seconds))
        return self.crops.draw(c.seed, -1, clips, c.seconds)[0]

    def optimizer(self, module: nn.Module, factor: float = 1.0) -> torch.optim.AdamW:
        rate = factor * self.config.learning_rate
        return torch.optim.AdamW(module.parameters(), rate, betas=(0.5, 0.9))

    def reconstruct(
        self, stage: str, quantise: bool, folder: Path, steps: int, report: Report | None
    ) -> None:
        codec = self.codec.train()
        optimizer = self.optimizer(codec)

        def step(i: int) -> dict[str, float]:
            wave, made, extra = self.pass_through(stage, i, quantise)
            mel = multi_scale_mel(made.wave, wave, codec.sample_rate)
            loss = (
                mel
                + F.l1_loss(made.wave, wave)
                + torch.stack([mel.new_zeros(()), *extra.values()]).sum()
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
            optimizer.step()
            figures = {"loss": loss.item(), "mel": mel.item()}
            if quantise:
                figures["entries"] = float(len(set(made.codes[:, 0].flatten().tolist())))
            return figures | {name: term.item() for name, term in extra.items()}

        run_steps(
            stage, folder, steps, step, {"codec": codec}, {"codec": optimizer}, progress=report
        )

    def warm_up(self, folder: Path, report: Report | None) -> None:
        self.codec.standardise(self.sample())
        self.reconstruct("warmup", False, folder, self.config.warmup_steps, report)

    def quantised(self, folder: Path, report: Report | None) -> None:
        if not (folder / "quantised.pt").is_file():
            torch.manual_seed(self.config.seed)
            self.codec.seed_codebooks(self.sample())
        self.reconstruct("quantised", True, folder, self.config.steps, report)

    def adversarial(self, folder: Path, report: Report | None) -> None:
        c, codec = self.config, self.codec.train()
        torch.manual_seed(c.seed)
        judge = Discriminator(c.discriminator_filters)
        balancer = Balancer(BALANCE)
        ours, theirs = self.optimizer(codec, 0.3), self.optimizer(judge, 0.3)

        def step(i: int) -> dict[str, float]:
            wave, made, extra = self.pass_through("adversarial", i, True)
            judged = discriminator_loss(judge, wave, made.wave)
            if i % 3:
                theirs.zero_grad()
                torch.autograd.backward(judged)
                theirs.step()
            fooling, matching = generator_losses(judge, wave, made.wave)
            losses = {
                "wave": F.l1_loss(made.wave, wave),
                "mel": multi_scale_mel(made.wave, wave, codec.sample_rate),
                "fooling": fooling,
                "matching": matching,
            }
            ours.zero_grad()
            torch.autograd.backward(torch.stack(list(extra.values())).sum(), retain_graph=True)
            balancer.backward(losses, made.wave)
            nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
            ours.step()
            figures = {name: term.item() for name, term in (losses | extra).items()}
            return figures | {"discriminator": judged.item()}

        run_steps(
            "adversarial",
            folder,
            c.adversarial_steps,
            step,
            {"codec": codec, "discriminator": judge, "balancer": balancer},
            {"codec": ours, "discriminator": theirs},
            progress=report,
        )
