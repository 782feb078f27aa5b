"""``upspiral scenes control``: guides for video models out of a saved scene."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class Control:
    """Film a scene, pass by pass, in the form that video-diffusion control models take.

    Run it again to continue: frames that are there stay.
    """

    scene: tyro.conf.Positional[Path]
    """A .blend file; scripts in it are not run."""
    out: Path = Path("guide")
    """The folder for the sequences, the MP4s and guide.json."""
    camera: Literal["orbit", "dolly", "pan", "static"] = "orbit"
    """Around the scene, towards it, turning on the spot, or not moving."""
    frames: int = 48
    fps: int = 24
    size: str = "512"
    """Pixels of a side, or WIDTHxHEIGHT."""
    passes: str = "depth,normal,segmentation,flow"
    """Of depth, normal, segmentation, flow and rgb, with commas."""
    workers: int = 1
    """Blender processes beside each other."""
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.render.control import Settings, make
        from scenes.render.pool import Workers

        width, height = sides(self.size)
        if not 1 <= self.fps <= 240 or not 1 <= self.frames <= 10_000:
            raise UserError(
                f"{self.frames} frames at {self.fps} a second", "1 to 10000 frames at 1 to 240"
            )
        passes = dict.fromkeys(p.strip() for p in self.passes.split(",") if p.strip())
        if self.frames == 1 and "flow" in passes and len(passes) > 1:
            del passes["flow"]
            out.print("one frame has no next one to flow to: flow is left out")
        settings = Settings(
            blend=self.scene,
            move=self.camera,
            frames=self.frames,
            width=width,
            height=height,
            passes=tuple(passes),
        )
        shown = out.progress()

        def told(done: int, total: int, what: str) -> None:
            out.resume = shlex.join(self._words())  # there is something to go on from
            shown(done, total, what)

        with Workers(self.workers, self.device) as workers:
            guide = make(settings, self.out, workers, self.fps, told)
        out.resume = None
        out.print(f"{self.frames} frames of {', '.join(settings.passes)} are in {self.out}")
        return {"out": str(self.out), **{k: v for k, v in guide.items() if k != "extrinsics"}}

    def _words(self) -> list[str]:
        """The command that continues this."""
        words = ["upspiral", "scenes", "control", str(self.scene), "--out", str(self.out)]
        words += ["--camera", self.camera, "--frames", str(self.frames), "--fps", str(self.fps)]
        return [*words, "--size", self.size, "--passes", self.passes]


def sides(size: str) -> tuple[int, int]:
    """``512`` or ``832x480`` as width and height.

    Raises:
        UserError: neither, or sides out of 16 to 8192 pixels.
    """
    parts = size.lower().split("x")
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
    if len(numbers) > 2 or not all(16 <= number <= 8192 for number in numbers):
        raise UserError(f"the size {size!r}", "write 512, or 832x480; 16 to 8192 pixels")
    return numbers[0], numbers[-1]
