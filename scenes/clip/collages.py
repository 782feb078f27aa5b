"""Small scenes pasted from the catalogue's icons: many pictures of counts and sides for little.

A scene takes Blender seconds and a collage milliseconds. Icons are seen from the front with nothing
behind them, so that left, right, before, behind, on and how many can be shown in the plane. Only
training uses collages; what a CLIP learnt of relations is measured on rendered scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.training import generator
from scenes.assets.model import Model
from scenes.clip.captions import arranged
from scenes.clip.pictures import Picture, split_of

KINDS = ("left-of", "right-of", "row", "row", "in-front-of", "behind", "on", "between", "beside")
SIDE = 160


def collages(models: Sequence[Model], count: int, seed: int = 0) -> list[Picture]:
    """``count`` pictures of models of train, by what they show; :func:`paste` draws them."""
    usable = [m for m in models if split_of(m) == "train" and m.icon is not None and not m.fixed]
    found = []
    for n in range(count):
        random = generator(seed, "collage", n)
        kind = KINDS[n % len(KINDS)]
        drawn = random.permutation(len(usable))[: 3 if kind == "between" else 2]
        chosen = [usable[i] for i in drawn]
        counts: tuple[int, ...] = (1,) * len(chosen)
        if kind == "row":
            chosen, counts = chosen[:1], (int(random.integers(1, 6)),)
        found.append(
            Picture(
                file="", split="train", models=tuple(m.id for m in chosen), kind=kind,
                counts=counts, captions=tuple(arranged(kind, chosen, counts)),
            )
        )  # fmt: skip
    return found


def paste(
    picture: Picture, models: Mapping[str, Model], random: np.random.Generator
) -> Image.Image:
    """A collage, square. What is farther away is pasted first, smaller and higher up."""
    red, green, blue = (int(v) for v in random.integers(90, 256, 3))
    ground = Image.new("RGB", (SIDE, SIDE), (red, green, blue))
    icons = [_icon(Path(str(models[i].icon))) for i in picture.models]
    middle = 0.5 + random.uniform(-0.06, 0.06)
    off = random.uniform(0.19, 0.25)
    near = random.uniform(0.36, 0.46)
    # Each is an icon, across and down to the middle of its foot, and its side, as shares.
    placed: list[tuple[Image.Image, float, float, float]] = []
    kind = picture.kind
    foot = 0.62 + random.uniform(0, 0.12)
    if kind == "row":
        number = picture.counts[0]
        side = min(near, 0.9 / number)
        for n in range(number):
            placed.append((icons[0], middle + (n - (number - 1) / 2) * side, foot, side))
    elif kind in ("left-of", "right-of", "beside"):
        sign = {"left-of": -1, "right-of": 1}.get(kind, 1 if random.random() < 0.5 else -1)
        lower = random.uniform(-0.03, 0.03)
        placed.append((icons[0], middle + sign * off, foot + lower, near))
        placed.append((icons[1], middle - sign * off, foot - lower, near))
    elif kind == "between":
        for icon, across in zip(icons, (0, -0.3, 0.3), strict=True):
            placed.append((icon, middle + across, foot, 0.28))
    elif kind == "on":
        placed.append((icons[1], middle, foot + 0.2, near + 0.1))
        placed.append((icons[0], middle, foot - 0.2, near * 0.6))
    else:
        aside = random.uniform(-0.1, 0.1)
        back, front = (icons[1], icons[0]) if kind == "in-front-of" else (icons[0], icons[1])
        placed.append((back, middle + aside, foot - 0.1, near * 0.85))
        placed.append((front, middle - aside, foot + 0.18, near * 1.1))
    for icon, across, down, share in placed:
        scale = share * SIDE / max(icon.size)
        small = icon.resize((max(1, round(icon.width * scale)), max(1, round(icon.height * scale))))
        at = (round(across * SIDE - small.width / 2), round(down * SIDE - small.height))
        ground.paste(small, at, small.getchannel("A"))
    return ground


def _icon(path: Path) -> Image.Image:
    """An icon without the empty rim around it."""
    with Image.open(path) as file:
        image = file.convert("RGBA")
    return image.crop(image.getchannel("A").getbbox())
