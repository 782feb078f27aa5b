"""A scene graph as tensors: what may move, what rests on what, and how good a layout is.

What rests on something is placed in the frame of what it rests on, at the exact height of one of
its surfaces and within its edges, so that support holds by construction and a table takes its
plates along. Everything else stands on the floor, hangs on a wall or from the ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scenes.graph import Layout, Placement, Relation, SceneGraph, Surface
from scenes.relations import KINDS, Scores, check, settings
from scenes.relations.boxes import Poses, Walls, overlap_volume, separation
from scenes.relations.rooms import SOLID, at_wall

FLAT = 0.03
"""What is lower than this, a rug, may be stood on."""
MARGIN = 0.01
"""Metres of air that the solver keeps between boxes."""
COLLIDES = 1e-3
"""Share of the smaller box inside another from which two assets collide."""
TALL, WIDE = 1.4, 0.7
"""Furniture of this height, or this much wider than deep, stands at a wall if nothing is said."""
ROWS = ("repetition", "grid")
CENTRAL = 20.0
"""How much more the middle of a row or grid is drawn to the middle of the scene."""
CEILING = 2.4
"""Metres above the floor, from where on the top of what hangs is taken to touch the ceiling."""
LOOSE = frozenset({"left-of", "right-of", "on", "above", "proximity", "distance", "keep-clear"})
"""Relations that leave it to habit whether an asset stands at a wall."""
NOT_SOLID = ("under", "inside", "overlap", "on", "stack")
"""Relations whose assets may share space: a box is not what is in it."""


@dataclass(frozen=True)
class Free:
    """What the solver moves: ``at`` (B, N, 2) in the support's frame, ``yaw`` (B, N) relative to
    it, ``log_scale`` (B, N)."""

    at: Tensor
    yaw: Tensor
    log_scale: Tensor


@dataclass(frozen=True)
class Group:
    """Relations of one kind, size and setting, scored at once: ``assets`` (R, K)."""

    kind: str
    assets: Tensor
    options: Mapping[str, float | str | bool]
    order: tuple[int, ...]
    """Where each stands in the graph."""


@dataclass(frozen=True)
class Support:
    """Asset ``host`` (-1: the floor), and the rectangle and height on it, in its frame."""

    host: int
    x: tuple[float, float] = (-math.inf, math.inf)
    y: tuple[float, float] = (-math.inf, math.inf)
    z: float = 0.0
    overhang: float = 0.0
    """The share of half its size by which what rests may reach beyond the edges."""


class Problem:
    """The graph with the sizes and surfaces of its assets; see :class:`Free` for what is sought.

    Raises:
        UserError: a relation is unknown or wrongly used, or things rest on one another in a circle.
    """

    def __init__(
        self,
        graph: SceneGraph,
        sizes: Mapping[str, tuple[float, float, float]],
        surfaces: Mapping[str, Sequence[Surface]] | None = None,
        lifts: Mapping[str, float] | None = None,
    ) -> None:
        check(graph)
        self.graph = graph
        self.ids = [a.id for a in graph.assets]
        self.index = {name: i for i, name in enumerate(self.ids)}
        self.count = len(self.ids)
        self.sizes = [sizes[name] for name in self.ids]
        self.size = torch.tensor(self.sizes, dtype=torch.float32).reshape(-1, 3)
        offered = surfaces or {}
        self.offers = [list(offered.get(name, ())) for name in self.ids]
        self.lifts = lifts or {}
        self.room = graph.room
        self.walls = (
            Walls(self.room.width / 2, self.room.depth / 2, self.room.height)
            if (self.room)
            else None
        )
        from scenes.layout.support import supports

        self.supports = supports(self)
        self.levels = self._levels()
        self.groups = self._groups()
        self.weights = torch.tensor([r.weight for r in graph.relations], dtype=torch.float32)
        self.by_asset = [
            [n for n, r in enumerate(graph.relations) if name in r.assets] for name in self.ids
        ]
        self.solid = self._solid()
        self.resizable = torch.tensor([self._may_scale(name) for name in self.ids])
        self._surfaces = self._padded()
        hosts = [s.host for s in self.supports]
        self.children = [[k for k, h in enumerate(hosts) if h == i] for i in range(self.count)]
        self.siblings = self._siblings()
        self.central = torch.ones(self.count)
        for row in graph.relations:
            if row.kind in ROWS:  # its ends are far from its middle, and have to be
                self.central[[self.index[name] for name in row.assets]] = 0.0
            if row.kind == "repetition":
                self.central[self.index[row.assets[len(row.assets) // 2]]] = CENTRAL
        hung = [name in self.lifts and self._below_ceiling(name) for name in self.ids]
        loose = [s.host < 0 and s.z == 0 for s in self.supports]
        said = [{graph.relations[n].kind for n in found} for found in self.by_asset]
        self.wallward = torch.tensor(
            [
                (hangs or (free and (size[2] >= TALL or size[0] >= max(WIDE, 1.2 * size[1]))))
                and kinds <= LOOSE
                for hangs, free, size, kinds in zip(hung, loose, self.sizes, said, strict=True)
            ]
        )

    def poses(self, free: Free) -> Poses:
        """Where everything stands in the world, for any leading dimensions."""
        scale = free.log_scale.exp() * self.resizable + ~self.resizable
        size = self.size * scale.unsqueeze(-1)
        location = torch.zeros(*free.at.shape[:-1], 3)
        yaw = free.yaw
        for members, hosts, rect, height, inner in self.levels:
            at = free.at[..., members, :]
            if hosts is None:
                z = height.expand(at.shape[:-1])
                location = location.index_copy(-2, members, torch.cat([at, z.unsqueeze(-1)], -1))
                continue
            # Within the edges, or in the middle of what is too small.
            turn = free.yaw[..., members]
            half = size[..., members, :2] / 2
            c, s = turn.cos().abs(), turn.sin().abs()
            reach = torch.stack([c * half[..., 0] + s * half[..., 1],
                                 s * half[..., 0] + c * half[..., 1]], -1)  # fmt: skip
            reach = reach * inner.unsqueeze(-1)
            grown = scale[..., hosts].unsqueeze(-1)
            low, high = rect[:, :, 0] * grown + reach, rect[:, :, 1] * grown - reach
            middle = (low + high) / 2
            at = torch.maximum(torch.minimum(at, torch.maximum(high, middle)),
                               torch.minimum(low, middle))  # fmt: skip
            base = yaw[..., hosts]
            right = torch.stack([base.cos(), base.sin()], -1)
            back = torch.stack([-base.sin(), base.cos()], -1)
            plan = location[..., hosts, :2] + at[..., :1] * right + at[..., 1:] * back
            z = location[..., hosts, 2] + height * scale[..., hosts]
            location = location.index_copy(-2, members, torch.cat([plan, z.unsqueeze(-1)], -1))
            yaw = yaw.index_copy(-1, members, turn + base)
        surfaces = self._surfaces
        if bool(self.resizable.any()) and surfaces is not None:
            surfaces = surfaces * scale[..., None, None]
        return Poses(location, yaw, size, surfaces, self.walls)

    def standing(self, layout: Layout) -> Poses:
        """The poses of a layout that is given, whoever made it; B is 1."""
        at = [layout[name] for name in self.ids]
        return Poses(
            torch.tensor([[place.location for place in at]]),
            torch.tensor([[place.yaw for place in at]]),
            torch.tensor([[place.size for place in at]]),
            self._surfaces,
            self.walls,
        )

    def scores(self, p: Poses) -> Tensor:
        """A score for each relation of the graph (B, R)."""
        found = torch.empty(*p.yaw.shape[:-1], len(self.graph.relations))
        for group in self.groups:
            mine = self.pick(p, group.assets)
            values = KINDS[group.kind].score(mine, **group.options)
            found = found.index_copy(-1, torch.tensor(group.order), values.clamp(0, 1))
        return found

    def one(self, n: int, p: Poses, members: Sequence[int] | None = None) -> Tensor:
        """The score of relation ``n``, or of that part of a group which is about ``members``."""
        said = self.graph.relations[n]
        chosen = [self.index[a] for a in said.assets] if members is None else list(members)
        mine = self.pick(p, torch.tensor([chosen]))
        return KINDS[said.kind].score(mine, **settings(said)).squeeze(-1).clamp(0, 1)

    def pick(self, p: Poses, assets: Tensor) -> Poses:
        """The poses of R relations' assets (R, K): every tensor gets R before K."""
        count, k = assets.shape
        flat = assets.flatten()
        lead = p.yaw.shape[:-1]
        s = p.surfaces
        if s is not None:
            s = s.expand(*lead, *s.shape[-3:])[..., flat, :, :].reshape(
                *lead, count, k, *s.shape[-2:]
            )
        everyone = Poses(p.location.unsqueeze(-3), p.yaw.unsqueeze(-2), p.size.unsqueeze(-3))
        return Poses(
            p.location[..., flat, :].reshape(*lead, count, k, 3),
            p.yaw[..., flat].reshape(*lead, count, k),
            p.size.expand(*lead, self.count, 3)[..., flat, :].reshape(*lead, count, k, 3),
            s,
            self.walls,
            everyone,
        )

    def mean(self, scores: Tensor) -> Tensor:
        """The weighted mean over relations (B,); 1 if there are none."""
        if not len(self.weights):
            return scores.new_ones(scores.shape[:-1])
        return (scores * self.weights).sum(-1) / self.weights.sum()

    def depths(self, p: Poses, of: Tensor, against: Tensor) -> Tensor:
        """How deep solid pairs lie in one another, in metres, with a margin of air (B, len(of))."""

        def chosen(index: Tensor) -> Poses:
            return Poses(p.location[..., index, :], p.yaw[..., index], p.size[..., index, :])

        a, b = chosen(of), chosen(against)
        deep = (MARGIN - separation(a, b)).clamp(min=0)
        shared = torch.minimum(a.top, b.top) - torch.maximum(a.bottom, b.bottom)
        return deep * (shared > 1e-3)

    def outside(self, p: Poses) -> Tensor:
        """How far assets stick out of the room, summed, in metres (B, N)."""
        if self.walls is None:
            return p.yaw.new_zeros(p.yaw.shape)
        limit = p.location.new_tensor([self.walls.x, self.walls.y])
        return (p.plan.abs() + p.reach - limit).clamp(min=0).sum(-1)

    def habits(self, p: Poses) -> Tensor:
        """What is left to taste (B, N): facing the viewer, the middle, cupboards at a wall.

        What stands on one thing, or has something between it, stands side by side, so that
        nothing hides the rest.
        """
        # Askew is worse than turned by a quarter.
        turned = (1 - p.yaw.cos()) / 2 + (1 - (4 * p.yaw).cos()) / 4
        scale = 3.0 if self.walls is None else max(self.walls.x, self.walls.y)
        far = self.central * p.plan.square().sum(-1) / scale**2
        a, b = self.siblings
        if len(a):
            across, reach = p.plan[..., 0], p.reach[..., 0]
            apart = (across[..., a] - across[..., b]).abs() / (reach[..., a] + reach[..., b])
            hiding = (1 - apart).clamp(min=0)
            turned = turned.index_add(-1, a, hiding).index_add(-1, b, hiding)
        if self.walls is None or not bool(self.wallward.any()):
            return turned + 0.5 * far
        each = Poses(p.location.unsqueeze(-2), p.yaw.unsqueeze(-1), p.size.unsqueeze(-2),
                     walls=self.walls)  # fmt: skip
        wall = torch.stack([at_wall(each, name, 0.1) for name in SOLID], -1).amax(-1)
        return torch.where(self.wallward, 10 * (1 - wall), turned + 0.5 * far)

    def judged(self, p: Poses, row: int = 0) -> Scores:
        """The scores of one layout."""
        return Scores(self.graph.relations, tuple(self.scores(p)[row].tolist()))

    def collisions(self, p: Poses, row: int = 0) -> list[tuple[str, str, float]]:
        """Solid pairs that share space, with the share of the smaller box, worst first."""
        a, b = self.solid
        if not len(a):
            return []
        pair = self.pick(p, torch.stack([a, b], -1))
        smaller = pair.size.prod(-1).amin(-1).clamp(min=1e-9)
        share = (overlap_volume(pair.one(0), pair.one(1)) / smaller)[row]
        found = [
            (self.ids[int(a[n])], self.ids[int(b[n])], float(share[n]))
            for n in (share > COLLIDES).nonzero().flatten()
        ]
        return sorted(found, key=lambda pair: -pair[2])

    def layout(self, p: Poses, row: int = 0) -> dict[str, Placement]:
        """One layout by asset."""
        found = {}
        for i, name in enumerate(self.ids):
            x, y, z = (round(v, 5) for v in p.location[row, i].tolist())
            w, d, h = (round(v, 5) for v in p.size.expand(len(p.yaw), -1, -1)[row, i].tolist())
            yaw = math.remainder(float(p.yaw[row, i]), 2 * math.pi)
            found[name] = Placement(
                location=(x, y, z), yaw=round(yaw, 5), scale=round(h / self.sizes[i][2], 5),
                size=(w, d, h),
            )  # fmt: skip
        return found

    def _levels(self) -> list[tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]]:
        """What stands on the floor, then what stands on that, and so on."""
        depth = {-1: -1}
        left = set(range(self.count))
        while left:
            for i in sorted(left):
                if self.supports[i].host in depth:
                    depth[i] = depth[self.supports[i].host] + 1
            left -= depth.keys()
        found = []
        for level in range(max(depth.values(), default=-1) + 1):
            members = [i for i in range(self.count) if depth[i] == level]
            mine = [self.supports[i] for i in members]
            rect = torch.tensor([[s.x, s.y] for s in mine])
            height = torch.tensor([s.z for s in mine])
            hosts = torch.tensor([s.host for s in mine]) if level else None
            inner = torch.tensor([1 - s.overhang for s in mine])
            found.append((torch.tensor(members), hosts, rect, height, inner))
        return found

    def _groups(self) -> list[Group]:
        alike: dict[str, list[int]] = {}
        for n, said in enumerate(self.graph.relations):
            key = f"{said.kind} {len(said.assets)} {sorted(settings(said).items())}"
            alike.setdefault(key, []).append(n)
        found = []
        for numbers in alike.values():
            said = self.graph.relations[numbers[0]]
            rows = [[self.index[a] for a in self.graph.relations[n].assets] for n in numbers]
            found.append(Group(said.kind, torch.tensor(rows), settings(said), tuple(numbers)))
        return found

    def _solid(self) -> tuple[Tensor, Tensor]:
        """Pairs that may not share space."""
        shared = {
            frozenset(pair)
            for r in self.graph.relations
            if r.kind in NOT_SOLID
            for pair in _pairs(r)
        }
        above: dict[int, set[int]] = {}
        for i in range(self.count):
            above[i] = set()
            host = self.supports[i].host
            while host >= 0:
                above[i].add(host)
                host = self.supports[host].host
        pairs = [
            (i, j)
            for j in range(self.count)
            for i in range(j)
            if self.sizes[i][2] > FLAT
            and self.sizes[j][2] > FLAT
            and i not in above[j]
            and j not in above[i]
            and frozenset((self.ids[i], self.ids[j])) not in shared
        ]
        both = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def _siblings(self) -> tuple[Tensor, Tensor]:
        """Pairs that stand on the same thing, or have something between them."""
        pairs = [(a, b) for found in self.children for n, a in enumerate(found) for b in found[:n]]
        between = [r.assets for r in self.graph.relations if r.kind == "between"]
        pairs += [(self.index[b], self.index[c]) for _, b, c in between]
        both = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def _below_ceiling(self, name: str) -> bool:
        """Whether what hangs does so at a wall: what ends near a usual ceiling hangs from that."""
        return self.lifts[name] + self.sizes[self.index[name]][2] < CEILING

    def _may_scale(self, name: str) -> bool:
        return any(r.kind in ("hierarchy", "scaling") for r in self.graph.about(name))

    def _padded(self) -> Tensor | None:
        most = max((len(s) for s in self.offers), default=0)
        if not most:
            return None
        found = torch.full((self.count, most, 6), math.nan)
        for i, surfaces in enumerate(self.offers):
            for n, s in enumerate(surfaces):
                clear = 1e3 if s.clearance is None else s.clearance
                found[i, n] = torch.tensor([*s.x, *s.y, s.z, clear])
        return found


def _pairs(said: Relation) -> list[tuple[str, str]]:
    return [(a, b) for n, a in enumerate(said.assets) for b in said.assets[:n]]
