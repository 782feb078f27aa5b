"""Poses of many assets at once, and the geometry of their boxes, all differentiable.

In shapes, B stands for any leading dimensions (starts, candidates, relations of a kind), K for the
assets that a relation is about, S for surfaces. Lengths are metres, angles radians; the conventions
are those of :mod:`scenes.graph`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

TINY = 1e-9


@dataclass(frozen=True)
class Walls:
    """A room around the origin: half its width and depth, and its height."""

    x: float
    y: float
    height: float


@dataclass(frozen=True)
class Poses:
    """Where assets stand: ``location`` (B, K, 3; the middle of the underside), ``yaw`` (B, K) and
    ``size`` (B, K, 3).

    ``surfaces`` (B, K, S, 6) are what each asset offers to stand on, in its own frame: x from and
    to, y from and to, height, clearance; rows of NaN fill up. ``others`` is every asset of the
    scene, those of this object included, for relations that ask for free space.
    """

    location: Tensor
    yaw: Tensor
    size: Tensor
    surfaces: Tensor | None = None
    walls: Walls | None = None
    others: Poses | None = None

    @property
    def count(self) -> int:
        """K."""
        return int(self.yaw.shape[-1])

    @cached_property
    def forward(self) -> Tensor:
        """Where each looks, seen from above (B, K, 2)."""
        return torch.stack([self.yaw.sin(), -self.yaw.cos()], -1)

    @cached_property
    def right(self) -> Tensor:
        """Its own x axis: the viewer's right of an asset that looks at the viewer."""
        return torch.stack([self.yaw.cos(), self.yaw.sin()], -1)

    @property
    def plan(self) -> Tensor:
        """Locations seen from above."""
        return self.location[..., :2]

    @property
    def half(self) -> Tensor:
        """Half the width and half the depth."""
        return self.size[..., :2] / 2

    @property
    def bottom(self) -> Tensor:
        return self.location[..., 2]

    @property
    def top(self) -> Tensor:
        return self.location[..., 2] + self.size[..., 2]

    @cached_property
    def reach(self) -> Tensor:
        """Half the extent along the world's x and y."""
        turn = torch.stack([self.right.abs(), self.forward.abs()], -2)
        return (turn * self.half.unsqueeze(-1)).sum(-2)

    @cached_property
    def corners(self) -> Tensor:
        """Corners seen from above (B, K, 4, 2), counterclockwise from the asset's front left."""
        signs = self.yaw.new_tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
        at = signs * self.half.unsqueeze(-2)
        x, y = at[..., :1], at[..., 1:]
        right, forward = self.right.unsqueeze(-2), self.forward.unsqueeze(-2)
        return self.plan.unsqueeze(-2) + x * right - y * forward

    def take(self, *index: int) -> Poses:
        """Only these of the K assets."""
        chosen = list(index)
        s = self.surfaces
        return replace(
            self,
            location=self.location[..., chosen, :],
            yaw=self.yaw[..., chosen],
            size=self.size[..., chosen, :],
            surfaces=None if s is None else s[..., chosen, :, :],
        )

    def one(self, k: int) -> Poses:
        """Asset ``k`` without the K dimension."""
        return Poses(self.location[..., k, :], self.yaw[..., k], self.size[..., k, :])

    @property
    def guests(self) -> Poses:
        """All but the last."""
        return Poses(self.location[..., :-1, :], self.yaw[..., :-1], self.size[..., :-1, :])

    @property
    def host(self) -> Poses:
        """The last one, for comparison with each of :attr:`guests`: K is 1."""
        return Poses(self.location[..., -1:, :], self.yaw[..., -1:], self.size[..., -1:, :])

    def within(self, points: Tensor) -> Tensor:
        """Points of the plan (B, K, M, 2) in the frame of each asset."""
        away = points - self.plan.unsqueeze(-2)
        right, forward = self.right.unsqueeze(-2), self.forward.unsqueeze(-2)
        return torch.stack([(away * right).sum(-1), -(away * forward).sum(-1)], -1)

    def seen_from(self, host: Poses) -> Tensor:
        """Where each lies in the plan of ``host`` (B, K, 2)."""
        away = self.plan - host.plan
        return torch.stack([(away * host.right).sum(-1), -(away * host.forward).sum(-1)], -1)


def unit(vector: Tensor) -> Tensor:
    """Length one; of nothing, nothing, with a gradient that is no NaN."""
    return vector / (vector.square().sum(-1, keepdim=True) + TINY).sqrt()


def length(vector: Tensor) -> Tensor:
    """Euclidean length, differentiable at nothing."""
    return (vector.square().sum(-1) + TINY).sqrt()


# Of what follows, every function takes two poses of the same shape, or of shapes that broadcast.


def separation(a: Poses, b: Poses) -> Tensor:
    """Signed distance of footprints along the best of their four axes.

    Negative: how deep they lie in one another, exactly (separating axes of convex shapes).
    Positive: they are apart by at least this.
    """
    turn = b.yaw - a.yaw
    turned = torch.stack([turn.cos(), turn.sin()], -1).abs()
    crossed = turned.flip(-1)

    def gaps(away: Tensor, own: Tensor, other: Tensor) -> Tensor:
        reach = torch.stack([(other * turned).sum(-1), (other * crossed).sum(-1)], -1)
        return (away.abs() - own - reach).amax(-1)

    return torch.maximum(gaps(b.seen_from(a), a.half, b.half), gaps(a.seen_from(b), b.half, a.half))


def gap(a: Poses, b: Poses) -> Tensor:
    """Metres between two footprints; negative if they overlap."""
    apart = separation(a, b)
    out_b = (a.within(b.corners).abs() - a.half.unsqueeze(-2)).clamp(min=0)
    out_a = (b.within(a.corners).abs() - b.half.unsqueeze(-2)).clamp(min=0)
    nearest = length(torch.cat([out_a, out_b], -2)).amin(-1)
    return torch.where(apart > 0, nearest, apart)


def gap_3d(a: Poses, b: Poses) -> Tensor:
    """Metres between two boxes, through the air; 0 if they touch or overlap."""
    above = torch.maximum(a.bottom - b.top, b.bottom - a.top)
    return length(torch.stack([gap(a, b).clamp(min=0), above.clamp(min=0)], -1))


def overlap_height(a: Poses, b: Poses) -> Tensor:
    """Metres of height that two boxes share."""
    return (torch.minimum(a.top, b.top) - torch.maximum(a.bottom, b.bottom)).clamp(min=0)


def overlap_area(a: Poses, b: Poses) -> Tensor:
    """Square metres that two footprints share, exactly.

    The corners of the common convex polygon are among each footprint's corners inside the other and
    the crossings of their edges; sorted by angle around their middle they give the area (shoelace).
    """
    a_42, b_42 = torch.broadcast_tensors(a.corners, b.corners)
    within_a = (a.within(b_42).abs() <= a.half.unsqueeze(-2) + 1e-7).all(-1)
    within_b = (b.within(a_42).abs() <= b.half.unsqueeze(-2) + 1e-7).all(-1)
    edge_a = (a_42.roll(-1, -2) - a_42).unsqueeze(-2)
    edge_b = (b_42.roll(-1, -2) - b_42).unsqueeze(-3)
    between = b_42.unsqueeze(-3) - a_42.unsqueeze(-2)
    across = _cross(edge_a, edge_b)
    solid = across.abs() > 1e-9
    safe = torch.where(solid, across, torch.ones_like(across))
    s, t = _cross(between, edge_b) / safe, _cross(between, edge_a) / safe
    crosses = solid & (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)
    crossings = a_42.unsqueeze(-2) + s.unsqueeze(-1) * edge_a
    points = torch.cat([a_42, b_42, crossings.flatten(-3, -2)], -2)
    real = torch.cat([within_b, within_a, crosses.flatten(-2)], -1)
    weight = real.to(points.dtype).unsqueeze(-1)
    centre = (points * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)
    spokes = torch.where(real.unsqueeze(-1), points - centre, torch.zeros_like(points))
    with torch.no_grad():
        angle = torch.atan2(spokes[..., 1], spokes[..., 0])
        order = torch.where(real, angle, angle.new_full((), 9.0)).argsort(-1)
    ring = spokes.gather(-2, order.unsqueeze(-1).expand_as(spokes))
    # What is not real is at the end of the ring; the last real corner is joined to the first.
    count = real.sum(-1, keepdim=True)
    step = torch.arange(ring.shape[-2], device=ring.device)
    following = torch.where(step + 1 < count, step + 1, torch.zeros_like(step))
    after = ring.gather(-2, following.unsqueeze(-1).expand_as(ring))
    return (_cross(ring, after).sum(-1) / 2).clamp(min=0)


def overlap_volume(a: Poses, b: Poses) -> Tensor:
    """Cubic metres that two boxes share."""
    return overlap_area(a, b) * overlap_height(a, b)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
