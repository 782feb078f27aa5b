"""Points all over a model's surface, with normals and colours. Runs in a worker only."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from scenes.render.jobs import Triple
from scenes.render.meshes import positions
from scenes.render.models import triangles

Floats = NDArray[np.float64]


def write(mesh: bpy.types.Mesh, size: Triple, count: int, path: Path) -> None:
    """``count`` points of ``mesh`` as .npz, even by area once the mesh is ``size`` metres."""
    corners, faces = positions(mesh), triangles(mesh)
    real = corners * np.maximum(size, 1e-6)
    a, b, c = (real[faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    area = np.linalg.norm(across, axis=1)
    if area.sum() <= 0:
        area = np.ones(len(faces))
    rng = np.random.default_rng(0)
    # One draw an equal share of the area: no patch is left out by chance.
    at = (np.arange(count) + rng.random(count)) / count * area.sum()
    chosen = np.minimum(np.searchsorted(area.cumsum(), at), len(faces) - 1)
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))
    weights = np.stack([1 - u - v, u, v], 1)
    points = (corners[faces[chosen]] * weights[..., None]).sum(1)
    normals = across[chosen] / np.maximum(np.linalg.norm(across[chosen], axis=1), 1e-12)[:, None]
    colours = _colours(mesh, chosen, weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    try:
        with part.open("wb") as file:
            np.savez(
                file,
                points=points.astype(np.float16),
                normals=(normals * 127).astype(np.int8),
                colours=(colours * 255).astype(np.uint8),
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _colours(mesh: bpy.types.Mesh, chosen: NDArray[np.int64], weights: Floats) -> Floats:
    """What a screen shows at each point: the texture's pixel, or the material's colour."""
    count = len(mesh.loop_triangles)
    material, loops = np.empty(count, np.int32), np.empty(count * 3, np.int32)
    mesh.loop_triangles.foreach_get("material_index", material)
    mesh.loop_triangles.foreach_get("loops", loops)
    where = None
    if mesh.uv_layers.active is not None:
        flat = np.empty(len(mesh.loops) * 2, np.float32)
        mesh.uv_layers.active.uv.foreach_get("vector", flat)
        uv = flat.reshape(-1, 2)[loops.reshape(-1, 3)[chosen]]
        where = (uv * weights[..., None]).sum(1)
    found = np.full((len(chosen), 3), 0.8)
    for index, slot in enumerate(mesh.materials):
        mine = material[chosen] == index
        if slot is None or not mine.any():
            continue
        image, plain = _look(slot)
        found[mine] = plain
        if image is not None and where is not None:
            width, height = image.size
            pixels = np.empty(width * height * image.channels, np.float32)
            image.pixels.foreach_get(pixels)
            grid = pixels.reshape(height, width, image.channels)
            column, row = (where[mine] % 1.0 * (width, height)).astype(int).T
            seen = grid[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
            found[mine] = np.repeat(seen[:, :1], 3, 1) if image.channels < 3 else seen[:, :3]
    return np.clip(found, 0, 1)


def _look(material: bpy.types.Material) -> tuple[bpy.types.Image | None, Floats]:
    """The picture that a material's colour comes from, if any, and its plain colour."""
    if material.node_tree is None:
        return None, np.array(material.diffuse_color[:3])
    for node in material.node_tree.nodes:
        if node.type == "BSDF_PRINCIPLED":
            base = node.inputs["Base Color"]
            image = None
            if base.is_linked and base.links[0].from_node.type == "TEX_IMAGE":
                image = base.links[0].from_node.image
            linear = np.array(base.default_value[:3])
            shown = np.where(
                linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
            )
            return image, shown
    return None, np.array(material.diffuse_color[:3])
