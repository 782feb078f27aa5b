"""Topic segments of a conversation: C99 (Choi, NAACL 2000) over sentence embeddings.

1. The similarity of two utterances is the cosine of their embeddings.
2. Its *rank* is the share of its neighbours, at most ``window - 1`` away in either direction, that
   are less similar: similarities of short texts differ little, their ranks do.
3. The conversation is split again and again, where the inside density of the segments, sum of ranks
   over sum of areas, grows most; d(m) is the density with m segments.
4. It ends at the last gain d(m) - d(m-1), smoothed by (1 2 1)/4, that reaches mean + c deviations.

Window 4 and c = 1.2 as in the feedback paper's code, which takes away a boundary right after
another one; so do we. Three utterances or fewer are one segment.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WINDOW = 4
DEVIATIONS = 1.2


def boundaries(embeddings_ND: NDArray[Any]) -> list[int]:
    """Where segments begin, 0 the first, for utterances with ``embeddings_ND``."""
    n = len(embeddings_ND)
    if n <= 3:
        return [0]
    return [0, *_split(ranks(similarities(embeddings_ND)))]


def similarities(embeddings_ND: NDArray[Any]) -> Floats:
    """Cosines (N, N)."""
    lengths = np.linalg.norm(embeddings_ND, axis=1, keepdims=True)
    unit = embeddings_ND / np.where(lengths > 0, lengths, 1)
    found: Floats = (unit @ unit.T).astype(np.float64)
    return found


def ranks(similar_NN: Floats, window: int = WINDOW) -> Floats:
    """The share of each entry's neighbours, itself among them, that are less similar."""
    n = len(similar_NN)
    reach = min(window, n) - 1
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            around = similar_NN[
                max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1
            ]
            found[i, j] = (around < similar_NN[i, j]).mean()
    return found


def _split(rank_NN: Floats) -> list[int]:
    """Boundaries after 0, by divisive clustering."""
    n = len(rank_NN)
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = rank_NN.cumsum(0).cumsum(1)

    def inside(a: int, b: int) -> float:
        return float(sums[b, b] - sums[a, b] - sums[b, a] + sums[a, a])

    cuts, order, density = [0, n], list[int](), [inside(0, n) / n**2]
    while len(cuts) <= n:
        parts = list(pairwise(cuts))
        total = sum(inside(a, b) for a, b in parts)
        area = sum((b - a) ** 2 for a, b in parts)
        best, where = -1.0, -1
        for a, b in parts:
            for cut in range(a + 1, b):
                gained = total - inside(a, b) + inside(a, cut) + inside(cut, b)
                covered = area - (b - a) ** 2 + (cut - a) ** 2 + (b - cut) ** 2
                if gained / covered > best:
                    best, where = gained / covered, cut
        cuts = sorted([*cuts, where])
        order.append(where)
        density.append(best)
    gains = np.diff(density)
    # The ends stand for their missing neighbour with half of their own weight (1:2 and 2:1).
    smooth = np.convolve(gains, [0.25, 0.5, 0.25], mode="same")
    if len(gains) > 1:
        smooth[0], smooth[-1] = (2 * gains[0] + gains[1]) / 3, (2 * gains[-1] + gains[-2]) / 3
    enough = np.flatnonzero(smooth >= smooth.mean() + DEVIATIONS * smooth.std())
    chosen: set[int] = set()
    for cut in order[: int(enough[-1]) + 1] if len(enough) else []:
        if not {cut - 1, cut + 1} & chosen:
            chosen.add(cut)
    return sorted(chosen)
