"""What a reconstruction leaves in its folder: the files of a crafted scene, and pictures beside
the ones that it was made from."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

from scenes import coder
from scenes.assets.index import Index
from scenes.assets.model import attribution
from scenes.commands.plan import write
from scenes.critics import Staged
from scenes.reconstruct import Reconstructed
from scenes.render.jobs import Render
from scenes.render.pool import Workers
from scenes.shoot import Studio


def deliver(
    found: Reconstructed,
    out: Path,
    index: Index,
    workers: Workers,
    width: int = 640,
    samples: int = 32,
) -> tuple[str, ...]:
    """Write everything; the names of the files.

    Raises:
        RenderError, OSError: Blender failed; the disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = ["graph.json", "cameras.json", "scene.py", "scene.blend", "scene.glb"]
    write(out / "graph.json", found.graph.dump())
    cameras = [camera.model_dump(mode="json") for camera in found.cameras]
    write(out / "cameras.json", json.dumps(cameras, indent=1) + "\n")
    across, down = found.pictures[0].full
    size = (width, max(16, round(width * down / across)))
    camera = found.cameras[0]
    source = coder.script(
        found.graph, found.solution, found.dressed, found.scene, camera, size=size, samples=samples
    )
    write(out / "scene.py", source)
    staged = Staged(
        text=found.graph.text, dressed=found.dressed, solution=found.solution, scene=found.scene,
        camera=camera,
    )  # fmt: skip
    Studio(index, workers).export(staged, out / "scene.blend", out / "scene.glb")
    owed = attribution(found.dressed.models.values())
    if owed:
        write(out / "attribution.txt", owed)
        files.append("attribution.txt")
    made = []
    for n, (each, picture) in enumerate(zip(found.cameras, found.pictures, strict=True)):
        across, down = picture.full
        path = out / f"made-{n}.png"
        workers.do(
            Render(scene=found.scene, cameras=(each,), paths=(path,), width=width,
                   height=max(16, round(width * down / across)), samples=samples)
        )  # fmt: skip
        made.append(path)
        _beside(picture.path, path, out / f"compare-{n}.png")
        files += [path.name, f"compare-{n}.png"]
    write(out / "report.html", _report(found, made, owed))
    return (*files, "report.html")


def _beside(picture: Path, made: Path, path: Path) -> None:
    """The picture and the reconstruction as one image."""
    from PIL import Image

    with Image.open(made) as right, Image.open(picture) as opened:
        both = Image.new("RGB", (2 * right.width, right.height))
        both.paste(opened.convert("RGB").resize(right.size), (0, 0))
        both.paste(right.convert("RGB"), (right.width, 0))
    both.save(path)


def _report(found: Reconstructed, made: list[Path], owed: str) -> str:
    """One self-contained HTML file."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    things = []
    for asset in found.graph.assets:
        place, model = found.solution.layout[asset.id], found.dressed.models[asset.id]
        x, y, z = place.location
        things.append(
            {
                "id": asset.id,
                "model": model.name,
                "category": model.category,
                "size": " x ".join(f"{v:.2f}" for v in place.size),
                "x": x,
                "y": y,
                "z": z,
                "degrees": math.degrees(place.yaw),
                "scale": place.scale,
            }
        )
    pairs = [
        {"name": p.path.name, "picture": _jpeg(p.path), "made": _jpeg(m), "silhouette": s}
        for p, m, s in zip(found.pictures, made, found.silhouettes, strict=True)
    ]
    return environment.from_string(template).render(
        title=", ".join(p.path.name for p in found.pictures),
        things=things,
        pairs=pairs,
        agreement=found.agreement,
        owed=owed.splitlines(),
    )


def _jpeg(path: Path) -> str:
    """A picture as a data URL, small enough to be mailed."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((800, 800))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
