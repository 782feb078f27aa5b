"""Layouts built up asset by asset, several side by side: what stands well before it is improved."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from scenes.layout.candidates import guesses
from scenes.layout.problem import ROWS, Free, Problem
from scenes.relations import KINDS, settings

COLLISION = 3.0
"""What a metre of assets in one another costs, where the mean score is worth 1."""
OUTSIDE = 3.0
HABIT = 0.01
"""What facing the viewer is worth: less than any relation."""
ELBOW = 0.3
"""Metres behind those who will stand around something."""


def built(problem: Problem, starts: int, rng: torch.Generator) -> Free:
    """Layouts built up asset by asset, hosts and large ones first, each start in its own order."""
    n = problem.count
    scale = _scales(problem).expand(starts, n)
    free = Free(torch.zeros(starts, n, 2), torch.zeros(starts, n), scale.clone())
    placed: set[int] = set()
    for i in _order(problem):
        found = choices(problem, free, i, placed, rng)
        worth = gained(problem, found, i, placed) - _cramped(problem, found, i, placed)
        # The first start takes the best guess, others one that is nearly as good.
        noise = torch.rand(worth.shape, generator=rng)
        spread = torch.linspace(0, 0.15, starts).unsqueeze(-1)
        best = (worth + noise * spread).argmax(-1)
        rows = torch.arange(starts)
        free = Free(found.at[rows, best], found.yaw[rows, best], found.log_scale[rows, best])
        placed.add(i)
    return free


def _scales(problem: Problem) -> Tensor:
    """Logarithms of scales (N,) with which heights relate as they should, half from each side."""
    found = torch.zeros(problem.count)
    for said in problem.graph.relations:
        if said.kind == "scaling":
            a, b = (problem.index[name] for name in said.assets)
            wanted = math.log(float(settings(said)["ratio"]))
            off = math.log(problem.sizes[a][2] / problem.sizes[b][2]) - wanted
            off = off + float(found[a] - found[b])
            found[a] -= off / 2
            found[b] += off / 2
    return found.clamp(-0.35, 0.35)


def _order(problem: Problem) -> list[int]:
    """Hosts before guests, what most depends on and is largest first; a row or a ring in one go.

    Among what stands there already a row finds no place, but what comes after it does.
    """
    rings: dict[int, list[int]] = {}
    guests = [0.0] * problem.count
    rows: dict[int, list[int]] = {}
    waits: list[set[int]] = [set() for _ in range(problem.count)]
    for said in problem.graph.relations:
        members = [problem.index[a] for a in said.assets]
        if KINDS[said.kind].host == "last":
            for k in members[:-1]:
                guests[members[-1]] += 1
                waits[k].add(members[-1])
            if said.kind == "around":
                rings.setdefault(members[-1], []).extend(members[:-1])
        elif said.kind == "in-centre":  # others can stand elsewhere
            guests[members[0]] += 3
        elif said.kind == "between":
            waits[members[0]].update(members[1:])
        elif said.kind in ROWS:
            # From its middle a row grows to both sides; from its end it may run out of the room.
            # Of a grid only the first rows can be scored as such.
            middle = members[len(members) // 2 if said.kind == "repetition" else 0]
            for k in members:
                waits[k] |= {middle} - {k}
                rows.setdefault(k, members)
                guests[k] += len(members)
    for i, support in enumerate(problem.supports):
        if support.host >= 0:
            waits[i].add(support.host)
    area = problem.size[:, :2].prod(-1).tolist()
    left, found = set(range(problem.count)), list[int]()
    while left:
        # In a circle of relations somebody has to go first.
        ready = [i for i in left if not waits[i] & left] or sorted(left)
        held = [i for i in ready if problem.supports[i].host not in left]
        chosen = max(held, key=lambda i: (guests[i] + area[i], -i))
        row = rows.get(chosen, [chosen])
        near = sorted(row, key=lambda i: abs(row.index(i) - row.index(chosen)))
        for i in [i for i in near if i in held or (i in left and waits[i] & left <= set(row))]:
            found.append(i)
            left.remove(i)
            ring = [k for k in rings.get(i, ()) if k in left and not waits[k] & left]
            found += ring
            left -= set(ring)
    return found


def local_frame(place: Tensor, host: Tensor) -> Tensor:
    """x, y, yaw of the world (..., 3) in the frame of a host (..., 3)."""
    away = place[..., :2] - host[..., :2]
    c, s = host[..., 2].cos(), host[..., 2].sin()
    x = away[..., 0] * c + away[..., 1] * s
    y = -away[..., 0] * s + away[..., 1] * c
    return torch.stack([x, y, place[..., 2] - host[..., 2]], -1)


def choices(
    problem: Problem,
    free: Free,
    i: int,
    placed: set[int],
    rng: torch.Generator,
    stay: bool = False,
) -> Free:
    """Every start with asset ``i`` at each guess (B, M, N), and as it is if it may ``stay``."""
    p = problem.poses(free)
    world = guesses(problem, i, p, placed, rng)
    host = problem.supports[i].host
    if host >= 0:
        frame = torch.cat([p.plan[:, host], p.yaw[:, host, None]], -1).unsqueeze(1)
        world = torch.cat([local_frame(world, frame), _on_surface(problem, i, world, rng)], 1)
    if stay:
        here = torch.cat([free.at[:, i], free.yaw[:, i, None]], -1)
        world = torch.cat([world, here.unsqueeze(1)], 1)
    count = world.shape[1]
    at = free.at.unsqueeze(1).repeat(1, count, 1, 1)
    yaw = free.yaw.unsqueeze(1).repeat(1, count, 1)
    at[:, :, i], yaw[:, :, i] = world[..., :2], world[..., 2]
    return Free(at, yaw, free.log_scale.unsqueeze(1).expand(-1, count, -1))


def _on_surface(problem: Problem, i: int, like: Tensor, rng: torch.Generator) -> Tensor:
    """Places all over the surface that asset ``i`` stands on, in the host's frame."""
    support = problem.supports[i]
    low = torch.tensor([support.x[0], support.y[0]])
    high = torch.tensor([support.x[1], support.y[1]])
    u = torch.rand(like.shape[0], 48, 2, generator=rng)
    u[:, 0] = 0.5
    yaw = torch.zeros(like.shape[0], 48, 1)
    yaw[:, 40:] = math.pi
    return torch.cat([low + u * (high - low), yaw], -1)


def gained(problem: Problem, free: Free, i: int, placed: set[int]) -> Tensor:
    """What :func:`value` gains by asset ``i`` and what it carries, among what is placed (B, M)."""
    p = problem.poses(free)
    carried = [i]
    for k in carried:
        carried += [c for c in problem.children[k] if c in placed]
    known = placed | {i}
    worth = p.yaw.new_zeros(p.yaw.shape[:-1])
    for n in sorted({n for k in carried for n in problem.by_asset[k]}):
        said = problem.graph.relations[n]
        kind = KINDS[said.kind]
        members = [problem.index[a] for a in said.assets]
        here = [k for k in members if k in known]
        if len(here) < len(members):
            host_there = kind.host == "none" or members[-1] in known
            if not (kind.group and host_there and len(here) >= kind.least):
                continue
        worth = worth + said.weight * problem.one(n, p, here)
    total = float(problem.weights.sum()) if len(problem.weights) else 1.0
    a, b = problem.solid
    mine = torch.tensor([k in carried for k in range(problem.count)])
    seen = torch.tensor([k in known for k in range(problem.count)])
    pairs = ((mine[a] | mine[b]) & seen[a] & seen[b]).nonzero().flatten()
    deep = problem.depths(p, a[pairs], b[pairs]).sum(-1)
    only = torch.tensor(carried)
    out = problem.outside(p)[..., only].sum(-1)
    usual = problem.habits(p)[..., i]
    # A relation is worth less the more there are, and so is not being in one another: keep both.
    return worth / min(total, 4.0) - COLLISION * deep - OUTSIDE * out - 5 * HABIT * usual


def _cramped(problem: Problem, free: Free, i: int, placed: set[int]) -> Tensor:
    """What it costs (B, M) that those who are to stand around asset ``i`` will find no room."""
    around = [r.assets for r in problem.graph.relations
              if r.kind == "around" and problem.index[r.assets[-1]] == i]  # fmt: skip
    if not around:
        return free.yaw.new_zeros(free.yaw.shape[:-1])
    deep = max(problem.sizes[problem.index[a]][1] for ids in around for a in ids[:-1])
    p = problem.poses(free)
    size = p.size.expand(*p.yaw.shape, 3).clone()
    size[..., i, :2] += 2 * (deep + ELBOW)
    grown = replace(p, size=size)
    others = torch.tensor(sorted(placed), dtype=torch.long)
    floor = others[[problem.supports[k].host < 0 for k in sorted(placed)]]
    deep_in = problem.depths(grown, torch.full_like(floor, i), floor).sum(-1)
    return 0.3 * COLLISION * (deep_in + problem.outside(grown)[..., i])
