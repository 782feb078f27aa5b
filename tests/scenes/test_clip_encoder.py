"""Encoders of pictures and words: the starter's form, and any checkpoint of open_clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError
from scenes.assets import furniture
from scenes.assets.words import head
from scenes.clip.encoder import GROUND, chosen, cut, load, opened, square
from scenes.clip.towers import TextConfig, Towers, TowersConfig
from scenes.clip.towers import load as load_towers
from tests.scenes.clips import colours

TINY = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16,
    },
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model in open_clip's own format, as ``--clip`` names it."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip-of-tests.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip-of-tests")
    torch.save(model.state_dict(), folder / "weights.pt")
    return f"tiny-clip-of-tests:{folder}/weights.pt"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_any_checkpoint_of_open_clip(checkpoint: str, picture: Path) -> None:
    encoder = load(checkpoint)
    images, texts = encoder.images([picture, picture]), encoder.texts(["a chair", "a red table"])
    assert images.shape == texts.shape == (2, 16)
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    # The same as open_clip itself gives.
    architecture, _, file = checkpoint.partition(":")
    model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=file)
    with torch.no_grad():
        own = model.eval().encode_image(transform(square(Image.open(picture)))[None], True)
    assert np.allclose(own[0].numpy(), images[0], atol=1e-5)
    assert encoder.name.startswith(architecture) and load(checkpoint).name == encoder.name


def test_a_long_text_is_read_to_its_end(checkpoint: str) -> None:
    encoder = load(checkpoint)
    text = "A red chair stands left of the sofa. " + "There is a lamp on the cabinet. " * 6
    parts = encoder.parts(text)
    assert len(parts) > 2 and all(encoder.fits(p) for p in parts)
    assert " ".join(parts).split() == text.split()
    assert not encoder.fits(text) and encoder.parts("a chair") == ["a chair"]


@given(st.lists(st.text(alphabet="abc. ;", min_size=1, max_size=12), min_size=1, max_size=12))
def test_parts_lose_no_word(words: list[str]) -> None:
    text = " ".join(words)
    assert " ".join(colours.parts(text)).split() == text.split()


def test_cosine_is_that_of_the_parts(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (255, 60, 60))
    assert colours.cosine(red, "red") == pytest.approx(1, abs=1e-4)
    long = "a red thing that stands there. and a green thing that stands there."
    assert colours.cosine(red, long) == pytest.approx(0.5, abs=1e-4)


def test_what_cannot_be_loaded(tmp_path: Path, checkpoint: str) -> None:
    other = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(1)}, other)
    architecture = checkpoint.partition(":")[0]
    for spec, words in (
        ("nonsense", "no CLIP is called"),
        ("ViT-B-99:openai", "no architecture"),
        ("ViT-B-32:no-such-tag", "neither a file nor weights"),
        (f"{architecture}:{other}", "cannot load"),
        (str(tmp_path), "no starter CLIP"),
    ):
        with pytest.raises(UserError, match=words):
            load(spec)
    with pytest.raises(UserError, match="cannot read the picture"):
        colours.images([other])


def test_pictures_are_filled_padded_and_cut(tmp_path: Path) -> None:
    icon = Image.new("RGBA", (10, 20), (255, 0, 0, 0))
    icon.save(tmp_path / "icon.png")
    assert opened(tmp_path / "icon.png").getpixel((0, 0)) == GROUND
    assert square(opened(icon)).size == (20, 20)
    assert cut(Image.new("RGB", (100, 50)), (0.2, 0.2, 0.4, 0.6), 0.0).size == (20, 20)
    assert cut(Image.new("RGB", (100, 50)), (0.5, 0.5, 0.5, 0.5)).size == (1, 1)


@pytest.mark.parametrize("text", [None, TextConfig(width=32, layers=1, heads=2)])
def test_towers_come_back_as_they_were_saved(
    tmp_path: Path, picture: Path, text: TextConfig | None
) -> None:
    torch.manual_seed(1)
    towers = Towers(TowersConfig(pixels=32, width=16, text=text)).eval()
    towers.save(tmp_path / "clip")
    back = load_towers(tmp_path / "clip")
    x, words = torch.rand(2, 3, 32, 32), towers.prepare(["a chair", "an oak table"])
    with torch.no_grad():
        assert torch.allclose(towers.images(x), back.images(x), atol=2e-2)  # half precision
        assert torch.allclose(towers.texts(words), back.texts(words), atol=2e-2)
    encoder = load(str(tmp_path / "clip"))
    assert encoder.images([picture]).shape == encoder.texts(["a chair"]).shape == (1, 16)


def test_the_starter_tells_furniture_apart() -> None:
    clip = load("starter")
    kinds = ("chair", "table", "sofa", "plant", "car")
    told: dict[str, list[Path]] = {k: [] for k in kinds}
    for model in furniture.models():
        if model.icon and head(model.name)[-1:] and head(model.name)[-1] in kinds:
            told[head(model.name)[-1]].append(Path(model.icon))
    words = clip.texts([f"a {k}" for k in kinds])
    right = [
        (clip.images(icons[:8]) @ words.T).argmax(1) == n
        for n, icons in enumerate(told.values())
        if icons
    ]
    assert np.concatenate(right).mean() > 0.8
    assert chosen("none") is None and chosen("starter") is not None
