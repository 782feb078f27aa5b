"""A :class:`~scenes.render.jobs.Scene` in Blender: things, room or ground, lights, camera.

Runs in a worker only.
"""

from __future__ import annotations

import math

import bpy
import numpy as np
from mathutils import Matrix, Vector

from scenes.graph import Room
from scenes.render import materials
from scenes.render.jobs import Camera, Scene, Thing
from scenes.render.models import Models
from scenes.render.views import axes, extent

WALL = (0.74, 0.70, 0.64)
STUDIO = (0.5, 0.5, 0.51)
THICK = 0.1
INWARD = "inward"
"""The property of a wall that tells its normal, which points into the room."""
THIN = 1e-4
"""Metres that a flat thing is thick: a scale of nothing has no inverse."""


class Stage:
    """The scene that the worker holds now. The same one asked for again stays as it is."""

    def __init__(self) -> None:
        self.models = Models()
        self.built: Scene | None = None
        self.things: list[bpy.types.Object] = []
        self.notes: tuple[str, ...] = ()

    def clear(self) -> None:
        """Nothing but the models that are kept."""
        self.built, self.things = None, []
        for found in list(bpy.data.objects):
            bpy.data.objects.remove(found)
        for kind in (bpy.data.cameras, bpy.data.lights, bpy.data.worlds):
            for found in list(kind):
                kind.remove(found)
        for mesh in [mesh for mesh in bpy.data.meshes if not mesh.users]:
            bpy.data.meshes.remove(mesh)
        self.models.trim()

    def build(self, scene: Scene) -> None:
        """Show ``scene`` and nothing else.

        Raises:
            UserError: a model that cannot be read; the thing is named.
        """
        if scene == self.built:
            return
        self.clear()
        notes: list[str] = []
        for place, thing in enumerate(scene.things):
            notes += self._thing(thing, place + 1)
        if scene.room is not None:
            self._room(scene.room)
        elif scene.outdoors:
            _ground(400, materials.grass())
        else:
            _ground(400, materials.plain("studio", STUDIO, 0.8))
        light(scene)
        if scene.notes:
            text = bpy.data.texts.get("attribution") or bpy.data.texts.new("attribution")
            text.from_string(scene.notes)
        self.notes = tuple(dict.fromkeys(notes))
        self.built = scene

    def _thing(self, thing: Thing, index: int) -> tuple[str, ...]:
        if thing.model is None:
            mesh, notes = _block(), tuple[str, ...]()
        else:
            model = self.models.get(thing.model, thing.rotation)
            mesh, notes = model.mesh, model.notes
        shown = bpy.data.objects.new(thing.id, mesh)
        bpy.context.scene.collection.objects.link(shown)
        shown.location = thing.location
        shown.scale = [max(side, THIN) for side in thing.size]
        shown.rotation_euler = (0, 0, thing.yaw)
        shown.pass_index = index
        shown["asset"] = thing.id
        if thing.model is None:
            # The mesh is shared by all blocks, the colour is not.
            shown.material_slots[0].link = "OBJECT"
            shown.material_slots[0].material = materials.plain("block", thing.colour)
        self.things.append(shown)
        return notes

    def _room(self, room: Room) -> None:
        width, depth, height = room.width, room.depth, room.height
        floor = _box("floor", (width + 2 * THICK, depth + 2 * THICK, THICK), (0, 0, -THICK))
        floor.data.materials.append(materials.planks())
        paint = materials.plain("wall", WALL, 0.9)
        trim = materials.plain("skirting", (0.8, 0.79, 0.77), 0.5)
        for name, size, place, normal in (
            ("back", (width + 2 * THICK, THICK), (0, (depth + THICK) / 2), (0, -1, 0)),
            ("left", (THICK, depth), (-(width + THICK) / 2, 0), (1, 0, 0)),
            ("right", (THICK, depth), ((width + THICK) / 2, 0), (-1, 0, 0)),
        ):
            wall = _box(f"wall-{name}", (*size, height), (*place, 0))
            wall.data.materials.append(paint)
            inward = Vector(normal)
            board = _box(f"skirting-{name}", (*size, 0.08), (*place, 0))
            board.location += inward * 0.012
            board.data.materials.append(trim)
            wall[INWARD] = board[INWARD] = normal


def aim(camera: Camera) -> bpy.types.Object:
    """The scene's camera, made if there is none, put where ``camera`` is.

    Walls that it sees from behind are out of its way.
    """
    scene = bpy.context.scene
    for wall in scene.objects:
        if INWARD in wall:
            inward = Vector(wall[INWARD])
            wall.hide_render = (Vector(camera.location) - wall.location).dot(inward) < 0
    if scene.camera is None:
        scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(scene.camera)
    lens = scene.camera.data
    lens.type, lens.sensor_fit, lens.angle = "PERSP", "HORIZONTAL", camera.fov
    lens.shift_x = lens.shift_y = 0
    reach = math.dist(camera.location, camera.target)
    lens.clip_start, lens.clip_end = max(1e-3, reach / 500), max(100.0, reach * 100)
    turn = Matrix(axes(camera).tolist()).to_4x4()
    scene.camera.matrix_world = Matrix.Translation(camera.location) @ turn
    return scene.camera


def light(scene: Scene) -> None:
    """Soft light from the left, weaker from the right; sun and sky outdoors."""
    points = extent(scene.things, scene.room)
    low, high = points.min(0), points.max(0)
    middle = Vector(((low + high) / 2).tolist())
    radius = max(float(np.linalg.norm(high - low)) / 2, 0.2)
    if scene.outdoors and scene.room is None:
        _sky((0.2, 0.42, 0.85), (0.72, 0.84, 0.95), 1.1)
        sun = bpy.data.lights.new("sun", "SUN")
        sun.energy, sun.angle, sun.color = 4.0, math.radians(2.5), (1, 0.94, 0.84)
        _place("sun", sun, middle + Vector((-4, -5, 7)) * radius, middle)
        return
    _sky((0.9, 0.93, 1.0), (0.9, 0.92, 0.95), 0.55 if scene.room is None else 0.6)
    for name, direction, share, colour in (
        ("key", (-1.1, -1.5, 2.1), 1.0, (1, 0.95, 0.88)),
        ("fill", (1.7, -1.6, 1.4), 0.35, (0.9, 0.95, 1)),
        ("top", (0.2, 0.4, 2.6), 0.4, (1, 1, 1)),
    ):
        place = middle + Vector(direction) * radius
        lamp = bpy.data.lights.new(name, "AREA")
        lamp.shape, lamp.size, lamp.color = "DISK", radius * 1.3, colour
        # So many watts give the same light on the scene whatever its size.
        lamp.energy = 16 * share * (place - middle).length_squared
        _place(name, lamp, place, middle)


def _place(name: str, lamp: bpy.types.Light, place: Vector, target: Vector) -> None:
    shown = bpy.data.objects.new(name, lamp)
    bpy.context.scene.collection.objects.link(shown)
    shown.location = place
    shown.rotation_euler = (target - place).to_track_quat("-Z", "Y").to_euler()


def _sky(zenith: tuple[float, ...], horizon: tuple[float, ...], strength: float) -> None:
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


def _ground(size: float, material: bpy.types.Material) -> None:
    ground = _box("ground", (size, size, THICK), (0, 0, -THICK))
    ground.data.materials.append(material)


def _block() -> bpy.types.Mesh:
    """The block of one unit that stands for a thing without a model."""
    found = bpy.data.meshes.get("block")
    if found is not None:
        return found
    mesh = bpy.data.meshes.new("block")
    _fill(mesh, (1, 1, 1))
    mesh.materials.append(None)
    return mesh


def _box(name: str, size: tuple[float, ...], location: tuple[float, ...]) -> bpy.types.Object:
    """A box of ``size``; ``location`` is the middle of its underside."""
    mesh = bpy.data.meshes.new(name)
    _fill(mesh, size)
    shown = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(shown)
    shown.location = location
    return shown


def _fill(mesh: bpy.types.Mesh, size: tuple[float, ...]) -> None:
    x, y, z = size[0] / 2, size[1] / 2, size[2]
    ring = [(-x, -y), (x, -y), (x, y), (-x, y)]
    points = [(*p, 0) for p in ring] + [(*p, z) for p in ring]
    sides = [(i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4) for i in range(4)]
    mesh.from_pydata(points, [], [(3, 2, 1, 0), (4, 5, 6, 7), *sides])
