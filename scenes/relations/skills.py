"""Parts that learnt relations are made of, some of which may stand for one another.

A library's versions of relations (:mod:`scenes.skills`) are written in these and in what
:mod:`scenes.relations.boxes` offers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scenes.relations.boxes import Poses, gap_3d, length
from scenes.relations.paper import near

METRES = ("centres", "gap_3d")
"""How far two are from one another: of middles, of boxes."""
FALLS = ("falling", "near")
"""How a score falls with metres too many."""
SHARES = ("mean", "amin")
"""Methods: of several the mean counts, or the worst."""
TERMS = ("alike", "looking")
"""What a score may be multiplied by besides, as SceneCraft's loop found for parallelism."""


def centres(a: Poses, b: Poses) -> Tensor:
    """Metres between middles."""
    return length(a.location - b.location)


def falling(value: Tensor, free: float, width: float) -> Tensor:
    """1 up to ``free``, 0 from ``width`` metres more, linear between: the paper's proximity."""
    return (1 - (value - free) / max(width, 1e-3)).clamp(0, 1)


def alike(p: Poses) -> Tensor:
    """Neighbours look the same way."""
    return (((p.yaw[..., 1:] - p.yaw[..., :-1]).cos() + 1) / 2).mean(-1)


def looking(p: Poses) -> Tensor:
    """All but the last look at the last."""
    from scenes.relations.places import looks_at

    return looks_at(p.guests, p.host).amin(-1)


def stand(*places: tuple[float, ...], size: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Poses:
    """Poses of boxes on the floor at x, y and yaw, for the examples of skills."""
    at = torch.tensor([[x, y, 0.0] for x, y, *_ in places])
    yaw = torch.tensor([float(rest[0]) if rest else 0.0 for _, _, *rest in places])
    return Poses(at, yaw, torch.tensor([size] * len(places)))


__all__ = ["alike", "centres", "falling", "gap_3d", "looking", "near", "stand"]
