"""Furniture catalogues in Sweet Home 3D's format (``.sh3f``): zips of OBJ models with properties.

``PluginFurnitureCatalog.properties`` gives each model's name, category, tags, creator, icon and
size in centimetres. The units of the OBJ files differ from model to model, so the size there is the
one to scale to.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from common.errors import UserError
from scenes.assets.model import Model

PROPERTIES = "PluginFurnitureCatalog.properties"
MAX_BYTES = 2 * 2**30
"""What a catalogue may unpack to."""
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")


def unpacked(catalogue: Path, cache: Path) -> Path:
    """The folder of ``cache`` that holds the catalogue's files, unpacked once.

    Raises:
        UserError: it is no catalogue, is damaged, unpacks to more than :data:`MAX_BYTES`, or would
            write outside its folder.
    """
    try:
        with catalogue.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()[:16]
    except OSError as error:
        raise UserError(
            f"cannot read {catalogue}: {error.strerror}", "name a .sh3f file"
        ) from error
    target = cache / f"{catalogue.stem}-{digest}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{catalogue.stem}.", dir=cache))
    try:
        with zipfile.ZipFile(catalogue) as archive:
            if PROPERTIES not in archive.namelist():
                raise UserError(f"{catalogue} holds no {PROPERTIES}", "name a furniture catalogue")
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise UserError(f"{catalogue} unpacks to more than 2 GiB", "split it")
            for info in archive.infolist():
                parts = PurePosixPath(info.filename).parts
                if ".." in parts or info.filename.startswith("/"):
                    raise UserError(f"{catalogue} writes outside its folder", "do not use it")
            archive.extractall(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # another process may have been faster
                raise
    except zipfile.BadZipFile as error:
        raise UserError(f"{catalogue} is damaged: {error}", "fetch it again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def read(folder: Path) -> list[Model]:
    """The models of an unpacked catalogue, in its order; those without a file are left out."""
    common, entries = properties((folder / PROPERTIES).read_text(encoding="latin-1"))
    licence = short_licence(common.get("license", ""))
    source = common.get("name", folder.name)
    return [
        found for entry in entries if (found := _model(folder, entry, source, licence)) is not None
    ]


def properties(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The catalogue's own properties, and those of each piece in order of its number."""
    common: dict[str, str] = {}
    pieces: dict[int, dict[str, str]] = {}
    # A backslash at the end goes on in the next line.
    for line in re.sub(r"\\\r?\n\s*", "", text).splitlines():
        key, found, value = line.strip().partition("=")
        if not found or key.startswith(("#", "!")):
            continue
        name, numbered, number = key.strip().partition("#")
        value = _ESCAPE.sub(_unescape, value.strip())
        if not numbered:
            common[name] = value
        elif number.isdigit():
            pieces.setdefault(int(number), {})[name] = value
    return common, [pieces[n] for n in sorted(pieces)]


def _unescape(match: re.Match[str]) -> str:
    escaped = match.group(1)
    if len(escaped) == 5:
        return chr(int(escaped[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}.get(escaped, escaped)


def short_licence(text: str) -> str:
    """The SPDX name of a licence as catalogues write it; else its own words."""
    lowered = text.lower()
    if "public domain" in lowered or "cc-0" in lowered or "cc0" in lowered:
        return "CC0-1.0"
    if "attribution 3.0" in lowered:
        return "CC-BY-3.0-US" if "united states" in lowered else "CC-BY-3.0"
    return " ".join(text.split())


def _model(folder: Path, entry: Mapping[str, str], source: str, licence: str) -> Model | None:
    def inside(name: str) -> Path | None:
        path = folder / entry[name].lstrip("/") if entry.get(name) else None
        return path if path is not None and path.is_file() else None

    def metres(name: str) -> float | None:
        try:
            value = round(float(entry[name]) / 100, 5)
        except (KeyError, ValueError):
            return None
        return value if value > 0 else None

    path, icon = inside("model"), inside("icon")
    width, depth, height = metres("width"), metres("depth"), metres("height")
    if path is None or width is None or depth is None or height is None:
        return None
    rotation = tuple(float(v) for v in entry.get("modelRotation", "").split())
    return Model(
        id=_slug(entry.get("id") or f"{source} {path.stem}"),
        name=entry.get("name", path.stem),
        path=str(path),
        digest=content_digest(path),
        source=source,
        category=entry.get("category", ""),
        tags=tuple(t.strip() for t in entry.get("tags", "").split(",") if t.strip()),
        size=(width, depth, height),
        elevation=metres("elevation") or 0.0,
        rest=metres("dropOnTopElevation"),
        rotation=rotation if len(rotation) == 9 else None,
        icon=str(icon) if icon else None,
        fixed=entry.get("doorOrWindow") == "true",
        creator=entry.get("creator", ""),
        licence=licence,
    )


def content_digest(path: Path) -> str:
    """Of a model's file and, for an OBJ, of the materials beside it."""
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    if path.suffix.lower() == ".obj":
        for material in sorted(path.parent.glob("*.mtl")):
            digest.update(material.read_bytes())
    return digest.hexdigest()


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
