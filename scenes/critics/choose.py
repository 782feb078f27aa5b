"""The critics that a command's flags ask for."""

from __future__ import annotations

from scenes.assets.index import Index
from scenes.critics import Critic
from scenes.render.pool import Workers

NAMES = ("geometry", "clip", "vision")


def critics(
    wanted: str,
    index: Index,
    workers: Workers,
    model: str | None = None,
    base_url: str | None = None,
    clip: str = "starter",
) -> list[Critic]:
    """The critics named in ``wanted``, with commas between them, in that order.

    ``model`` and ``base_url`` are those of the vision-language model, ``clip`` what
    :func:`scenes.clip.encoder.load` takes.

    Raises:
        UserError: there is no such critic, or what it needs was not given.
    """
    from common.cli import unknown

    names = list(dict.fromkeys(n.strip() for n in wanted.split(",") if n.strip()))
    for name in names:
        if name not in NAMES:
            raise unknown("critic", name, NAMES)
    found: list[Critic] = []
    for name in names or ["geometry"]:
        if name == "clip":
            from scenes.clip.encoder import load
            from scenes.critics.clip import ClipCritic

            found.append(ClipCritic(load(clip), index))
        elif name == "vision":
            from common.policies.served import connect
            from scenes.critics.vision import Vision

            found.append(Vision(connect(model, base_url), workers))
        else:
            from scenes.critics.geometry import Geometry

            found.append(Geometry(index))
    return found
