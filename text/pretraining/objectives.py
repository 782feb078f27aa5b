"""Token objectives: how a batch of tokens is corrupted, and what is to be said of it.

| name | input | label |
|---|---|---|
| ``mlm`` | 15%: 80% of them become ``[MASK]``, 10% another, 10% stay | the original of the 15% |
| ``slm`` | 15% become another token, drawn uniformly | the original of the 15% |
| ``rts`` | the same | of every token, whether it was swapped |
| ``c-rts`` | 15% become one of a cluster that is hard to detect (:mod:`.clusters`) | the same |
| ``electra`` | 15% become what a small masked model fills in | the same |

RTS, C-RTS and SLM: Di Liello et al., arXiv 2309.08272 and 2210.13536; MLM: Devlin et al.,
1810.04805; ELECTRA: Clark et al., 2003.10555. Special tokens are not swapped, put in or judged.

Deviation, a defect of the originals mended: a token counts as swapped only where it differs from
the original. They label 1 also where the draw gave the original back. SLM draws among the others,
so that every swapped position is one.

Everything is done on whole tensors: no loop goes over rows or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from common.cli import unknown
from text.pretraining.tokens import Vocabulary, padded

Name = Literal["mlm", "slm", "rts", "c-rts", "electra"]
NAMES: tuple[Name, ...] = get_args(Name)
P = 0.15
"""Share of the tokens that is corrupted."""
DETECTION_WEIGHT = 50.0
"""Weight of a detection loss, as published: it is a hundredth of a vocabulary's."""
IGNORED = -100


class Corrupted(NamedTuple):
    """Tensors ``(B, T)``; ``labels`` holds :data:`IGNORED` where nothing is asked."""

    input_ids: Tensor
    labels: Tensor


class Corruption(Protocol):
    """How tokens ``(B, T)`` become an input and its labels; all draws are ``generator``'s."""

    def __call__(self, ids_BT: Tensor, generator: torch.Generator | None = None) -> Corrupted: ...


def chosen(
    ids_BT: Tensor, words: Vocabulary, generator: torch.Generator | None, p: float = P
) -> Tensor:
    """Which tokens are corrupted: each ordinary one with probability ``p``."""
    draw_BT = torch.rand(ids_BT.shape, generator=generator, device=ids_BT.device)
    return (draw_BT < p) & ~words.special[ids_BT]


def uniform(count: int, words: Vocabulary, generator: torch.Generator | None) -> Tensor:
    """``count`` ordinary tokens, each as likely."""
    n = len(words.ordinary)
    device = words.ordinary.device
    return words.ordinary[torch.randint(n, (count,), generator=generator, device=device)]


@dataclass(frozen=True)
class MLM:
    """Masked language modelling."""

    words: Vocabulary
    p: float = P
    masked: float = 0.8
    swapped: float = 0.1

    def __call__(self, ids_BT: Tensor, generator: torch.Generator | None = None) -> Corrupted:
        at_BT = chosen(ids_BT, self.words, generator, self.p)
        labels_BT = torch.where(at_BT, ids_BT, IGNORED)
        original_N = ids_BT[at_BT]
        draw_N = torch.rand(original_N.shape, generator=generator, device=ids_BT.device)
        other_N = uniform(len(original_N), self.words, generator)
        kept_N = torch.where(draw_N < self.masked + self.swapped, other_N, original_N)
        changed_N = torch.where(draw_N < self.masked, self.words.mask, kept_N)
        return Corrupted(ids_BT.masked_scatter(at_BT, changed_N), labels_BT)


@dataclass(frozen=True)
class SLM:
    """Swapped language modelling: find out what stood where another token stands now."""

    words: Vocabulary
    p: float = P

    def __call__(self, ids_BT: Tensor, generator: torch.Generator | None = None) -> Corrupted:
        at_BT = chosen(ids_BT, self.words, generator, self.p)
        original_N = ids_BT[at_BT]
        ordinary = self.words.ordinary
        # Among the others: a draw of all but one, from the original's place on a place further.
        place_N = torch.searchsorted(ordinary, original_N)
        draw_N = torch.randint(
            1, len(ordinary), original_N.shape, generator=generator, device=ids_BT.device
        )
        other_N = ordinary[(place_N + draw_N) % len(ordinary)]
        labels_BT = torch.where(at_BT, ids_BT, IGNORED)
        return Corrupted(ids_BT.masked_scatter(at_BT, other_N), labels_BT)


@dataclass(frozen=True)
class RTS:
    """Random token substitution: tell which tokens were swapped."""

    words: Vocabulary
    p: float = P

    def __call__(self, ids_BT: Tensor, generator: torch.Generator | None = None) -> Corrupted:
        at_BT = chosen(ids_BT, self.words, generator, self.p)
        other_N = uniform(int(at_BT.sum()), self.words, generator)
        input_BT = ids_BT.masked_scatter(at_BT, other_N)
        return Corrupted(input_BT, swapped(input_BT, ids_BT, self.words))


def swapped(input_BT: Tensor, ids_BT: Tensor, words: Vocabulary) -> Tensor:
    """1 where the input differs from the original, 0 where not, nothing asked of special tokens."""
    return (input_BT != ids_BT).long().masked_fill(words.special[ids_BT], IGNORED)


def corruption(name: str, words: Vocabulary) -> Corruption:
    """The corruption called ``name``, of those that need no more than a vocabulary.

    ``electra``'s is that of its generator.

    Raises:
        UserError: there is no such objective.
    """
    made: Mapping[str, Corruption] = {
        "mlm": MLM(words),
        "slm": SLM(words),
        "rts": RTS(words),
        "electra": MLM(words, masked=1.0, swapped=0.0),
    }
    if name not in made:
        raise unknown("objective", name, NAMES)
    return made[name]


class Collator:
    """Examples with ``input_ids`` → a batch for a model of transformers.

    What :class:`~transformers.DataCollatorForLanguageModeling` is for MLM, for any corruption here.
    """

    def __init__(self, corrupt: Corruption, words: Vocabulary, seed: int | None = None) -> None:
        self.corrupt, self.words = corrupt, words
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        ids_BT = padded([example["input_ids"] for example in examples], self.words.pad)
        input_BT, labels_BT = self.corrupt(ids_BT, self.generator)
        mask_BT = (ids_BT != self.words.pad).long()
        return {"input_ids": input_BT, "attention_mask": mask_BT, "labels": labels_BT}
