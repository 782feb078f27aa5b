"""The eleven relations of SceneCraft (arXiv 2403.01248, appendix), with their defects mended.

What each does otherwise than the published code is in its docstring. All of them: scores stay in
[0, 1], are differentiable wherever an asset can move, and have no NaN for the smallest group.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scenes.relations import relation
from scenes.relations.boxes import Poses, gap_3d, length, overlap_volume, unit

AXES = {"x": 0, "y": 1, "z": 2}
SIDES = {"front": 0.0, "right": math.pi / 2, "back": math.pi, "left": -math.pi / 2}
"""How far an asset's own side is turned from its front, counterclockwise from above."""


def near(value: Tensor, free: float, half: float) -> Tensor:
    """1 up to ``free``, then falling without end: 1/2 at ``free + half``."""
    return 1 / (1 + ((value - free).clamp(min=0) / half).square())


@relation("proximity", assets=(2, 100), options={"distance": 1.0}, host="last", group=True)
def proximity(p: Poses, distance: float) -> Tensor:
    """Each a lies within distance metres of the host.

    1 up to ``distance``, 0 from five times that, linear between: the paper's 1 and 5 metres.
    Between the boxes and not their middles, so that a large table is not far from its chairs.
    """
    apart = gap_3d(p.guests, p.host)
    return (1 - (apart - distance) / (4 * distance)).clamp(0, 1).mean(-1)


@relation(
    "direction",
    assets=(2, 2),
    options={"side": "front"},
    choices={"side": tuple(SIDES)},
    host="last",
)
def direction(p: Poses, side: str) -> Tensor:
    """a lies on that side of the host, as the host itself looks.

    (cosine + 1) / 2 of the angle between the side and the way to a, as published. Left is the left
    hand of somebody who looks where the host looks.
    """
    # Who looks along -y has the left hand at +x.
    turn = p.yaw[..., 1] - SIDES[side]
    towards = torch.stack([turn.sin(), -turn.cos()], -1)
    away = unit(p.plan[..., 0, :] - p.plan[..., 1, :])
    return ((towards * away).sum(-1) + 1) / 2


@relation(
    "alignment",
    assets=(2, 100),
    options={"axis": "x", "tolerance": 0.25},
    choices={"axis": tuple(AXES)},
    group=True,
)
def alignment(p: Poses, axis: str, tolerance: float) -> Tensor:
    """All have the same coordinate along the axis.

    1 / (1 + variance), as published, but in units of ``tolerance`` metres: with the paper's one
    metre, what is half a metre out of line scores 0.94.
    """
    variance = p.location[..., AXES[axis]].var(-1, unbiased=False)
    return 1 / (1 + variance / tolerance**2)


@relation(
    "symmetry",
    assets=(2, 100),
    options={"axis": "x", "host": False, "tolerance": 0.5},
    choices={"axis": ("x", "y")},
)
def symmetry(p: Poses, axis: str, host: bool, tolerance: float) -> Tensor:
    """Mirrored along the axis about their middle, or about the last one if host.

    Mended: every coordinate of the mirrored asset counts and so does its yaw (published: one axis
    only, so that any two assets were symmetrical). The middle is the mean, which moves smoothly.
    """
    a = AXES[axis]
    if host:  # in the host's own frame, so that a turned bed has a nightstand on either hand
        at = torch.cat([p.guests.seen_from(p.host), p.guests.location[..., 2:]], -1)
        yaw = p.guests.yaw - p.host.yaw
        middle = torch.zeros_like(at[..., :1, a])
    else:
        at, yaw = p.location, p.yaw
        middle = at[..., a].mean(-1, keepdim=True)
    looks = torch.stack([yaw.sin(), -yaw.cos()], -1)
    flip, along = at.new_ones(3), at.new_zeros(3)
    flip[a], along[a] = -1, 1
    image = at * flip + 2 * middle.unsqueeze(-1) * along
    mirrored = looks * flip[:2]
    away = (image.unsqueeze(-2) - at.unsqueeze(-3)).square().sum(-1)
    turned = (mirrored.unsqueeze(-2) - looks.unsqueeze(-3)).square().sum(-1) / 4
    nearest = (away / tolerance**2 + turned).amin(-1)
    return 1 / (1 + nearest.mean(-1))


@relation("overlap", assets=(2, 2))
def overlap(p: Poses) -> Tensor:
    """They share space: the share of the smaller one's box that is inside the other's.

    Mended: real volume of the boxes' intersection; published: any two vertices within a centimetre.
    """
    smaller = p.size.prod(-1).amin(-1)
    return (overlap_volume(p.one(0), p.one(1)) / smaller.clamp(min=1e-9)).clamp(max=1)


@relation("parallelism", assets=(2, 100), group=True)
def parallelism(p: Poses) -> Tensor:
    """They look the same way, and if three or more, lie on one line.

    Mended: yaws are compared as angles on the circle (published: cosine of raw Euler triples, by
    which yaw 0.1 and 3.0 are identical), and two assets, which always lie on a line, have no NaN.
    """
    turns = (p.yaw[..., 1:] - p.yaw[..., :-1]).cos()
    same = ((turns + 1) / 2).mean(-1)
    if p.count < 3:
        return same
    steps = unit(p.location[..., 1:, :] - p.location[..., :-1, :])
    straight = (((steps[..., 1:, :] * steps[..., :-1, :]).sum(-1) + 1) / 2).mean(-1)
    return (same + straight) / 2


@relation("perpendicularity", assets=(2, 2))
def perpendicularity(p: Poses) -> Tensor:
    """They look at right angles to one another."""
    return 1 - (p.yaw[..., 1] - p.yaw[..., 0]).cos().abs()


@relation("hierarchy", assets=(2, 100), group=True)
def hierarchy(p: Poses) -> Tensor:
    """From the largest to the smallest, by the volume of their boxes.

    Mended: the published share of places in a sorted list has no gradient; here each neighbouring
    pair scores 1 if in order, 1/2 if the second is 2.7 times (e) the volume of the first.
    """
    volume = p.size.clamp(min=1e-6).log().sum(-1)
    return near(volume[..., 1:] - volume[..., :-1], 0.0, 1.0).mean(-1)


@relation("rotation", assets=(3, 100), options={"tolerance": 0.35}, host="last", group=True)
def rotation(p: Poses, tolerance: float) -> Tensor:
    """Spread evenly around the host, as seen from above.

    1 / (1 + variance of the angles between neighbours) in units of ``tolerance`` radians. Angles
    are taken in the host's own frame scaled to a square, since people sit evenly around a long
    table without sitting at even angles; the paper's centre is a point.
    """
    at = p.guests.seen_from(p.host) / p.host.half.clamp(min=0.05)
    angle = torch.atan2(at[..., 1], at[..., 0] + 1e-9).sort(-1).values
    wrap = angle[..., :1] + 2 * math.pi
    gaps = torch.cat([angle, wrap], -1).diff(dim=-1)
    return 1 / (1 + gaps.var(-1, unbiased=False) / tolerance**2)


@relation(
    "repetition",
    assets=(2, 100),
    options={"axis": "any", "spacing": 0.0, "tolerance": 0.25},
    choices={"axis": ("any", "x", "y", "z")},
    group=True,
)
def repetition(p: Poses, axis: str, spacing: float, tolerance: float) -> Tensor:
    """A row at even steps, all turned alike; spacing is metres from middle to middle, 0 any.

    The paper has a constructor and no score. Here: the steps differ little from their mean, the
    mean goes along the axis and is as long as wanted, and neighbours look the same way.
    """
    steps = p.location[..., 1:, :] - p.location[..., :-1, :]
    typical = steps.mean(-2, keepdim=True)
    uneven = (steps - typical).square().sum(-1).mean(-1) / tolerance**2
    if axis != "any":
        along = torch.zeros_like(typical)
        along[..., AXES[axis]] = typical[..., AXES[axis]]
        uneven = uneven + (typical - along).square().sum((-1, -2)) / tolerance**2
    if spacing:
        far = length(typical.squeeze(-2))
        uneven = uneven + ((far - spacing) / tolerance).square()
    turned = 2 * (1 - (p.yaw[..., 1:] - p.yaw[..., :-1]).cos()).mean(-1)
    return 1 / (1 + uneven + turned)


@relation("scaling", assets=(2, 2), options={"ratio": 1.0, "tolerance": 0.2}, host="last")
def scaling(p: Poses, ratio: float, tolerance: float) -> Tensor:
    """a is ratio times as tall as the host.

    The paper scales groups and has no score. The logarithm of the ratio counts, so that twice and
    half are alike; 1/2 where it is ``tolerance`` off.
    """
    height = p.size[..., 2].clamp(min=1e-6).log()
    off = height[..., 0] - height[..., 1] - math.log(ratio)
    return 1 / (1 + (off / tolerance).square())
