"""What a scene is built of: things, room, ground, lights, camera. Functions of plain numbers.

The stage builds with them, and :mod:`scenes.coder` writes those that a scene needs into the scene's
script, so that the script gives what the worker gives; so they know nothing else of ours. Runs in a
worker only.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from scenes.render.materials import grass, plain, planks

Numbers = tuple[float, ...]


def empty() -> None:
    """Take away the cube, the lamp and the camera that Blender begins with."""
    for found in list(bpy.data.objects):
        bpy.data.objects.remove(found)


def place(
    name: str, mesh: bpy.types.Mesh, size: Numbers, at: Numbers, degrees: float = 0
) -> bpy.types.Object:
    """Show a mesh of one unit: ``size`` metres, standing at ``at``, turned counterclockwise."""
    shown = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(shown)
    shown.location = at
    # Something flat is a little thick all the same: a scale of nothing has no inverse.
    shown.scale = [max(side, 1e-4) for side in size]
    shown.rotation_euler = (0, 0, math.radians(degrees))
    shown["asset"] = name
    return shown


def place_block(
    name: str, colour: Numbers, size: Numbers, at: Numbers, degrees: float = 0
) -> bpy.types.Object:
    """A plain block, for something that there is no model of."""
    mesh = bpy.data.meshes.get("block")
    if mesh is None:
        mesh = bpy.data.meshes.new("block")
        fill(mesh, (1, 1, 1))
        mesh.materials.append(None)
    shown = place(name, mesh, size, at, degrees)
    # The mesh is shared by all blocks, the colour is not.
    shown.material_slots[0].link = "OBJECT"
    shown.material_slots[0].material = plain("block", colour)
    return shown


def room(width: float, depth: float, height: float) -> None:
    """A wooden floor and three walls around the origin; the side of the camera stays open.

    The floor goes on to the sides and towards the camera, so that its edge is out of the picture.
    """
    thick, on = 0.1, max(width, depth)
    floor = box("floor", (width + 2 * on, depth + on + thick, thick), (0, -on / 2, -thick))
    floor.data.materials.append(planks())
    paint = plain("wall", (0.74, 0.70, 0.64), 0.9)
    trim = plain("skirting", (0.8, 0.79, 0.77), 0.5)
    for name, size, at, inward in (
        ("back", (width + 2 * thick, thick), (0, (depth + thick) / 2), (0, -1, 0)),
        ("left", (thick, depth), (-(width + thick) / 2, 0), (1, 0, 0)),
        ("right", (thick, depth), ((width + thick) / 2, 0), (-1, 0, 0)),
    ):
        wall = box(f"wall-{name}", (*size, height), (*at, 0))
        wall.data.materials.append(paint)
        board = box(f"skirting-{name}", (*size, 0.08), (*at, 0))
        board.location += Vector(inward) * 0.012
        board.data.materials.append(trim)
        wall["inward"] = board["inward"] = inward


def lawn() -> None:
    """Grass as far as one sees."""
    box("ground", (400, 400, 0.1), (0, 0, -0.1)).data.materials.append(grass())


def studio() -> None:
    """A plain grey floor without an end."""
    ground = box("ground", (400, 400, 0.1), (0, 0, -0.1))
    ground.data.materials.append(plain("studio", (0.5, 0.5, 0.51), 0.8))


def box(name: str, size: Numbers, at: Numbers) -> bpy.types.Object:
    """A box of ``size``; ``at`` is the middle of its underside."""
    mesh = bpy.data.meshes.new(name)
    fill(mesh, size)
    shown = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(shown)
    shown.location = at
    return shown


def fill(mesh: bpy.types.Mesh, size: Numbers) -> None:
    """Make an empty mesh a box that stands on its origin."""
    x, y, z = size[0] / 2, size[1] / 2, size[2]
    ring = [(-x, -y), (x, -y), (x, y), (-x, y)]
    points = [(*p, 0) for p in ring] + [(*p, z) for p in ring]
    sides = [(i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4) for i in range(4)]
    mesh.from_pydata(points, [], [(3, 2, 1, 0), (4, 5, 6, 7), *sides])


def daylight(middle: Numbers, radius: float) -> None:
    """Sun and sky over a scene of ``radius`` metres around ``middle``."""
    sky((0.2, 0.42, 0.85), (0.72, 0.84, 0.95), 1.1)
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy, sun.angle, sun.color = 4.0, math.radians(2.5), (1, 0.94, 0.84)
    shine(sun, Vector(middle) + Vector((-4, -5, 7)) * radius, Vector(middle))


def soft_light(middle: Numbers, radius: float) -> None:
    """Soft light from the left, weaker from the right, on what is within ``radius`` metres."""
    sky((0.9, 0.93, 1.0), (0.9, 0.92, 0.95), 0.6)
    for name, direction, share, colour in (
        ("key", (-1.1, -1.5, 2.1), 1.0, (1, 0.95, 0.88)),
        ("fill", (1.7, -1.6, 1.4), 0.35, (0.9, 0.95, 1)),
        ("top", (0.2, 0.4, 2.6), 0.4, (1, 1, 1)),
    ):
        away = Vector(direction) * radius
        lamp = bpy.data.lights.new(name, "AREA")
        lamp.shape, lamp.size, lamp.color = "DISK", radius * 1.3, colour
        # So many watts give the same light on the scene whatever its size.
        lamp.energy = 16 * share * away.length_squared
        shine(lamp, Vector(middle) + away, Vector(middle))


def shine(lamp: bpy.types.Light, at: Vector, target: Vector) -> None:
    """Hang a light at a place, pointed at another."""
    shown = bpy.data.objects.new(lamp.name, lamp)
    bpy.context.scene.collection.objects.link(shown)
    shown.location = at
    shown.rotation_euler = (target - at).to_track_quat("-Z", "Y").to_euler()


def sky(zenith: Numbers, horizon: Numbers, strength: float) -> None:
    """A world that goes from the colour of the horizon to that of the zenith."""
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    bpy.context.scene.world = world
    tree = world.node_tree
    back = tree.nodes["Background"]
    where = tree.nodes.new("ShaderNodeTexCoord")
    split = tree.nodes.new("ShaderNodeSeparateXYZ")
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*horizon, 1)
    ramp.color_ramp.elements[1].color = (*zenith, 1)
    ramp.color_ramp.elements[1].position = 0.5
    tree.links.new(where.outputs["Generated"], split.inputs["Vector"])
    tree.links.new(split.outputs["Z"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], back.inputs["Color"])
    back.inputs["Strength"].default_value = strength
    # Where light comes from is looked up in a map of the sky. Blender's own size for it costs more
    # than a small picture, and a gradient needs none of it.
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 64


def look_from(at: Numbers, target: Numbers, degrees: float) -> bpy.types.Object:
    """The scene's camera at ``at``, looking at ``target``; ``degrees`` is what its width sees.

    Walls that it sees from behind are out of its way.
    """
    scene = bpy.context.scene
    for wall in scene.objects:
        if "inward" in wall:
            inward = Vector(wall["inward"])
            wall.hide_render = (Vector(at) - wall.location).dot(inward) < 0
    if scene.camera is None:
        scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(scene.camera)
    lens = scene.camera.data
    lens.type, lens.sensor_fit, lens.angle = "PERSP", "HORIZONTAL", math.radians(degrees)
    lens.shift_x = lens.shift_y = 0
    reach = math.dist(at, target)
    lens.clip_start, lens.clip_end = max(1e-3, reach / 500), max(100.0, reach * 100)
    back = (Vector(at) - Vector(target)).normalized()
    up = Vector((0, 1, 0) if abs(back.z) > 0.9999 else (0, 0, 1))
    right = up.cross(back).normalized()
    turn = Matrix((right, back.cross(right), back)).transposed().to_4x4()
    scene.camera.matrix_world = Matrix.Translation(at) @ turn
    return scene.camera


def credit(whose: str) -> None:
    """Keep in the file whose models it shows."""
    text = bpy.data.texts.get("attribution") or bpy.data.texts.new("attribution")
    text.from_string(whose)


def pixels(width: int, height: int) -> None:
    """The picture's size."""
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1


def quality(samples: int) -> None:
    """Cycles with so many samples a pixel, denoised, and colours as they look best on a screen."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.samples, cycles.seed = samples, 0
    cycles.use_adaptive_sampling = True
    cycles.adaptive_threshold = 0.08
    cycles.use_denoising = True
    cycles.denoiser = "OPENIMAGEDENOISE"
    # A preview's time is mostly the denoiser's, which can be three times as fast for it.
    quick = samples <= 16
    cycles.denoising_quality = "FAST" if quick else "HIGH"
    cycles.denoising_prefilter = "NONE" if quick else "ACCURATE"
    cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 1.5
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 5, 2, 2
    cycles.transparent_max_bounces = 16
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    scene.view_settings.view_transform = "AgX"
    scene.view_settings.look = "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0


def wanted_files() -> list[Path]:
    """What was named behind ``--`` on Blender's command line, or behind the script on Python's."""
    if "--" in sys.argv:
        return [Path(name) for name in sys.argv[sys.argv.index("--") + 1 :]]
    return [Path(name) for name in sys.argv[1:]] if bpy.app.module else []


def write(path: Path) -> None:
    """Save the scene as .blend with its textures in it, or render it as .png."""
    if path.suffix == ".blend":
        bpy.ops.file.pack_all()
        bpy.ops.wm.save_as_mainfile(filepath=str(path.absolute()), copy=True, compress=True)
    elif path.suffix == ".png":
        bpy.context.scene.render.filepath = str(path.absolute())
        bpy.ops.render.render(write_still=True)
    else:
        raise SystemExit(f"cannot write {path}: name a .blend or a .png")
