"""The library that learning starts from: relations and distances as SceneCraft published them.

Formulas and levels of the appendix (arXiv 2403.01248), in the form in which the solver can use
them. Mended is only what would be no number or would leave nothing to maximise; what the paper's
own loop learnt afterwards, such as the turn in parallelism, is not here. Of the eleven, overlap and
hierarchy have no gradient as published, and repetition and scaling have no score: for these and for
relations that the paper does not have, the library starts from this project's own.

The paper's levels of proximity are on 0, very close 1, close 3, moderate 5 and distant 10 metres,
between middles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scenes.graph import Relation
from scenes.planners.sayings import say
from scenes.relations.boxes import Poses, unit
from scenes.relations.paper import AXES
from scenes.relations.skills import centres, falling


def proximity(p: Poses, distance: float) -> Tensor:
    """Each a lies within distance metres of the host."""
    return falling(centres(p.guests, p.host), distance, 4.0 * distance).mean(-1)


def alignment(p: Poses, axis: str, tolerance: float) -> Tensor:
    """All have the same coordinate along the axis."""
    del tolerance  # published in units of a metre
    variance = p.location[..., AXES[axis]].var(-1, unbiased=False)
    return 1 / (1 + variance / 1.0**2)


def symmetry(p: Poses, axis: str, host: bool, tolerance: float) -> Tensor:
    """Mirrored along the axis about their middle, or about the last one if host."""
    del tolerance  # published with 10 metres
    subjects = p.guests if host else p
    at = subjects.location[..., AXES[axis]]
    middle = p.host.location[..., AXES[axis]] if host else at.median(-1, keepdim=True).values
    away = (2 * middle.unsqueeze(-1) - at.unsqueeze(-1) - at.unsqueeze(-2)).abs()
    return (1 - away.amin(-1).mean(-1) / 10.0).clamp(0, 1)


def parallelism(p: Poses) -> Tensor:
    """They lie on one line."""
    if p.count < 3:
        return 1.0 + 0.0 * p.yaw.sum(-1)
    steps = unit(p.location[..., 1:, :] - p.location[..., :-1, :])
    return (((steps[..., 1:, :] * steps[..., :-1, :]).sum(-1) + 1) / 2).mean(-1)


def rotation(p: Poses, tolerance: float) -> Tensor:
    """Spread evenly around the host, as seen from above."""
    del tolerance  # published in units of a radian
    at = p.guests.plan - p.host.plan
    angle = torch.atan2(at[..., 1], at[..., 0] + 1e-9).sort(-1).values
    gaps = torch.cat([angle, angle[..., :1] + 2 * math.pi], -1).diff(dim=-1)
    return 1 / (1 + gaps.var(-1, unbiased=False) / 1.0**2)


def facing(p: Poses) -> Tensor:
    """a looks at the host."""
    way = unit(p.plan[..., 1, :] - p.plan[..., 0, :])
    return ((way * p.forward[..., 0, :]).sum(-1) + 1) / 2


def around(p: Poses, distance: float) -> Tensor:
    """Evenly around the host, close to it, each looking at it: three of the others in one."""
    close = falling(centres(p.guests, p.host), 1.0 + distance, 4.0).mean(-1)
    ways = unit(p.host.plan - p.guests.plan)
    looks = (((ways * p.guests.forward).sum(-1) + 1) / 2).mean(-1)
    at = p.guests.plan - p.host.plan
    angle = torch.atan2(at[..., 1], at[..., 0] + 1e-9).sort(-1).values
    gaps = torch.cat([angle, angle[..., :1] + 2 * math.pi], -1).diff(dim=-1)
    return close * looks / (1 + gaps.var(-1, unbiased=False) / 1.0**2)


def distance(p: Poses, metres: float) -> Tensor:
    """That many metres of air between a and the host."""
    off = (centres(p.guests, p.host)[..., 0] - metres).abs()
    return falling(off, 1.0, 4.0)


def say_next_to(subject: str, host: str) -> list[Relation]:
    """Next to it, beside it: very close."""
    return [say("proximity", subject, host, distance=1.0)]


def say_near(subject: str, host: str) -> list[Relation]:
    """Near it, close to it: close."""
    return [say("proximity", subject, host, distance=3.0)]


def say_side(side: str, subject: str, host: str) -> list[Relation]:
    """Left of it, right of it, in front of it or behind it, at a moderate distance."""
    return [say(side, subject, host), say("proximity", subject, host, weight=1.0, distance=5.0)]


def say_far(subject: str, host: str) -> list[Relation]:
    """Far from it: distant."""
    return [say("apart", subject, host, distance=10.0)]


def say_flank(hand: str, subject: str, host: str) -> list[Relation]:
    """On one hand of it as it looks itself, very close."""
    return [
        say("direction", subject, host, side=hand),
        say("proximity", subject, host, distance=1.0),
    ]
