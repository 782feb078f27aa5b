"""Pictures and words in one space: the starter CLIP, or any checkpoint of open_clip.

    encoder = load("starter")
    encoder = load("ViT-B-32:laion2b_s34b_b79k")      # ARCHITECTURE:TAG, fetched by open_clip
    encoder = load("ViT-B-32:weights/clip.pt")        # ARCHITECTURE:FILE
    encoder.images([picture]) @ encoder.texts(["a red chair"]).T   # raw cosines

An encoder is the :class:`scenes.assets.index.ImageEncoder` of the index. Pictures are padded to a
square first, since the usual cut to the middle loses what stands at the sides of a scene.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from common import registry
from common.errors import UserError

Floats = NDArray[np.float32]
GROUND = (235, 235, 235)
"""What is behind a picture that is transparent, as catalogue icons are."""
PAD = (127, 127, 127)
STARTER = "starter-clip"


@dataclass(frozen=True)
class Clip:
    """An encoder; make one with :func:`load`. ``name`` tells architecture and weights."""

    architecture: str
    digest: str
    """Of the weights, 16 hexadecimal digits."""
    see: Callable[[Sequence[Image.Image]], Tensor]
    read: Callable[[Sequence[str]], Tensor]
    fits: Callable[[str], bool]
    """Whether a text is read to its end."""

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.digest}"

    def images(self, pictures: Sequence[Path | Image.Image]) -> Floats:
        """Unit vectors (n, width) of pictures or files.

        Raises:
            UserError: a file that is no picture; it is named.
        """
        return self._batched(lambda part: self.see([square(opened(p)) for p in part]), pictures)

    def texts(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (n, width) of words."""
        return self._batched(self.read, texts)

    def cosine(self, picture: Path | Image.Image, text: str) -> float:
        """How much a picture looks like a text: the raw cosine, in [-1, 1].

        CLIP reads 77 tokens and no further: of a longer text it is the mean over its parts.
        """
        return float(np.mean(self.texts(self.parts(text)) @ self.images([picture])[0]))

    def parts(self, text: str) -> list[str]:
        """A text in parts that are each read to their end: sentences, joined where they fit."""
        said = [s for s in re.split(r"(?<=[.;!?\n])\s+", text.strip()) if s] or [text]
        found: list[str] = []
        for sentence in said:
            for piece in self._cut(sentence):
                if found and self.fits(f"{found[-1]} {piece}"):
                    found[-1] += f" {piece}"
                else:
                    found.append(piece)
        return found

    def _cut(self, sentence: str) -> list[str]:
        words = sentence.split()
        if self.fits(sentence) or len(words) < 2:
            return [sentence]
        half = len(words) // 2
        return self._cut(" ".join(words[:half])) + self._cut(" ".join(words[half:]))

    def _batched(self, work: Callable[[Any], Tensor], things: Sequence[Any]) -> Floats:
        if not things:
            return np.zeros((0, 1), np.float32)
        with torch.inference_mode():
            parts = [work(things[i : i + 32]) for i in range(0, len(things), 32)]
            found = nn.functional.normalize(torch.cat(parts).float(), dim=-1)
        return np.asarray(found.numpy(), np.float32)


def load(spec: str = "starter") -> Clip:
    """The encoder of ``spec``: see the module. A folder is one that training wrote.

    Raises:
        UserError: no such starter, architecture, tag or file; weights that do not fit.
    """
    if spec == "starter":
        if STARTER not in {entry.name for entry in registry.catalogue()}:
            raise UserError("there is no starter CLIP", "train one: upspiral scenes train clip")
        return _towers(registry.get(STARTER))
    if Path(spec).is_dir():
        return _towers(Path(spec))
    architecture, colon, weights = spec.partition(":")
    if not colon or not weights:
        raise UserError(f"no CLIP is called {spec!r}", "write starter, or ARCHITECTURE:TAG-OR-FILE")
    return _open_clip(architecture, weights)


def chosen(spec: str) -> Clip | None:
    """The encoder of a flag: None for ``none``, and for a starter that this checkout has not."""
    bare = spec == "starter" and STARTER not in {entry.name for entry in registry.catalogue()}
    return None if spec == "none" or bare else load(spec)


def _towers(folder: Path) -> Clip:
    from common.sentences import TOKENS
    from scenes.clip import towers

    model = towers.load(folder)

    def see(images: Sequence[Image.Image]) -> Tensor:
        return model.images(tensor(images, model.config.pixels))

    def read(texts: Sequence[str]) -> Tensor:
        return model.texts(model.prepare(texts))

    most = model.config.text.context - 2 if model.config.text else TOKENS // 2

    def fits(text: str) -> bool:
        return len(text.split()) * 1.5 < most  # a word is hardly ever more tokens

    return Clip(f"starter-{model.config.image}", _digest(model), see, read, fits)


def _open_clip(architecture: str, weights: str) -> Clip:
    import open_clip

    if architecture not in open_clip.list_models():
        raise UserError(
            f"open_clip has no architecture {architecture!r}", "ViT-B-32 is one; it lists them all"
        )
    file = Path(weights).expanduser()
    tag = open_clip.pretrained.get_pretrained_cfg(architecture, weights)
    if not file.is_file() and not tag:
        raise UserError(
            f"{weights!r} is neither a file nor weights that open_clip knows of {architecture}",
            "tags: " + (", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"),
        )
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=str(file) if file.is_file() else weights
        )
        tokenizer: Any = open_clip.get_tokenizer(architecture)
    except Exception as error:  # whatever a download, an unpickling or a mismatch raises
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot load {architecture} with {weights}: {words}", "name a checkpoint that fits it"
        ) from error
    model.eval()

    def see(images: Sequence[Image.Image]) -> Tensor:
        found: Tensor = model.encode_image(torch.stack([transform(image) for image in images]))
        return found

    def read(texts: Sequence[str]) -> Tensor:
        found: Tensor = model.encode_text(tokenizer(list(texts)))
        return found

    def fits(text: str) -> bool:
        # A text that is cut off has no padding at its end.
        return int(tokenizer([text])[0, -1]) == int(tokenizer([""])[0, -1])

    return Clip(architecture, _digest(model), see, read, fits)


def _digest(model: nn.Module) -> str:
    """Of all weights, as they are used."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def opened(picture: Path | Image.Image) -> Image.Image:
    """A picture in RGB, what is transparent in it filled with :data:`GROUND`.

    Raises:
        UserError: the file is no picture.
    """
    if isinstance(picture, Image.Image):
        return filled(picture)
    try:
        with Image.open(picture) as file:
            return filled(file)
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(
            f"cannot read the picture {picture}: {error}", "name a PNG or JPEG"
        ) from error


def filled(image: Image.Image, ground: tuple[int, int, int] = GROUND) -> Image.Image:
    """In RGB, over ``ground``."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    found = Image.new("RGB", image.size, ground)
    found.paste(image, mask=image.getchannel("A"))
    return found


def square(image: Image.Image) -> Image.Image:
    """Padded to a square with grey."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    found = Image.new("RGB", (side, side), PAD)
    found.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return found


def tensor(images: Sequence[Image.Image], pixels: int) -> Tensor:
    """Square pictures as (B, 3, pixels, pixels) in [0, 1]."""
    sized = [np.asarray(i.resize((pixels, pixels), Image.Resampling.BICUBIC)) for i in images]
    return torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).float() / 255


def cut(
    image: Image.Image, box: tuple[float, float, float, float], more: float = 0.08
) -> Image.Image:
    """A part of a picture, ``box`` as shares of it, with ``more`` of the box's sides around it."""
    wide, high = more * (box[2] - box[0]), more * (box[3] - box[1])
    width, height = image.size
    left = max(0, round((box[0] - wide) * width))
    top = max(0, round((box[1] - high) * height))
    right = min(width, max(left + 1, round((box[2] + wide) * width)))
    bottom = min(height, max(top + 1, round((box[3] + high) * height)))
    return image.crop((left, top, right, bottom))
