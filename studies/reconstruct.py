"""How well pictures of known scenes are reconstructed.

    python studies/reconstruct.py --scenes 24 --seed 1 --out FOLDER

Each scene holds 1 to 5 models of the furniture catalogue, drawn at random, turned at random, a
small one now and then on top of a large one; in a room, outdoors or in the studio; seen by a camera
of random height, side, angle of view and distance. Reconstruction gets the picture and nothing
else. What is measured, a scene each, with standard errors over scenes:

- silhouette: intersection over union of all that is no background, true and reconstructed, as
  Blender's rays see it from the true and the reconstructed camera;
- found, category, model: share of the true things that a reconstructed one covers best with an
  intersection over union of at least 0.3; and whose category, and whose very model, is right;
- metres: how far a found thing is from the truth, seen from above, both in the camera's frame;
  shape: the same after the best turn, shift and scale of the whole (scenes of 2 or more found).

With ``--cut`` the true outlines are given, and what is measured is whether the first guess has the
right category and model, whether the model is among the first eight, and the camera's pitch in
degrees: what is lost by not knowing how to cut things out is the difference.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

from common.errors import UserError
from scenes.assets.index import Index
from scenes.assets.model import Model
from scenes.graph import Room
from scenes.reconstruct import Reconstructed, reconstruct
from scenes.reconstruct.foreground import read
from scenes.reconstruct.match import Piece, cameras, guesses, scores
from scenes.reconstruct.shapes import Shapes, library
from scenes.render.jobs import Camera, Look, Render, Scene, Thing
from scenes.render.pool import Workers
from scenes.render.views import extent, frame
from scenes.shoot import turned

WIDTH, HEIGHT = 320, 240


def usable(models: Sequence[Model]) -> list[Model]:
    """Models that stand on the floor, from a stool to a wardrobe."""
    return [
        m for m in models
        if m.size is not None and not m.fixed and m.elevation == 0
        and 0.25 <= max(m.size) <= 2.6 and m.size[2] >= 0.15
    ]  # fmt: skip


def made(models: Sequence[Model], rng: np.random.Generator) -> tuple[Scene, list[Model], Camera]:
    """A scene, its models in order, and a camera that sees all of it."""
    count = int(rng.integers(1, 6))
    things: list[Thing] = []
    chosen: list[Model] = []
    while len(things) < count:
        model = models[int(rng.integers(len(models)))]
        assert model.size is not None
        radius = math.hypot(*model.size[:2]) / 2
        yaw = float(rng.uniform(-math.pi, math.pi))
        hosts = [
            (t, m) for t, m in zip(things, chosen, strict=True)
            if m.rest and t.location[2] == 0 and max(model.size) < 0.5 * min(t.size[:2])
        ]  # fmt: skip
        if hosts and rng.random() < 0.5:
            host, below = hosts[int(rng.integers(len(hosts)))]
            assert below.rest is not None
            at = (host.location[0], host.location[1], below.rest)
        else:
            for reach in np.linspace(0, 3, 31):
                angle = rng.uniform(0, 2 * math.pi)
                x, y = reach * math.cos(angle), reach * math.sin(angle)
                clear = [
                    math.dist((x, y), t.location[:2]) > 0.8 * (radius + math.hypot(*t.size[:2]) / 2)
                    for t in things
                ]
                if all(clear):
                    break
            at = (float(x), float(y), 0.0)
        things.append(
            Thing(id=f"thing-{len(things) + 1}", size=model.size, location=at, yaw=yaw,
                  model=model.file, rotation=turned(model))
        )  # fmt: skip
        chosen.append(model)
    around = extent(things)
    reach = np.abs(around[:, :2]).max(0) * 2 + 1.2
    where = int(rng.integers(3))
    room = Room(width=float(reach[0]), depth=float(reach[1])) if where == 0 else None
    scene = Scene(things=tuple(things), room=room, outdoors=where == 1)
    side, lift = rng.uniform(-0.9, 0.9), math.radians(rng.uniform(6, 38))
    direction = (math.sin(side), math.cos(side), -math.tan(lift))
    camera = frame(around, direction, WIDTH / HEIGHT, float(rng.uniform(0.5, 1.0)))
    away = np.subtract(camera.location, camera.target) * rng.uniform(0, 0.35)
    location = tuple(float(v) for v in np.add(camera.location, away))
    return scene, chosen, camera.model_copy(update={"location": location})


def rendered(
    workers: Workers, scene: Scene, camera: Camera, folder: Path, name: str
) -> tuple[Path, np.ndarray]:
    """The picture of a scene, and which thing owns each pixel."""
    picture, mask = folder / f"{name}.png", folder / f"{name}-mask.png"
    if not picture.exists():
        workers.do(Look(scene=scene, camera=camera, width=WIDTH, height=HEIGHT, mask=mask))
        workers.do(Render(scene=scene, cameras=(camera,), paths=(picture,), width=WIDTH,
                          height=HEIGHT, samples=16))  # fmt: skip
    return picture, np.asarray(Image.open(mask))


def drawn(index: Index, count: int, seed: int) -> list[tuple[Scene, list[Model], Camera]]:
    """So many scenes."""
    models = usable(index.all()[0])
    return [made(models, np.random.default_rng([seed, n])) for n in range(count)]


def measured(
    workers: Workers, truth: tuple[Scene, list[Model], Camera], mask: np.ndarray,
    found: Reconstructed,
) -> dict[str, float]:  # fmt: skip
    """The figures of one scene; see the module."""
    scene, models, camera = truth
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        workers.do(Look(scene=found.scene, camera=found.cameras[0], width=WIDTH, height=HEIGHT,
                        mask=path))  # fmt: skip
        theirs = np.asarray(Image.open(path))
    either = ((mask > 0) | (theirs > 0)).sum()
    shown = [n for n in range(len(models)) if (mask == n + 1).sum() >= 20]
    overlap = np.zeros((len(shown), len(found.scene.things)))
    for row, n in enumerate(shown):
        for k in range(overlap.shape[1]):
            a, b = mask == n + 1, theirs == k + 1
            overlap[row, k] = (a & b).sum() / max(1, (a | b).sum())
    rows, columns = linear_sum_assignment(-overlap)
    pairs = [(shown[r], k) for r, k in zip(rows, columns, strict=True) if overlap[r, k] >= 0.3]
    mine = [found.dressed.models[found.scene.things[k].id] for _, k in pairs]
    right = [models[n].category == m.category for (n, _), m in zip(pairs, mine, strict=True)]
    same = [models[n].id == m.id for (n, _), m in zip(pairs, mine, strict=True)]
    a = np.array([before(camera, scene.things[n].location) for n, _ in pairs]).reshape(-1, 2)
    b = np.array([before(found.cameras[0], found.scene.things[k].location) for _, k in pairs])
    b = b.reshape(-1, 2)
    return {
        "silhouette": float(((mask > 0) & (theirs > 0)).sum() / max(1, either)),
        "found": len(pairs) / len(shown),
        "category": sum(right) / len(shown),
        "model": sum(same) / len(shown),
        "things": len(found.scene.things) / len(shown),
        "metres": float(np.linalg.norm(a - b, axis=1).mean()) if pairs else math.nan,
        "shape": aligned(a, b) if len(pairs) > 1 else math.nan,
    }


def before(camera: Camera, at: Sequence[float]) -> tuple[float, float]:
    """How far to the right of a camera and how far before it a place lies, seen from above."""
    ahead = np.subtract(camera.target, camera.location)[:2]
    ahead = ahead / np.linalg.norm(ahead)
    away = np.subtract(at, camera.location)[:2]
    return float(away @ (ahead[1], -ahead[0])), float(away @ ahead)


def aligned(a: np.ndarray, b: np.ndarray) -> float:
    """Mean metres between places after the best turn, shift and scale (Umeyama 1991)."""
    one, two = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(two.T @ one)
    flip = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * np.diag(flip)).sum() / max(float((two**2).sum()), 1e-9)
    return float(np.linalg.norm(one - scale * two @ (u @ flip @ vt), axis=1).mean())


def recognised(
    shapes: Shapes, truth: tuple[Scene, list[Model], Camera], path: Path, mask: np.ndarray
) -> dict[str, float] | None:
    """What a scene's pieces are taken for where each is cut out exactly; None if none is seen."""
    picture = read(path)
    height, width = picture.mask.shape
    small = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((width, height), 0))
    shown = [n for n in range(len(truth[1])) if (small == n + 1).sum() >= 25]
    shown = [n for n in shown if truth[1][n].id in shapes.number]
    if not shown:
        return None
    parts = [Piece(small == n + 1) for n in shown]
    found = [scores(part, picture, shapes) for part in parts]
    view = cameras(parts, found, shapes, (width, height))[0][1]
    down = np.subtract(truth[2].target, truth[2].location)
    pitch = math.degrees(math.atan2(-down[2], math.hypot(down[0], down[1])))
    ranks = []
    right = []
    for n, part, scored in zip(shown, parts, found, strict=True):
        best = guesses(part, scored, shapes, view, (width, height), 8)
        ranks.append([g.model for g in best])
        right.append(shapes.models[best[0].model].category == truth[1][n].category)
    wanted = [shapes.number[truth[1][n].id] for n in shown]
    return {
        "category": sum(right) / len(right),
        "model": sum(r[0] == w for r, w in zip(ranks, wanted, strict=True)) / len(right),
        "among 8": sum(w in r for r, w in zip(ranks, wanted, strict=True)) / len(right),
        "pitch": abs(math.degrees(view.pitch) - pitch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--named", action="store_true", help="tell the names of the things")
    parser.add_argument("--masked", action="store_true", help="give the outlines of the things")
    parser.add_argument("--cut", action="store_true", help="only recognise pieces cut out exactly")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    index, rows = Index(), []
    with Workers(device="cpu") as workers:
        for n, truth in enumerate(drawn(index, asked.scenes, asked.seed)):
            scene, models, camera = truth
            path, mask = rendered(workers, scene, camera, asked.out, f"{n:02d}")
            if asked.cut:
                told = recognised(library(index, workers), truth, path, mask)
                rows += [told] if told is not None else []
                continue
            names = [m.name for m in models] if asked.named else []
            begun = time.monotonic()
            try:
                given = path.with_name(f"{n:02d}-mask.png") if asked.masked else None
                found = reconstruct([path], index, workers, names=names, mask=given)
            except UserError as error:
                print(f"{n:02d} {[m.name for m in models]}: {error.message}", flush=True)
                row = dict.fromkeys(("silhouette", "found", "category", "model", "things"), 0.0)
                rows.append({**row, "metres": math.nan, "shape": math.nan})
                continue
            job = Render(scene=found.scene, cameras=found.cameras,
                         paths=(asked.out / f"{n:02d}-made.png",), width=WIDTH, height=HEIGHT,
                         samples=16)  # fmt: skip
            workers.do(job)
            rows.append(measured(workers, truth, mask, found))
            figures = ", ".join(f"{k} {v:.2f}" for k, v in rows[-1].items())
            made = [found.dressed.models[t.id].name for t in found.scene.things]
            seconds = time.monotonic() - begun
            print(f"{n:02d} {[m.name for m in models]} -> {made}: {figures} ({seconds:.0f} s)",
                  flush=True)  # fmt: skip
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        values = values[~np.isnan(values)]
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        print(f"{name}: {values.mean():.3f} ± {error:.3f} (n={len(values)}), "
              f"median {np.median(values):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
