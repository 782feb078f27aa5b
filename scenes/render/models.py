"""Model files to meshes of one unit: one mesh a model, shared by every thing that shows it.

A mesh is kept as wide, deep and high as 1, its origin the middle of the underside, its front
towards -y; a thing's object scales it to the thing's size. OBJ and glTF say y up and front towards
+z, and Blender's importers turn that to z up and front towards -y, which is what is wanted. Sweet
Home 3D turns a model by its catalogue's matrix first, then stretches its box to the catalogue's
size; so do we. Runs in a worker only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from scenes.render.jobs import SUFFIXES, Matrix, Triple
from scenes.render.materials import mend
from scenes.render.meshes import bring_to_unit, drop_doubles, read_mesh

KEPT = 3_000_000
"""Vertices of models that are kept between scenes."""


@dataclass(frozen=True)
class Model:
    """A mesh of one unit; ``size`` is what the file had, turned by the catalogue's matrix."""

    mesh: bpy.types.Mesh
    size: Triple
    notes: tuple[str, ...]


class Models:
    """Meshes by file and rotation; the longest unused go when there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, int, Matrix | None], Model] = OrderedDict()

    def get(self, path: Path, rotation: Matrix | None) -> Model:
        """The model of ``path``.

        Raises:
            UserError: no such file, a kind that is not read, or nothing solid in it.
        """
        try:
            told = path.stat()
        except OSError as error:
            raise UserError(
                f"no model at {path}: {error.strerror}", "index the folder again"
            ) from None
        key = (str(path), told.st_mtime_ns, told.st_size, rotation)
        if key not in self._kept:
            self._kept[key] = load(path, rotation)
        self._kept.move_to_end(key)
        return self._kept[key]

    def trim(self) -> None:
        """Let go of what is over the bound; only between scenes, when nothing shows a model."""
        count = sum(len(model.mesh.vertices) for model in self._kept.values())
        while count > KEPT and len(self._kept) > 1:
            _, model = self._kept.popitem(last=False)
            count -= len(model.mesh.vertices)
            bpy.data.meshes.remove(model.mesh)
        bpy.data.orphans_purge(do_recursive=True)


def load(path: Path, rotation: Matrix | None) -> Model:
    """A file as one mesh of one unit, with its textures mended.

    Raises:
        UserError: it cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is of no kind that is read", f"use {', '.join(SUFFIXES)}")
    mesh = None
    try:
        mesh = read_mesh(path)
        mesh.use_fake_user = True
        drop_doubles(mesh)
        size = bring_to_unit(mesh, rotation and np.reshape(rotation, (3, 3)).tolist())
    except (
        RuntimeError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
    ) as error:
        if mesh is not None:
            bpy.data.meshes.remove(mesh)
        words = " ".join(str(error).removeprefix("Error: ").split())[:200]
        raise UserError(
            f"cannot read the model {path}: {words}", "leave it out, or export it anew"
        ) from error
    return Model(mesh, size, tuple(f"{path.name}: {note}" for note in mend(mesh, path)))


def triangles(mesh: bpy.types.Mesh) -> NDArray[np.int64]:
    """The vertices of each triangle, (n, 3)."""
    mesh.calc_loop_triangles()
    flat = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", flat)
    return flat.reshape(-1, 3).astype(np.int64)
