"""What a .blend of unknown origin holds that should not be rendered as it is.

Opening a file with its scripts off runs none of them, but a render may still write where a node or
a simulation's cache says, and read files that paths name. Functions of plain values, without
anything of ours: :mod:`scenes.raw` runs them inside the sandbox first. Runs in a worker only.
"""

from __future__ import annotations

from collections.abc import Iterator

import bpy


def problems() -> list[str]:
    """Scripts, drivers, outside files, and what reads or writes files, in the open .blend."""
    # They simulate with caches on disk, or read such files.
    on_disk = {"DYNAMIC_PAINT", "FLUID", "MESH_CACHE", "MESH_SEQUENCE_CACHE", "OCEAN"}
    found = [f"the text block {text.name!r}" for text in bpy.data.texts]
    found += [f"the library {library.filepath!r}" for library in bpy.data.libraries]
    outside = bpy.utils.blend_paths(absolute=False, packed=False, local=False)
    found += [f"the outside file {path!r}" for path in sorted(set(outside))]
    for block in blocks():
        animation = getattr(block, "animation_data", None)
        if animation is not None and animation.drivers:
            found.append(f"a driver of {block.name!r}")
        for node in getattr(block, "nodes", ()):
            kind = node.bl_idname
            if kind in ("ShaderNodeScript", "CompositorNodeOutputFile") or "Import" in kind:
                found.append(f"the node {kind} in {block.name!r}")
    for thing in bpy.data.objects:
        for modifier in thing.modifiers:
            if modifier.type in on_disk:
                found.append(f"the modifier {modifier.type} of {thing.name!r}")
        for system in thing.particle_systems:
            if system.point_cache.use_disk_cache or system.point_cache.use_external:
                found.append(f"particles of {thing.name!r} with a cache on disk")
    for scene in bpy.data.scenes:
        editor = scene.sequence_editor
        if editor is not None and editor.strips:
            found.append(f"film strips in {scene.name!r}")
        world = scene.rigidbody_world
        if world is not None and (
            world.point_cache.use_disk_cache or world.point_cache.use_external
        ):
            found.append(f"physics of {scene.name!r} with a cache on disk")
    return found


def blocks() -> Iterator[bpy.types.ID]:
    """Every data block, and the node trees and shape keys that others own."""
    for kind in bpy.data.bl_rna.properties:
        if kind.type != "COLLECTION":
            continue
        for block in getattr(bpy.data, kind.identifier):
            yield block
            for owned in ("node_tree", "shape_keys"):
                inner = getattr(block, owned, None)
                if inner is not None:
                    yield inner
