"""Isolation forests (Liu, Ting and Zhou, ICDM 2008) for thousands of small groups at once.

A tree splits a group's points at a random feature and a random value between its least and its
largest there, until every point is alone. Odd points are alone early: with h the depth averaged
over trees and c(n) the mean depth of an unsuccessful search in a binary tree,

    score = 2^(-h / c(n)),  which is above 1/2 for points that are easier to isolate than most.

DIVE (arXiv 2501.00747) fits a forest for each question and sign: 2,000 forests of 50 points. A
library fits one in a tenth of a second. Here the trees of many groups grow level by level in the
same arrays; ``benchmarks/diversity.py`` has the ratio. Scores do not depend on the order of points
or of groups: a group's draws come from its own seed, and its points are put in order first.

Deviation: a node whose points are equal in the drawn feature becomes a leaf; the paper draws only
among features that differ. Of dense vectors such points are equal altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
TREES = 100
"""The paper's number of trees."""
SAMPLE = 256
"""The paper's number of points that a tree is grown from."""
_AT_ONCE = 2**21  # points times trees in memory


def scores(
    groups: Sequence[Floats],
    seeds: Sequence[int],
    trees: int = TREES,
    sample: int = SAMPLE,
) -> list[NDArray[np.float64]]:
    """How odd each point of each group is, in (0, 1]; a group is (n, d), its scores are (n,).

    A group of one point or none, or of equal points, has nothing odd: its scores are 0.5.
    """
    found: list[NDArray[np.float64]] = [np.full(len(group), 0.5) for group in groups]
    batch: list[int] = []
    size = 0
    for number, group in enumerate(groups):
        if len(group) < 2:
            continue
        batch.append(number)
        size += len(group) * trees
        if size >= _AT_ONCE:
            _forests(groups, seeds, batch, trees, sample, found)
            batch, size = [], 0
    if batch:
        _forests(groups, seeds, batch, trees, sample, found)
    return found


def outliers(
    groups: Sequence[Floats],
    seeds: Sequence[int],
    share: float = 0.1,
    trees: int = TREES,
) -> list[NDArray[np.bool_]]:
    """Which points of each group to drop: scores above 1/2, and at most ``share`` of the group.

    Equal scores at the edge are dropped together or not at all, so that order decides nothing.
    """
    marked = []
    for score in scores(groups, seeds, trees):
        odd = score > 0.5
        most = int(share * len(score))
        if odd.sum() > most:
            edge = np.sort(score)[-most - 1]  # the first that must stay
            odd &= score > edge
        marked.append(odd)
    return marked


def depth(points: NDArray[np.int64]) -> NDArray[np.float64]:
    """c(n), the mean depth of an unsuccessful search in a binary tree of n points; 0 below two."""
    most = int(points.max(initial=1))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 1))])
    safe = np.maximum(points, 1)
    return np.where(points > 1, 2 * harmonic[safe - 1] - 2 * (safe - 1) / safe, 0.0)


def _forests(
    groups: Sequence[Floats],
    seeds: Sequence[int],
    batch: Sequence[int],
    trees: int,
    sample: int,
    found: list[NDArray[np.float64]],
) -> None:
    """Fill in ``found`` for the groups of ``batch``; nodes are segments of one array."""
    arranged = [np.lexsort(np.asarray(groups[g]).T) for g in batch]
    points_ND = np.concatenate(
        [np.asarray(groups[g])[order] for g, order in zip(batch, arranged, strict=True)]
    )
    sizes_G = np.array([len(order) for order in arranged])
    first_G = np.cumsum(sizes_G) - sizes_G
    limit_G = np.ceil(np.log2(np.minimum(sizes_G, sample))).astype(int)
    # Every split that a tree may need, drawn beforehand from its group's own seed: node i of a
    # tree has the children 2i and 2i + 1, and the root is node 1.
    table = np.cumsum(trees * 2**limit_G) - trees * 2**limit_G
    feature, cut, drawn = [], [], []
    for g, n, limit in zip(batch, sizes_G.tolist(), limit_G.tolist(), strict=True):
        rng = np.random.default_rng(seeds[g])
        feature.append(rng.integers(points_ND.shape[1], size=trees * 2**limit))
        cut.append(rng.random(trees * 2**limit))
        chosen = np.ones((trees, n), dtype=bool)
        if n > sample:
            chosen = rng.random((trees, n)).argsort(axis=1) < sample
        drawn.append(chosen.ravel())
    feature_, cut_ = np.concatenate(feature), np.concatenate(cut)
    in_sample = np.concatenate(drawn)
    # An entry is a point in a tree. A segment is the entries of a node, next to one another.
    point = np.concatenate(
        [np.tile(np.arange(f, f + n), trees) for f, n in zip(first_G, sizes_G, strict=True)]
    )
    group = np.repeat(np.arange(len(batch)), trees)
    tree = np.tile(np.arange(trees), len(batch))
    node = np.ones(len(group), dtype=np.int64)
    count = np.repeat(sizes_G, trees)
    total = np.zeros(len(points_ND))
    for level in range(int(limit_G.max(initial=0)) + 1):
        start = np.cumsum(count) - count
        held = np.add.reduceat(in_sample.astype(np.int64), start)
        row = table[group] + tree * 2 ** limit_G[group] + node
        grows = (held > 1) & (level < limit_G[group])
        row[~grows] = 0
        value = points_ND[point, np.repeat(feature_[row], count)]
        low = np.minimum.reduceat(np.where(in_sample, value, np.inf), start)
        high = np.maximum.reduceat(np.where(in_sample, value, -np.inf), start)
        grows &= high > low
        ended = np.repeat(~grows, count)
        length = np.repeat(level + depth(held), count)
        total += np.bincount(point[ended], length[ended], minlength=len(total))
        if not grows.any():
            break
        going = ~ended
        low, high, row = low[grows], high[grows], row[grows]
        group, tree, node, count = group[grows], tree[grows], node[grows], count[grows]
        value, point, in_sample = value[going], point[going], in_sample[going]
        right = value > np.repeat(low + cut_[row] * (high - low), count)
        # A stable partition of each segment: left entries, then right ones.
        start = np.cumsum(count) - count
        rights = np.add.reduceat(right.astype(np.int64), start)
        lefts = count - rights
        before = np.cumsum(right)
        within = before - right - np.repeat(before[start] - right[start], count)
        begin = np.repeat(start, count)
        place = np.where(
            right,
            begin + np.repeat(lefts, count) + within,
            np.arange(len(right)) - within,
        )
        point[place], in_sample[place] = point.copy(), in_sample.copy()
        group, tree = np.repeat(group, 2), np.repeat(tree, 2)
        node = np.stack([2 * node, 2 * node + 1], axis=1).ravel()
        count = np.stack([lefts, rights], axis=1).ravel()
        # Rounding may put a cut on an end of its range; an empty node is none.
        full = count > 0
        group, tree, node, count = group[full], tree[full], node[full], count[full]
    normal = depth(np.minimum(sizes_G, sample))
    for at, (g, order) in enumerate(zip(batch, arranged, strict=True)):
        mean = total[first_G[at] : first_G[at] + sizes_G[at]] / trees
        flat = bool((points_ND[first_G[at]] == points_ND[first_G[at] + sizes_G[at] - 1]).all())
        if not flat:
            found[g][order] = 2.0 ** (-mean / normal[at])
