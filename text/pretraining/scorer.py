"""A fine-tuned encoder that says something of a premise and other texts; how it is read and kept.

Two kinds behind one class: a sequence classifier of transformers, which reads two texts, and a
:class:`~text.pretraining.joint.Joint`, which reads a premise and up to k candidates at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import UserError
from common.learners.data import quiet
from common.policies.weights import digest, no_bars
from text.pretraining import models
from text.pretraining.joint import FILE, SEGMENT, Joint

Floats = NDArray[np.float32]
BATCH = 64


class Scorer:
    """Scores of labels for rows of texts, the premise first."""

    def __init__(self, model: Any, tokenizer: Any, length: int) -> None:
        self.model, self.tokenizer, self.length = model, tokenizer, length

    @property
    def joint(self) -> bool:
        """Whether several candidates are read at once."""
        return isinstance(self.model, Joint)

    @property
    def each(self) -> bool:
        """Whether each candidate gets a label of its own."""
        return self.joint and self.model.head.head in ("IE_k", "AE_k")

    @classmethod
    def start(
        cls,
        name: str,
        head: str,
        labels: int,
        length: int,
        k: int,
        seed: int,
        segment: int = SEGMENT,
    ) -> Scorer:
        """An encoder under a new head: ``pair``, or one of :data:`~text.pretraining.joint.HEADS`.

        Raises:
            UserError: no such encoder or head; it reads less than is asked.
        """
        from transformers import AutoModel, AutoModelForSequenceClassification

        tokenizer = models.load_tokenizer(name)
        where = models.source(name)
        torch.manual_seed(seed)
        with quiet():
            try:
                if head == "pair":
                    model = AutoModelForSequenceClassification.from_pretrained(
                        where, num_labels=labels, dtype=torch.float32
                    )
                else:
                    encoder = AutoModel.from_pretrained(where, dtype=torch.float32)
                    model = Joint(encoder, head, labels, k, segment)
            except (OSError, ValueError) as error:
                raise models.cannot(name, error) from error
        reads = model.encoder if head != "pair" else model
        models.check_length(reads, tokenizer, length if head == "pair" else (k + 1) * segment)
        return cls(model, tokenizer, length)

    @classmethod
    def load(cls, folder: Path, length: int = 128) -> Scorer:
        """What :meth:`save` wrote, or any sequence classifier of transformers.

        Raises:
            UserError: there is none.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            if (folder / FILE).exists():
                return cls(Joint.load(folder).eval(), tokenizer, length)
            with quiet():
                model, told = AutoModelForSequenceClassification.from_pretrained(
                    folder, dtype=torch.float32, output_loading_info=True
                )
            if told["missing_keys"]:  # a head that was made up is none that was learnt
                raise ValueError(f"it has no {min(told['missing_keys'])}")
        except (OSError, ValueError) as error:
            raise UserError(
                f"no fine-tuned encoder in {str(folder)!r}",
                "make one: upspiral text pretrain tune --task as2 --out FOLDER",
            ) from error
        return cls(model.eval(), tokenizer, length)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.model, Joint):
            self.model.save(self.tokenizer, folder)
            return
        with no_bars():
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def fingerprint(self) -> str:
        """A hash of the weights."""
        return digest(self.model.state_dict())

    def inputs(self, rows: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """What the model reads of rows of texts; a pair's longer text is cut first."""
        if isinstance(self.model, Joint):
            return self.model.inputs(self.tokenizer, rows)
        encoded = self.tokenizer(
            [row[0] for row in rows],
            [" ".join(row[1:]) for row in rows],
            padding=True,
            truncation="longest_first",
            max_length=self.length,
            return_tensors="pt",
        )
        return dict(encoded)

    @torch.inference_mode()
    def scores(self, rows: Sequence[Sequence[str]]) -> Floats:
        """Log-probabilities ``(N, labels)``, or ``(N, k, labels)`` where each candidate has one."""
        training = self.model.training
        self.model.eval()
        device = next(self.model.parameters()).device
        order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for start in range(0, len(order), BATCH):
            at = order[start : start + BATCH]
            inputs = {k: v.to(device) for k, v in self.inputs([rows[i] for i in at]).items()}
            logits = self.model(**inputs)["logits"].float().log_softmax(-1).cpu()
            for i, row in zip(at, logits, strict=True):
                found[i] = row
        self.model.train(training)
        return torch.stack(found).numpy() if found else np.zeros((0, 0), np.float32)
