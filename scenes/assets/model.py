"""One model of the index, and the attribution that models are owed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scenes.graph import Strict, Surface

FREE = ("CC0-1.0", "")
"""Licences that ask for no attribution; "" is a model of the user's own."""


class Model(Strict):
    """A model: what it is, how large it is when scaled to what it shows, and where its file lies.

    ``size`` is width, depth and height in metres, or None until it was measured. ``rotation`` are
    the nine numbers, row by row, that turn the file's coordinates (y up) before anything else.
    ``rest`` is the height at which its catalogue says that things stand on it. ``digest`` is of the
    model's and its materials' content.
    """

    id: str
    name: str
    path: str
    digest: str
    source: str
    """The catalogue or folder it comes from."""
    category: str = ""
    tags: tuple[str, ...] = ()
    size: tuple[float, float, float] | None = None
    elevation: float = 0.0
    """Metres above the floor at which it hangs, by its catalogue."""
    rest: float | None = None
    rotation: tuple[float, ...] | None = None
    icon: str | None = None
    fixed: bool = False
    """A door, a window: part of a building rather than a thing in it."""
    creator: str = ""
    licence: str = ""
    surfaces: tuple[Surface, ...] | None = None
    """Where things can stand on it, at its own size; None until measured."""

    @property
    def file(self) -> Path:
        return Path(self.path)


def attribution(models: Iterable[Model]) -> str:
    """Whose models these are: a line each, for a file beside whatever shows them.

    Models under CC-BY ask for the author, the licence and what was changed; those without a licence
    are the user's own and are left out.
    """
    lines = {
        f"{m.name}: {m.creator or 'unknown author'}, {m.source}, {m.licence}"
        for m in models
        if m.licence
    }
    if not lines:
        return ""
    changed = "Changed: scaled, turned, doubled faces removed, lit and rendered."
    return "\n".join(["Models in this scene", *sorted(lines), changed]) + "\n"
