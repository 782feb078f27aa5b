"""Catalogues, folders, the index and search, on the furniture itself and on made-up folders."""

from __future__ import annotations

import multiprocessing
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import registry
from common.errors import UserError
from common.sentences import encoder
from scenes.assets import folder, furniture, sh3f
from scenes.assets.index import Floats, Index
from scenes.assets.model import Model, attribution
from scenes.assets.previews import pictured
from scenes.assets.search import SURE, search, search_image
from scenes.assets.words import called, head, tokens
from scenes.graph import Surface
from tests.scenes.clips import colours
from tests.scenes.hashed import hashed
from tests.scenes.shapes import obj, table

LABELLED = {
    "sofa": "Sofa", "couch": "Sofa|Couch", "chair": "Chair", "office chair": "Chair",
    "armchair": "Armchair", "table": "Table", "round table": "Round table",
    "coffee table": "Coffee table", "wooden table": "Wooden table", "desk": "Desk",
    "bed": "Bed", "bunk bed": "Bunk bed", "nightstand": "Bedside table", "wardrobe": "Wardrobe",
    "bookcase": "Bookcase", "bookshelf": "Bookcase", "shelf": "Shelves", "closet": "Wardrobe",
    "dresser": "Dresser with drawers", "floor lamp": "Lamp", "table lamp": "Lamp|Desk lamp",
    "desk lamp": "Desk lamp", "ceiling lamp": "Ceiling lamp", "street lamp": "Street lamp",
    "rug": "Oriental rug|Round carpet", "tv": "TV|TV 16:9", "tv stand": "TV stand",
    "fridge": "Large fridge|Refrigerator|Fridge", "oven": "Oven",
    "stove": "Cooker|Stove|Large stove",
    "sink": "Sink|Basin|Washbasin", "toilet": "Toilets unit", "bathtub": "Bath|Corner bathtub",
    "washing machine": "Clothes washing machine|Washing machine", "potted plant": "Plant|Ficus",
    "tree": "Pine|Poplar|Palm tree|Acacia", "oak tree": "Pine|Poplar|Palm tree|Acacia",
    "pine tree": "Pine", "flowers": "Flowers", "vase": "Vase", "car": "SUV|Chevrolet|Seat Leon",
    "truck": "Truck", "bus": "Bus|City bus", "bicycle": "Bicycle|Bike", "person": "Male|Female",
    "man": "Male", "woman": "Female", "child": "Boy|Girl", "dog": "Dog", "cat": "Cat",
    "horse": "Horse", "piano": "Grand piano|Upright piano", "laptop": "Laptop", "phone": "Phone",
    "books": "Book", "plate": "Plate", "bowl": "Bowl", "clock": "Clock|Cuckoo clock",
    "picture": "Frame Chambord|Frame Hôi An", "window": "Double arched window|Sliding window",
    "door": "Door", "bench": "Bench", "fence": "Fence", "fountain": "Fountain", "stool": "Stool",
    "fireplace": "Fireplace", "mailbox": "Mailbox", "barrel": "Barrel", "teapot": "Teapot",
    "corner sofa": "Corner sofa", "filing cabinet": "Filing cabinet", "bar stool": "Bar stool",
}  # fmt: skip
"""Everyday searches, and what the best hit may be called."""


@pytest.fixture(scope="module")
def catalogues() -> list[Path]:
    try:
        return furniture.catalogues()
    except UserError as error:
        pytest.skip(f"the furniture is not installed: {error}")


@pytest.fixture(scope="module")
def indexed(catalogues: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index(tmp_path_factory.mktemp("index") / "assets.db")
    _, done = furniture.index(into=index)
    assert sum(d.new for d in done.values()) == 820
    return index


def test_the_furniture_is_all_there(indexed: Index) -> None:
    assert sum(indexed.sources().values()) == 820
    models = {m.id: m for m in indexed.all()[0]}
    bed = models["scopia-bed1"]
    assert bed.size == (1.705, 2.165, 1.108) and bed.rest == 0.55 and bed.tags == ("Double",)
    assert bed.licence == "CC-BY-3.0" and bed.creator == "Scopia" and bed.file.is_file()
    licences = [m.licence for m in models.values()]
    assert licences.count("CC0-1.0") == 175
    assert licences.count("CC-BY-3.0") + licences.count("CC-BY-3.0-US") == 645
    assert all(m.icon and Path(m.icon).is_file() for m in models.values())
    _, again = furniture.index(into=indexed)
    assert all(d.new == d.dropped == 0 for d in again.values())


def test_everyday_searches_find_what_is_meant(indexed: Index) -> None:
    wrong = {}
    for query, wanted in LABELLED.items():
        hit = search(indexed, query, k=1)[0]
        if hit.score < SURE or hit.model.name not in wanted.split("|"):
            wrong[query] = hit.model.name
    assert len(wrong) <= 0.05 * len(LABELLED), wrong


def test_size_and_category_narrow_a_search(indexed: Index) -> None:
    tall = search(indexed, "lamp", k=1, wanted={"height": 1.7})[0].model
    small = search(indexed, "lamp", k=1, wanted={"height": 0.3})[0].model
    assert tall.size and small.size and tall.size[2] > 1.2 > small.size[2]
    office = search(indexed, "chair", category="office")
    assert office and all(h.model.category == "Office" for h in office)
    assert search(indexed, "spaceship", k=1)[0].score < SURE
    assert search(indexed, "electric chair lift", k=3)


def test_icons_are_searched_by_what_they_look_like(indexed: Index, tmp_path: Path) -> None:
    class Grey:
        """A stand-in of an encoder: eight by eight greys."""

        name = "grey"

        def images(self, paths: object) -> Floats:
            rows = [
                np.asarray(Image.open(p).convert("RGBA").convert("L").resize((8, 8)), np.float32)
                for p in paths  # type: ignore[attr-defined]
            ]
            flat = np.stack(rows).reshape(len(rows), -1) - 128
            return flat / np.linalg.norm(flat, axis=1, keepdims=True)

        def texts(self, texts: object) -> Floats:
            raise NotImplementedError

    index = Index(tmp_path / "i.db", hashed)
    models = [m for m in indexed.all()[0] if m.source.startswith("Kator")]
    assert search_image(index, Grey(), Path(str(models[0].icon))) == []
    index.add("kator", models, Grey())
    for model in models[:5]:
        hits = search_image(index, Grey(), Path(str(model.icon)), k=2)
        assert hits[0].score == pytest.approx(1, abs=1e-4)
        assert model in [h.model for h in hits]


def test_words() -> None:
    assert head("small round tables with chairs") == ("small", "round", "table")
    assert head("bowl of fruit") == ("bowl",)
    assert head("TV 16:9") == ("tv",)
    assert "couch" in called(["leather", "sofa"])[-1]
    assert "pine" in called(["tree"])[-1] and "tree" not in called(["pine"])[-1]
    assert tokens("Glasses of the buses") == ("glass", "bus")


def test_sentences_are_near_in_meaning() -> None:
    found = encoder()(["a couch to sit on", "sofa", "an oak tree", "sofa"])
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2
    assert found[1] == pytest.approx(found[3], abs=1e-5)


def catalogue(path: Path, text: str, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        if text:
            archive.writestr(sh3f.PROPERTIES, text.encode("latin-1"))
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_catalogue_is_read_as_its_format_says(tmp_path: Path) -> None:
    text = (
        "name=Mine\nlicense=Creative Commons Attribution 3.0 United States\n# a comment\n"
        "id#2=Mine#b\nname#2=Gro\\u00dfe \\\n  Vase\nmodel#2=/m/b.obj\nwidth#2=20\ndepth#2=10.5\n"
        "height#2=40\nmodelRotation#2=1 0 0 0 0 -1 0 1 0\ncreator#2=A. B.\n"
        "id#1=Mine#a\nname#1=Gone\nmodel#1=/m/gone.obj\nwidth#1=1\ndepth#1=1\nheight#1=1\n"
        "id#3=Mine#c\nname#3=Flat\nmodel#3=/m/b.obj\nwidth#3=0\ndepth#3=1\nheight#3=1\n"
    )
    made = catalogue(tmp_path / "mine.sh3f", text, {"m/b.obj": b"v 0 0 0\n"})
    (model,) = sh3f.read(sh3f.unpacked(made, tmp_path / "cache"))
    assert model.name == "Große Vase" and model.size == (0.2, 0.105, 0.4)
    assert model.rotation == (1, 0, 0, 0, 0, -1, 0, 1, 0)
    assert attribution([model]).splitlines()[1] == "Große Vase: A. B., Mine, CC-BY-3.0-US"
    assert attribution([model.model_copy(update={"licence": ""})]) == ""


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "no list", "climbs out"])
def test_a_catalogue_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.sh3f"
    if kind == "text":
        path.write_text("no zip")
    elif kind == "cut":
        whole = catalogue(tmp_path / "whole.zip", "name=x\n", {"m.obj": bytes(4000)}).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "no list":
        catalogue(path, "", {"m.obj": b"v"})
    elif kind == "climbs out":
        catalogue(path, "name=x\n", {"../evil.obj": b"v"})
    with pytest.raises(UserError, match=r"bad\.sh3f"):
        sh3f.unpacked(path, tmp_path / "cache")
    assert not (tmp_path / "evil.obj").exists()
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").is_dir() else True


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "chairs").mkdir()
    (tmp_path / "chairs" / "OldOak_chair-02.obj").write_text("v 0 0 0\n")
    (tmp_path / "lamp.glb").write_bytes(b"glTF")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "models.csv").write_text(
        "file,name,tags,width,depth,height,licence\n"
        "lamp.glb,reading lamp,light;brass,0.2,0.2,0.5,CC0-1.0\n"
    )
    chair, lamp = folder.read(tmp_path)
    assert (chair.name, chair.category, chair.size) == ("old oak chair", "chairs", None)
    assert (lamp.name, lamp.tags, lamp.size) == (
        "reading lamp",
        ("light", "brass"),
        (0.2, 0.2, 0.5),
    )
    (tmp_path / "models.csv").write_text("file,width\nlamp.glb,wide\n")
    with pytest.raises(UserError, match=r"width of lamp\.glb is 'wide'"):
        folder.read(tmp_path)
    for bad in (tmp_path / "nowhere", tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="is not a folder"):
            folder.read(bad)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model in"):
        folder.read(tmp_path / "empty")


def model(name: str, digest: str = "", **more: object) -> Model:
    return Model.model_validate(
        {"id": name.replace(" ", "-"), "name": name, "path": f"/{name}.obj",
         "digest": digest or name, "source": "test", **more}
    )  # fmt: skip


def test_the_index_is_incremental_and_knows_doubles(tmp_path: Path) -> None:
    index = Index(tmp_path / "i.db", hashed)
    first = [model("chair"), model("table"), model("chair").model_copy(update={"id": "chair-2"})]
    assert index.add("test", first) == (2, 0, 0, 1)
    assert index.add("test", [model("chair"), model("lamp")]) == (1, 1, 1, 0)
    assert [m.id for m in index.all()[0]] == ["chair", "lamp"]
    index.measured("lamp", (0.2, 0.2, 0.4), [Surface(x=(0, 1), y=(0, 1), z=0.4)])
    assert index["lamp"].size == (0.2, 0.2, 0.4) and index["lamp"].surfaces
    assert index.add("test", [model("chair"), model("lamp")]) == (0, 2, 0, 0)
    assert index["lamp"].surfaces  # what was measured stays
    index.broken("chair", "no faces")
    assert index.problems() == {"chair": "no faces"}
    assert [h.model.id for h in search(index, "chair")] == ["lamp"]
    assert index.add("test", [model("chair", digest="mended"), model("lamp")]).new == 1
    assert index.problems() == {}
    with pytest.raises(KeyError):
        index["sofa"]


def add_many(path: Path, source: str) -> None:
    index = Index(path, hashed)
    for round in range(3):
        index.add(source, [model(f"{source} {n}", source=source) for n in range(5 + round)])


def test_two_processes_may_index_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=add_many, args=(tmp_path / "i.db", s)) for s in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert Index(tmp_path / "i.db", hashed).sources() == {"a": 7, "b": 7}


def test_the_registry_knows_the_furniture() -> None:
    known = {entry.name: entry for entry in registry.catalogue()}
    assert known["furniture"].kind == "data" and known["minilm"].kind == "model"


def test_models_without_a_picture_get_one(tmp_path: Path) -> None:
    obj(tmp_path / "table.obj", table())
    (tmp_path / "broken.obj").write_text("f 1 2 3\n")
    found = {m.name: m for m in pictured(folder.read(tmp_path), tmp_path / "previews")}
    assert found["broken"].icon is None
    with Image.open(str(found["table"].icon)) as picture:
        assert picture.size == (192, 192) and len(set(picture.convert("L").tobytes())) > 20
    (tmp_path / "table.obj").write_text("")  # not read again
    again = [found["table"].model_copy(update={"icon": None})]
    assert pictured(again, tmp_path / "previews") == [found["table"]]


def test_another_encoder_leaves_what_was_measured(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "i.png")
    index = Index(tmp_path / "i.db", hashed)
    mine = [model("lamp", icon=str(tmp_path / "i.png"))]
    index.add("test", mine)
    index.measured("lamp", (0.2, 0.2, 0.4), [Surface(x=(0, 1), y=(0, 1), z=0.4)])
    assert index.add("test", mine, colours).new == 1
    assert index["lamp"].size == (0.2, 0.2, 0.4) and index["lamp"].surfaces
    assert len(index.all("image", colours.name)[0]) == 1
    assert index.add("test", mine, colours).kept == 1
