"""Embeddings of words that need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scenes.assets.index import Floats
from scenes.assets.words import tokens


def hashed(texts: Sequence[str]) -> Floats:
    """A bag of hashed words, (n, 64)."""
    found = np.zeros((len(texts), 64), np.float32)
    for row, text in zip(found, texts, strict=True):
        for word in tokens(text):
            row[sum(map(ord, word)) % 64] += 1
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
