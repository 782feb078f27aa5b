"""How the starter CLIP is made: ``upspiral scenes train clip``.

Pictures are rendered (:mod:`scenes.clip.pictures`), catalogue icons added; then captions and
pictures learn to find each other in batches by open_clip's contrastive loss (Radford et al., arXiv
2103.00020). Deviations, for a training of minutes on two cores: the image tower starts from an
ImageNet classifier (EfficientNet-Lite0, Tan and Le, arXiv 1905.11946), whose first five stages stay
as they are, so that what they make of each augmented picture is worked out once; the words' tower
is a projection of sentence embeddings; no caption and no name of a model comes twice in a batch,
where it would be its own counterexample. A picture mirrored swaps left and right in its caption.

Renders, features and the training itself continue where they were stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from common import registry
from common.errors import UserError
from common.training import cosine, generator, run_steps
from scenes.assets.model import Model
from scenes.clip.captions import FRAMES, OPPOSITE, arranged, thing
from scenes.clip.collages import collages, paste
from scenes.clip.encoder import cut, filled, square, tensor
from scenes.clip.pictures import Picture, PicturesConfig, split_of
from scenes.clip.towers import TextConfig, Towers, TowersConfig, start_from

Report = Callable[[int, int, str], None]
CHUNK = 256
SCENES = 0.3
"""Share of a batch that shows several things."""


@dataclass(frozen=True)
class ClipRecipe:
    """One dial set: what is rendered, the towers, and how they are trained."""

    pictures: PicturesConfig = PicturesConfig()
    towers: TowersConfig = TowersConfig()
    collages: int = 1500
    """Scenes pasted from icons."""
    views: int = 2
    """Augmented views of each picture; every second one is mirrored."""
    steps: int = 240
    batch: int = 160
    rate: float = 5e-4
    decay: float = 0.1
    seed: int = 0
    initial: str | None = "efficientnet-lite0"
    """What the image tower starts from, by its name in the registry; None: random weights."""


def starter() -> ClipRecipe:
    """What made the weights in ``assets/``."""
    return ClipRecipe()


def tower() -> ClipRecipe:
    """The same with a text transformer that is trained from nothing."""
    return ClipRecipe(towers=TowersConfig(text=TextConfig()))


def tiny() -> ClipRecipe:
    """The same in minutes, to see that it runs; it knows next to nothing."""
    few = PicturesConfig(passes=1, train_worlds=1, dev_worlds=1, test_worlds=1)
    return ClipRecipe(
        few, TowersConfig(pixels=64), collages=90, views=1, steps=30, batch=64, initial=None
    )


RECIPES: dict[str, Callable[[], ClipRecipe]] = {
    "starter": starter,
    "tower": tower,
    "tiny": tiny,
}


@dataclass(frozen=True)
class Example:
    """A picture to learn from, and whether it is mirrored."""

    picture: Picture
    view: int

    @property
    def mirrored(self) -> bool:
        return self.view % 2 == 1


def icons(models: Sequence[Model]) -> list[Picture]:
    """The catalogue's own pictures."""
    return [
        Picture(file=m.icon, split=split_of(m), models=(m.id,))
        for m in models
        if m.icon is not None
    ]


def captions(picture: Picture, models: Mapping[str, Model], mirrored: bool = False) -> list[str]:
    """What a picture may be called; ``mirrored``, left is right."""
    shown = [models[i] for i in picture.models]
    if picture.kind is None:
        return thing(shown[0])
    kind = picture.kind
    if mirrored and kind in ("left-of", "right-of"):
        kind = OPPOSITE[kind]
    return arranged(kind, shown, picture.counts)


def worded(said: Sequence[str], single: bool, seed: int, number: int) -> list[str]:
    """The captions that are learnt of an example: of a thing all and a framed one, of a scene one.

    So much is embedded of each once, and no more.
    """
    random = generator(seed, "words", number)
    if not single:
        return [said[int(random.integers(len(said)))]]
    return [*said, FRAMES[int(random.integers(len(FRAMES)))].format(said[0])]


def shown(picture: Picture, folder: Path, random: np.random.Generator | None = None) -> Image.Image:
    """The part of the file that a picture is of, square; with ``random`` cut and coloured anew."""
    with Image.open(folder / picture.file) as file:
        if random is None:
            image = filled(file)
        else:
            red, green, blue = (int(v) for v in random.integers(60, 256, 3))
            image = filled(file, (red, green, blue))
    if picture.kind is None:
        # What is near a thing is seen with it, as in a critic's crop.
        image = cut(image, picture.box, 0.08 if random is None else random.uniform(-0.1, 0.2))
    return square(image) if random is None else coloured(square(image), random)


def coloured(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """In another light: brighter or darker, tinted, paler."""
    pixels = np.asarray(image, np.float32)
    pixels = pixels * random.uniform(0.7, 1.25) * random.uniform(0.88, 1.12, 3)
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * random.uniform(0.5, 1.3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def features(
    towers: Towers,
    examples: Sequence[Example],
    models: Mapping[str, Model],
    folder: Path,
    work: Path,
    seed: int,
    progress: Report,
) -> NDArray[np.float16]:
    """What the lower stages make of each example (N, 112, s, s), kept in ``work`` by chunks."""
    work.mkdir(parents=True, exist_ok=True)
    towers.eval()
    parts = []
    for start in range(0, len(examples), CHUNK):
        path = work / f"features-{start // CHUNK}.npy"
        if not path.is_file():
            images = []
            for n, example in enumerate(examples[start : start + CHUNK], start):
                random = generator(seed, "view", n)
                if example.picture.file:
                    image = shown(example.picture, folder, random)
                else:
                    image = coloured(paste(example.picture, models, random), random)
                flip = Image.Transpose.FLIP_LEFT_RIGHT
                images.append(image.transpose(flip) if example.mirrored else image)
            with torch.inference_mode():
                x = tensor(images, towers.config.pixels)
                found = torch.cat([towers.lower(part) for part in x.split(32)])
            partial = path.with_suffix(".partial.npy")
            np.save(partial, found.half().numpy())
            partial.replace(path)
        parts.append(np.load(path))
        progress(min(start + CHUNK, len(examples)), len(examples), "pictures seen")
    return np.concatenate(parts)


def train(
    recipe: ClipRecipe,
    models: Sequence[Model],
    pictures: Sequence[Picture],
    folder: Path,
    out: Path,
    progress: Report,
) -> Towers:
    """Towers that have learnt ``pictures`` of train (in ``folder``), saved as ``out/clip``.

    Raises:
        UserError: too little to learn from; a damaged checkpoint.
    """
    from open_clip.loss import ClipLoss

    torch.manual_seed(recipe.seed)
    towers = Towers(recipe.towers)
    if recipe.initial is not None:
        start_from(towers, registry.get(recipe.initial))
    by_id = {m.id: m for m in models}
    seen = [p for p in (*pictures, *icons(models)) if p.split == "train"]
    if len(seen) < recipe.batch:
        raise UserError(
            f"{len(seen)} pictures to learn from", "render more, or make batches smaller"
        )
    seen += collages(models, recipe.collages, recipe.seed)
    examples = [Example(p, v) for v in range(recipe.views) for p in seen]
    x = features(towers, examples, by_id, folder, out / "work/features", recipe.seed, progress)
    said = [
        worded(captions(e.picture, by_id, e.mirrored), e.picture.kind is None, recipe.seed, n)
        for n, e in enumerate(examples)
    ]
    every = list(dict.fromkeys(c for cs in said for c in cs))
    row = {caption: n for n, caption in enumerate(every)}
    prepared = towers.prepare(every)
    several = np.array([e.picture.kind is not None for e in examples])
    pools = [np.flatnonzero(several), np.flatnonzero(~several)]
    loss = ClipLoss()

    def batch(i: int) -> tuple[Tensor, Tensor]:
        random = generator(recipe.seed, "batch", i)
        share = round(recipe.batch * SCENES) if len(pools[0]) else 0
        rows: list[int] = []
        words: list[int] = []
        there: set[str] = set()
        for pool, wanted in zip(pools, (share, recipe.batch), strict=True):
            for n in random.permutation(pool):
                if len(rows) >= wanted:
                    break
                caption = said[n][int(random.integers(len(said[n])))]
                # Neither the same words nor another model of the same name.
                keys = {caption, said[n][0]}
                if keys & there:
                    continue
                there |= keys
                rows.append(int(n))
                words.append(row[caption])
        seen_BCHW = torch.from_numpy(x[rows]).float()
        return seen_BCHW.to(memory_format=torch.channels_last), prepared[words]

    def step(i: int) -> Mapping[str, float]:
        seen_BCHW, words = batch(i)
        optimizer.zero_grad()
        images, texts = towers.upper(seen_BCHW), towers.texts(words)
        value = loss(images, texts, towers.logit_scale.exp())
        value.backward()
        nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            towers.logit_scale.clamp_(0, np.log(100))
            right = (images @ texts.T).argmax(1) == torch.arange(len(images))
        return {"loss": float(value.detach()), "found": float(right.float().mean())}

    towers.train()
    towers.visual.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The lower stages get no gradients, so that the optimiser leaves them alone.
    plain = [p for p in towers.parameters() if p.ndim < 2]
    learn = [p for p in towers.parameters() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [{"params": learn}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, recipe.rate, weight_decay=recipe.decay)
    run_steps(
        "clip", out / "work", recipe.steps, step, {"towers": towers}, {"adamw": optimizer},
        schedule=lambda i: cosine(i, recipe.steps, warmup=recipe.steps // 10), progress=progress,
    )  # fmt: skip
    towers.eval()
    towers.save(out / "clip")
    return towers
