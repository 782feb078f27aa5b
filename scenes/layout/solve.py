"""The layout solver: batched starts, built up asset by asset, then gradients and annealed moves.

SceneCraft searches by shaking every asset by a decimetre in x and y, a hundred times (arXiv
2403.01248, appendix). Here several layouts are built side by side: each asset goes where, of some
hundred guesses, its relations to what is there already score best. Then all of it is improved
together by gradients, between which assets that score badly are taken out and put where a new guess
says (kept if it is better, or by chance while the temperature is high). The best start wins.
Deterministic for a seed on one machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scenes.graph import Layout, SceneGraph, Surface
from scenes.layout.build import COLLISION, HABIT, OUTSIDE, built, choices, gained, local_frame
from scenes.layout.elsewhere import solved, values, walled
from scenes.layout.problem import Free, Problem
from scenes.relations import Scores
from scenes.relations.boxes import Poses

ENOUGH = 0.99
"""A start as good as this needs no more moves."""


@dataclass(frozen=True)
class SolverConfig:
    """How hard the solver tries. ``starts`` 0 means by size of the scene: 12 down to 3."""

    starts: int = 0
    steps: int = 60
    """Gradient steps before the moves and, as many in all, between them."""
    moves: int = 60
    """Assets taken out and put elsewhere, over all starts at once."""
    rate: float = 0.03
    temperature: float = 0.02
    """Of the first move; it falls to nothing by the last."""


@dataclass(frozen=True)
class Solution:
    """A layout, what its relations score, and which solid assets still share space."""

    layout: Layout
    scores: Scores
    collisions: tuple[tuple[str, str, float], ...]
    outside: tuple[str, ...]
    """Assets that stick out of the room by more than a centimetre."""
    seconds: float


def solve(
    graph: SceneGraph,
    sizes: Mapping[str, tuple[float, float, float]],
    surfaces: Mapping[str, Sequence[Surface]] | None = None,
    *,
    lifts: Mapping[str, float] | None = None,
    seed: int = 0,
    config: SolverConfig = SolverConfig(),
    start: Layout | None = None,
) -> Solution:
    """The best layout found for ``graph``; ``sizes`` in metres and ``surfaces`` by asset.

    ``lifts`` are the metres above the floor of what hangs by itself: a wall lamp, a washbasin.
    ``start`` is a layout to improve: it is one of the starts, and nothing is built anew.

    Raises:
        UserError: as :class:`Problem` does.
    """
    begun = time.monotonic()
    if (these := walled.get()) is not None:
        layout, found = solved(these, graph, sizes, surfaces, lifts, seed, config, start)
        scores = Scores(graph.relations, tuple(values(found, len(graph.relations))))
        collisions = tuple((str(a), str(b), float(c)) for a, b, c in found["collisions"])
        outside = tuple(map(str, found["outside"]))
        return Solution(layout, scores, collisions, outside, time.monotonic() - begun)
    problem = Problem(graph, sizes, surfaces, lifts)
    if not problem.count:
        return Solution({}, Scores(graph.relations, ()), (), (), time.monotonic() - begun)
    # Tensors this small gain nothing from a second thread, and lose much where cores are shared.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _solved(problem, seed, config, start, begun)
    finally:
        torch.set_num_threads(threads)


def _solved(
    problem: Problem, seed: int, config: SolverConfig, start: Layout | None, begun: float
) -> Solution:
    rng = torch.Generator().manual_seed(seed)
    starts = config.starts or max(3, min(12, 160 // problem.count))
    free = built(problem, starts, rng) if start is None else _given(problem, start, starts)
    free = _improved(problem, free, config, rng)
    p = problem.poses(free)
    row = int(value(problem, p).argmax())
    outside = problem.outside(p)[row]
    return Solution(
        problem.layout(p, row),
        problem.judged(p, row),
        tuple(problem.collisions(p, row)),
        tuple(problem.ids[i] for i in (outside > 0.01).nonzero().flatten().tolist()),
        time.monotonic() - begun,
    )


def value(problem: Problem, p: Poses, pairs: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """What is maximised (B,): the mean score less what collides, sticks out, or is not usual.

    ``pairs`` are those that might collide, all solid ones by default.
    """
    a, b = problem.solid if pairs is None else pairs
    worth = problem.mean(problem.scores(p))
    worth = worth - COLLISION * problem.depths(p, a, b).sum(-1)
    worth = worth - OUTSIDE * problem.outside(p).sum(-1)
    return worth - HABIT * problem.habits(p).mean(-1)


def _given(problem: Problem, start: Layout, starts: int) -> Free:
    """The same layout in every start, in the frames of the supports."""
    n = problem.count
    free = Free(torch.zeros(starts, n, 2), torch.zeros(starts, n), torch.zeros(starts, n))
    world = torch.tensor([[*start[name].location[:2], start[name].yaw] for name in problem.ids])
    for i, support in enumerate(problem.supports):
        place = world[i]
        if support.host >= 0:
            place = local_frame(place, world[support.host])
        free.at[:, i], free.yaw[:, i] = place[:2], place[2]
        free.log_scale[:, i] = math.log(max(start[problem.ids[i]].scale, 1e-3))
    return free


def _improved(problem: Problem, free: Free, config: SolverConfig, rng: torch.Generator) -> Free:
    """Gradient steps, then bursts of moves with steps between; of each start the best it had."""
    best, worth = free, value(problem, problem.poses(free))
    moves = min(config.moves, 4 * problem.count)
    bursts = 6
    for burst in range(bursts):
        steps = config.steps if burst == 0 else config.steps // bursts + 4
        free = _descended(problem, free, steps, config.rate)
        best, worth = _better(problem, best, worth, free)
        if bool((worth > ENOUGH).any()):
            break
        heat = config.temperature * (1 - burst / (bursts - 1)) ** 2
        lost = _losses(problem, free)
        for _ in range(-(-moves // bursts)):
            i = int(torch.multinomial(lost, 1, generator=rng))
            lost[i] *= 0.3
            free = _moved(problem, free, i, heat, rng)
        best, worth = _better(problem, best, worth, free)
    best, _ = _better(problem, best, worth, _descended(problem, best, 24, config.rate / 3))
    return _tidy(problem, best)


def _tidy(problem: Problem, free: Free) -> Free:
    """What stands a little askew is turned square, where that costs next to nothing."""
    everyone = set(range(problem.count))
    for i in range(problem.count):
        square = (free.yaw[:, i] / (math.pi / 2)).round() * (math.pi / 2)
        yaw = free.yaw.unsqueeze(1).repeat(1, 2, 1)
        yaw[:, 1, i] = square
        both = Free(
            free.at.unsqueeze(1).expand(-1, 2, -1, -1),
            yaw,
            free.log_scale.unsqueeze(1).expand(-1, 2, -1),
        )
        worth = gained(problem, both, i, everyone - {i})
        better = worth[:, 1] > worth[:, 0] - HABIT
        free = Free(free.at, torch.where(better.unsqueeze(-1), yaw[:, 1], free.yaw), free.log_scale)
    return free


def _moved(problem: Problem, free: Free, i: int, heat: float, rng: torch.Generator) -> Free:
    """Asset ``i`` at the best of its guesses, one of them to stay; drawn with Gumbel noise."""
    others = set(range(problem.count)) - {i}
    found = choices(problem, free, i, others, rng, stay=True)
    worth = gained(problem, found, i, others)
    noise = -torch.rand(worth.shape, generator=rng).clamp(1e-9).log().neg().log()
    best = (worth + heat * noise).argmax(-1)
    rows = torch.arange(len(best))
    return Free(found.at[rows, best], found.yaw[rows, best], free.log_scale)


def _better(problem: Problem, best: Free, worth: Tensor, free: Free) -> tuple[Free, Tensor]:
    """Of each start the better of two layouts."""
    now = value(problem, problem.poses(free))
    up = now > worth
    kept = Free(
        torch.where(up[:, None, None], free.at, best.at),
        torch.where(up[:, None], free.yaw, best.yaw),
        torch.where(up[:, None], free.log_scale, best.log_scale),
    )
    return kept, torch.where(up, now, worth)


def _descended(problem: Problem, free: Free, steps: int, rate: float) -> Free:
    """Adam on all starts at once (arXiv 1412.6980); its rate falls to a tenth.

    Written out: torch's own imports a compiler first, which takes longer than a small scene. Only
    pairs that could meet within the steps are kept apart.
    """
    leaves = [t.clone().requires_grad_() for t in (free.at, free.yaw, free.log_scale)]
    first = [torch.zeros_like(t) for t in leaves]
    second = [torch.zeros_like(t) for t in leaves]
    near = _neighbours(problem, problem.poses(free))
    for step in range(1, steps + 1):
        at, yaw, scale = leaves
        p = problem.poses(Free(at, yaw, scale.clamp(-0.35, 0.35)))
        loss = -value(problem, p, near).sum()
        grads: tuple[Tensor | None, ...] = torch.autograd.grad(loss, leaves, allow_unused=True)
        now = rate * (1 - 0.9 * step / steps)
        with torch.no_grad():
            for leaf, m, v, grad in zip(leaves, first, second, grads, strict=True):
                if grad is None:
                    continue
                grad = grad.nan_to_num(0.0)
                m.mul_(0.9).add_(grad, alpha=0.1)
                v.mul_(0.99).addcmul_(grad, grad, value=0.01)
                leaf -= now * (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
    at, yaw, scale = (leaf.detach() for leaf in leaves)
    return Free(at, yaw, scale.clamp(-0.35, 0.35))


def _neighbours(problem: Problem, p: Poses) -> tuple[Tensor, Tensor]:
    """Solid pairs within a metre of one another in any start."""
    a, b = problem.solid
    radius = problem.size[:, :2].norm(dim=-1) / 2
    far = (p.plan[..., a, :] - p.plan[..., b, :]).norm(dim=-1)
    close = (far < radius[a] + radius[b] + 1.0).any(0)
    return a[close], b[close]


def _losses(problem: Problem, free: Free) -> Tensor:
    """How badly the relations of each asset score, and how deep it lies in others (N,)."""
    p = problem.poses(free)
    lost = torch.full((problem.count,), 0.02)
    scores = problem.scores(p).amax(0) if len(problem.weights) else torch.zeros(0)
    for n, said in enumerate(problem.graph.relations):
        for name in said.assets:
            lost[problem.index[name]] += (1 - float(scores[n])) / len(said.assets)
    a, b = problem.solid
    if len(a):
        deep = problem.depths(p, a, b).mean(0)
        lost = lost.index_add(0, a, 5 * deep).index_add(0, b, 5 * deep)
    return lost + 5 * problem.outside(p).mean(0)


__all__ = ["Solution", "SolverConfig", "solve", "value"]
