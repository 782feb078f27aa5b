"""Where assets lie in a room: at walls, in corners, in the middle, with space to walk.

Out of doors there are no walls: what asks for one scores 1, since nothing there could be better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scenes.relations import relation
from scenes.relations.boxes import Poses, Walls, length
from scenes.relations.paper import SIDES, near

WALLS = {"back": (0.0, 1.0), "left": (-1.0, 0.0), "right": (1.0, 0.0), "front": (0.0, -1.0)}
"""Which way each wall lies from the middle; the viewer looks in through the front."""
SOLID = ("back", "left", "right")


def to_wall(p: Poses, wall: str, k: int = 0) -> Tensor:
    """Metres between the asset and the wall, negative beyond it."""
    assert p.walls is not None
    x, y = WALLS[wall]
    limit = p.walls.x if x else p.walls.y
    axis, sign = (0, x) if x else (1, y)
    return limit - sign * p.plan[..., k, axis] - p.reach[..., k, axis]


def at_wall(p: Poses, wall: str, gap: float) -> Tensor:
    """The back close to the wall, looking away from it."""
    outward = p.location.new_tensor(WALLS[wall])
    looks = (1 - (p.forward[..., 0, :] * outward).sum(-1)) / 2
    return near(to_wall(p, wall).abs(), gap, 0.3) * looks


def best(p: Poses, walls: tuple[str, ...], gap: float) -> Tensor:
    if p.walls is None:
        return torch.ones_like(p.yaw[..., 0])
    return torch.stack([at_wall(p, wall, gap) for wall in walls], -1).amax(-1)


@relation(
    "against-wall",
    assets=(1, 1),
    options={"wall": "any"},
    choices={"wall": ("any", *WALLS)},
)
def against_wall(p: Poses, wall: str) -> Tensor:
    """Its back to the wall; any is the back, left or right one."""
    return best(p, SOLID if wall == "any" else (wall,), 0.1)


@relation(
    "on-wall",
    assets=(1, 1),
    options={"wall": "any", "height": 1.5},
    choices={"wall": ("any", *WALLS)},
)
def on_wall(p: Poses, wall: str, height: float) -> Tensor:
    """Hangs on the wall with its middle at that height, or above it where something is below."""
    middle = p.bottom[..., 0] + p.size[..., 0, 2] / 2
    room = p.walls
    top = height if room is None else min(height, room.height)
    low = (top - middle).clamp(min=0)
    return best(p, SOLID if wall == "any" else (wall,), 0.03) * near(low, 0.1, 0.3)


@relation(
    "in-corner",
    assets=(1, 1),
    options={"corner": "any"},
    choices={"corner": ("any", "left", "right")},
)
def in_corner(p: Poses, corner: str) -> Tensor:
    """In a corner at the back of the room."""
    if p.walls is None:
        return torch.ones_like(p.yaw[..., 0])
    sides = ("left", "right") if corner == "any" else (corner,)
    reach = [to_wall(p, side).abs() + to_wall(p, "back").abs() for side in sides]
    return near(torch.stack(reach, -1).amin(-1), 0.3, 0.6)


@relation("in-centre", assets=(1, 1))
def in_centre(p: Poses) -> Tensor:
    """In the middle of the room, or of the scene."""
    walls = p.walls or Walls(3.0, 3.0, 3.0)
    off = p.plan[..., 0, :] / p.location.new_tensor([walls.x, walls.y])
    return near(length(off), 0.15, 0.35)


@relation(
    "keep-clear",
    assets=(1, 1),
    options={"side": "front", "depth": 0.6},
    choices={"side": tuple(SIDES)},
)
def keep_clear(p: Poses, side: str, depth: float) -> Tensor:
    """Nothing stands on that side of it, for that many metres.

    By the depth to which the worst of the other assets reaches into that zone; what hangs above or
    lies flat below does not count.
    """
    others = p.others
    if others is None or others.count < 2:
        return torch.ones_like(p.yaw[..., 0])
    turn = p.yaw[..., 0] - SIDES[side]
    towards = torch.stack([turn.sin(), -turn.cos()], -1)
    across = side in ("left", "right")
    half = p.half[..., 0, :]
    out, wide = (half[..., 0], half[..., 1]) if across else (half[..., 1], half[..., 0])
    centre = p.plan[..., 0, :] + towards * (out + depth / 2).unsqueeze(-1)
    # A box in front of the asset against every other one, along the two axes of the zone.
    away = others.plan - centre.unsqueeze(-2)
    normal = torch.stack([-towards[..., 1], towards[..., 0]], -1)
    intrusion = []
    for axis, reach in ((towards, out * 0 + depth / 2), (normal, wide)):
        own = axis.unsqueeze(-2)
        other = others.half[..., 0] * (others.right * own).sum(-1).abs()
        other = other + others.half[..., 1] * (others.forward * own).sum(-1).abs()
        intrusion.append(reach.unsqueeze(-1) + other - (away * own).sum(-1).abs())
    deep = torch.minimum(*intrusion).clamp(min=0)
    top, bottom = p.top[..., :1], p.bottom[..., :1]
    beside = (others.bottom < top - 0.02) & (others.top > bottom + 0.05)
    itself = length(others.plan - p.plan[..., :1, :]) < 1e-3
    deep = torch.where(beside & ~itself, deep, torch.zeros_like(deep))
    return near(deep.amax(-1), 0.05, 0.5 * depth)


@relation(
    "grid",
    assets=(2, 100),
    options={"columns": 0.0, "spacing": 0.0, "tolerance": 0.25},
    group=True,
)
def grid(p: Poses, columns: float, spacing: float, tolerance: float) -> Tensor:
    """Rows and columns at even steps, row by row from the front left; columns 0 is square."""
    count = p.count
    wide = int(columns) or math.ceil(math.sqrt(count))
    index = torch.arange(count, device=p.yaw.device)
    place = torch.stack([index % wide, index // wide], -1).to(p.yaw.dtype)
    place = place - place.mean(0)
    at = p.plan - p.plan.mean(-2, keepdim=True)
    # The steps that fit best, each axis its own.
    norm = place.square().sum(0).clamp(min=1e-9)
    step = (at * place).sum(-2) / norm
    if spacing:
        step = torch.full_like(step, spacing)
    # Neighbours must at least clear one another.
    clear = 2 * p.reach.amax(-2)
    spread = place.square().sum(0) > 0
    tight = torch.where(spread, (clear - step).clamp(min=0), torch.zeros_like(step)).sum(-1)
    off = (at - place * step.unsqueeze(-2)).square().sum(-1).mean(-1) / tolerance**2
    turned = 2 * (1 - (p.yaw[..., 1:] - p.yaw[..., :-1]).cos()).mean(-1)
    return 1 / (1 + off + turned + (tight / tolerance).square())


@relation("stack", assets=(2, 100), group=True)
def stack(p: Poses) -> Tensor:
    """Each on the one before it, their middles in one line."""
    lift = (p.bottom[..., 1:] - p.top[..., :-1]).abs()
    off = length(p.plan[..., 1:, :] - p.plan[..., :-1, :])
    return (near(lift, 0.01, 0.05) * near(off, 0.05, 0.2)).mean(-1)
