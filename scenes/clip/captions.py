"""What a picture of known content may be called: names, categories, counts and relations in words.

CLIP learns from captions that people wrote (Radford et al., arXiv 2103.00020); here they are made
of what is known of each picture, in many wordings, so that no wording is learnt by heart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from scenes.assets.model import Model
from scenes.assets.words import SAME, article, head, plural

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
RELATIONS: dict[str, tuple[str, ...]] = {
    "left-of": ("{a} to the left of {b}", "{a} left of {b}", "{a} on the left of {b}"),
    "right-of": ("{a} to the right of {b}", "{a} right of {b}", "{a} on the right of {b}"),
    "in-front-of": ("{a} in front of {b}", "{a} standing in front of {b}"),
    "behind": ("{a} behind {b}", "{a} standing behind {b}"),
    "on": ("{a} on {b}", "{a} on top of {b}", "{a} standing on {b}"),
    "beside": ("{a} next to {b}", "{a} beside {b}", "{a} near {b}"),
    "between": ("{a} between {b} and {c}",),
    "around": ("{a} around {b}", "{b} with {a} around it"),
    "row": ("{a} in a row", "{a} side by side", "{a}"),
}
"""Ways to say how things stand to one another; a, b and c are noun phrases."""
OPPOSITE = {"left-of": "right-of", "right-of": "left-of", "in-front-of": "behind",
            "behind": "in-front-of"}  # fmt: skip
FRAMES = ("a picture of {}", "a render of {}", "a 3d model of {}")
NO_KIND = frozenset({"blend swap", "adjustable", "scpts"})
"""Tags that say nothing of what a model shows."""


def name(model: Model) -> str:
    """What a model is called, in lower case, without the numbers of its maker."""
    return re.sub(r"\s+\d+$", "", " ".join(model.name.lower().split()))


def names(model: Model) -> list[str]:
    """All that a model may be called, its own name first: by its kind, by words for the same."""
    own = name(model)
    short = head(own)
    found = [own, short[-1]] if short else [own]
    for group in SAME:
        if short and short[-1] == group[0]:
            found += [w.replace("-", " ") for w in group[1:3]]
    return list(dict.fromkeys(found))


def thing(model: Model) -> list[str]:
    """Captions of a picture of one model, the plainest first."""
    found = [article(n) for n in names(model)]
    room = model.category.lower()
    if room and room not in ("miscellaneous", "lights", "characters", "vehicles"):
        found.append(f"{found[0]}, {room}")
    tags = [t.lower() for t in model.tags if t.lower() not in NO_KIND]
    if tags:
        found.append(f"{found[0]}, {', '.join(tags[:3])}")
    return found


def counted(model: Model, count: int) -> str:
    """``three chairs``, ``a chair``."""
    return article(name(model)) if count == 1 else f"{NUMBERS[count]} {plural(name(model))}"


def arranged(kind: str, models: Sequence[Model], counts: Sequence[int]) -> list[str]:
    """Captions of things that stand to one another as ``kind`` of :data:`RELATIONS` says."""
    nouns = [counted(m, n) for m, n in zip(models, counts, strict=True)]
    words = dict(zip("abc", nouns, strict=False))
    return [pattern.format(**words) for pattern in RELATIONS[kind]]
