"""What a Blender worker can be asked to do: frozen data, JSON over the pipe, and its results.

Every job carries the whole scene it is about, so that a worker that crashed can be replaced and the
job simply done again. A worker that has just built the same scene keeps it, and it keeps the meshes
of the models it met. Conventions are those of :mod:`scenes.graph`: metres, radians, z up, yaw 0
looks along -y.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from scenes.graph import Name, Room, Strict, Surface

Triple = tuple[float, float, float]
Matrix = tuple[float, float, float, float, float, float, float, float, float]
Pixels = Annotated[int, Field(ge=16, le=8192)]

SUFFIXES = (".obj", ".glb", ".gltf", ".fbx", ".blend", ".stl", ".ply")
"""The model files that can be read."""


class Camera(Strict):
    """A pinhole camera that looks from ``location`` at ``target``, with z as up.

    ``fov`` is the angle of view across the width of the picture, in radians.
    """

    location: Triple
    target: Triple
    fov: float = 0.7


class Thing(Strict):
    """One object of a scene: a model brought to ``size``, standing at ``location``, turned by yaw.

    ``size`` is (width, depth, height) at yaw 0. ``rotation`` is what a catalogue turns the model
    by first: a 3 by 3 matrix, row by row, in the y-up frame of the file (Sweet Home 3D's
    ``modelRotation``). Without a model the thing is a plain block of ``colour`` (linear RGB).
    """

    id: Name
    size: Triple
    location: Triple = (0, 0, 0)
    yaw: float = 0
    model: Path | None = None
    rotation: Matrix | None = None
    colour: Triple = (0.55, 0.55, 0.58)


class Scene(Strict):
    """Things in a room, outdoors, or on a plain studio floor. ``notes`` are kept in the file."""

    things: tuple[Thing, ...]
    room: Room | None = None
    outdoors: bool = False
    notes: str = ""


R = TypeVar("R", bound=BaseModel)


class Job(Strict, Generic[R]):
    """A piece of work; ``returns`` is the type of its result."""

    returns: ClassVar[type[BaseModel]]


class Rendered(Strict):
    """``notes`` name what was amiss with models and how it was mended; ``seconds`` a view."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]
    seconds: tuple[float, ...]


class Render(Job[Rendered]):
    """A PNG of ``scene`` from each camera, at the path of the same place."""

    returns: ClassVar[type[BaseModel]] = Rendered
    scene: Scene
    cameras: tuple[Camera, ...]
    paths: tuple[Path, ...]
    width: Pixels = 960
    height: Pixels = 720
    samples: Annotated[int, Field(ge=1, le=4096)] = 24


class Sight(Strict):
    """What a camera sees of one thing, in pixels of the picture.

    ``visible`` belong to the thing itself, ``alone`` would if nothing stood before it, and
    ``whole`` would if the picture went on beyond its edges. ``box`` is (left, top, right, bottom)
    of the visible pixels as shares of the picture, or None where nothing is visible.
    """

    id: str
    visible: int
    alone: int
    whole: int
    box: tuple[float, float, float, float] | None = None

    @property
    def hidden(self) -> float:
        """The share in the picture that other things hide; 0 for a thing out of the picture."""
        return 1 - self.visible / self.alone if self.alone else 0.0

    @property
    def outside(self) -> float:
        """The share beyond the picture's edges, 1 for a thing that is not in it at all."""
        return 1 - self.alone / self.whole if self.whole else 1.0


class Sights(Strict):
    """One :class:`Sight` a thing, in the scene's order."""

    sights: tuple[Sight, ...]


class Look(Job[Sights]):
    """How much of each thing a camera sees, by rays through the pixels' centres.

    ``mask``, if given, is where a 16-bit grey PNG goes: 0 is nothing, i + 1 the i-th thing.
    """

    returns: ClassVar[type[BaseModel]] = Sights
    scene: Scene
    camera: Camera
    width: Pixels = 160
    height: Pixels = 120
    mask: Path | None = None


class Exported(Strict):
    """The files that were written."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


class Export(Job[Exported]):
    """The scene as .blend (textures packed, camera and lights in it) and as .glb (things only)."""

    returns: ClassVar[type[BaseModel]] = Exported
    scene: Scene
    camera: Camera
    blend: Path | None = None
    glb: Path | None = None


class Measured(Strict):
    """``size`` in the file's own units, or as asked; ``surfaces`` are scaled to it.

    ``filled`` is the share of the box's plan that lies under something: 1 for a crate, less for a
    chair or a round table.
    """

    size: Triple
    surfaces: tuple[Surface, ...]
    faces: int
    filled: float
    notes: tuple[str, ...]


class Measure(Job[Measured]):
    """The bounds of a model, and the level surfaces that things can stand on."""

    returns: ClassVar[type[BaseModel]] = Measured
    model: Path
    rotation: Matrix | None = None
    size: Triple | None = None
    """Metres that the model is brought to; None: one unit of the file is a metre."""


class Sampled(Strict):
    """Where :class:`Sample` put the points, and the model's size in the file's own units."""

    path: Path
    size: Triple


class Sample(Job[Sampled]):
    """Points all over a model's surface, even by area, for what compares shapes without Blender.

    ``path`` is where an .npz goes: ``points`` (n, 3) in the box of one unit that stands on the
    origin, ``normals`` (n, 3) there, and ``colours`` (n, 3), what a screen shows of material and
    texture in white light, from 0 to 1. ``size`` is what the model will be brought to, by which
    areas count.
    """

    returns: ClassVar[type[BaseModel]] = Sampled
    model: Path
    path: Path
    rotation: Matrix | None = None
    size: Triple | None = None
    count: Annotated[int, Field(ge=16, le=1_000_000)] = 4096


class Opened(Strict):
    """A saved scene: its things by name, the box around the assets, and its own camera.

    The place of a thing, from 1, is its index in the segmentation. ``aspect`` is the width over the
    height of the picture that ``camera`` was made for.
    """

    things: tuple[str, ...]
    low: Triple
    high: Triple
    camera: Camera | None
    aspect: float


class Open(Job[Opened]):
    """What is in a .blend. Scripts in it are not run."""

    returns: ClassVar[type[BaseModel]] = Opened
    blend: Path


class Scanned(Strict):
    """What a file holds that should not be rendered as it is, in words; empty if nothing."""

    problems: tuple[str, ...]


class Scan(Job[Scanned]):
    """Look through the data blocks of a .blend that nobody trusts. Scripts in it are not run."""

    returns: ClassVar[type[BaseModel]] = Scanned
    blend: Path


class Framed(Strict):
    """The frames that were rendered now, in ``seconds``."""

    frames: tuple[int, ...]
    seconds: float


class Frames(Job[Framed]):
    """Passes of frames of a saved scene along a camera path: ``folder/depth/00012.exr``.

    ``cameras`` is the whole path, ``frames`` which of its places this job renders. ``depth``
    (channel Z, metres), ``normal`` (X, Y, Z in the camera's frame: right, up, towards it) and
    ``segmentation`` (ID, the place in :class:`Opened`) come as OpenEXR, ``rgb`` as a lit PNG. A
    file that is there already stays as it is.
    """

    returns: ClassVar[type[BaseModel]] = Framed
    blend: Path
    cameras: tuple[Camera, ...]
    frames: tuple[int, ...]
    folder: Path
    passes: tuple[Literal["depth", "normal", "segmentation", "rgb"], ...]
    width: Pixels
    height: Pixels
    samples: Annotated[int, Field(ge=1, le=4096)] = 32


JOBS: dict[str, type[Job[BaseModel]]] = {
    kind.__name__: kind  # type: ignore[misc]
    for kind in (Render, Look, Export, Measure, Sample, Open, Scan, Frames)
}
"""The jobs by the name that goes over the pipe."""
