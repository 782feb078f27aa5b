"""Several sentences in one pass: segments of fixed length, and heads that read their first states.

Di Liello et al., arXiv 2205.01228. A premise and k candidates, each ``[CLS] … [SEP]`` padded to 64
tokens, stand one after the other; h_j is the state at the start of segment j, h_0 the premise's.

| head | reads | says |
|---|---|---|
| ``IE_1`` | h_0 | one label of the whole |
| ``AE_1`` | the sum of all h_j | one label of the whole |
| ``IE_k`` | each h_j | a label of each candidate |
| ``AE_k`` | each [h_0; h_j] | a label of each candidate |

The classifier is dropout, linear, tanh, dropout, linear.

Deviation: AE_1 sums the segments that are there, where they have fewer than k candidates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from common.cli import unknown
from common.errors import UserError
from common.learners.data import quiet
from common.policies.weights import no_bars

Head = Literal["IE_1", "AE_1", "IE_k", "AE_k"]
HEADS: tuple[Head, ...] = get_args(Head)
SEGMENT = 64
CANDIDATES = 5
FILE = "joint.json"


class Classifier(nn.Sequential):
    """States → scores of the labels."""

    def __init__(self, width: int, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__(
            nn.Dropout(dropout), nn.Linear(width, hidden), nn.Tanh(), nn.Dropout(dropout),
            nn.Linear(hidden, labels),
        )  # fmt: skip


class JointHead(nn.Module):
    """What is said of a premise and its candidates, by the first states of their segments."""

    def __init__(self, hidden: int, head: str, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        if head not in HEADS:
            raise unknown("head", head, HEADS)
        self.head, self.labels = head, labels
        self.classifier = Classifier(hidden * (2 if head == "AE_k" else 1), hidden, labels, dropout)

    def forward(self, states_BTH: Tensor, there_BK: Tensor) -> Tensor:
        """States of all tokens and which segments are there, the premise first (B, k+1).

        Scores ``(B, labels)`` of IE_1 and AE_1, ``(B, k, labels)`` of the others.
        """
        segment = states_BTH.shape[1] // there_BK.shape[1]
        first_BKH = states_BTH[:, ::segment]
        if self.head == "IE_1":
            read = first_BKH[:, 0]
        elif self.head == "AE_1":
            read = (first_BKH * there_BK[..., None]).sum(1)
        elif self.head == "IE_k":
            read = first_BKH[:, 1:]
        else:
            premise = first_BKH[:, :1].expand(-1, first_BKH.shape[1] - 1, -1)
            read = torch.cat([premise, first_BKH[:, 1:]], 2)
        scores: Tensor = self.classifier(read)
        return scores


def segments(
    tokenizer: Any, rows: Sequence[Sequence[str]], k: int, length: int = SEGMENT, types: int = 2
) -> dict[str, Tensor]:
    """Inputs of rows of texts, premise first: at most ``k`` candidates, absent ones all padding.

    ``types`` is how many token types the encoder knows; candidates are of the second, if it does.

    Returns ``input_ids``, ``attention_mask`` and ``token_type_ids`` ``(B, (k+1) * length)``, and
    ``there`` ``(B, k+1)``.
    """
    blank = [""] * (k + 1)
    flat = [text for row in rows for text in [*row, *blank][: k + 1]]
    encoded = tokenizer(
        flat, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    )
    there_BK = torch.tensor([[j < len(row) for j in range(k + 1)] for row in rows])
    # A segment that is not there is not attended to.
    mask_BKT = encoded["attention_mask"].view(len(rows), k + 1, length) * there_BK[..., None]
    kinds_BKT = torch.zeros_like(mask_BKT)
    if types > 1:
        kinds_BKT[:, 1:] = 1
    return {
        "input_ids": encoded["input_ids"].view(len(rows), -1),
        "attention_mask": mask_BKT.flatten(1),
        "token_type_ids": kinds_BKT.flatten(1),
        "there": there_BK,
    }


class Joint(nn.Module):
    """An encoder under a :class:`JointHead`; what it needs to read texts is saved with it."""

    def __init__(
        self, encoder: Any, head: str, labels: int, k: int = CANDIDATES, segment: int = SEGMENT
    ) -> None:
        super().__init__()
        self.encoder, self.k, self.segment = encoder, k, segment
        self.head = JointHead(encoder.config.hidden_size, head, labels)
        self.types = int(getattr(encoder.config, "type_vocab_size", 0) or 0)

    def forward(
        self, there: Tensor, token_type_ids: Tensor, labels: Tensor | None = None, **inputs: Any
    ) -> dict[str, Tensor]:
        """``logits`` of the labels (see :class:`JointHead`), and ``loss`` with ``labels``.

        Labels are -100 where no candidate is.
        """
        if self.types:
            inputs["token_type_ids"] = token_type_ids
        scores: Tensor = self.head(self.encoder(**inputs).last_hidden_state, there)
        if labels is None:
            return {"logits": scores}
        loss = nn.functional.cross_entropy(scores.reshape(-1, self.head.labels), labels.flatten())
        return {"loss": loss, "logits": scores}

    def inputs(self, tokenizer: Any, rows: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """The inputs of rows of texts, premise first."""
        return segments(tokenizer, rows, self.k, self.segment, self.types)

    def save(self, tokenizer: Any, folder: Path) -> None:
        """Write the encoder as transformers does, and the head beside it."""
        from safetensors.torch import save_file

        with no_bars():
            self.encoder.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        save_file(self.head.state_dict(), str(folder / "head.safetensors"))
        how = {"head": self.head.head, "labels": self.head.labels, "k": self.k,
               "segment": self.segment}  # fmt: skip
        (folder / FILE).write_text(json.dumps(how, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Joint:
        """What :meth:`save` wrote.

        Raises:
            UserError: it is not there, or damaged.
        """
        from safetensors.torch import load_file
        from transformers import AutoModel

        try:
            how = json.loads((folder / FILE).read_text(encoding="utf-8"))
            with quiet():
                encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
            made = cls(encoder, **how)
            made.head.load_state_dict(load_file(str(folder / "head.safetensors")))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"no joint model in {str(folder)!r} ({str(error).splitlines()[0]})",
                "name a folder that `upspiral text pretrain tune` wrote",
            ) from error
        return made
