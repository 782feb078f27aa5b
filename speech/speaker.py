"""What lies between a text and its sound, around the policy: one protocol, two implementations.

A policy is a causal language model and knows tokens only. How a text becomes its prompt, which
completion a recording is, and how a completion becomes sound is a :class:`Speaker`'s matter:

* :class:`speech.vocoder.Vocoder`, an AR+NAR pair: phones and first-codebook codes in our own
  stream, a NAR that fills in the other codebooks. The starter is one.
* :class:`speech.lm.single.SingleStream`: any causal language model whose vocabulary holds all the
  codes that the codec decodes, LLaSA for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.home import cache
from common.records import Task, identity
from common.stages import Progress
from speech import audio
from speech.audio import Wave
from speech.codec import Codec, fingerprint
from speech.corpora import Utterance

if TYPE_CHECKING:
    from common.policies.local import HFPolicy

Codes = NDArray[np.uint16]


@dataclass(frozen=True)
class Voice:
    """A voice prompt: what is said in a recording, and its codes ``(Q, F)``."""

    text: str
    codes: Codes


class Speaker(Protocol):
    """What a policy needs around it to say texts aloud."""

    codec: Codec

    def prepare(self, policy: HFPolicy) -> None:
        """Set what steers and ends the policy's sampling.

        Raises:
            UserError: its vocabulary does not fit the codec.
        """

    def prompts(
        self, texts: Sequence[str], voices: Sequence[Voice | None] | None = None
    ) -> list[str]:
        """What the policy continues to say each text; empty where there is nothing to say."""

    def golden(self, utterance: Utterance) -> str | None:
        """The completion that a recording is; None where it cannot be told."""

    def waves(self, completions: Sequence[str], progress: Progress | None = None) -> list[Wave]:
        """Sound of each completion at the codec's rate; empty where it holds no codes."""

    def with_voice(self, wave: Wave) -> Speaker:
        """The same, speaking in the voice of ``wave`` (at the codec's rate)."""


class Coder:
    """Codes of recordings, made once and kept on the disk under the codec's fingerprint."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.folder = cache() / "codes" / fingerprint(codec)

    def __call__(self, path: Path) -> Codes:
        """All codebooks ``(Q, F)`` of the recording at ``path``.

        Raises:
            UserError: as :func:`speech.audio.read`.
        """
        about = path.stat()
        name = identity(str(path.resolve()), about.st_size, about.st_mtime_ns)
        file = self.folder / name[:2] / f"{name}.npy"
        if file.is_file():
            kept: Codes = np.load(file)
            return kept
        wave = torch.from_numpy(audio.read(path, self.codec.sample_rate))[None]
        codes = self.codec.encode(wave.to(device_of(self.codec)))[0].cpu().numpy()
        made: Codes = codes.astype(np.uint16)
        file.parent.mkdir(parents=True, exist_ok=True)
        with audio.saving(file) as partial:
            np.save(partial, made)
        return made


class Golden(Mapping[str, str]):
    """Task → the completion that its recording is, made when it is first asked for.

    ``utterances`` are a task's recordings in order of preference; tasks of which none can be a
    completion are not in the mapping.
    """

    def __init__(self, utterances: Mapping[str, Sequence[Utterance]], speaker: Speaker) -> None:
        self.utterances, self.speaker = utterances, speaker
        self._made: dict[str, str | None] = {}

    def _of(self, task: str) -> str | None:
        if task not in self._made:
            found = (self.speaker.golden(u) for u in self.utterances.get(task, ()))
            self._made[task] = next((text for text in found if text is not None), None)
        return self._made[task]

    def fill(self, tasks: Sequence[str], progress: Progress) -> None:
        """Make the completions of ``tasks`` now, showing how far it is."""
        unmade = (t for t in dict.fromkeys(tasks) if t not in self._made)
        new = [t for t in unmade if t in self.utterances]
        for done, task in enumerate(new, 1):
            self._of(task)
            progress(done, len(new), "recordings coded")

    def __contains__(self, task: object) -> bool:
        return self._of(str(task)) is not None

    def __getitem__(self, task: str) -> str:
        text = self._of(task)
        if text is None:
            raise KeyError(task)
        return text

    def __iter__(self) -> Iterator[str]:
        return (task for task in self.utterances if task in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def recordings_of(
    tasks: Sequence[Task], utterances: Sequence[Utterance]
) -> dict[str, list[Utterance]]:
    """The recordings of each task: the one that it was made of, else those that say its text."""
    by_id = {u.id: u for u in utterances}
    by_text: dict[str, list[Utterance]] = {}
    for u in reversed(utterances):
        by_text.setdefault(u.text, []).append(u)
    found: dict[str, list[Utterance]] = {}
    for task in tasks:
        own = by_id.get(str(task.meta.get("utterance")))
        found[task.id] = [own] if own else by_text.get(task.reference or "", [])
    return found


def device_of(codec: Codec) -> torch.device:
    """Where a codec's weights lie."""
    return next(p for p in _module(codec).parameters()).device


def _module(codec: Codec) -> nn.Module:
    assert isinstance(codec, nn.Module)
    return codec
