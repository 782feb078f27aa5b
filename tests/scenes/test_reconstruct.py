"""Reconstruction: what stands out, what it is, where the camera is; on pictures of known scenes."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.cli import main
from common.errors import UserError
from scenes.assets.index import Floats, Index
from scenes.assets.model import Model
from scenes.reconstruct import reconstruct
from scenes.reconstruct.explain import Search, SearchConfig
from scenes.reconstruct.fit import Fit, Fitter, Stand
from scenes.reconstruct.foreground import Picture, read, to_lab
from scenes.reconstruct.match import (
    Piece,
    View,
    camera_of,
    cameras,
    cut_out,
    guesses,
    parted,
    scores,
)
from scenes.reconstruct.shapes import POINTS, Shapes, library
from scenes.render.jobs import Render, Sample, Scene, Thing
from scenes.render.pool import Workers
from scenes.render.views import extent, frame, project
from tests.scenes.hashed import hashed
from tests.scenes.shapes import Box, bookcase, chair, mesh, obj, table

needs_blender = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="Blender's module is not installed"
)
SIZE = (160, 120)
KINDS: dict[str, tuple[list[Box], tuple[float, float, float]]] = {
    "bookcase": (bookcase(), (0.55, 0.3, 0.1)),
    "chair": (chair(), (0.8, 0.1, 0.1)),
    "cube": ([((-0.25, 0.25), (-0.25, 0.25), (0, 0.5))], (0.1, 0.2, 0.8)),
    "post": ([((-0.1, 0.1), (-0.1, 0.1), (0, 1.6))], (0.1, 0.5, 0.1)),
    "table": (table(), (0.5, 0.1, 0.5)),
}


def sampled(boxes: list[Box]) -> Floats:
    """Points all over boxes, (POINTS, 3)."""
    corners, faces = mesh(boxes)
    a, b, c = (corners[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(faces), POINTS, p=area / area.sum())
    u, v = rng.random((2, POINTS, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    return points.astype(np.float32)


def model(name: str, path: Path = Path("/none.obj")) -> Model:
    corners = mesh(KINDS[name][0])[0]
    size = corners.max(0) - corners.min(0)
    return Model(
        id=name, name=name.capitalize(), path=str(path), digest=name, source="test",
        category="Seats" if name == "chair" else "Rest", size=tuple(size.tolist()),
        rest=0.75 if name == "table" else None,
    )  # fmt: skip


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shapes:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    (tmp_path / "home/cache/shapes").mkdir(parents=True)
    lab = [np.broadcast_to(to_lab(np.array(c)), (POINTS, 3)) for _, c in KINDS.values()]
    points = np.stack([sampled(boxes) for boxes, _ in KINDS.values()])
    return Shapes(tuple(model(n) for n in KINDS), points, np.stack(lab).astype(np.float32))


def drawn(shapes: Shapes, view: View, things: list[Stand]) -> tuple[Picture, list[Piece]]:
    """A picture of things by our own projection, and the pieces that they are."""
    blank = np.zeros((SIZE[1], SIZE[0], 3))
    nothing = Picture(Path("drawn.png"), blank, to_lab(blank), blank[..., 0], SIZE)
    fitter = Fitter(nothing, shapes, [Piece(np.ones(blank.shape[:2], bool))])
    layers = [fitter.layers(view, things, k) for k in range(len(things))]
    depth = torch.cat([layer[1] for layer in layers])
    front = depth.argmin(0).numpy()
    there = (depth.amin(0) < math.inf).numpy()
    lab = to_lab(np.full(blank.shape, 0.9))
    parts = []
    for k, layer in enumerate(layers):
        mine = there & (front == k)
        parts.append(Piece(mine))
        colours = layer[2][0].nan_to_num(0.0).numpy()
        lab[mine] = np.where(np.abs(colours[mine]).sum(-1, keepdims=True) > 0, colours[mine],
                             shapes.lab[things[k].model, 0])  # fmt: skip
    return Picture(Path("drawn.png"), blank, lab, there * 1.0, SIZE), parts


def stood(shapes: Shapes, view: View, name: str, x: float, y: float, yaw: float) -> Stand:
    blank = np.zeros((SIZE[1], SIZE[0], 3))
    nothing = Picture(Path("drawn.png"), blank, to_lab(blank), blank[..., 0], SIZE)
    fitter = Fitter(nothing, shapes, [Piece(np.ones(blank.shape[:2], bool))])
    u, v = fitter.pixel(view, x, y, 0.0)
    return Stand(shapes.number[name], u, v, yaw)


def test_what_stands_out_from_a_shaded_ground_with_a_shadow(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:180, :240]
    ground = 0.55 + 0.3 * rows / 180 + 0.02 * np.sin(columns / 9)
    rgb = np.stack([ground, ground * 0.98, ground * 0.9], -1)
    rgb[110:140, 60:170] *= np.linspace(1, 0.7, 30)[:, None, None]  # a soft shadow
    thing = np.zeros((180, 240), bool)
    thing[60:120, 90:150] = True
    rgb[thing] = (0.7, 0.2, 0.15)
    path = tmp_path / "p.png"
    noise = np.random.default_rng(0).normal(0, 0.008, rgb.shape)
    Image.fromarray(((rgb + noise).clip(0, 1) * 255).astype(np.uint8)).save(path)
    found = read(path).mask
    wanted = np.asarray(Image.fromarray(thing).resize(found.shape[::-1]))
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9
    rgb[thing] = rgb[10, 10]
    Image.fromarray((np.broadcast_to(rgb[:1], rgb.shape) * 255).astype(np.uint8)).save(path)
    assert read(path).mask.sum() == 0


def test_pictures_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot read the picture"):
        read(tmp_path / "a.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="20 by 20"):
        read(tmp_path / "b.png")


angle = st.floats(0.02, 1.2)


@settings(max_examples=60, deadline=None)
@given(angle, st.floats(0.3, 6), st.floats(0.4, 1.3), st.floats(-1, 1), st.floats(1, 8))
def test_pixels_and_places_go_back_and_forth(
    pitch: float, height: float, fov: float, x: float, y: float
) -> None:
    """And our camera is the one that Blender gets."""
    blank = np.zeros((SIZE[1], SIZE[0], 3))
    picture = Picture(Path("x"), blank, blank, blank[..., 0], SIZE)
    fitter = Fitter(picture, Shapes((), np.zeros((0, 1, 3)), np.zeros((0, 1, 3))),
                    [Piece(blank[..., 0] == 0)])  # fmt: skip
    view = View(pitch, height, fov)
    u, v = fitter.pixel(view, x, y, 0.0)
    seen = project(camera_of(view), np.array([[x, y, 0.0]]), *SIZE)[0]
    if seen[2] < 0.1:  # behind the camera
        return
    assert (u, v) == pytest.approx(tuple(seen[:2]), rel=1e-5, abs=1e-4)
    if v > SIZE[1] / 2 - SIZE[0] / 2 / math.tan(fov / 2) * math.tan(pitch) + 4:  # not the horizon
        assert fitter.ground(view, u, v, 0.0) == pytest.approx((x, y), rel=0.05, abs=1e-3)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_thing_is_known_by_its_outline_and_its_side(shapes: Shapes, name: str) -> None:
    view = View(math.radians(22), 1.6, 0.75)
    picture, (piece,) = drawn(shapes, view, [stood(shapes, view, name, 0.3, 3.2, 0.6)])
    found = scores(piece, picture, shapes)
    best = guesses(piece, found, shapes, view, SIZE, 3)
    assert shapes.models[best[0].model].id == name
    if name == "chair":  # the others look alike from several sides
        assert math.remainder(best[0].yaw - 0.6, 2 * math.pi) == pytest.approx(0, abs=0.3)
    near = scores(piece, picture, shapes, 22.0)
    assert near.max() == pytest.approx(found[:, 1:4].max(), abs=0.05)


def test_camera_and_places_come_out_of_several_things(shapes: Shapes) -> None:
    view = View(math.radians(24), 1.7, 0.95)
    true = [("table", 0.0, 3.6, 0.2), ("chair", -1.2, 3.3, 2.2), ("cube", 1.1, 3.0, 0.5)]
    picture, parts = drawn(shapes, view, [stood(shapes, view, *each) for each in true])
    ranked = cameras(parts, [scores(p, picture, shapes) for p in parts], shapes, SIZE)
    assert math.degrees(ranked[0][1].pitch) == pytest.approx(24, abs=8)
    config = SearchConfig(cameras=1, guesses=3, chances=1, rounds=3, fov=0.95)
    fit, fitter = Search(picture, shapes, config).run()
    names = {shapes.models[t.model].id for t in fit.things}
    assert names == {"table", "chair", "cube"} and len(fit.things) == 3
    where = fitter.place(fit.view, fit.things)
    for name, x, y, _ in true:
        (n,) = (k for k, t in enumerate(fit.things) if shapes.models[t.model].id == name)
        assert where[n][:2] == pytest.approx((x, y), abs=0.45)
    assert fit.score > 0.75
    again, _ = Search(picture, shapes, config).run()
    assert again == fit  # the same seed, the same scene


def test_the_search_never_makes_a_fit_worse(shapes: Shapes) -> None:
    view = View(math.radians(24), 1.7, 0.75)
    stand = stood(shapes, view, "chair", 0.2, 3.0, 0.4)
    picture, parts = drawn(shapes, view, [stand])
    fitter = Fitter(picture, shapes, parts)
    off = Fit(view, (Stand(stand.model, stand.u + 9, stand.v - 5, 1.0),))
    start = fitter.improved(off, 0).score
    found = fitter.improved(off, 6)
    assert found.score > start + 0.1
    assert found.score <= fitter.improved(Fit(view, (stand,)), 0).score + 0.02


def test_a_piece_of_two_colours_comes_apart(shapes: Shapes) -> None:
    view = View(math.radians(20), 1.5, 0.75)
    stands = [stood(shapes, view, "cube", -0.2, 3.0, 0.0), stood(shapes, view, "post", 0.2, 3.1, 0)]
    picture, parts = drawn(shapes, view, stands)
    whole = Piece(parts[0].mask | parts[1].mask)

    def agree(found: list[Piece]) -> float:
        best = [max((p.mask & t.mask).sum() / (p.mask | t.mask).sum() for p in found)
                for t in parts]  # fmt: skip
        return float(min(best)) if len(found) == 2 else 0.0

    ways = parted(whole, picture)
    assert max(agree(way) for way in ways) > 0.85
    for way in ways:
        assert sum(p.area for p in way) == whole.area  # nothing is lost, nothing counted twice


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(device="cpu") as pool:
        yield pool


def indexed(folder: Path, names: list[str]) -> Index:
    models = []
    for name in names:
        boxes, (r, g, b) = KINDS[name]
        path = obj(folder / f"{name}.obj", boxes, f"Kd {r} {g} {b}")
        models.append(model(name, path))
    index = Index(folder / "index.db", hashed)
    index.add("test", models)
    return index


@needs_blender
def test_points_are_on_the_surface_with_its_colour(workers: Workers, tmp_path: Path) -> None:
    path = obj(tmp_path / "t.obj", KINDS["table"][0], "Kd 0.5 0.1 0.5")
    told = workers.do(Sample(model=path, path=tmp_path / "t.npz", count=2000))
    assert told.size == pytest.approx((1.2, 0.8, 0.75), abs=1e-4)
    with np.load(told.path) as kept:
        points = kept["points"].astype(float) * told.size
        assert np.abs(kept["colours"] / 255 - (0.5, 0.1, 0.5)).max() < 0.02
        assert np.abs(np.linalg.norm(kept["normals"] / 127.0, axis=1) - 1).max() < 0.02
    assert points.min(0) == pytest.approx((-0.6, -0.4, 0), abs=2e-3)
    assert points.max(0) == pytest.approx((0.6, 0.4, 0.75), abs=2e-3)
    top = (points[:, 2] > 0.745).mean()
    area = 1.2 * 0.8
    total = 2 * area + 2 * 0.04 * 2 + 4 * (4 * 0.05 * 0.71 + 2 * 0.05**2)
    assert top == pytest.approx(area / total, abs=0.03)


@pytest.fixture(scope="module")
def shot(
    workers: Workers, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Index, tuple[Path, Path], tuple[Thing, ...]]:
    """A chair and a cube in the studio, from two cameras, and the index of all models."""
    folder = tmp_path_factory.mktemp("shot")
    index = indexed(folder, list(KINDS))
    things = tuple(
        Thing(id=n, size=model(n).size or (1, 1, 1), location=at, yaw=yaw,
              model=folder / f"{n}.obj")
        for n, at, yaw in (("chair", (-0.8, 0.1, 0), 0.7), ("cube", (0.7, -0.2, 0), 0.4))
    )  # fmt: skip
    cameras = tuple(frame(extent(things), (x, 1.0, -0.5), 4 / 3, 0.75) for x in (0.2, -0.5))
    paths = (folder / "a.png", folder / "b.png")
    workers.do(Render(scene=Scene(things=things), cameras=cameras, paths=paths, width=240,
                      height=180, samples=8))  # fmt: skip
    return folder, index, paths, things


@needs_blender
def test_two_frames_of_a_scene(
    workers: Workers, shot: tuple[Path, Index, tuple[Path, Path], tuple[Thing, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder, index, paths, things = shot
    monkeypatch.setenv("UPSPIRAL_HOME", str(folder / "home"))
    assert len(library(index, workers).models) == 5
    config = SearchConfig(cameras=1, guesses=3, chances=1, rounds=3, fov=0.75)
    found = reconstruct(paths, index, workers, config=config)
    assert {m.id for m in found.dressed.models.values()} == {"chair", "cube"}
    assert found.silhouettes[0] > 0.75 and found.silhouettes[1] > 0.55
    by = {found.dressed.models[t.id].id: t for t in found.scene.things}
    apart = math.dist(by["chair"].location, by["cube"].location)
    assert apart == pytest.approx(math.dist(things[0].location, things[1].location), abs=0.4)
    with pytest.raises(UserError, match="no model has the category 'boats'"):
        reconstruct(paths[:1], index, workers, categories=["Boats"])
    with pytest.raises(UserError, match="no model is a zeppelin"):
        reconstruct(paths[:1], index, workers, names=["zeppelin"])
    Image.new("RGB", (120, 90), (200, 200, 200)).save(folder / "empty.png")
    with pytest.raises(UserError, match="nothing stands out"):
        reconstruct([folder / "empty.png"], index, workers)


@needs_blender
def test_the_command(
    shot: tuple[Path, Index, tuple[Path, Path], tuple[Thing, ...]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, index, paths, _ = shot
    monkeypatch.setenv("UPSPIRAL_HOME", str(folder / "home"))
    Index(text=hashed).add("test", index.all()[0])
    monkeypatch.setattr("common.sentences.encoder", lambda: hashed)
    words = ["scenes", "reconstruct", str(paths[0]), "--out", str(tmp_path / "room")]
    words += ["--width", "96", "--device", "cpu", "--fov", "43", "--text", "a chair and a cube"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {t["model"] for t in told["things"]} <= {"chair", "cube"}
    for name in ("scene.blend", "scene.glb", "scene.py", "graph.json", "report.html",
                 "compare-0.png"):  # fmt: skip
        assert (tmp_path / "room" / name).stat().st_size > 100, name
    assert "place(" in (tmp_path / "room/scene.py").read_text()


def test_pieces_that_somebody_cut_out(shapes: Shapes, tmp_path: Path) -> None:
    view = View(math.radians(22), 1.6, 0.95)
    picture, parts = drawn(shapes, view, [stood(shapes, view, "chair", -0.6, 3.0, 0.5),
                                          stood(shapes, view, "cube", 0.6, 3.2, 0.2)])  # fmt: skip
    colours = np.zeros((*picture.mask.shape, 3), np.uint8)
    for part, colour in zip(parts, ((255, 0, 0), (0, 9, 0)), strict=True):
        colours[part.mask] = colour
    Image.fromarray(colours).resize((320, 240), Image.Resampling.NEAREST).save(tmp_path / "m.png")
    found = cut_out(tmp_path / "m.png", picture)
    assert {p.area for p in found} == {p.area for p in parts}
    numbers = colours[..., 0].astype(np.uint16) // 255 + colours[..., 1] // 9 * 2
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / "n.png")  # as Look writes it
    assert {p.area for p in cut_out(tmp_path / "n.png", picture)} == {p.area for p in parts}
    for name, image, said in (
        ("none", Image.new("RGB", (320, 240)), "holds 0 things"),
        ("tall", Image.new("RGB", (100, 240)), "another shape"),
    ):
        image.save(tmp_path / f"{name}.png")
        with pytest.raises(UserError, match=said):
            cut_out(tmp_path / f"{name}.png", picture)


def test_only_what_is_allowed_is_found(shapes: Shapes) -> None:
    view = View(math.radians(24), 1.7, 0.95)
    picture, _ = drawn(shapes, view, [stood(shapes, view, "chair", 0.0, 3.0, 0.5)])
    allowed = np.array([m.id in ("post", "table") for m in shapes.models])
    config = SearchConfig(cameras=1, guesses=5, chances=2, rounds=1, fov=0.95)
    fit, _ = Search(picture, shapes, config, allowed=allowed).run()
    assert {shapes.models[t.model].id for t in fit.things} <= {"post", "table"}


def test_mistakes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["scenes", "reconstruct", "none.png"]
    for more, said in (
        (["--fov", "300"], "angle of view of 300"),
        (["--width", "9"], "pictures 9 pixels wide"),
        (["--text", "a chair", "--graph", "g.json"], "a --text and a --graph"),
    ):
        assert main([*start, *more]) == 2
        assert said in capsys.readouterr().err
