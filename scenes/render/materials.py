"""Materials: what model files say, mended, and the plain ones of floors, walls and blocks.

Functions of plain values: :mod:`scenes.coder` writes them into scripts. Runs in a worker only.
"""

from __future__ import annotations

from pathlib import Path

import bpy


def mend(mesh: bpy.types.Mesh, path: Path) -> list[str]:
    """Make a model's materials fit to render; says what was amiss.

    A texture whose picture is not there would come out pink: it goes, and the material's plain
    colour stays. OBJ colours are what a screen shows, so they are taken to linear light. An index
    of refraction of 1 (``Ni 1``, which many exporters write) would take every gloss away.
    """
    notes = []
    for material in mesh.materials:
        if material is None or material.get("mended"):
            continue
        material["mended"] = True
        if material.node_tree is None:
            continue
        tree = material.node_tree
        for node in [n for n in tree.nodes if n.type == "TEX_IMAGE"]:
            other = beside(path) if not there(node.image) else None
            if other is not None:
                node.image = bpy.data.images.load(str(other), check_existing=True)
            if not there(node.image):
                name = node.image.filepath or node.image.name if node.image else "unnamed"
                notes.append(f"the texture {name.replace(chr(92), '/').split('/')[-1]} is missing")
                tree.nodes.remove(node)
        for node in [n for n in tree.nodes if n.type == "BSDF_PRINCIPLED"]:
            inputs = node.inputs
            if path.suffix.lower() == ".obj":
                red, green, blue, alpha = inputs["Base Color"].default_value
                inputs["Base Color"].default_value = (*map(linear, (red, green, blue)), alpha)
                inputs["Roughness"].default_value = max(inputs["Roughness"].default_value, 0.25)
            if inputs["IOR"].default_value <= 1.01:
                inputs["IOR"].default_value = 1.45
        tree.update_tag()
    return notes


def there(image: bpy.types.Image | None) -> bool:
    """Whether an image has pixels; asking for its size makes Blender read it."""
    if image is None:
        return False
    return bool(image.size[0] and image.size[1])


def beside(path: Path) -> Path | None:
    """The one picture in a model's folder of its own: its texture, whatever the model calls it."""
    kinds = (".jpg", ".jpeg", ".png", ".tga", ".bmp")
    found = [p for p in path.parent.iterdir() if p.suffix.lower() in kinds]
    models = [p for p in path.parent.iterdir() if p.suffix.lower() == path.suffix.lower()]
    return found[0] if len(found) == 1 and len(models) == 1 else None


def linear(value: float) -> float:
    """A value as a screen shows it, to linear light (IEC 61966-2-1)."""
    value = min(max(value, 0.0), 1.0)
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def plain(name: str, colour: tuple[float, ...], roughness: float = 0.6) -> bpy.types.Material:
    """A material of one colour (linear RGB), made once."""
    name = f"{name} {' '.join(f'{c:.3f}' for c in colour)}"
    found = bpy.data.materials.get(name)
    if found is not None:
        return found
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*colour, 1)
    shader.inputs["Roughness"].default_value = roughness
    material.diffuse_color = (*colour, 1)
    return material


def planks() -> bpy.types.Material:
    """A wooden floor: boards 14 cm wide along x, each of its own tone, with a grain."""
    found = bpy.data.materials.get("planks")
    if found is not None:
        return found
    material = bpy.data.materials.new("planks")
    material.use_nodes = True
    tree = material.node_tree
    new, link = tree.nodes.new, tree.links.new
    shader = tree.nodes["Principled BSDF"]
    where = new("ShaderNodeTexCoord")
    boards = new("ShaderNodeTexBrick")
    boards.offset = 0.37
    for name, value in (
        ("Scale", 1.0),
        ("Brick Width", 1.3),
        ("Row Height", 0.14),
        ("Mortar Size", 0.0018),
        ("Color1", (0.34, 0.205, 0.115, 1)),
        ("Color2", (0.44, 0.285, 0.17, 1)),
        ("Mortar", (0.13, 0.075, 0.04, 1)),
    ):
        boards.inputs[name].default_value = value
    stretch = new("ShaderNodeMapping")
    stretch.inputs["Scale"].default_value = (1.5, 26, 1)
    grain = new("ShaderNodeTexNoise")
    grain.inputs["Scale"].default_value = 2.2
    grain.inputs["Detail"].default_value = 3
    tone = new("ShaderNodeMapRange")
    tone.inputs["To Min"].default_value = 0.78
    tone.inputs["To Max"].default_value = 1.16
    mix = new("ShaderNodeVectorMath")
    mix.operation = "MULTIPLY"
    link(where.outputs["Object"], boards.inputs["Vector"])
    link(where.outputs["Object"], stretch.inputs["Vector"])
    link(stretch.outputs["Vector"], grain.inputs["Vector"])
    link(grain.outputs["Fac"], tone.inputs["Value"])
    link(boards.outputs["Color"], mix.inputs[0])
    link(tone.outputs["Result"], mix.inputs[1])
    link(mix.outputs["Vector"], shader.inputs["Base Color"])
    shader.inputs["Roughness"].default_value = 0.45
    return material


def grass() -> bpy.types.Material:
    """Ground outdoors: greens in patches, without gloss."""
    found = bpy.data.materials.get("grass")
    if found is not None:
        return found
    material = bpy.data.materials.new("grass")
    material.use_nodes = True
    tree = material.node_tree
    where = tree.nodes.new("ShaderNodeTexCoord")
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 0.9
    noise.inputs["Detail"].default_value = 12
    noise.inputs["Roughness"].default_value = 0.72
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].position = 0.32
    ramp.color_ramp.elements[0].color = (0.13, 0.2, 0.065, 1)
    ramp.color_ramp.elements[1].position = 0.7
    ramp.color_ramp.elements[1].color = (0.2, 0.28, 0.1, 1)
    shader = tree.nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = 1
    shader.inputs["Specular IOR Level"].default_value = 0
    tree.links.new(where.outputs["Object"], noise.inputs["Vector"])
    tree.links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    return material
