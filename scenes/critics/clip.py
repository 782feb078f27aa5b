"""The critic that compares the picture with the words, by CLIP.

Two questions. Does the picture look like the text: the cosine is the critic's score, raw and not
stretched, so that only figures of the same weights can be compared. Does each thing look like what
it is called: its part of the picture is compared with its own words and with those of other things,
of the scene and of everyday, and one that looks like many of them rather than like itself is named,
with models that look more like it. A thing too small, or hidden, is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scenes.assets.index import Index
from scenes.assets.search import SURE, search
from scenes.assets.words import article, called, head
from scenes.clip.encoder import Clip, Floats, cut, opened
from scenes.clip.looks import likeness
from scenes.critics import Criticism, Finding, Shot
from scenes.edits import Replace

EVERYDAY = (
    "chair", "table", "sofa", "bed", "cabinet", "lamp", "plant", "door", "window", "car", "tree",
    "person", "box", "bottle", "toilet", "washbasin", "bathtub", "oven", "fridge", "television",
    "laptop", "piano", "rug", "book", "clock", "vase", "bicycle", "dog", "knife", "switch",
)  # fmt: skip
"""What a thing might look like instead."""
LIKE = 0.7
"""Share of other words nearer to a picture than its own that makes a finding; docs/clip.md says how
often it is wrong."""
PIXELS = 24
"""Sides of a part of the picture below which nothing is judged."""
HIDDEN = 0.4
CANDIDATES = 10
BETTER = 0.02
"""By how much more a model has to look like the words than the one that stands there."""


@dataclass(frozen=True)
class Likeness:
    """How much a picture looks like words, and by which weights that was said."""

    cosine: float
    architecture: str
    weights: str


class ClipCritic:
    """See the module. With ``index`` it proposes other models for what looks wrong."""

    name = "clip"

    def __init__(self, encoder: Clip, index: Index | None = None) -> None:
        self.encoder = encoder
        self.index = index
        self._known: dict[str, Floats] = {}

    def likeness(self, shot: Shot) -> Likeness:
        """The raw cosine of the picture with the text; with the mean over sub-scenes, if any."""
        parts = [s.description or s.title for s in shot.dressed.graph.scenes] or [shot.text]
        vectors = self.encoder.texts([p for part in parts for p in self.encoder.parts(part)])
        cosine = float((vectors @ self.encoder.images([shot.picture])[0]).mean())
        return Likeness(cosine, self.encoder.architecture, self.encoder.digest)

    def look(self, shot: Shot) -> Criticism:
        """The likeness as the score, not below 0, and things that do not look as they are called.

        Raises:
            UserError: the picture cannot be read.
        """
        found = sorted(self._odd(shot), key=lambda pair: -pair[0])
        score = min(1.0, max(0.0, self.likeness(shot).cosine))
        return Criticism(critic=self.name, score=score, findings=tuple(f for _, f in found))

    def _odd(self, shot: Shot) -> list[tuple[float, Finding]]:
        """Findings with how sure they are."""
        picture = opened(shot.picture)
        best: dict[tuple[str, str | None], tuple[float, str]] = {}
        for sight in shot.sights:
            if sight.box is None or sight.hidden > HIDDEN or sight.outside > HIDDEN:
                continue
            left, top, right, bottom = sight.box
            sides = ((right - left) * picture.width, (bottom - top) * picture.height)
            asset = shot.dressed.graph[sight.id]
            # Things of the same words and model are judged by the one that is seen best.
            key = (asset.what, asset.model)
            if min(sides) >= PIXELS and sight.visible > best.get(key, (0, ""))[0]:
                best[key] = (sight.visible, sight.id)
        if not best:
            return []
        boxes = {s.id: s.box for s in shot.sights if s.box is not None}
        views = self.encoder.images([cut(picture, boxes[i]) for _, i in best.values()])
        found = []
        for (what, model), view in zip(best, views, strict=True):
            rest = others(what, [k[0] for k in best])
            cosines = self._words((what, *rest)) @ view
            nearer = float((cosines[1:] > cosines[0]).mean())
            if nearer < LIKE:
                continue
            rather = rest[int(cosines[1:].argmax())]
            better = self._better(what, model)
            alike = [a.id for a in shot.dressed.graph.assets if (a.what, a.model) == (what, model)]
            said = f"the {what} does not look like {article(what)}, rather like {article(rather)}"
            edits = tuple(Replace(asset=i, model=better) for i in alike) if better else ()
            found.append((nearer, Finding(what=said, edits=edits)))
        return found

    def _words(self, words: Sequence[str]) -> Floats:
        """Vectors of names of things (n, width); each is worked out once."""
        new = [w for w in words if w not in self._known]
        vectors = self.encoder.texts([article(w) for w in new])
        self._known |= dict(zip(new, vectors, strict=True))
        return np.stack([self._known[w] for w in words])

    def _better(self, what: str, model: str | None) -> str | None:
        """The model that looks most like the words among those that fit them, if not this one."""
        if self.index is None:
            return None
        hits = [h for h in search(self.index, what, k=CANDIDATES) if h.score >= SURE]
        scores = likeness(self.encoder, self.index, what, hits)
        here = {h.model.id: s for h, s in zip(hits, scores, strict=True) if not np.isnan(s)}
        if not here:
            return None
        best = max(here, key=lambda i: here[i])
        now = here.get(model or "", min(here.values()))
        return best if best != model and here[best] > now + BETTER else None


def others(what: str, scene: Sequence[str]) -> list[str]:
    """Words for other things than ``what``: no word that may stand for it."""
    names = called(head(what))
    own = frozenset[str]().union(*names)
    other = [w for w in dict.fromkeys((*scene, *EVERYDAY)) if w != what]
    return [w for w in other if not any(n & own for n in called(head(w)))]
