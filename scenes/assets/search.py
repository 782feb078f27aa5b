"""Search for models by words, size and category; by looks where pictures are embedded.

What a thing *is* decides first: the head noun of the query has to be the head noun of the model's
name, or a word that may stand for it, so that a desk lamp is a lamp. Then its other words, its
tags, the nearness of meaning (sentence embeddings), its size. Of many models that are alike the
usual one is meant: an ordinary chair and not an electric one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from scenes.assets.folder import spoken
from scenes.assets.index import Floats, ImageEncoder, Index
from scenes.assets.model import Model
from scenes.assets.words import ODD, called, compounds, head, tokens, usual_height

SURE = 0.5
"""The score from which a hit is what was asked for, and not merely the nearest there is."""


SIZES = {"small": 0.5, "little": 0.5, "tiny": 0.3, "large": 2.0, "big": 2.0, "huge": 3.0}
"""What share of the usual volume is meant by a word."""


class Hit(NamedTuple):
    """A model and how well it answers the query: about 2 is perfect, below :data:`SURE` a guess."""

    model: Model
    score: float


Wanted = Mapping[str, float]
"""Metres by "width", "depth" and "height", those that matter."""


def search(
    index: Index,
    query: str,
    *,
    k: int = 10,
    category: str | None = None,
    wanted: Wanted | None = None,
    fixed: bool | None = None,
) -> list[Hit]:
    """The ``k`` best models for ``query``, best first, equals by id.

    ``wanted`` prefers models near a size, ``category`` keeps only its models, and ``fixed`` those
    that are (not) part of a building: by default those only if the query is about such a part.
    """
    models, vectors = index.all()
    if not models:
        return []
    closeness = vectors @ index.encode([query.lower()])[0]
    said, names = compounds(head(query)), called(head(query))
    asked = tokens(query)
    tall = usual_height(head(query))
    share = math.prod(SIZES.get(word, 1.0) for word in asked[:-1])
    if tall is not None and not wanted and share == 1:
        wanted = {"height": tall}
    kind = [_is(model, said, names) for model in models]
    usual = _usual([m for m, fit in zip(models, kind, strict=True) if fit >= 0.9])
    hits = []
    for model, fit, near in zip(models, kind, closeness, strict=True):
        if category is not None and model.category.lower() != category.lower():
            continue
        if fixed is not None and model.fixed != fixed:
            continue
        score = fit + 0.6 * float(near) + _words(model, asked)
        if model.fixed and fixed is None and fit < 0.9:
            score -= 0.5
        if wanted:
            score -= 0.5 * _off(model, wanted)
        elif usual and fit >= 0.9:
            off = abs(math.log(_volume(model) / (usual * share)))
            score -= (0.15 if share == 1 else 0.3) * min(2.0, off)
        hits.append(Hit(model, score))
    return sorted(hits, key=lambda hit: (-hit.score, hit.model.id))[:k]


def search_image(
    index: Index, encoder: ImageEncoder, picture: Path | Floats, k: int = 10
) -> list[Hit]:
    """The ``k`` models that look most like a picture, by the cosine of embeddings."""
    models, vectors = index.all("image", encoder.name)
    if not models:
        return []
    query = encoder.images([picture])[0] if isinstance(picture, Path) else picture
    scores = vectors @ query
    best = np.argsort(-scores, kind="stable")[:k]
    return [Hit(models[i], float(scores[i])) for i in best]


def _is(model: Model, said: Sequence[str], names: Sequence[frozenset[str]]) -> float:
    """About 1 if the model is what the query is about, less if only its name or tags say so."""
    if not names:
        return 0.0
    own = head(model.name)
    mine = {*compounds(own), "".join(own[-2:])}
    for order, kinds in enumerate(names):
        if kinds & mine:
            # "coffee table" as a compound is surer than "table", and itself than a synonym.
            exact = 0.05 if {said[order], said[order].replace("-", "")} & mine else 0.0
            return 0.95 + 0.1 * (len(names) - 1 - order) + exact
    last = names[-1]
    if last & set(tokens(model.name)):
        return 0.35
    return 0.3 if last & {w for tag in model.tags for w in tokens(tag)} else 0.0


def _words(model: Model, asked: Sequence[str]) -> float:
    """Words of the query that the model has, less those that make it odd."""
    own = set(tokens(model.name))
    # Files have telling names: a chair in office_chair.obj.
    file = set(tokens(spoken(model.file.stem)))
    also = file | {w for text in (*model.tags, model.category) for w in tokens(text)}
    score = sum(0.3 if w in own else 0.2 if w in also else 0.0 for w in asked[:-1])
    odd = (own | file) & ODD - set(asked)
    return score - 0.25 * len(odd) - 0.03 * len(own - set(asked))


def _usual(models: Sequence[Model]) -> float:
    volumes = [_volume(m) for m in models if m.size]
    return median(volumes) if len(volumes) > 2 else 0.0


def _volume(model: Model) -> float:
    return math.prod(model.size) if model.size else 1.0


def _off(model: Model, wanted: Wanted) -> float:
    """Mean logarithm by which sizes differ once the model is scaled to the first one wanted."""
    if model.size is None:
        return 0.5
    own = dict(zip(("width", "depth", "height"), model.size, strict=True))
    ratios = [math.log(wanted[name] / own[name]) for name in wanted]
    # A model may be scaled by a little for nothing, by much only at a price; shapes stay.
    middle = sum(ratios) / len(ratios)
    bent = sum(abs(r - middle) for r in ratios) / len(ratios)
    return min(2.0, bent + max(0.0, abs(middle) - 0.15))
