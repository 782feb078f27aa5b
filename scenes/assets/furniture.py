"""The models that come with ``upspiral data get furniture``, and what the index is filled with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common import registry
from common.home import cache
from scenes.assets import folder, sh3f
from scenes.assets.index import ImageEncoder, Index, Indexed
from scenes.assets.model import Model
from scenes.assets.previews import pictured

Progress = Callable[[int, int, str], None]


def catalogues() -> list[Path]:
    """The furniture's catalogues, fetched first if need be."""
    root = registry.get("furniture") / "usr/share/sweethome3d/furniture"
    return sorted(root.glob("*.sh3f"))


def models() -> list[Model]:
    """Every model of them that can be shown, none twice."""
    found: dict[tuple[str, str], Model] = {}
    for catalogue in catalogues():
        for model in sh3f.read(sh3f.unpacked(catalogue, cache() / "models")):
            if model.size is not None:
                found.setdefault((model.digest, model.name), model)
    return list(found.values())


def index(
    assets: Path | None = None,
    images: ImageEncoder | None = None,
    progress: Progress | None = None,
    into: Index | None = None,
) -> tuple[Index, dict[str, Indexed]]:
    """The index with the models of ``assets`` (a folder or a catalogue; the furniture by default).

    What is in it already stays; what came of each source is told by its name. Models of a folder
    are rendered for ``images`` to see.

    Raises:
        UserError: as the readers and the registry do.
    """
    into = into or Index()
    done = {}
    if assets is not None and assets.suffix.lower() != ".sh3f":
        found = folder.read(assets)
        if images is not None:
            found = pictured(found, progress=progress)
        done[str(assets)] = into.add(source(assets), found, images, progress)
        return into, done
    for catalogue in [assets] if assets is not None else catalogues():
        mine = sh3f.read(sh3f.unpacked(catalogue, cache() / "models"))
        done[catalogue.stem] = into.add(source(catalogue), mine, images, progress)
    return into, done


def source(assets: Path) -> str:
    """What the index calls the source of a folder's or a catalogue's models."""
    return assets.stem if assets.suffix.lower() == ".sh3f" else str(assets.absolute())
