"""Models by what their pictures look like to a CLIP.

SceneCraft renders ten candidates that were found by text and takes the one nearest to the words
(arXiv 2403.01248, section 3); :func:`by_looks` does that with the catalogue's pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scenes.assets.index import Index
from scenes.assets.search import Hit
from scenes.assets.words import article
from scenes.clip.encoder import Clip, Floats
from scenes.dress import Looks


def likeness(encoder: Clip, index: Index, words: str, hits: Sequence[Hit]) -> Floats:
    """The cosine of each hit's picture with the words (n,); NaN where it has no picture.

    Pictures that the index has no embedding of by this encoder are looked at now.
    """
    models, vectors = index.all("image", encoder.name)
    known = dict(zip((m.id for m in models), vectors, strict=True))
    new = [h.model for h in hits if h.model.id not in known and h.model.icon is not None]
    seen = encoder.images([Path(str(m.icon)) for m in new])
    known |= dict(zip((m.id for m in new), seen, strict=True))
    text = encoder.texts([article(words)])[0]
    found = [known[h.model.id] @ text if h.model.id in known else np.nan for h in hits]
    return np.asarray(found, np.float32)


def by_looks(encoder: Clip, index: Index, weight: float | None = None) -> Looks:
    """Ranks hits by their pictures alone, as the paper; with ``weight``, by both scores together.

    ``weight`` is what a cosine of 1 is worth in the score of the search. A hit without a picture
    counts as the worst of those with one.
    """

    def ranked(words: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        cosines = likeness(encoder, index, words, hits)
        if np.isnan(cosines).all():
            return hits
        cosines = np.nan_to_num(cosines, nan=float(np.nanmin(cosines)))
        scores = [
            c if weight is None else h.score + weight * c
            for h, c in zip(hits, cosines.tolist(), strict=True)
        ]
        return [hits[i] for i in np.argsort(-np.array(scores), kind="stable")]

    return ranked
