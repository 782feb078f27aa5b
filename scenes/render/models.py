"""Model files to meshes of one unit: one mesh a model, shared by every thing that shows it.

A mesh is kept as wide, deep and high as 1, its origin the middle of the underside, its front
towards -y; a thing's object scales it to the thing's size. OBJ and glTF say y up and front towards
+z, and Blender's importers turn that to z up and front towards -y, which is what is wanted. Sweet
Home 3D turns a model by its catalogue's matrix first, then stretches its box to the catalogue's
size; so do we. Runs in a worker only.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix as BlenderMatrix
from numpy.typing import NDArray

from common.errors import UserError
from scenes.render.jobs import SUFFIXES, Matrix, Triple
from scenes.render.materials import mend

KEPT = 3_000_000
"""Vertices of models that are kept between scenes."""
_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From a file's y-up frame to Blender's."""


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
    """A file as one mesh of one unit, with its textures mended."""
    before = set(bpy.data.objects)
    try:
        _read(path)
        found = [thing for thing in bpy.data.objects if thing not in before]
        mesh = _joined(found)
    except (
        RuntimeError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
    ) as error:
        words = " ".join(str(error).removeprefix("Error: ").split())[:200]
        raise UserError(
            f"cannot read the model {path}: {words}", "leave it out, or export it anew"
        ) from error
    finally:
        for thing in [thing for thing in bpy.data.objects if thing not in before]:
            bpy.data.objects.remove(thing)
    if mesh is None:
        raise UserError(f"the model {path} has no faces", "leave it out, or export it anew")
    mesh.name = path.stem
    mesh.use_fake_user = True
    _single(mesh)
    if rotation is not None:
        turn = _Y_UP @ np.reshape(rotation, (3, 3)) @ _Y_UP.T
        mesh.transform(BlenderMatrix(turn.tolist()).to_4x4())
    points = positions(mesh)
    if not np.isfinite(points).all():
        bpy.data.meshes.remove(mesh)
        raise UserError(f"the model {path} has points that are no numbers", "export it anew")
    low, high = points.min(0), points.max(0)
    # A flat model keeps a thickness of nothing, whatever it is scaled by.
    size = np.maximum(high - low, 1e-9)
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    mesh.transform(
        BlenderMatrix.Diagonal((*(1 / size).tolist(), 1))
        @ BlenderMatrix.Translation((-middle).tolist())
    )
    notes = [f"{path.name}: {note}" for note in mend(mesh, path)]
    extent = high - low
    return Model(mesh, (float(extent[0]), float(extent[1]), float(extent[2])), tuple(notes))


def positions(mesh: bpy.types.Mesh) -> NDArray[np.float64]:
    """The vertices, (n, 3)."""
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def triangles(mesh: bpy.types.Mesh) -> NDArray[np.int64]:
    """The vertices of each triangle, (n, 3)."""
    mesh.calc_loop_triangles()
    flat = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", flat)
    return flat.reshape(-1, 3).astype(np.int64)


def _read(path: Path) -> None:
    """What is in the file, into the current scene. Nothing in it is run."""
    name, kind = os.fspath(path), path.suffix.lower()
    if kind == ".obj":
        bpy.ops.wm.obj_import(
            filepath=name, forward_axis="NEGATIVE_Z", up_axis="Y", use_split_objects=False
        )
    elif kind in (".glb", ".gltf"):
        bpy.ops.import_scene.gltf(filepath=name)
    elif kind == ".fbx":
        bpy.ops.wm.fbx_import(filepath=name)
    elif kind == ".stl":
        bpy.ops.wm.stl_import(filepath=name)
    elif kind == ".ply":
        bpy.ops.wm.ply_import(filepath=name)
    elif kind == ".blend":
        with bpy.data.libraries.load(name, link=False) as (there, here):
            here.objects = list(there.objects)
        for thing in here.objects:
            if thing is not None:
                bpy.context.scene.collection.objects.link(thing)
    else:
        raise UserError(f"{path} is of no kind that is read", f"use {', '.join(SUFFIXES)}")


def _joined(found: list[bpy.types.Object]) -> bpy.types.Mesh | None:
    """All surfaces as one mesh in world coordinates, modifiers applied."""
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    parts = []
    for thing in found:
        if thing.type not in ("MESH", "CURVE", "SURFACE", "FONT", "META") or thing.hide_render:
            continue
        mesh = bpy.data.meshes.new_from_object(thing.evaluated_get(graph), depsgraph=graph)
        if not len(mesh.polygons):
            bpy.data.meshes.remove(mesh)
            continue
        mesh.transform(thing.matrix_world)
        if thing.matrix_world.determinant() < 0:
            mesh.flip_normals()
        parts.append(mesh)
    if len(parts) < 2:
        return parts[0] if parts else None
    objects = [bpy.data.objects.new("part", mesh) for mesh in parts]
    for part in objects:
        bpy.context.scene.collection.objects.link(part)
    with bpy.context.temp_override(
        active_object=objects[0], object=objects[0], selected_editable_objects=objects
    ):
        bpy.ops.object.join()
    return objects[0].data


def _single(mesh: bpy.types.Mesh) -> None:
    """Keep one of faces that lie upon each other, which come out black.

    Makers double faces for viewers that show only their fronts. Two faces count as the same when
    their middle, area and, but for its sign, normal are.
    """
    import bmesh

    count = len(mesh.polygons)
    middle, normal = np.empty(count * 3, np.float32), np.empty(count * 3, np.float32)
    area = np.empty(count, np.float32)
    mesh.polygons.foreach_get("center", middle)
    mesh.polygons.foreach_get("normal", normal)
    mesh.polygons.foreach_get("area", area)
    points = positions(mesh)
    span = max(float(np.ptp(points, axis=0).max()), 1e-9)
    normal = normal.reshape(-1, 3)
    main = np.take_along_axis(normal, np.abs(normal).argmax(1)[:, None], 1)
    alike = np.concatenate(
        [
            middle.reshape(-1, 3) / span * 2e4,
            np.sqrt(area)[:, None] / span * 2e4,
            normal * np.where(main < 0, -1, 1) * 50,
        ],
        axis=1,
    )
    # One number a row: sorting rows takes five times as long.
    odd = np.random.default_rng(0).integers(1, 2**62, alike.shape[1]) | 1
    _, first = np.unique((np.rint(alike).astype(np.int64) * odd).sum(1), return_index=True)
    if len(first) == count:
        return
    keep = np.zeros(count, bool)
    keep[first] = True
    work = bmesh.new()
    work.from_mesh(mesh)
    work.faces.ensure_lookup_table()
    bmesh.ops.delete(work, geom=[work.faces[i] for i in np.flatnonzero(~keep)], context="FACES")
    work.to_mesh(mesh)
    work.free()
