"""A user's own folder of models: OBJ, GLB, glTF, FBX and .blend files, below it at any depth.

What is not known of a model from its file's name can stand in ``models.csv`` beside the models,
with the columns file, name, category, tags, width, depth, height (metres), creator, licence; all
but the first may be empty.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.errors import UserError
from scenes.assets.model import Model
from scenes.assets.sh3f import content_digest

FORMATS = (".obj", ".glb", ".gltf", ".fbx", ".blend")
TABLE = "models.csv"
NOISE = re.compile(r"(?i)\b(v?\d+|final|model|mesh|low|high|poly|lod\d?)\b")
"""Words of file names that say nothing of what a model shows."""


def files(folder: Path) -> Iterator[Path]:
    """Every model below ``folder``, sorted; links out of it are not followed."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in FORMATS and path.is_file() and not path.is_symlink():
            yield path


def read(folder: Path) -> list[Model]:
    """The models of a folder, without what only a look into a file can tell (their sizes).

    Raises:
        UserError: there is no such folder, no model in it, or a table that cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", "name a folder of models or a .sh3f catalogue")
    told = _table(folder)
    found = []
    for path in files(folder):
        inside = path.relative_to(folder)
        row = told.get(str(inside), {})
        sizes = [_metres(folder, inside, row, name) for name in ("width", "depth", "height")]
        known = [s for s in sizes if s is not None]
        found.append(
            Model(
                id=re.sub(r"[^a-z0-9]+", "-", f"{folder.name}-{inside}".lower()).strip("-"),
                name=row.get("name") or spoken(path.stem),
                path=str(path.absolute()),
                digest=content_digest(path),
                source=folder.name,
                category=row.get("category", "")
                or (inside.parent.name if len(inside.parts) > 1 else ""),
                tags=tuple(t.strip() for t in row.get("tags", "").split(";") if t.strip()),
                size=(known[0], known[1], known[2]) if len(known) == 3 else None,
                creator=row.get("creator", ""),
                licence=row.get("licence", ""),
            )
        )
    if not found:
        raise UserError(f"no model in {folder}", f"put {', '.join(FORMATS)} files there")
    return found


def spoken(stem: str) -> str:
    """What a file's name says: ``OldOak_chair-02`` is an old oak chair."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-.]+|(?<=\D)(?=\d)", " ", stem)
    return " ".join(NOISE.sub(" ", words).split()).lower() or stem.lower()


def _table(folder: Path) -> dict[str, Mapping[str, str]]:
    path = folder / TABLE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}", "save it as a CSV in UTF-8") from error
    if rows and "file" not in rows[0]:
        raise UserError(f"{path} has no column 'file'", "name each model's file in it")
    return {row["file"]: {k: v or "" for k, v in row.items() if k} for row in rows}


def _metres(folder: Path, inside: Path, row: Mapping[str, str], name: str) -> float | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:
        raise UserError(
            f"{folder / TABLE}: {name} of {inside} is {text!r}", "give metres, as in 0.85"
        )
    return value
