"""Numbers on things in a picture, so that a critic that looks at it can say which one it means."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GOLDEN = 0.618034
"""Steps of this share of the circle give neighbouring numbers hues that differ."""


def numbered(picture: Path, mask: Path, count: int, width: int) -> Image.Image:
    """``picture``, ``width`` pixels wide, with the outline and the number of each thing on it.

    ``mask`` is what :class:`scenes.render.jobs.Look` writes, at any size: 0 is nothing, 1 to
    ``count`` are the things. One of which nothing is to be seen gets no number.
    """
    shown = Image.open(picture).convert("RGB")
    height = round(shown.height * width / shown.width)
    shown = shown.resize((width, height), Image.Resampling.LANCZOS)
    owner = np.array(Image.open(mask).resize((width, height), Image.Resampling.NEAREST))
    pixels = np.array(shown)
    edge = _edges(owner)
    for number in range(1, count + 1):
        pixels[edge & (owner == number)] = _colour(number)
    shown = Image.fromarray(pixels)
    draw = ImageDraw.Draw(shown)
    font = ImageFont.load_default(size=max(11, width // 40))
    for number in range(1, count + 1):
        at = _inside(owner == number)
        if at is not None:
            box = draw.textbbox(at, str(number), font=font, anchor="mm")
            draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=(0, 0, 0))
            draw.text(at, str(number), font=font, anchor="mm", fill=(255, 255, 255))
    return shown


def sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in rows of two, for models that take only one."""
    columns = min(2, len(pictures))
    width = max(p.width for p in pictures)
    height = max(p.height for p in pictures)
    rows = -(-len(pictures) // columns)
    made = Image.new("RGB", (columns * width, rows * height), (255, 255, 255))
    for n, picture in enumerate(pictures):
        made.paste(picture, (n % columns * width, n // columns * height))
    return made


def _edges(owner: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Pixels with another owner beside, above or below them."""
    edge = np.zeros(owner.shape, bool)
    across, down = owner[:, :-1] != owner[:, 1:], owner[:-1] != owner[1:]
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    return edge


def _inside(mask: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The pixel of a mask that is nearest to its middle, which may itself lie in a hole."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    away = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(away.argmin())
    return int(columns[nearest]), int(rows[nearest])


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.9, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)
