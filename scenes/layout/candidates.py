"""Where one asset might go, given where the others are: guesses for the solver to choose from.

Random places all over are hardly ever beside anything. So most guesses are made from the asset's
own relations: touching a partner on each side, the next slot of a row or a ring, a wall, the mirror
image. A guess is a place in the world (x, y, yaw); whether it is any good the scores say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scenes.graph import Relation
from scenes.relations import settings
from scenes.relations.boxes import Poses
from scenes.relations.rooms import SOLID, WALLS

if TYPE_CHECKING:
    from scenes.layout.problem import Problem

GAPS = (0.03, 0.25, 0.8)
"""Metres of air tried between an asset and its partner."""
DIRECTIONS = 8
QUARTERS = tuple(k * math.pi / 2 for k in range(4))


def guesses(problem: Problem, i: int, p: Poses, placed: set[int], rng: torch.Generator) -> Tensor:
    """Places for asset ``i`` (B, M, 3) as x, y, yaw in the world; M is the same for all starts."""
    found = [_anywhere(problem, p, 24, rng)]
    for n in problem.by_asset[i]:
        said = problem.graph.relations[n]
        members = [problem.index[a] for a in said.assets]
        if said.kind == "grid" and members[0] == i and not set(members) & placed:
            return _front_left(problem, i, len(members), p, settings(said))
        found += _slots(problem, said, members, i, p, placed)
    for partner in _partners(problem, i, placed):
        found.append(_beside(problem, i, partner, p))
    if problem.walls is not None:
        found.append(_walls(problem, i, p))
    return torch.cat(found, -2)


def _partners(problem: Problem, i: int, placed: set[int]) -> list[int]:
    """Whom asset ``i`` is placed by: hosts first, three at most."""
    found: list[int] = []
    for n in problem.by_asset[i]:
        members = [problem.index[a] for a in problem.graph.relations[n].assets]
        for k in reversed(members):
            if k != i and k in placed and k not in found:
                found.append(k)
    return found[:3]


def _spread(problem: Problem) -> tuple[float, float]:
    if problem.walls is not None:
        return problem.walls.x, problem.walls.y
    side = 0.5 + 0.8 * float(problem.size[:, :2].prod(-1).sum().sqrt())
    return side, side


def _anywhere(problem: Problem, p: Poses, count: int, rng: torch.Generator) -> Tensor:
    x, y = _spread(problem)
    lead = p.yaw.shape[0]
    at = (torch.rand(lead, count, 2, generator=rng) * 2 - 1) * torch.tensor([x, y])
    quarter = torch.randint(0, 4, (lead, count, 1), generator=rng) * (math.pi / 2)
    quarter[:, : count // 2] = 0.0
    return torch.cat([at, quarter], -1)


def _beside(problem: Problem, i: int, host: int, p: Poses) -> Tensor:
    """Around the host at each gap: looking at it, away from it, as it does, or at the viewer."""
    angle = torch.arange(DIRECTIONS) * (2 * math.pi / DIRECTIONS)
    turn = angle + p.yaw[..., host, None]
    towards = torch.stack([turn.sin(), -turn.cos()], -1)
    reach = _support(p, host, towards) + _extent(problem, i)
    gaps = torch.tensor(GAPS)
    far = reach.unsqueeze(-1) + gaps
    at = p.plan[..., host, None, None, :] + far.unsqueeze(-1) * towards.unsqueeze(-2)
    inward = (turn + math.pi).unsqueeze(-1).expand(far.shape)
    same = p.yaw[..., host, None, None].expand(far.shape)
    yaws = torch.stack([inward, same, inward + math.pi, torch.zeros_like(same)], -1)
    places = at.unsqueeze(-2).expand(*yaws.shape, 2)
    found = torch.cat([places, yaws.unsqueeze(-1)], -1).flatten(1, 3)
    turned = p.yaw[..., host, None] + torch.tensor(QUARTERS)
    middle = torch.cat([p.plan[..., host, None, :].expand(-1, 4, -1), turned.unsqueeze(-1)], -1)
    return torch.cat([found, middle], 1)


def _support(p: Poses, k: int, towards: Tensor) -> Tensor:
    """Metres from the middle of asset ``k`` to its edge in each direction (B, D)."""
    half = p.half[..., k, None, :]
    x = (towards * p.right[..., k, None, :]).sum(-1).abs()
    y = (towards * p.forward[..., k, None, :]).sum(-1).abs()
    return torch.minimum(half[..., 0] / x.clamp(min=1e-6), half[..., 1] / y.clamp(min=1e-6))


def _extent(problem: Problem, i: int) -> float:
    """Half the depth: asset ``i`` is guessed to turn its front or back to what it stands by."""
    return problem.sizes[i][1] / 2


def _walls(problem: Problem, i: int, p: Poses) -> Tensor:
    """Along the walls, its back to them; the ends of a wall are its corners."""
    assert problem.walls is not None
    wide, deep = problem.sizes[i][0] / 2, problem.sizes[i][1] / 2
    found = []
    for name in SOLID:
        x, y = WALLS[name]
        yaw = math.atan2(-x, y)
        limit, along = (
            (problem.walls.x, problem.walls.y) if x else (problem.walls.y, problem.walls.x)
        )
        free = max(along - wide - 0.02, 0.0)
        for t in (-1.0, -0.66, -0.33, 0.0, 0.33, 0.66, 1.0):
            off = limit - deep - 0.02
            found.append([x * off, t * free, yaw] if x else [t * free, y * off, yaw])
    return torch.tensor(found).expand(p.yaw.shape[0], -1, -1)


def _slots(
    problem: Problem, said: Relation, members: list[int], i: int, p: Poses, placed: set[int]
) -> list[Tensor]:
    """Where a relation over a group would have asset ``i``, as far as the others say."""
    others = [k for k in members if k != i and k in placed]
    if not others:
        # The first of a row: in the middle, turned to any side.
        turns = torch.tensor([[0.0, 0.0, yaw] for yaw in QUARTERS])
        return [turns.expand(p.yaw.shape[0], -1, -1)] if said.kind == "repetition" else []
    place = members.index(i)
    options = settings(said)
    if said.kind in ("around", "rotation") and place < len(members) - 1 and members[-1] in placed:
        return [_ring(problem, i, members[-1], len(members) - 1, p)]
    if said.kind == "repetition":
        return [_row(problem, i, members, place, p, placed, float(options["spacing"]))]
    if said.kind == "grid":
        return [_cell(problem, i, members, place, p, placed, options)]
    if said.kind == "symmetry":
        return [_mirror(members, i, p, placed, str(options["axis"]), bool(options["host"]))]
    if said.kind == "between" and place == 0 and len(others) == 2:
        middle = (p.plan[..., others[0], :] + p.plan[..., others[1], :]).unsqueeze(-2) / 2
        return [torch.cat([middle, p.yaw[..., others[:1]].unsqueeze(-1)], -1)]
    if said.kind in ("alignment", "parallelism"):
        return [_in_line(problem, i, others, p, str(options.get("axis", "x")))]
    return []


def _ring(problem: Problem, i: int, host: int, count: int, p: Poses) -> Tensor:
    """Slots around the host: even angles of a square stretched to it, three ways to begin.

    Where many are to sit at little there is one way, and a ring as wide as they need.
    """
    found = []
    width = problem.sizes[i][0]
    inner = width / (2 * math.tan(math.pi / count)) + 0.03 if count > 2 else 0.0
    crowded = inner > min(problem.sizes[host][:2]) / 2
    for offset in (0.0,) if crowded else (0.0, 0.5, 0.25):
        angle = (torch.arange(count) + offset) * (2 * math.pi / count)
        local = torch.stack([angle.sin(), -angle.cos()], -1)
        stretched = local * p.half[..., host, None, :]
        right, forward = p.right[..., host, None, :], p.forward[..., host, None, :]
        towards = stretched[..., :1] * right - stretched[..., 1:] * forward
        towards = towards / towards.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        far = (_support(p, host, towards) + 0.1).clamp(min=inner) + _extent(problem, i)
        at = p.plan[..., host, None, :] + towards * far.unsqueeze(-1)
        # The nearer edge is looked at squarely, as people sit at a table.
        inward = torch.atan2(-towards[..., 0], towards[..., 1])
        base = p.yaw[..., host, None]
        square = base + ((inward - base) / (math.pi / 2)).round() * (math.pi / 2)
        found += [torch.cat([at, y.unsqueeze(-1)], -1) for y in (inward, square)]
    return torch.cat(found, -2)


def _row(
    problem: Problem, i: int, members: list[int], place: int, p: Poses, placed: set[int],
    spacing: float,
) -> Tensor:  # fmt: skip
    """So many steps from the first placed one of a row: along x, y, or the line of two."""
    known = [(n, k) for n, k in enumerate(members) if k in placed and k != i]
    first, k = known[0]
    steps = []
    width = max(problem.sizes[i][0], problem.sizes[i][1])
    for gap in (0.0, 0.1, 0.5) if not spacing else (0.0,):
        step = spacing or width + gap + 0.02
        for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
            steps.append([x * step, y * step])
    each = torch.tensor(steps).expand(p.yaw.shape[0], -1, -1)
    if len(known) > 1:
        last, m = known[-1]
        line = (p.plan[..., m, :] - p.plan[..., k, :]) / (last - first)
        each = torch.cat([line.unsqueeze(-2), each], -2)
    at = p.plan[..., k, None, :] + (place - first) * each
    return torch.cat([at, p.yaw[..., k, None, None].expand(*at.shape[:-1], 1)], -1)


def _front_left(
    problem: Problem, i: int, count: int, p: Poses, options: dict[str, float | str | bool]
) -> Tensor:
    """Where a grid begins that lies around the middle, or on one side of it."""
    wide = int(options["columns"]) or math.ceil(math.sqrt(count))
    pitch = float(options["spacing"]) or max(problem.sizes[i][:2]) + 0.2
    x, y = (wide - 1) * pitch, (-(-count // wide) - 1) * pitch
    found = [
        [a * (x / 2 + pitch) - x / 2, b * (y / 2 + pitch) - y / 2, yaw]
        for yaw in QUARTERS
        for a, b in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (0, 2), (0, -2), (2, 0), (-2, 0))
    ]
    return torch.tensor(found).expand(p.yaw.shape[0], -1, -1)


def _cell(
    problem: Problem, i: int, members: list[int], place: int, p: Poses, placed: set[int],
    options: dict[str, float | str | bool],
) -> Tensor:  # fmt: skip
    wide = int(options["columns"]) or math.ceil(math.sqrt(len(members)))
    first = next(n for n, k in enumerate(members) if k in placed and k != i)
    k = members[first]
    across, along = place % wide - first % wide, place // wide - first // wide
    steps = []
    for gap in (0.02, 0.2, 0.6):
        pitch = float(options["spacing"]) or max(problem.sizes[i][:2]) + gap
        steps.append([across * pitch, along * pitch])
    at = p.plan[..., k, None, :] + torch.tensor(steps)
    return torch.cat([at, p.yaw[..., k, None, None].expand(*at.shape[:-1], 1)], -1)


def _mirror(
    members: list[int], i: int, p: Poses, placed: set[int], axis: str, host: bool
) -> Tensor:
    """The image of each placed one, about the host or about the middle of the scene."""
    subjects = [k for k in members[: -1 if host else None] if k in placed and k != i]
    flip = torch.tensor([-1.0, 1.0] if axis == "x" else [1.0, -1.0])
    if not subjects:
        return torch.zeros(p.yaw.shape[0], 0, 3)
    if host and members[-1] in placed and members[-1] != i:
        h = members[-1]
        local = p.take(*subjects).seen_from(p.take(h)) * flip
        right, forward = p.right[..., h, None, :], p.forward[..., h, None, :]
        at = p.plan[..., h, None, :] + local[..., :1] * right - local[..., 1:] * forward
        turn = p.yaw[..., subjects] - p.yaw[..., h, None]
        yaw = p.yaw[..., h, None] + (-turn if axis == "x" else math.pi - turn)
    else:
        at = p.plan[..., subjects, :] * flip
        turn = p.yaw[..., subjects]
        yaw = -turn if axis == "x" else math.pi - turn
    return torch.cat([at, yaw.unsqueeze(-1)], -1)


def _in_line(problem: Problem, i: int, others: list[int], p: Poses, axis: str) -> Tensor:
    """In line with the last placed one, to either side."""
    k = others[-1]
    along = torch.tensor([0.0, 1.0] if axis == "x" else [1.0, 0.0])
    reach = problem.sizes[i][0] / 2 + float(problem.size[k, 0]) / 2
    steps = torch.tensor([s * (reach + g) for s in (-1, 1) for g in (0.05, 0.3, 1.0)])
    at = p.plan[..., k, None, :] + steps.unsqueeze(-1) * along
    return torch.cat([at, p.yaw[..., k, None, None].expand(*at.shape[:-1], 1)], -1)
