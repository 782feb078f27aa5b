"""The critics that a command's flags ask for."""

from __future__ import annotations

from scenes.assets.index import Index
from scenes.critics import Critic

NAMES = ("geometry", "clip", "vision")


def critics(wanted: str, index: Index) -> list[Critic]:
    """The critics named in ``wanted``, with commas between them, in that order.

    Raises:
        UserError: there is no such critic, or what it needs was not given.
    """
    from common.cli import unknown
    from scenes.critics.geometry import Geometry

    names = list(dict.fromkeys(n.strip() for n in wanted.split(",") if n.strip()))
    found: list[Critic] = []
    for name in names or ["geometry"]:
        if name != "geometry":
            raise unknown("critic", name, ["geometry"])
        found.append(Geometry(index))
    return found
