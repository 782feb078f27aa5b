"""Rendering variants of a scene: our pool of warm workers, against one Blender process a scene.

    python benchmarks/rendering.py              # 12 variants
    python benchmarks/rendering.py --variants 64 --turns 1

The same seven furniture models stand at other places in every variant, as the candidates of a scene
do. The other way starts a Blender for each scene, with all cores, imports the models, renders and
ends. Size and samples are those of pictures that critics look at. Checked first: the pictures are
the same, pixel for pixel up to ``APART``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from claim import in_turns, of, ratios, tell, threads
from PIL import Image

from scenes.assets import furniture
from scenes.render.jobs import Camera, Render, Scene, Thing
from scenes.render.pool import Workers
from scenes.shoot import turned

THINGS, WIDTH, HEIGHT, SAMPLES = 7, 320, 240, 16
APART = 1.0
"""Grey levels of 255, on average over a picture, that the denoiser may round otherwise."""


def variants(count: int) -> list[Scene]:
    """Scenes of the same models, each at places of its own."""
    models = [m for m in furniture.models() if 0.3 < max(m.size) < 1.5][::40][:THINGS]
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        things = []
        for i, model in enumerate(models):
            angle = 2 * np.pi * (i + rng.uniform(-0.3, 0.3)) / THINGS
            things.append(
                Thing(
                    id=f"thing-{i}",
                    size=model.size,
                    location=(1.8 * float(np.cos(angle)), 1.8 * float(np.sin(angle)), 0.0),
                    yaw=float(rng.uniform(0, 2 * np.pi)),
                    model=model.file,
                    rotation=turned(model),
                )
            )
        found.append(Scene(things=tuple(things)))
    return found


def jobs(scenes: list[Scene], folder: Path) -> list[Render]:
    """A picture of each scene in ``folder``."""
    folder.mkdir(exist_ok=True)
    camera = Camera(location=(4.5, -5.5, 4.0), target=(0, 0, 0.4))
    return [
        Render(scene=scene, cameras=(camera,), paths=(folder / f"{i}.png",), width=WIDTH,
               height=HEIGHT, samples=SAMPLES)
        for i, scene in enumerate(scenes)
    ]  # fmt: skip


def pooled(scenes: list[Scene], folder: Path, workers: Workers) -> None:
    """By workers that are there already, a core each."""
    list(workers.map(jobs(scenes, folder)))


def each_alone(scenes: list[Scene], folder: Path) -> None:
    """A Blender for every scene, one after the other, all cores its own."""
    for job in jobs(scenes, folder):
        with Workers(1, device="cpu") as one:
            one.do(job)


def check(scenes: list[Scene], folder: Path, workers: Workers) -> None:
    """Stop unless both ways give the same pictures."""
    pooled(scenes, folder / "pooled", workers)
    each_alone(scenes, folder / "alone")
    pictures = [
        [np.asarray(Image.open(folder / way / f"{i}.png"), float) for i in range(len(scenes))]
        for way in ("pooled", "alone")
    ]
    off = max(float(np.abs(a - b).mean()) for a, b in zip(*pictures, strict=True))
    apart = float(np.abs(pictures[0][0] - pictures[0][1]).mean())
    print(f"both ways: pictures differ by {off:.3f} levels at most, variants by {apart:.1f}")
    if off > APART or apart < 2 * APART:
        raise SystemExit("other pictures")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    flags.add_argument("--variants", type=int, default=12)
    flags.add_argument("--turns", type=int, default=3)
    chosen = flags.parse_args()
    scenes = variants(chosen.variants)
    with tempfile.TemporaryDirectory() as name, Workers(threads(), device="cpu") as workers:
        folder = Path(name)
        check(scenes[:2], folder, workers)  # which starts the workers, and shows them the models
        times = in_turns(
            {
                "pool": lambda: pooled(scenes, folder / "pooled", workers),
                "a process a scene": lambda: each_alone(scenes, folder / "alone"),
            },
            chosen.turns,
        )
    about = f"rendering {chosen.variants} variants of a scene, {WIDTH}×{HEIGHT}"
    found = ratios(times["a process a scene"], times["pool"])
    tell(of(about, found, "one Blender process a scene", aim=4.0))


if __name__ == "__main__":
    main()
