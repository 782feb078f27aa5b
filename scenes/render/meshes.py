"""Model files to meshes: read, join, mend. Functions of plain values, without anything of ours.

:mod:`scenes.coder` writes those that a scene needs into the scene's script, so that the script
gives what the worker gives. Runs in a worker only.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from scenes.render.materials import mend


def import_model(path: Path, rotation: list[list[float]] | None = None) -> bpy.types.Mesh:
    """A model file as one mesh that is 1 wide, deep and high and stands on its origin."""
    mesh = read_mesh(path)
    drop_doubles(mesh)
    bring_to_unit(mesh, rotation)
    mend(mesh, path)
    return mesh


def read_mesh(path: Path) -> bpy.types.Mesh:
    """All surfaces of a file as one mesh, in the file's own units. Nothing in the file is run."""
    before = set(bpy.data.objects)
    try:
        read_file(path)
        mesh = joined([thing for thing in bpy.data.objects if thing not in before])
    finally:
        for thing in [thing for thing in bpy.data.objects if thing not in before]:
            bpy.data.objects.remove(thing)
    mesh.name = path.stem
    return mesh


def bring_to_unit(
    mesh: bpy.types.Mesh, rotation: list[list[float]] | None = None
) -> tuple[float, float, float]:
    """Scale a mesh to 1 by 1 by 1, its origin the middle of its underside; says what it had.

    ``rotation`` is what a catalogue turns the model by first, in the file's frame with y up.
    """
    if rotation is not None:
        to_ours = Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0)))
        mesh.transform((to_ours @ Matrix(rotation) @ to_ours.transposed()).to_4x4())
    points = positions(mesh)
    if not np.isfinite(points).all():
        raise ValueError("it has points that are no numbers")
    low, high = points.min(0), points.max(0)
    # A flat model keeps a thickness of nothing, whatever it is scaled by.
    size = np.maximum(high - low, 1e-9)
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    mesh.transform(
        Matrix.Diagonal((*(1 / size).tolist(), 1)) @ Matrix.Translation((-middle).tolist())
    )
    return tuple((high - low).tolist())


def positions(mesh: bpy.types.Mesh) -> NDArray[np.float64]:
    """The vertices, (n, 3)."""
    flat = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def read_file(path: Path) -> None:
    """What is in the file, into the current scene. Nothing in it is run."""
    name, kind = str(path), path.suffix.lower()
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
        raise ValueError(f"no reader for {kind or 'a file without a suffix'}")


def joined(found: list[bpy.types.Object]) -> bpy.types.Mesh:
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
    if not parts:
        raise ValueError("it has no faces")
    if len(parts) == 1:
        return parts[0]
    objects = [bpy.data.objects.new("part", mesh) for mesh in parts]
    for part in objects:
        bpy.context.scene.collection.objects.link(part)
    with bpy.context.temp_override(
        active_object=objects[0], object=objects[0], selected_editable_objects=objects
    ):
        bpy.ops.object.join()
    return objects[0].data


def drop_doubles(mesh: bpy.types.Mesh) -> None:
    """Keep one of faces that lie upon each other, which come out black.

    Makers double faces for viewers that show only their fronts. Two faces count as the same when
    their middle, area and, but for its sign, normal are.
    """
    import bmesh  # there once bpy is

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
