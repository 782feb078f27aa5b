r"""Judges whose weights come from a model hub: for figures to set beside published ones.

    upspiral speech evaluate --policy last --whisper large-v3 --utmos balacoon/utmos \
        --wavlm microsoft/wavlm-base-plus-sv          # while online, or from the hub's cache

A folder with the same files does as well as a name. ``--whisper`` is of
:class:`speech.judges.Recogniser`, the other two are here.

None of them is needed here: :mod:`speech.judges` has its own, whose weights are installed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from common.errors import UserError
from speech.audio import SAMPLE_RATE, Wave
from speech.judges import Embedding, SpeakerSimilarity, WaveJudge, unit, usable


class WavLMSimilarity(SpeakerSimilarity):
    """Cosine of the speaker embeddings (x-vectors) of a clip and of a reference, 0 to 1.

    WavLM (arXiv 2110.13900) with the speaker verification head of transformers. The papers' "SIM"
    is of a WavLM-large with another head (ECAPA-TDNN): the order of systems compares, the values
    do not. One clip is heard at a time, since these models' first layer normalises over all that
    it is given: padding would change the result.
    """

    names = ("wavlm_similarity",)
    SHORTEST: ClassVar[float] = 1.0
    """Seconds; a shorter clip is repeated up to this, as the head sees 15 frames at least."""

    def __init__(
        self,
        reference: Sequence[Wave],
        model: str | Path = "microsoft/wavlm-base-plus-sv",
        device: str = "cpu",
    ) -> None:
        """``reference``: clips of the voice; ``model``: a folder or a hub name."""
        super().__init__(reference)
        self.model, self.device = model, device

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoFeatureExtractor, WavLMForXVector

        from common.policies.weights import no_bars, reach

        try:
            reach(self.model)
            with no_bars():
                front = AutoFeatureExtractor.from_pretrained(self.model)
                found = WavLMForXVector.from_pretrained(self.model)
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot load the speaker model {self.model!s} ({str(error).splitlines()[0]})",
                "give a folder written by save_pretrained, or a hub name while online",
            ) from error
        if front.sampling_rate != SAMPLE_RATE:
            raise UserError(
                f"{self.model!s} hears {front.sampling_rate} Hz", f"use one for {SAMPLE_RATE} Hz"
            )
        return front, found.to(self.device).eval()

    def embed(self, waves: Sequence[Wave]) -> Embedding:
        """The voice of each wave ``(samples,)``, ``(B, D)`` of length 1; zeros for no sound."""
        import torch

        front, model = self._loaded
        voices = np.zeros((len(waves), model.config.xvector_output_dim), np.float32)
        for i, wave in enumerate(waves):
            if not usable(wave):
                continue
            long_enough = np.resize(wave, max(len(wave), round(self.SHORTEST * SAMPLE_RATE)))
            given = front(long_enough, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            with torch.inference_mode():
                voices[i] = model(given.input_values.to(self.device)).embeddings[0].cpu().numpy()
        return unit(voices)


class UTMOS(WaveJudge):
    """Mean opinion score, 1 to 5, as UTMOS predicts it (arXiv 2204.02152; its strong learner).

    ``model`` holds ``utmos.jit``: a TorchScript module from 16-bit samples ``(1, N)`` at 16 kHz to
    a number. One clip at a time: padding would change the score.
    """

    names = ("utmos",)
    worst = (1.0,)
    FILE: ClassVar[str] = "utmos.jit"

    def __init__(self, model: str | Path = "balacoon/utmos", device: str | None = None) -> None:
        """``model``: a folder or a hub name; the published module asks for a GPU."""
        import torch

        self.model, self.device = model, device or ("cuda" if torch.cuda.is_available() else "cpu")

    @functools.cached_property
    def _loaded(self) -> Any:
        import torch
        from transformers.utils import cached_file

        try:
            path = cached_file(str(self.model), self.FILE)
            return torch.jit.load(path, map_location=self.device).eval()
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"cannot load UTMOS from {self.model!s} ({str(error).splitlines()[0]})",
                f"give a folder with {self.FILE}, or a hub name while online",
            ) from error

    def score(
        self,
        waves: Sequence[Wave],
        texts: Sequence[str] = (),  # noqa: ARG002 - it hears sound, not words
    ) -> list[dict[str, float]]:
        return [{"utmos": self._hear(w)} if usable(w) else self.lowest() for w in waves]

    def _hear(self, wave: Wave) -> float:
        import torch

        samples = torch.from_numpy(np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16))
        with torch.inference_mode():
            return float(self._loaded(samples[None].to(self.device)))
