"""Pairs of a persistent person and one who is not, alike in how much and how long they wrote.

Coarsened exact matching (Iacus, King and Porro, Political Analysis 20, 2012): people fall into
cells by the logarithms of their posts and of their age in days, two cells an octave, and within a
cell the pairs are those with the least distance in all. Whoever finds no partner is left out. It is
for the *exposure* that the two groups are made alike: who writes more shows more of everything, and
stays longer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from text.persistence.cohort import Person

PER_OCTAVE = 2


class Matched(NamedTuple):
    """``people`` pair by pair, the persistent one first; ``balance`` by name, before and after.

    Balance is the standardised difference of means, (persistent - not) / pooled deviation; below
    0.1 in size counts as alike.
    """

    people: tuple[Person, ...]
    balance: Mapping[str, tuple[float, float]]


def covariates(person: Person) -> dict[str, float]:
    """What pairs are alike in: octaves of posts and of days."""
    return {
        "posts (log2)": math.log2(1 + len(person.texts)),
        "age in days (log2)": math.log2(1 + person.age),
    }


def matched(people: Sequence[Person]) -> Matched:
    """The pairs in ``people``, in the order of the persistent ones."""
    from scipy.optimize import linear_sum_assignment

    points = np.array([list(covariates(person).values()) for person in people])
    cells: dict[tuple[int, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for number, person in enumerate(people):
        cell = tuple(np.floor(PER_OCTAVE * points[number]).astype(int).tolist())
        cells[cell][0 if person.persistent else 1].append(number)
    pairs: list[tuple[int, int]] = []
    for stay, leave in cells.values():
        apart = np.abs(points[stay][:, None] - points[leave][None, :]).sum(-1)
        rows, columns = linear_sum_assignment(apart)
        pairs += [(stay[i], leave[j]) for i, j in zip(rows, columns, strict=True)]
    pairs.sort()
    chosen = tuple(people[number] for pair in pairs for number in pair)
    names = list(covariates(people[0])) if people else []
    return Matched(
        chosen,
        {name: (difference(people, name), difference(chosen, name)) for name in names},
    )


def difference(people: Sequence[Person], name: str) -> float:
    """The standardised difference of the covariate's means; not a number with a side too small."""
    sides = [
        np.array([covariates(p)[name] for p in people if p.persistent is side])
        for side in (True, False)
    ]
    if min(map(len, sides)) < 2:
        return math.nan
    pooled = math.sqrt(sum(float(side.var(ddof=1)) for side in sides) / 2)
    gap = float(sides[0].mean() - sides[1].mean())
    return gap / pooled if pooled > 0 else (0.0 if gap == 0 else math.copysign(math.inf, gap))
