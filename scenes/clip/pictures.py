"""The pictures that the starter CLIP learns from: furniture on sheets and in small scenes.

Building a scene takes Blender longer than a small picture of it, so that many things share one: a
sheet shows twelve models, each brought to a metre and turned, and is cut up by the boxes of what
the camera sees; a world holds eight small scenes far apart, each with a camera of its own. Small
scenes are laid out by the solver from graphs that the rules' relations make, and only those whose
relations hold are kept. Models are split, not pictures: whatever shows a model of dev or test is
used for nothing else.

Everything lies in one folder: PNGs, and a JSON file a sheet or world, written last. What is there
is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from common.records import identity
from common.training import generator
from scenes.assets.model import Model
from scenes.assets.words import head
from scenes.clip.captions import arranged
from scenes.dress import scaled
from scenes.graph import Asset, Placement, Room, SceneGraph, Strict
from scenes.layout import SolverConfig, solve
from scenes.planners.arrange import relate, shaped
from scenes.planners.lexicon import SEATS, TABLES
from scenes.render.jobs import Camera, Look, Render, Rendered, Scene, Sight, Sights, Thing
from scenes.render.pool import Workers
from scenes.render.views import extent, frame

Split = Literal["train", "dev", "test"]
Box = tuple[float, float, float, float]
SHEET, COLUMNS = 12, 4
WORLD = 8
APART = 7.0
"""Radii of a small scene between the middles of two."""
FLAT = 0.12
"""Metres below which a thing is not put into small scenes: nothing is to be seen of it."""
KINDS = (
    *("left-of", "right-of", "row", "row") * 2,
    *("in-front-of", "behind", "on", "beside", "between", "around"),
)  # fmt: skip
"""What small scenes show, as often as it stands here."""
SOLVER = SolverConfig(starts=3, steps=30, moves=12)


class Picture(Strict):
    """A part of a PNG and what it shows. ``box`` is (left, top, right, bottom) as shares of it.

    ``kind`` is None of a single thing, else how ``models`` stand to one another, each ``counts``
    times; ``captions`` are all the ways to say it.
    """

    file: str
    split: Split
    models: tuple[str, ...]
    box: Box = (0, 0, 1, 1)
    kind: str | None = None
    counts: tuple[int, ...] = (1,)
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PicturesConfig:
    """How many pictures: ``passes`` over all models, and worlds of eight small scenes a split."""

    passes: int = 2
    train_worlds: int = 10
    dev_worlds: int = 3
    test_worlds: int = 12
    seed: int = 0


def split_of(model: Model) -> Split:
    """Which split a model belongs to, by its content: eight tenths learn, a tenth each the rest."""
    part = int(identity("clip split", model.digest), 16) % 10
    return "test" if part == 0 else "dev" if part == 1 else "train"


def make(
    models: Sequence[Model],
    folder: Path,
    workers: Workers,
    config: PicturesConfig = PicturesConfig(),
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Picture]:
    """All pictures of ``config``, those rendered that are not there yet.

    Raises:
        UserError, RenderError, OSError: as :meth:`scenes.render.pool.Workers.submit`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = list(_plan(models, config))
    # One is prepared while another is rendered.
    waiting: list[tuple[str, Callable[[], list[Picture]]]] = []
    for done, (name, start) in enumerate(plan):
        if not (folder / f"{name}.json").is_file():
            waiting.append((name, start(folder, workers)))
        if len(waiting) > 1 or (waiting and done + 1 == len(plan)):
            while waiting and (len(waiting) > 1 or done + 1 == len(plan)):
                ready, finish = waiting.pop(0)
                _write(folder / f"{ready}.json", finish())
        if progress is not None:
            progress(done + 1, len(plan), "sheets and worlds")
    found = []
    for name, _ in plan:
        rows = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        found += [Picture.model_validate(row) for row in rows]
    return found


Start = Callable[[Path, Workers], Callable[[], list[Picture]]]


def _plan(models: Sequence[Model], config: PicturesConfig) -> Iterator[tuple[str, Start]]:
    """Names of sheets and worlds, and what starts to render them; those of a pass side by side."""
    by_split: dict[Split, list[Model]] = {"train": [], "dev": [], "test": []}
    for model in models:
        by_split[split_of(model)].append(model)
    worlds: dict[Split, int] = {
        "train": config.train_worlds, "dev": config.dev_worlds, "test": config.test_worlds,
    }  # fmt: skip
    for turn in range(config.passes):
        for split, mine in by_split.items():
            order = generator(config.seed, "sheets", split, turn).permutation(len(mine))
            for start in range(0, len(mine), SHEET):
                shown = [mine[i] for i in order[start : start + SHEET]]
                name = f"sheet-{turn}-{split}-{start // SHEET}"
                yield name, _Sheet(name, split, shown, config.seed)
            share = range(
                worlds[split] * turn // config.passes, worlds[split] * (turn + 1) // config.passes
            )
            for n in share:
                name = f"world-{split}-{n}"
                yield name, _World(name, split, mine, config.seed)


def _write(path: Path, rows: Sequence[Picture]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps([r.model_dump(mode="json") for r in rows]), encoding="utf-8")
    part.replace(path)


@dataclass(frozen=True)
class _Sheet:
    """Twelve models in three rows of four, each a metre at its longest, turned at random."""

    name: str
    split: Split
    models: Sequence[Model]
    seed: int

    def __call__(self, folder: Path, workers: Workers) -> Callable[[], list[Picture]]:
        random = generator(self.seed, self.name)
        things = []
        for n, model in enumerate(self.models):
            assert model.size is not None
            unit = 1 / max(model.size)
            row, column = divmod(n, COLUMNS)
            place = (1.7 * column + random.uniform(-0.1, 0.1), 2.6 * row, 0.0)
            things.append(_thing(model, f"t{n}", place, random.normal(0, 0.7), unit))
        scene = _scene(random, things)
        lean = random.uniform(0.42, 0.9)
        camera = frame(extent(things), (random.uniform(-0.3, 0.3), 1.0, -lean), 4 / 3, 0.5)
        picture = folder / f"{self.name}.png"
        shot: Future[Rendered] = workers.submit(
            Render(
                scene=scene, cameras=(camera,), paths=(picture,), width=512, height=384, samples=4
            )
        )
        look = workers.submit(Look(scene=scene, camera=camera, width=256, height=192))

        def finish() -> list[Picture]:
            shot.result()
            return [
                Picture(file=picture.name, split=self.split, models=(model.id,), box=sight.box)
                for model, sight in zip(self.models, look.result().sights, strict=True)
                if sight.box is not None and sight.hidden < 0.25
            ]

        return finish


@dataclass(frozen=True)
class _World:
    """Eight small scenes in a row, a camera before each."""

    name: str
    split: Split
    models: Sequence[Model]
    seed: int

    def __call__(self, folder: Path, workers: Workers) -> Callable[[], list[Picture]]:
        random = generator(self.seed, self.name)
        small: list[_Small] = []
        while len(small) < WORLD:
            if (found := _small(random, self.models)) is not None:
                small.append(found)
        things: list[Thing] = []
        cameras: list[Camera] = []
        for n, each in enumerate(small):
            mine = each.things(n, APART * n)
            things += mine
            side = (random.uniform(-0.45, 0.45), 1.0, -random.uniform(0.35, 0.65))
            cameras.append(frame(extent(mine), side, 4 / 3))
        scene = _scene(random, things)
        paths = tuple(folder / f"{self.name}-{n}.png" for n in range(len(cameras)))
        shots = workers.submit(
            Render(
                scene=scene, cameras=tuple(cameras), paths=paths, width=176, height=132, samples=4
            )
        )
        looks: list[Future[Sights]] = [
            workers.submit(Look(scene=scene, camera=camera)) for camera in cameras
        ]

        def finish() -> list[Picture]:
            shots.result()
            rows = []
            for n, (each, path, look) in enumerate(zip(small, paths, looks, strict=True)):
                rows += each.pictures(path.name, self.split, n, look.result().sights)
            return rows

        return finish


@dataclass(frozen=True)
class _Small:
    """A small scene: what stands how to what, and where."""

    kind: str
    models: tuple[Model, ...]
    counts: tuple[int, ...]
    graph: SceneGraph
    by_asset: dict[str, Model]
    layout: dict[str, Placement]

    def things(self, number: int, x: float) -> list[Thing]:
        """Its things around (``x``, 0), brought to a radius of one metre."""
        placed = {name: _of(self.by_asset[name], name, p) for name, p in self.layout.items()}
        points = extent(placed.values())
        low, high = points.min(0), points.max(0)
        unit = 2 / float(np.linalg.norm(high - low))
        middle = (low + high) / 2
        return [
            t.model_copy(
                update={
                    "id": f"s{number}-{name}",
                    "location": (
                        (t.location[0] - middle[0]) * unit + x,
                        (t.location[1] - middle[1]) * unit,
                        t.location[2] * unit,
                    ),
                    "size": tuple(s * unit for s in t.size),
                }
            )
            for name, t in placed.items()
        ]

    def pictures(
        self, file: str, split: Split, number: int, sights: Sequence[Sight]
    ) -> list[Picture]:
        """The picture as a whole, if all of it is to be seen, and each thing in it."""
        mine = {s.id: s for s in sights if s.id.startswith(f"s{number}-")}
        rows = []
        if all(s.visible and s.hidden < 0.7 for s in mine.values()):
            rows.append(
                Picture(
                    file=file,
                    split=split,
                    models=tuple(m.id for m in self.models),
                    kind=self.kind,
                    counts=self.counts,
                    captions=tuple(arranged(self.kind, self.models, self.counts)),
                )
            )
        shown: set[str] = set()
        for name, model in self.by_asset.items():
            sight = mine[f"s{number}-{name}"]
            if model.id in shown or sight.box is None or sight.hidden > 0.3 or sight.visible < 80:
                continue
            shown.add(model.id)
            rows.append(Picture(file=file, split=split, models=(model.id,), box=sight.box))
        return rows


def _small(random: np.random.Generator, models: Sequence[Model]) -> _Small | None:
    """A small scene at random; None if there is none for what was drawn, or it does not hold."""
    usable = [
        m
        for m in models
        if not m.fixed and m.size is not None and min(m.size[2], max(m.size[:2])) > FLAT
    ]
    kind = str(random.choice(KINDS))
    counts: tuple[int, ...] = (1, 1)
    chosen: tuple[Model, ...]
    if kind == "row":
        chosen, counts = (_any(random, usable),), (int(random.integers(1, 6)),)
    elif kind == "around":
        tables = [m for m in usable if head(m.name)[-1] == "table"]
        seats = [m for m in usable if head(m.name)[-1] in SEATS]
        if not tables or not seats:
            return None
        chosen, counts = (
            (_any(random, seats), _any(random, tables)),
            (int(random.integers(2, 6)), 1),
        )
    else:
        host = _any(random, usable)
        if kind == "on":
            hosts = [m for m in usable if m.rest is not None or head(m.name)[-1] in TABLES]
            if not hosts:
                return None
            host = _any(random, hosts)
        guests = [m for m in usable if m.name != host.name and _fits(m, host, kind)]
        if len(guests) < 2:
            return None
        chosen = (_any(random, guests), host)
        if kind == "between":
            third = [m for m in guests if m.name != chosen[0].name]
            if not third:
                return None
            chosen, counts = (*chosen, _any(random, third)), (1, 1, 1)
    return _laid_out(random, kind, chosen, counts)


def _laid_out(
    random: np.random.Generator, kind: str, chosen: tuple[Model, ...], counts: tuple[int, ...]
) -> _Small | None:
    by_asset = {
        f"{letter}{n}": model
        for letter, model, count in zip("abc", chosen, counts, strict=False)
        for n in range(count)
    }
    groups = [[i for i in by_asset if i[0] == letter] for letter in "abc"]
    heads = (head(chosen[0].name)[-1], head(chosen[-1].name)[-1])
    if kind == "row":
        relations = shaped("row", groups[0])
    else:
        relations = relate(kind, groups[0], [*groups[1], *groups[2]], heads)
    graph = SceneGraph(
        assets=tuple(Asset(id=i, what=m.name) for i, m in by_asset.items()),
        relations=tuple(relations),
    )
    sizes = {i: m.size for i, m in by_asset.items() if m.size is not None}
    surfaces = {i: scaled(m, sizes[i]) for i, m in by_asset.items()}
    found = solve(graph, sizes, surfaces, seed=int(random.integers(2**31)), config=SOLVER)
    if found.collisions or found.scores.failing:
        return None
    return _Small(kind, chosen, counts, graph, by_asset, found.layout)


def _fits(guest: Model, host: Model, kind: str) -> bool:
    """Whether both are of like size; on the host, whether there is room for the guest."""
    assert guest.size is not None and host.size is not None
    if kind == "on":
        return max(guest.size[:2]) < 0.6 * min(host.size[:2]) and max(guest.size) > 0.15 * max(
            host.size
        )
    return 0.45 < max(guest.size) / max(host.size) < 2.2


def _any(random: np.random.Generator, models: Sequence[Model]) -> Model:
    return models[int(random.integers(len(models)))]


def _of(model: Model, name: str, p: Placement) -> Thing:
    return _thing(model, name, p.location, p.yaw, 1.0).model_copy(update={"size": p.size})


def _thing(
    model: Model, name: str, location: tuple[float, float, float], yaw: float, unit: float
) -> Thing:
    assert model.size is not None
    width, depth, height = (s * unit for s in model.size)
    return Thing.model_validate(
        {"id": name, "model": model.file, "rotation": model.rotation, "location": location,
         "yaw": yaw, "size": (width, depth, height)}
    )  # fmt: skip


def _scene(random: np.random.Generator, things: Sequence[Thing]) -> Scene:
    """Things in a studio, a room or outdoors."""
    part = random.random()
    shown = tuple(things)
    if part < 0.75:
        return Scene(things=shown, outdoors=part >= 0.6)
    width, depth, _ = 2 * np.abs(extent(things)).max(0) + random.uniform(0.5, 2, 3)
    return Scene(things=shown, room=Room(width=width, depth=depth, height=random.uniform(2.4, 4)))
