"""A :class:`~scenes.render.jobs.Scene` in Blender: things, room or ground, lights, camera.

Runs in a worker only.
"""

from __future__ import annotations

import math

import bpy

from scenes.render import build
from scenes.render.jobs import Camera, Scene, Thing
from scenes.render.models import Models
from scenes.render.views import ball


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
        build.empty()
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
            build.room(scene.room.width, scene.room.depth, scene.room.height)
        elif scene.outdoors:
            build.lawn()
        else:
            build.studio()
        light(scene)
        if scene.notes:
            build.credit(scene.notes)
        self.notes = tuple(dict.fromkeys(notes))
        self.built = scene

    def _thing(self, thing: Thing, index: int) -> tuple[str, ...]:
        degrees = math.degrees(thing.yaw)
        notes: tuple[str, ...] = ()
        if thing.model is None:
            shown = build.place_block(thing.id, thing.colour, thing.size, thing.location, degrees)
        else:
            model = self.models.get(thing.model, thing.rotation)
            shown = build.place(thing.id, model.mesh, thing.size, thing.location, degrees)
            notes = model.notes
        shown.pass_index = index
        self.things.append(shown)
        return notes


def aim(camera: Camera) -> None:
    """The scene's camera, where ``camera`` is."""
    build.look_from(camera.location, camera.target, math.degrees(camera.fov))


def light(scene: Scene) -> None:
    """Sun and sky outdoors, else soft lights around the things."""
    middle, radius = ball(scene)
    if scene.outdoors and scene.room is None:
        build.daylight(middle, radius)
    else:
        build.soft_light(middle, radius)
