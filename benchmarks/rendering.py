"""Rendering variants of a scene: our pool of warm workers, against one Blender process a scene.

    python benchmarks/rendering.py              # 8 variants
    python benchmarks/rendering.py --variants 64 --turns 1

The same seven furniture models stand at other places in every variant, as the candidates of a scene
do. The other way starts a Blender for each scene, with all cores, imports the models, renders and
ends. At two sizes: that of the pictures a CLIP learns from, and that of those a judge looks at.
Checked first: the pictures are the same, pixel for pixel up to ``APART``.

What a warm process saves is Blender's start and the import of models, and what a pool saves is the
part of a picture that one process does on one core. Cycles itself costs both the same, so the ratio
falls as pictures grow; what share of the pool's time is Cycles' own is told.
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

THINGS = 7
SIZES = ((176, 132, 4), (320, 240, 8))
"""Width, height, samples a pixel: scenes/clip/pictures.py, scenes/benchmark/pictures.py."""
Size = tuple[int, int, int]
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


def jobs(scenes: list[Scene], folder: Path, size: Size) -> list[Render]:
    """A picture of each scene in ``folder``."""
    folder.mkdir(exist_ok=True)
    camera = Camera(location=(4.5, -5.5, 4.0), target=(0, 0, 0.4))
    return [
        Render(scene=scene, cameras=(camera,), paths=(folder / f"{i}.png",), width=size[0],
               height=size[1], samples=size[2])
        for i, scene in enumerate(scenes)
    ]  # fmt: skip


def pooled(scenes: list[Scene], folder: Path, size: Size, workers: Workers) -> float:
    """By workers that are there already, a core each; the seconds of Cycles in all of them."""
    return sum(sum(made.seconds) for made in workers.map(jobs(scenes, folder, size)))


def each_alone(scenes: list[Scene], folder: Path, size: Size) -> None:
    """A Blender for every scene, one after the other, all cores its own."""
    for job in jobs(scenes, folder, size):
        with Workers(1, device="cpu") as one:
            one.do(job)


def check(scenes: list[Scene], folder: Path, workers: Workers) -> None:
    """Stop unless both ways give the same pictures."""
    pooled(scenes, folder / "pooled", SIZES[-1], workers)
    each_alone(scenes, folder / "alone", SIZES[-1])
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
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--variants", type=int, default=8)
    flags.add_argument("--turns", type=int, default=3)
    chosen = flags.parse_args()
    scenes, cores, told = variants(chosen.variants), threads(), []
    with tempfile.TemporaryDirectory() as name, Workers(cores, device="cpu") as workers:
        folder = Path(name)
        check(scenes[:2], folder, workers)
        pooled(scenes, folder / "pooled", SIZES[0], workers)  # every worker has met the models
        for size in SIZES:
            cycles: list[float] = []
            times = in_turns(
                {
                    "pool": lambda s=size, c=cycles: c.append(
                        pooled(scenes, folder / "pooled", s, workers)
                    ),
                    "a process a scene": lambda s=size: each_alone(scenes, folder / "alone", s),
                },
                chosen.turns,
            )
            about = f"{chosen.variants} variants, {size[0]}×{size[1]}, {size[2]} samples"
            share = sum(cycles) / cores / sum(times["pool"])
            print(f"{about}: {share:.2f} of the pool's time is Cycles' own")
            found = ratios(times["a process a scene"], times["pool"])
            told.append(of(f"rendering {about}", found, "one Blender process a scene", aim=4.0))
    tell(*told)


if __name__ == "__main__":
    main()
