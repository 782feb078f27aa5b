"""``upspiral scenes reconstruct``: pictures become a scene."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class Reconstruct:
    """Make a Blender scene of a picture, or of several pictures of one scene.

    Things have to stand on the floor or on one another, lie wholly in the picture, stand out from
    the background and be in the index of models. It is a guess: docs/reconstruct.md says how good.
    """

    frames: tyro.conf.Positional[tuple[Path, ...]]
    """PNG or JPEG; of several the first is where things are looked for."""
    out: Path = Path("room")
    """The folder for the scene."""
    text: str | None = None
    """What the picture shows, in a sentence or @FILE: only such models are used, so many."""
    graph: Path | None = None
    """The same as a scene graph."""
    mask: Path | None = None
    """Which pixels of the first frame are which thing: a PNG with a plain colour for each, black
    for none. Given this, things are recognised several times as often."""
    categories: str = ""
    """Only models of these categories of the catalogue, with commas, as in Kitchen,Bathroom."""
    clip: str | None = None
    """Let an encoder have a say: starter, or ARCHITECTURE:TAG_OR_FILE of open_clip. Which models
    are likely it says only if the index holds its pictures."""
    fov: float | None = None
    """The camera's angle of view across the picture in degrees, if you know it."""
    assets: Path | None = None
    """Index these first: a folder of models, or a .sh3f catalogue."""
    seed: int = 0
    width: int = 640
    """Pixels across of the pictures that are rendered."""
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.assets.furniture import index
        from scenes.assets.index import Index
        from scenes.reconstruct import reconstruct
        from scenes.reconstruct.deliver import deliver
        from scenes.reconstruct.explain import SearchConfig
        from scenes.render.pool import Workers

        begun = time.monotonic()
        if not self.frames:
            raise UserError("no picture", "name a PNG or a JPEG")
        if self.fov is not None and not 10 <= self.fov <= 120:
            raise UserError(f"an angle of view of {self.fov:g} degrees", "give 10 to 120")
        if not 64 <= self.width <= 4096:
            raise UserError(f"pictures {self.width} pixels wide", "give 64 to 4096")
        encoder = None
        if self.clip is not None:
            from scenes.clip.encoder import load

            encoder = load(self.clip)
        names = self._names()
        models = Index()
        if self.assets is not None or not models.sources():
            index(self.assets, progress=out.progress(), into=models)
        fov = math.radians(self.fov) if self.fov is not None else None
        with Workers(device=self.device) as workers:
            found = reconstruct(
                [path.expanduser() for path in self.frames],
                models,
                workers,
                names=names,
                mask=self.mask.expanduser() if self.mask is not None else None,
                categories=[c for c in self.categories.split(",") if c.strip()],
                encoder=encoder,
                config=SearchConfig(fov=fov, seed=self.seed),
                progress=out.progress(),
            )
            try:
                files = deliver(found, self.out, models, workers, self.width)
            except OSError as error:
                raise UserError(
                    f"cannot write to {self.out}: {error.strerror}", "choose another --out"
                ) from error
        looks = None
        if encoder is not None:
            pairs = [
                (f.expanduser(), self.out / f"made-{n}.png") for n, f in enumerate(self.frames)
            ]
            looks = [float(a @ b) for a, b in (encoder.images(pair) for pair in pairs)]
        rows = [
            (a.id, found.dressed.models[a.id].name, *found.solution.layout[a.id].location,
             math.degrees(found.solution.layout[a.id].yaw))
            for a in found.graph.assets
        ]  # fmt: skip
        out.table(("thing", "model", "x", "y", "z", "degrees"), rows)
        for frame, agreed in zip(self.frames, found.silhouettes, strict=True):
            out.print(f"{frame}: silhouettes agree by {agreed:.2f}")
        out.print(f"{self.out}: {', '.join(files)}")
        return {
            "out": str(self.out),
            "things": [
                {"id": a.id, "model": a.model, **found.solution.layout[a.id].model_dump()}
                for a in found.graph.assets
            ],
            "silhouettes": list(found.silhouettes),
            "agreement": found.agreement,
            "clip": looks,
            "cameras": [camera.model_dump(mode="json") for camera in found.cameras],
            "files": list(files),
            "seconds": time.monotonic() - begun,
        }

    def _names(self) -> list[str]:
        """What is said to stand there, one entry a thing."""
        from scenes.commands.plan import brief
        from scenes.graph import load
        from scenes.planners.rules import Rules

        if self.text is not None and self.graph is not None:
            raise UserError("a --text and a --graph", "give one of them")
        if self.graph is not None:
            return [a.what for a in load(self.graph).assets]
        if self.text is None:
            return []
        assets = Rules().plan(brief(self.text)).graph.assets
        if not assets:
            raise UserError(f"no thing is named in {self.text!r}", "name what the picture shows")
        return [a.what for a in assets]
