"""Sentence embeddings: all-MiniLM-L6-v2, which comes inside a package.

Mean of the last layer's states over a sentence's tokens, to length one, as the model was trained.
transformers alone does this; the library of the model's authors takes longer to import than a
command should take to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import registry

Floats = NDArray[np.float32]
TOKENS = 256
"""What is read of a sentence; the model saw no more in training."""


class Sentences:
    """Sentences to 384 numbers of length one (Apache-2.0, 90 MB)."""

    def __init__(self) -> None:
        from transformers.models.bert.modeling_bert import BertModel
        from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder = registry.get("minilm")
        self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        self._model: Any = BertModel.from_pretrained(folder, local_files_only=True).eval()

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Embeddings (n, 384) in order; batches hold sentences of like length."""
        import torch

        found = np.zeros((len(texts), 384), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            batch = self._tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = (states * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return found


_encoder: Sentences | None = None


def encoder() -> Sentences:
    """The encoder, loaded once a process."""
    global _encoder
    if _encoder is None:
        _encoder = Sentences()
    return _encoder
