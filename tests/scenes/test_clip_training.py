"""What the starter CLIP learns from, and that it learns it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from common.errors import UserError
from common.training import generator
from scenes.assets.model import Model
from scenes.clip import encoder, quality
from scenes.clip.captions import RELATIONS, arranged, thing
from scenes.clip.collages import KINDS, collages, paste
from scenes.clip.pictures import Picture, PicturesConfig, make, split_of
from scenes.clip.towers import TowersConfig
from scenes.clip.train import ClipRecipe, captions, shown, train
from scenes.render.pool import Workers
from tests.scenes.shapes import obj
from tests.scenes.test_dress import model

COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 200),
           "yellow": (220, 200, 40), "white": (240, 240, 240), "black": (20, 20, 20)}  # fmt: skip
SHAPES = ("ball", "box", "tower", "bench")


def icon(path: Path, colour: str, shape: str) -> str:
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    if shape == "ball":
        draw.ellipse((8, 8, 56, 56), fill=COLOURS[colour])
    else:
        size = {"box": (48, 48), "tower": (14, 60), "bench": (60, 14)}[shape]
        low = (32 - size[0] // 2, 60 - size[1])
        draw.rectangle((*low, low[0] + size[0], 60), fill=COLOURS[colour])
    image.save(path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """Two makers' things of every colour and shape."""
    folder = tmp_path_factory.mktemp("icons")
    return [
        model(f"{c} {s} {n}", 0.5, 0.5, 0.5, icon=icon(folder / f"{c}-{s}.png", c, s))
        for c in COLOURS
        for s in SHAPES
        for n in (1, 2)
    ]


def test_models_are_split_and_not_pictures(models: list[Model]) -> None:
    splits = {m.id: split_of(m) for m in models}
    assert set(splits.values()) == {"train", "dev", "test"}
    again = [m.model_copy(update={"id": "other", "name": "another"}) for m in models]
    assert [split_of(m) for m in again] == [splits[m.id] for m in models]  # by content alone
    assert all(splits[i] == "train" for p in collages(models, 40) for i in p.models)


def test_captions_say_what_is_known() -> None:
    chair = model("Oak chair", 1, 1, 1, category="Living room", tags=("Seat", "Blend Swap"))
    table = model("Table 2", 1, 1, 1)
    assert thing(chair)[:2] == ["an oak chair", "a chair"]
    assert any("living room" in c for c in thing(chair))
    assert not any("blend swap" in c for c in thing(chair))
    assert arranged("around", (chair, table), (4, 1))[0] == "four oak chairs around a table"
    assert arranged("row", (chair,), (1,))[-1] == "an oak chair"


def test_a_mirrored_picture_swaps_left_and_right(models: list[Model]) -> None:
    by_id = {m.id: m for m in models}
    picture = Picture(file="", split="train", models=(models[0].id, models[9].id), kind="left-of",
                      counts=(1, 1))  # fmt: skip
    assert "left" in captions(picture, by_id)[0] and "right" in captions(picture, by_id, True)[0]
    row = picture.model_copy(update={"kind": "beside"})
    assert captions(row, by_id) == captions(row, by_id, True)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("boxes")
    return {
        name: model(name, 1, 1, 1, icon=icon(folder / f"{c}.png", c, "box"))
        for name, c in (("a", "red"), ("b", "blue"))
    }


@given(number=st.integers(0, 2**20))
def test_collages_put_things_where_they_say(boxes: dict[str, Model], number: int) -> None:
    random = generator(number, "t")
    kind = KINDS[number % len(KINDS)]
    if kind in ("between", "row"):
        return
    made = paste(
        Picture(file="", split="train", models=("a", "b"), kind=kind, counts=(1, 1)), boxes, random
    )
    pixels = np.asarray(made).astype(int)
    where = {n: np.argwhere(np.abs(pixels - COLOURS[c]).sum(-1) < 30) for n, c in
             (("a", "red"), ("b", "blue"))}  # fmt: skip
    (down_a, across_a), (down_b, across_b) = where["a"].mean(0), where["b"].mean(0)
    if kind == "left-of":
        assert across_a < across_b
    elif kind == "right-of":
        assert across_a > across_b
    elif kind == "on":
        assert down_a < down_b
    elif kind == "in-front-of":
        assert down_a > down_b and len(where["a"]) > len(where["b"])


def test_every_relation_has_words() -> None:
    assert {*KINDS} <= RELATIONS.keys()


def test_training_learns_and_is_measured(models: list[Model], tmp_path: Path) -> None:
    recipe = ClipRecipe(
        towers=TowersConfig(pixels=32, width=32, hidden=64), collages=24, views=2, steps=75,
        batch=24, rate=2e-3, initial=None,
    )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    told: list[str] = []
    try:
        train(recipe, models, [], tmp_path, tmp_path / "whole", lambda *said: told.append(said[2]))
    finally:
        torch.set_num_threads(threads)
    assert "pictures seen" in told
    curve = [json.loads(line) for line in (tmp_path / "whole" / "work" / "clip.jsonl").open()]
    assert curve[-1]["loss"] < curve[0]["loss"] and curve[-1]["found"] > curve[0]["found"]
    clip = encoder.load(str(tmp_path / "whole/clip"))
    seen = [Picture(file=str(m.icon), split="train", models=(m.id,)) for m in models]
    figures = {f.name: f for f in quality.measure(clip, models, seen, tmp_path)}
    assert figures["picture to words, recall@5"].n == len(models)
    assert all(0 <= f.value <= 1 and 0 <= f.chance <= 1 for f in figures.values())
    with pytest.raises(UserError, match="pictures to learn from"):
        train(replace(recipe, batch=999), models, [], tmp_path, tmp_path / "no", print)


def test_pictures_are_rendered_once(tmp_path: Path) -> None:
    """A sheet and a world of real renders: boxes are where the things are."""
    path = obj(tmp_path / "box.obj", [((0, 1), (0, 1), (0, 1)), ((0.4, 0.6), (0.4, 0.6), (1, 2))])
    made = [
        Model(id=f"m{n}", name=f"{w} box", path=str(path), digest=f"d{n}", source="t",
              size=(0.5, 0.4, 0.3 + 0.02 * n))
        for n, w in enumerate("big small old new wide flat tall oak pine".split())
    ]  # fmt: skip
    train_only = [m for m in made if split_of(m) == "train"]
    config = PicturesConfig(passes=1, train_worlds=1, dev_worlds=0, test_worlds=0)
    with Workers(1, "cpu") as workers:
        first = make(train_only, tmp_path / "out", workers, config)
        pids = workers.pids
    assert pids
    singles = [p for p in first if p.kind is None and p.file.startswith("sheet")]
    assert {p.models[0] for p in singles} <= {m.id for m in train_only} and singles
    assert any(p.kind is not None for p in first)
    for picture in singles:
        image = shown(picture, tmp_path / "out")
        assert image.width == image.height > 20
        assert np.asarray(image).std() > 2
    with Workers(1, "cpu") as workers:
        assert make(train_only, tmp_path / "out", workers, config) == first
        assert workers.pids == ()  # nothing was left to render
