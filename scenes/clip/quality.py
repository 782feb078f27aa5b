"""What a CLIP knows of furniture: retrieval, categories, counts and relations, on one split.

Every figure comes with its standard error over models (or pictures, where no model is shared) and
its n, and with what guessing gives. Models of dev and test were in no picture of the training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scenes.assets.model import Model
from scenes.assets.words import article
from scenes.clip.captions import OPPOSITE, arranged, name
from scenes.clip.encoder import Clip, Floats
from scenes.clip.pictures import Picture
from scenes.clip.train import shown


class Figure(NamedTuple):
    """A share of right answers, its standard error, over how many, and what guessing gives."""

    name: str
    value: float
    error: float
    n: int
    chance: float


def measure(
    encoder: Clip, models: Sequence[Model], pictures: Sequence[Picture], folder: Path
) -> list[Figure]:
    """All figures on ``pictures`` of one split, whose files are in ``folder``."""
    by_id = {m.id: m for m in models}
    things = [p for p in pictures if p.kind is None]
    views = encoder.images([shown(p, folder) for p in things])
    owners = [p.models[0] for p in things]
    scenes = [p for p in pictures if p.kind is not None]
    figures = [
        *_retrieval(encoder, by_id, owners, views),
        _categories(encoder, by_id, owners, views),
    ]
    if scenes:
        figures += _pairs(
            encoder, by_id, scenes, encoder.images([shown(p, folder) for p in scenes])
        )
    return figures


def _retrieval(
    encoder: Clip, models: Mapping[str, Model], owners: Sequence[str], views: Floats
) -> list[Figure]:
    """Words to pictures, one picture a model; pictures to words. Models of one name are one."""
    names = sorted({name(models[i]) for i in owners})
    words = encoder.texts([article(n) for n in names])
    first = {owner: n for n, owner in reversed(list(enumerate(owners)))}
    gallery = sorted(first)
    told = np.array([names.index(name(models[i])) for i in gallery])
    found: list[Figure] = []
    order = np.argsort(-(words @ views[[first[i] for i in gallery]].T), axis=1, kind="stable")
    right = told[order] == np.arange(len(names))[:, None]
    share = np.bincount(told, minlength=len(names)) / len(gallery)
    for k in (1, 5):
        hits = right[:, :k].any(1).astype(float)
        chance = float(np.mean(1 - (1 - share) ** k))
        found.append(_figure(f"words to picture, recall@{k}", hits, chance))
    order = np.argsort(-(views @ words.T), axis=1, kind="stable")
    own = np.array([names.index(name(models[i])) for i in owners])
    for k in (1, 5):
        hits = (order[:, :k] == own[:, None]).any(1).astype(float)
        found.append(_figure(f"picture to words, recall@{k}", _by(owners, hits), k / len(names)))
    return found


def _categories(
    encoder: Clip, models: Mapping[str, Model], owners: Sequence[str], views: Floats
) -> Figure:
    """Which category of the catalogue a thing is of, by its word alone."""
    kinds = sorted({models[i].category for i in owners} - {"Miscellaneous"})
    words = encoder.texts([f"a thing of the {k.lower()}" for k in kinds])
    mine = [n for n, i in enumerate(owners) if models[i].category in kinds]
    own = np.array([kinds.index(models[owners[n]].category) for n in mine])
    hits = ((views[mine] @ words.T).argmax(1) == own).astype(float)
    return _figure("category", _by([owners[n] for n in mine], hits), 1 / len(kinds))


def _pairs(
    encoder: Clip, models: Mapping[str, Model], scenes: Sequence[Picture], views: Floats
) -> list[Figure]:
    """Of two captions that differ in one thing, is the right one nearer?"""
    answers: dict[str, list[tuple[str, float]]] = defaultdict(list)
    others = sorted({i for p in scenes for i in p.models})
    for n, (picture, view) in enumerate(zip(scenes, views, strict=True)):
        assert picture.kind is not None
        mine = [models[i] for i in picture.models]
        scene = picture.file.rpartition("-")[0] + "/" + "+".join(picture.models)
        wrong: list[tuple[str, str]] = []
        if picture.kind == "row":
            wrong += [
                ("count", arranged("row", mine, (c,))[0])
                for c in range(1, 6)
                if c != picture.counts[0]
            ]
        if picture.kind in OPPOSITE:
            side = "left or right" if picture.kind.endswith("-of") else "in front or behind"
            wrong.append((side, arranged(OPPOSITE[picture.kind], mine, picture.counts)[0]))
            turned = arranged(picture.kind, mine[::-1], picture.counts)[0]
            wrong.append(("which of the two", turned))
        stranger = models[others[n * 37 % len(others)]]
        if name(stranger) not in {name(m) for m in mine}:
            swapped = arranged(picture.kind, [stranger, *mine[1:]], picture.counts)[0]
            wrong.append(("what it is", swapped))
        texts = [arranged(picture.kind, mine, picture.counts)[0], *(w for _, w in wrong)]
        cosines = encoder.texts(texts) @ view
        for (question, _), cosine in zip(wrong, cosines[1:], strict=True):
            answers[question].append((scene, float(cosines[0] > cosine)))
    return [
        _figure(f"pair: {question}", _by([s for s, _ in said], np.array([h for _, h in said])), 0.5)
        for question, said in sorted(answers.items())
    ]


def _by(owners: Sequence[str], hits: Floats) -> Floats:
    """The mean of each owner's answers: views of one model are no independent trials."""
    groups: dict[str, list[float]] = defaultdict(list)
    for owner, hit in zip(owners, hits, strict=True):
        groups[owner].append(float(hit))
    return np.array([np.mean(g) for g in groups.values()])


def _figure(title: str, hits: Floats, chance: float) -> Figure:
    error = float(hits.std(ddof=1) / np.sqrt(len(hits))) if len(hits) > 1 else float("nan")
    return Figure(title, float(hits.mean()), error, len(hits), chance)
