"""Which job is done how. Importing this imports bpy: the worker does, nothing else may."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import bpy
from pydantic import BaseModel

from common.errors import UserError
from scenes.render import guide, picture, sample, scan, sight, surfaces
from scenes.render.jobs import (
    Export,
    Exported,
    Frames,
    Job,
    Look,
    Measure,
    Measured,
    Open,
    Render,
    Rendered,
    Sample,
    Sampled,
    Scan,
    Scanned,
    Sights,
)
from scenes.render.meshes import positions
from scenes.render.models import triangles
from scenes.render.stage import Stage, aim


class Blender:
    """A Blender without user settings, and the stage in it."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.threads = device, threads
        self._reset()

    def _reset(self) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.context.preferences.filepaths.use_scripts_auto_execute = False
        self.found = picture.set_up(self.device, self.threads)
        self.stage = Stage()

    def work(self, job: Job[BaseModel]) -> BaseModel:
        """The result of ``job``."""
        match job:
            case Render():
                return self.render(job)
            case Look():
                return self.look(job)
            case Export():
                return self.export(job)
            case Measure():
                return self.measure(job)
            case Sample():
                return self.sample(job)
            case Open() | Scan() | Frames():
                try:
                    guide.open_file(job.blend)
                    if isinstance(job, Scan):
                        return Scanned(problems=tuple(scan.problems()))
                    picture.set_up(self.device, self.threads)
                    return guide.opened() if isinstance(job, Open) else guide.frames(job)
                finally:
                    self._reset()
        raise TypeError(f"no job is called {type(job).__name__}")

    def render(self, job: Render) -> Rendered:
        """A picture a camera."""
        if len(job.cameras) != len(job.paths):
            raise UserError(
                f"{len(job.cameras)} cameras and {len(job.paths)} paths", "give as many of each"
            )
        self.stage.build(job.scene)
        seconds = []
        for camera, path in zip(job.cameras, job.paths, strict=True):
            began = time.monotonic()
            aim(camera)
            picture.picture(path, job.width, job.height, job.samples)
            seconds.append(time.monotonic() - began)
        return Rendered(paths=job.paths, notes=self.stage.notes, seconds=tuple(seconds))

    def look(self, job: Look) -> Sights:
        """What a camera sees of each thing."""
        self.stage.build(job.scene)
        aim(job.camera)
        return sight.sights(job, self.stage.things)

    def export(self, job: Export) -> Exported:
        """The files of a scene."""
        self.stage.build(job.scene)
        aim(job.camera)
        written: list[Path] = []
        if job.glb is not None:
            part = job.glb.with_name(f".{job.glb.stem}.part.glb")
            self._write(part, job.glb, _glb, self.stage.things)
            written.append(job.glb)
        if job.blend is not None:
            part = job.blend.with_name(f".{job.blend.stem}.part.blend")
            self._write(part, job.blend, _blend)
            written.append(job.blend)
        return Exported(paths=tuple(written), notes=self.stage.notes)

    def _write(self, part: Path, path: Path, write: Callable[..., object], *given: object) -> None:
        """``path`` by way of ``part``: whole or not at all, and a full disk said as such."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(str(part), *given)
            if path.suffix == ".blend" and not _whole(part):
                raise RuntimeError(f"{path.name} was not written to its end")
            os.replace(part, path)
        except (RuntimeError, OSError) as error:
            raise (picture.full(path, error) or error) from error
        finally:
            part.unlink(missing_ok=True)

    def measure(self, job: Measure) -> Measured:
        """A model's size and its level surfaces."""
        self.stage.clear()
        model = self.stage.models.get(job.model, job.rotation)
        size = job.size or model.size
        points = positions(model.mesh) * size
        found, filled = surfaces.surfaces(points, triangles(model.mesh))
        return Measured(
            size=size,
            surfaces=found,
            faces=len(model.mesh.polygons),
            filled=filled,
            notes=model.notes,
        )

    def sample(self, job: Sample) -> Sampled:
        """Points of a model's surface."""
        self.stage.clear()
        model = self.stage.models.get(job.model, job.rotation)
        sample.write(model.mesh, job.size or model.size, job.count, job.path)
        return Sampled(path=job.path, size=model.size)


def _whole(path: Path) -> bool:
    """Whether a compressed .blend has its end; Blender does not say that the disk was full.

    It is Zstandard's seekable format, whose last four bytes are the magic number of its seek table.
    """
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return file.read() == b"\xb1\xea\x92\x8f"


def _glb(path: str, things: list[bpy.types.Object]) -> None:
    """The things alone; copies of a model share its mesh in the file too."""
    for thing in bpy.context.view_layer.objects:
        thing.select_set(thing in things)
    bpy.ops.export_scene.gltf(
        filepath=path,
        export_format="GLB",
        use_selection=True,
        export_extras=True,
        export_yup=True,
        export_apply=False,
    )


def _blend(path: str) -> None:
    """The whole scene with its textures in it. The models kept for later scenes stay out."""
    unused = [m for m in bpy.data.meshes if m.use_fake_user and m.users == 1]
    for mesh in unused:
        mesh.use_fake_user = False
    try:
        for image in bpy.data.images:
            if image.users and not image.packed_file and image.source == "FILE":
                image.pack()
        bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, compress=True)
    finally:
        for mesh in unused:
            mesh.use_fake_user = True
