"""Fits models and camera to a picture: points are projected, and what they cover is compared.

What is searched are the camera (pitch, height, angle of view) and for each thing the pixel that it
stands at, its yaw, its scale, and what it stands on. A thing keeps its pixel while the camera
changes, so that the two can be searched in turn. A candidate is worth how well outlines agree
(intersection over union, hidden parts left out) and colours, less for a scale that is not the
catalogue's and for things in one another. Hundreds of candidates are projected at once, so plain
random search with a narrowing spread does; everything is deterministic for a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenes.reconstruct.foreground import Picture
from scenes.reconstruct.match import Guess, Piece, View
from scenes.reconstruct.shapes import Shapes, closed
from scenes.relations.boxes import Poses, separation

GRAIN = 25.0
"""Units of Lab from which colours are worth only a third."""
COLOUR = 0.35
"""The share of a thing's worth that is its colours'."""
SCALE = 0.1
"""A logarithm of scale that costs three hundredths of agreement."""
INSIDE = 0.5
"""What a metre of two things in one another costs."""


@dataclass(frozen=True)
class Stand:
    """One thing: a model standing with the middle of its underside at pixel (``u``, ``v``) of the
    picture, on the floor or (``on``) on the top of another thing, for which of the ``pieces``."""

    model: int
    u: float
    v: float
    yaw: float
    log_scale: float = 0.0
    on: int | None = None
    piece: int = 0


@dataclass(frozen=True)
class Fit:
    """Things under a camera, and how well they explain the picture: 1 is all of it."""

    view: View
    things: tuple[Stand, ...]
    score: float = -math.inf


@dataclass
class Fitter:
    """Fits to one picture. ``pieces`` are parts of it; several things may share a piece.

    ``shrink`` is how many pixels across are compared as one, with as many fewer points.
    """

    picture: Picture
    shapes: Shapes
    pieces: Sequence[Piece]
    seed: int = 0
    shrink: int = 1
    fov_known: bool = False
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.size = (self.picture.lab.shape[1], self.picture.lab.shape[0])
        self.grid = (self.size[1] // self.shrink, self.size[0] // self.shrink)
        pool = torch.nn.functional.adaptive_avg_pool2d
        lab = torch.tensor(self.picture.lab, dtype=torch.float32).permute(2, 0, 1)
        self._lab = pool(lab, self.grid).permute(1, 2, 0)
        masks = [torch.tensor(p.mask, dtype=torch.float32)[None] for p in self.pieces]
        self._masks = torch.stack([(pool(m, self.grid)[0] >= 0.5).float() for m in masks])
        self._points = torch.tensor(self.shapes.points[:, :: self.shrink])
        self._colours = torch.tensor(self.shapes.lab[:, :: self.shrink])
        areas = self._masks.sum((1, 2))
        self._weights = areas.sqrt() / areas.sqrt().sum().clamp(min=1e-6)

    # Where things are.

    def place(self, view: View, things: Sequence[Stand]) -> list[tuple[float, float, float, float]]:
        """x, y, z and scale of each thing in the camera's world."""
        found: dict[int, tuple[float, float, float, float]] = {}
        # What stands on something comes after it; nothing stands on what stands on something.
        for i in sorted(range(len(things)), key=lambda i: things[i].on is not None):
            thing, base = things[i], 0.0
            if thing.on is not None:
                base = self.rest(things[thing.on].model) * found[thing.on][3]
            x, y = self.ground(view, thing.u, thing.v, base)
            found[i] = (x, y, base, math.exp(thing.log_scale))
        return [found[i] for i in range(len(things))]

    def ground(self, view: View, u: float, v: float, base: float) -> tuple[float, float]:
        """Where the ray through a pixel meets the level plane at height ``base``."""
        focal = self.size[0] / 2 / math.tan(view.fov / 2)
        right, down = (u - self.size[0] / 2) / focal, (v - self.size[1] / 2) / focal
        forward = math.cos(view.pitch) - down * math.sin(view.pitch)
        fall = math.sin(view.pitch) + down * math.cos(view.pitch)
        drop = max(view.height - base, 0.02)
        reach = drop / max(fall, 0.02)
        return right * reach, forward * reach

    def pixel(self, view: View, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel of a point."""
        focal = self.size[0] / 2 / math.tan(view.fov / 2)
        up = z - view.height
        away = max(y * math.cos(view.pitch) - up * math.sin(view.pitch), 0.05)
        high = y * math.sin(view.pitch) + up * math.cos(view.pitch)
        return self.size[0] / 2 + focal * x / away, self.size[1] / 2 - focal * high / away

    def rest(self, model: int) -> float:
        """The height at which things stand on a model."""
        found = self.shapes.models[model]
        assert found.size is not None
        return found.rest if found.rest is not None else found.size[2]

    # What is seen.

    def layers(
        self, view: View, things: Sequence[Stand], which: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One thing alone: where it is (H, W), how far away, and its colours (H, W, 3)."""
        return self._splat([view], [list(things)], which)[:3]

    def _splat(
        self, views: Sequence[View], states: Sequence[Sequence[Stand]], which: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Thing ``which`` in each of B states: mask (B, H, W), depth, colours (B, H, W, 3)."""
        width, height = self.size
        rows = []
        for view, things in zip(views, states, strict=True):
            x, y, z, scale = self.place(view, things)[which]
            rows.append((x, y, z - view.height, scale, things[which].yaw, view.pitch,
                         width / 2 / math.tan(view.fov / 2)))  # fmt: skip
        at = torch.tensor(rows)
        model = [things[which].model for things in states]
        points = self._points[model] * at[:, 3, None, None]
        cos, sin = at[:, 4, None].cos(), at[:, 4, None].sin()
        px = cos * points[..., 0] - sin * points[..., 1] + at[:, 0, None]
        py = sin * points[..., 0] + cos * points[..., 1] + at[:, 1, None]
        pz = points[..., 2] + at[:, 2, None]
        cp, sp = at[:, 5, None].cos(), at[:, 5, None].sin()
        away = (py * cp - pz * sp).clamp(min=0.05)
        high = py * sp + pz * cp
        column = ((width / 2 + at[:, 6, None] * px / away) / self.shrink).floor().long()
        row = ((height / 2 - at[:, 6, None] * high / away) / self.shrink).floor().long()
        height, width = self.grid
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        cell = torch.where(inside, row * width + column, width * height)
        count, number = away.shape
        # Depth in millimetres before the point's number: the least is the nearest point.
        key = (away.clamp(max=1e4) * 1000).long() * number + torch.arange(number)
        nearest = torch.full((count, width * height + 1), torch.iinfo(torch.int64).max)
        nearest = nearest.scatter_reduce_(1, cell, key, "amin")[:, :-1]
        hit = nearest < torch.iinfo(torch.int64).max
        depth = torch.where(hit, (nearest // number).float() / 1000, torch.inf)
        index = torch.where(hit, nearest % number, 0)
        colours = self._colours[model].gather(1, index[..., None].expand(-1, -1, 3))
        shape = (count, height, width)
        mask = closed(hit.float().reshape(shape))
        depth = depth.reshape(shape)
        near = -torch.nn.functional.max_pool2d(-depth.unsqueeze(1), 3, 1, 1).squeeze(1)
        depth = torch.where(hit.reshape(shape), depth, near)
        # Colours count only where a point was hit.
        colours = torch.where(hit[..., None], colours, torch.nan).reshape(*shape, 3)
        return mask, torch.where(mask > 0, depth, torch.inf), colours

    # What it is worth.

    def score(self, views: Sequence[View], states: Sequence[Sequence[Stand]]) -> Tensor:
        """The worth of B states with the same number of things."""
        count = len(states[0])
        layers = [self._splat(views, states, i) for i in range(count)]
        pieces = [s.piece for s in states[0]]
        return self._worth(layers, pieces, views, states)

    def agreement(self, fit: Fit) -> NDArray[np.float64]:
        """How well each piece's outline is explained: intersection over union, (pieces,)."""
        layers = [self._splat([fit.view], [fit.things], i) for i in range(len(fit.things))]
        depth = torch.cat([layer[1] for layer in layers])
        front = depth.argmin(0)
        found = np.zeros(len(self.pieces))
        for n, target in enumerate(self._masks):
            mine = [i for i, s in enumerate(fit.things) if s.piece == n]
            if mine:
                seen = [(front == i) & (depth[i] < torch.inf) for i in mine]
                cover = torch.stack(seen).any(0)
                both = (cover & (target > 0)).sum()
                found[n] = float(both / (cover | (target > 0)).sum().clamp(min=1))
        return found

    def _worth(
        self,
        layers: Sequence[tuple[Tensor, Tensor, Tensor]],
        pieces: Sequence[int],
        views: Sequence[View],
        states: Sequence[Sequence[Stand]],
    ) -> Tensor:
        depth = torch.stack(torch.broadcast_tensors(*(layer[1] for layer in layers)))  # n B H W
        front = depth.amin(0)
        seen = [((each <= front) & (each < torch.inf)).float() for each in depth]
        worth = torch.zeros(depth.shape[1])
        for n, (target, weight) in enumerate(zip(self._masks, self._weights, strict=True)):
            mine = [i for i, piece in enumerate(pieces) if piece == n]
            if not mine:
                continue
            cover = torch.stack([seen[i] for i in mine]).amax(0)
            both = (cover * target).sum((1, 2))
            # What covers another piece is that piece's business only if it is hidden there.
            union = cover.sum((1, 2)) + target.sum() - both
            outline = both / union.clamp(min=1)
            colour = torch.zeros_like(worth)
            total = torch.zeros_like(worth)
            for i in mine:
                agree, share = self._colour(layers[i][2], seen[i] * target)
                colour, total = colour + agree * share, total + share
            colour = colour / total.clamp(min=1e-6)
            worth = worth + weight * outline * (1 - COLOUR + COLOUR * colour)
        return worth - self._cost(views, states)

    def _colour(self, colours: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """How well colours agree (B,), from 0 to 1, and on how many pixels."""
        there = where * ~colours[..., 0].isnan()
        away = (colours - self._lab).nan_to_num(0.0)
        share = there.sum((1, 2))
        # How bright a thing is depends on the light, up to a point.
        light = (away[..., 0] * there).sum((1, 2)) / share.clamp(min=1)
        lightness = away[..., 0] - light.clamp(-25, 25)[:, None, None]
        squares = 0.25 * lightness**2 + away[..., 1] ** 2 + away[..., 2] ** 2
        agree = (-squares.sqrt() / GRAIN).exp()
        return (agree * there).sum((1, 2)) / share.clamp(min=1), share

    def _cost(self, views: Sequence[View], states: Sequence[Sequence[Stand]]) -> Tensor:
        scales = torch.tensor([[s.log_scale for s in state] for state in states])
        # A lens is about a usual one, unless the picture says otherwise.
        lens = torch.tensor([math.log(view.fov / 0.75) for view in views])
        cost = 0.01 * (lens / 0.25).square() + 0.03 * (scales / SCALE).square().mean(1)
        floor = [i for i, s in enumerate(states[0]) if s.on is None]
        if len(floor) < 2:
            return cost
        placed = [self.place(view, state) for view, state in zip(views, states, strict=True)]
        at = torch.tensor([[p[i][:3] for i in floor] for p in placed])
        yaw = torch.tensor([[state[i].yaw for i in floor] for state in states])
        size = torch.tensor(
            [[self.shapes.models[state[i].model].size for i in floor] for state in states]
        ) * torch.tensor([[p[i][3] for i in floor] for p in placed]).unsqueeze(-1)
        for a in range(len(floor)):
            for b in range(a):
                one, two = (Poses(at[:, k], yaw[:, k], size[:, k]) for k in (a, b))
                cost = cost + INSIDE * (-separation(one, two) - 0.03).clamp(min=0, max=0.6)
        return cost

    # The search.

    def start(self, view: View, guess: Guess, piece: int, on: int | None = None,
              base: float = 0.0) -> Stand:  # fmt: skip
        """A thing where its piece's lower edge says."""
        left, _, right, bottom = self.pieces[piece].box
        model = self.shapes.models[guess.model]
        assert model.size is not None
        u = (left + right) / 2
        x, y = self.ground(view, u, bottom, base)
        # The lower edge is the near side of the foot; the middle lies half a depth behind.
        half = (
            abs(math.cos(guess.yaw)) * model.size[1] + abs(math.sin(guess.yaw)) * model.size[0]
        ) / 2
        far = math.hypot(x, y)
        x, y = x * (1 + half / max(far, 0.1)), y * (1 + half / max(far, 0.1))
        u, v = self.pixel(view, x, y, base)
        return Stand(guess.model, u, v, guess.yaw, 0.0, on, piece)

    def improved(
        self,
        fit: Fit,
        rounds: int,
        spread: float = 1.0,
        camera: bool = True,
        batch: int = 24,
        only: Sequence[int] | None = None,
    ) -> Fit:
        """``fit`` after so many rounds of trying each thing, and the camera, elsewhere."""
        best = fit
        if best.score == -math.inf:
            best = replace(fit, score=float(self.score([fit.view], [fit.things])[0]))
        for turn in range(rounds):
            now = spread * (1 - turn / rounds) ** 1.5 + 0.03
            for i in range(len(best.things)) if only is None else only:
                best = self._moved(best, i, now, batch)
            if camera:
                best = self._tilted(best, now, batch)
        return best

    def _moved(self, best: Fit, i: int, spread: float, batch: int) -> Fit:
        """One thing tried at other places; the others' layers stay what they are."""
        thing = best.things[i]
        left, top, right, bottom = self.pieces[thing.piece].box
        wide, tall = max(right - left, 4), max(bottom - top, 4)
        noise = self.rng.normal(size=(batch, 4))
        tried = [thing]
        for n, (u, v, yaw, scale) in enumerate(noise):
            turn = yaw * 0.5 * spread
            if n % 6 == 0:  # what looks alike from behind, or is square
                turn += float(self.rng.choice([math.pi / 2, math.pi, -math.pi / 2]))
            tried.append(
                replace(
                    thing,
                    u=thing.u + u * 0.12 * spread * wide,
                    v=thing.v + v * 0.12 * spread * tall,
                    yaw=thing.yaw + turn,
                    log_scale=thing.log_scale + scale * 0.08 * spread,
                )
            )
        states = [(*best.things[:i], each, *best.things[i + 1 :]) for each in tried]
        views = [best.view] * len(states)
        moving = {i} | {k for k, s in enumerate(best.things) if s.on == i}
        layers = [
            self._splat(views, states, k) if k in moving
            else self._splat([best.view], [best.things], k)
            for k in range(len(best.things))
        ]  # fmt: skip
        return self._best(best, layers, views, states)

    def _tilted(self, best: Fit, spread: float, batch: int) -> Fit:
        """The camera tried a little otherwise; everything keeps its pixel."""
        noise = self.rng.normal(size=(batch, 3)) * spread
        views = [best.view]
        for pitch, high, fov in noise:
            views.append(
                View(
                    float(np.clip(best.view.pitch + 0.06 * pitch, 0.0, 1.4)),
                    best.view.height * math.exp(0.12 * high),
                    best.view.fov
                    if self.fov_known
                    else float(np.clip(best.view.fov * math.exp(0.1 * fov), 0.3, 1.6)),
                )
            )
        states = [best.things] * len(views)
        layers = [self._splat(views, states, k) for k in range(len(best.things))]
        return self._best(best, layers, views, states)

    def _best(
        self,
        before: Fit,
        layers: Sequence[tuple[Tensor, Tensor, Tensor]],
        views: Sequence[View],
        states: Sequence[Sequence[Stand]],
    ) -> Fit:
        worth = self._worth(layers, [s.piece for s in states[0]], views, states)
        chosen = int(worth.argmax())
        if float(worth[chosen]) <= before.score:
            return before
        return Fit(views[chosen], tuple(states[chosen]), float(worth[chosen]))
