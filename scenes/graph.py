"""The scene graph: assets, relations over subsets of them, and sub-scenes; JSON in and out.

SceneCraft's bipartite graph G(s) = (A, R, E) (arXiv 2403.01248, section 3): a node of A is an
asset, a node of R a relation, and an edge says which assets a relation is about. Deviations: a
relation keeps its assets in order (``left-of`` has a subject and a host), carries options and a
weight, and an asset's wanted size may be known in part, since catalogues know sizes better than a
language model does.

Conventions of the whole package: metres, radians, z up, the floor at z = 0. A location is the
middle of an asset's underside. At yaw 0 an asset looks along -y, towards the usual camera; its
forward vector is (sin yaw, -cos yaw, 0), and it turns counterclockwise from above as yaw grows. A
size is (width along x, depth along y, height along z) at yaw 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from common.errors import UserError

MAX_ASSETS = 100
"""What a scene may hold in all; SceneCraft's sub-scenes hold 10 to 20 each."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Length = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Option = float | str | bool


class Strict(BaseModel):
    """Frozen, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Asset(Strict):
    """One thing in the scene. ``what`` are the words it is looked for by, as in "round table"."""

    id: Name
    what: Words
    width: Length | None = None
    """Wanted metres along x, y and z at yaw 0; None: whatever the model's own is."""
    depth: Length | None = None
    height: Length | None = None
    category: str | None = None
    """Only models of this category of the catalogue."""
    model: str | None = None
    """The model of the index, once one was chosen."""


class Relation(Strict):
    """A relation node: a registered ``kind`` over ``assets``, in the order that the kind wants."""

    kind: Name
    assets: tuple[Name, ...]
    options: dict[str, Option] = Field(default_factory=dict)
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0

    def __str__(self) -> str:
        options = "".join(f", {k}={v}" for k, v in sorted(self.options.items()))
        return f"{self.kind}({', '.join(self.assets)}{options})"


class SubScene(Strict):
    """A step of the decomposition: a part of the scene that is laid out together."""

    title: Words
    description: str = ""
    assets: tuple[Name, ...]


class Room(Strict):
    """Walls around the origin: the back wall at y = depth / 2, the camera's side left open."""

    width: Length
    depth: Length
    height: Length = 2.6


class SceneGraph(Strict):
    """What is wanted. An empty ``scenes`` means that all assets are one scene."""

    text: str = ""
    assets: tuple[Asset, ...]
    relations: tuple[Relation, ...] = ()
    scenes: tuple[SubScene, ...] = ()
    room: Room | None = None
    outdoors: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SceneGraph:
        ids = [asset.id for asset in self.assets]
        if len(ids) > MAX_ASSETS:
            raise ValueError(f"{len(ids)} assets are more than {MAX_ASSETS}")
        known = set(ids)
        if len(known) < len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise ValueError(f"two assets are called {', '.join(twice)}")
        for relation in self.relations:
            lost = [a for a in relation.assets if a not in known]
            if lost:
                raise ValueError(f"{relation} is about {lost[0]}, which is no asset")
            if not relation.assets:
                raise ValueError(f"{relation.kind} is about no asset")
            if len(set(relation.assets)) < len(relation.assets):
                raise ValueError(f"{relation} names an asset twice")
        for scene in self.scenes:
            lost = [a for a in scene.assets if a not in known]
            if lost:
                raise ValueError(f"sub-scene {scene.title!r} holds {lost[0]}, which is no asset")
        return self

    def __getitem__(self, asset: str) -> Asset:
        for found in self.assets:
            if found.id == asset:
                return found
        raise KeyError(asset)

    def about(self, asset: str) -> Iterator[Relation]:
        """The relations that an asset takes part in."""
        return (r for r in self.relations if asset in r.assets)

    def dump(self) -> str:
        """JSON for people to read; what has its default is left out of it."""
        data = self.model_dump(exclude_defaults=True, mode="json")
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def load(path: Path) -> SceneGraph:
    """The graph of a JSON file.

    Raises:
        UserError: no such file, no JSON, or no scene graph; the first thing wrong is named.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "name a scene graph in JSON") from error


def parse(text: str, name: str = "the graph") -> SceneGraph:
    """The graph that ``text`` holds as JSON.

    Raises:
        UserError: as :func:`load` does.
    """
    try:
        return SceneGraph.model_validate_json(text)
    except ValidationError as error:
        raise UserError(
            f"{name} is no scene graph: {problem(error)}", "see docs/scenes.md for its form"
        ) from error


def problem(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first: Any = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


class Placement(Strict):
    """Where one asset came to stand: see the conventions of this module. ``scale`` is uniform.

    ``size`` is the size at yaw 0 with ``scale`` in it.
    """

    location: tuple[float, float, float]
    yaw: float
    scale: float
    size: tuple[float, float, float]


class Surface(Strict):
    """A level place to stand on, in the asset's own frame: metres from its location, at yaw 0.

    ``clearance`` is the free height above, infinite under the sky, as JSON ``null``.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    z: float
    clearance: float | None = None

    def scaled(self, x: float, y: float, z: float) -> Surface:
        """The surface of an asset that is so many times as wide, deep and high."""
        return Surface(
            x=(self.x[0] * x, self.x[1] * x),
            y=(self.y[0] * y, self.y[1] * y),
            z=self.z * z,
            clearance=None if self.clearance is None else self.clearance * z,
        )


Layout = dict[str, Placement]
"""The placement of every asset of a graph, by id."""
