"""Where one asset lies as another stands: on, under, in, beside, between, around.

Left, right, in front and behind are the viewer's, who stands at -y: what is in front has the
smaller y. ``direction`` is for an asset's own sides. The tolerances say what a person would let
pass: a hand's width beside, half an overlap behind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scenes.relations import relation
from scenes.relations.boxes import Poses, gap, gap_3d, length, overlap_area, overlap_height, unit
from scenes.relations.paper import near, rotation

EDGE = 0.7
"""The share of an edge, around its middle, that one sits at and does not sit past."""
TOUCH = 0.02
"""Metres within which things touch."""


def share(a: Poses, b: Poses) -> Tensor:
    """Share of ``a``'s footprint that lies inside ``b``'s."""
    area = a.size[..., :2].prod(-1).clamp(min=1e-9)
    return (overlap_area(a, b) / area).clamp(max=1)


@relation("on", assets=(2, 2), host="last")
def on(p: Poses) -> Tensor:
    """a rests on a level surface of the host.

    The best surface counts: a's underside at its height, a's middle above it, a not through what is
    over it. Without measured surfaces it is the top of the host's box.
    """
    # Both in the host's frame, (..., 1, S) against (..., S).
    at = p.guests.seen_from(p.host)
    height = (p.bottom[..., 0] - p.bottom[..., 1]).unsqueeze(-1)
    half, top = p.half[..., 1, :], p.size[..., 1, 2]
    box = torch.stack(
        [-half[..., 0], half[..., 0], -half[..., 1], half[..., 1], top, top * 0 + 1e3], -1
    ).unsqueeze(-2)
    s = box if p.surfaces is None else p.surfaces[..., 1, :, :]
    if p.surfaces is not None:
        bare = s[..., :1, :1].isnan()
        padding = box.expand(*s.shape[:-2], 1, 6)
        s = torch.cat([torch.where(bare, padding, s[..., :1, :]), s[..., 1:, :]], -2)
    there = ~s[..., 4].isnan()
    s = torch.nan_to_num(s, nan=0.0)
    out_x = torch.maximum(s[..., 0] - at[..., 0], at[..., 0] - s[..., 1])
    out_y = torch.maximum(s[..., 2] - at[..., 1], at[..., 1] - s[..., 3])
    off = length(torch.stack([out_x.clamp(min=0), out_y.clamp(min=0)], -1))
    tight = (p.size[..., :1, 2] - s[..., 5]).clamp(min=0)
    score = near(off, 0.01, 0.15) * near((height - s[..., 4]).abs(), 0.01, 0.05)
    score = score * near(tight, TOUCH, 0.1)
    return torch.where(there, score, torch.zeros_like(score)).amax(-1)


@relation("under", assets=(2, 2), host="last")
def under(p: Poses) -> Tensor:
    """a lies below the host, or the host stands on it as on a rug."""
    common = torch.maximum(share(p.one(0), p.one(1)), share(p.one(1), p.one(0)))
    high = (p.top[..., 0] - p.top[..., 1]).clamp(min=0)
    return near(1 - common, 0.3, 0.5) * near(high, 0.0, 0.2)


@relation("inside", assets=(2, 2), host="last")
def inside(p: Poses) -> Tensor:
    """a's box is within the host's."""
    tall = p.size[..., 0, 2].clamp(min=1e-6)
    guest, host = p.one(0), p.one(1)
    return share(guest, host) * (overlap_height(guest, host) / tall).clamp(max=1)


@relation("above", assets=(2, 2), host="last")
def above(p: Poses) -> Tensor:
    """a hangs or stands higher than the host, over it."""
    off = length((p.plan[..., 0, :] - p.plan[..., 1, :]) / p.half[..., 1, :])
    low = (p.top[..., 1] - p.bottom[..., 0]).clamp(min=0)
    return near(off, 0.5, 0.7) * near(low, TOUCH, 0.2)


def _beyond(p: Poses, axis: int, sign: float) -> Tensor:
    """How well asset 0 lies past asset 1 along an axis of the world, and abreast of it."""
    reach = p.reach
    away = p.plan[..., 0, :] - p.plan[..., 1, :]
    both = reach.sum(-2)
    # Half of what would clear it entirely is enough where the other axis keeps them apart.
    short = 0.5 * both[..., axis] - sign * away[..., axis]
    aside = away[..., 1 - axis].abs() - 0.5 * both[..., 1 - axis]
    forward = sign * away[..., axis]
    slant = aside.clamp(min=0) / (forward.clamp(min=0) + 0.3)
    return near(short, 0.0, 0.3) * near(slant, 0.25, 0.75)


@relation("left-of", assets=(2, 2), host="last")
def left_of(p: Poses) -> Tensor:
    """a is left of the host, as the viewer sees it."""
    return _beyond(p, 0, -1.0)


@relation("right-of", assets=(2, 2), host="last")
def right_of(p: Poses) -> Tensor:
    """a is right of the host, as the viewer sees it."""
    return _beyond(p, 0, 1.0)


@relation("in-front-of", assets=(2, 2), host="last")
def in_front_of(p: Poses) -> Tensor:
    """a is nearer to the viewer than the host."""
    return _beyond(p, 1, -1.0)


@relation("behind", assets=(2, 2), host="last")
def behind(p: Poses) -> Tensor:
    """a is farther from the viewer than the host."""
    return _beyond(p, 1, 1.0)


@relation("between", assets=(3, 3))
def between(p: Poses) -> Tensor:
    """The first lies between the other two."""
    a, b, c = (p.plan[..., k, :] for k in range(3))
    way = c - b
    far = length(way)
    along = ((a - b) * way).sum(-1) / far.square()
    beside = ((a - b)[..., 0] * way[..., 1] - (a - b)[..., 1] * way[..., 0]).abs() / far
    return near((along - 0.5).abs(), 0.15, 0.25) * near(beside / far, 0.1, 0.25)


@relation("facing", assets=(2, 2), host="last")
def facing(p: Poses) -> Tensor:
    """a looks at the host: the square of (cosine + 1) / 2 of the angle that it is off."""
    return looks_at(p.one(0), p.one(1))


def looks_at(a: Poses, b: Poses) -> Tensor:
    """Towards the middle, or squarely at the nearest edge, as people sit at a long table.

    Squared, since 37 degrees off would hold otherwise, and nobody calls that looking at something.
    """
    local, inner = a.seen_from(b), EDGE * b.half
    near_x, near_y = (torch.minimum(torch.maximum(local, -inner), inner) - local).unbind(-1)
    edge = near_x.unsqueeze(-1) * b.right - near_y.unsqueeze(-1) * b.forward
    ways = torch.stack([b.plan - a.plan, edge], -2)
    return (((unit(ways) * a.forward.unsqueeze(-2)).sum(-1) + 1) / 2).amax(-1).square()


@relation("around", assets=(2, 100), options={"distance": 0.3}, host="last", group=True)
def around(p: Poses, distance: float) -> Tensor:
    """Evenly around the host, close to it, each looking at it; one alone stands at its side.

    The mean of those that sit there and the worst count alike: of six chairs one turned away is
    not a sixth of a fault.
    """
    close = near(gap_3d(p.guests, p.host), distance, 0.5).mean(-1)
    each = looks_at(p.guests, p.host)
    looks = (each.mean(-1) + each.amin(-1)) / 2
    even = rotation(p, 0.6) if p.count > 2 else torch.ones_like(close)
    return close * looks * even


@relation("distance", assets=(2, 2), options={"metres": 1.0}, host="last")
def distance(p: Poses, metres: float) -> Tensor:
    """That many metres of air between a and the host."""
    return near(
        (gap_3d(p.one(0), p.one(1)) - metres).abs(), 0.05 + 0.1 * metres, 0.2 + 0.3 * metres
    )


@relation("apart", assets=(2, 100), options={"distance": 1.0}, group=True)
def apart(p: Poses, distance: float) -> Tensor:
    """At least that many metres between any two."""
    pairs = [(i, j) for i in range(p.count) for j in range(i)]
    free = gap(p.take(*(i for i, _ in pairs)), p.take(*(j for _, j in pairs)))
    return near(distance - free, 0.0, 0.5 * distance).mean(-1)
