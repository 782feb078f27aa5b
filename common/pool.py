"""The candidates that lessons are selected from, read from the store as they are asked for.

A run's pool may be larger than memory: what is held of a :class:`Pool` is where its candidates lie,
some twenty bytes each. Who goes through it one by one, or task by task (:func:`by_task`), holds no
more than a part. Both functions here take a plain list as well.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

from common.records import Candidate

if TYPE_CHECKING:
    from common.store import Store

Keep = Callable[[Candidate], bool]
PART = 1000
"""Candidates that are read at once."""
SMALL = 20_000
"""Up to so many are kept once they are read."""


class Pool(Sequence[Candidate]):
    """A run's candidates of the rounds ``first`` to ``last``, those that ``keep`` says yes to.

    In the order of proposal. Nothing may be proposed in these rounds while it is used. If there are
    more than :data:`SMALL`, each pass reads anew.
    """

    def __init__(
        self, store: Store, run: str, first: int, last: int, keep: Keep | None = None
    ) -> None:
        self.store, self.run, self.first, self.last, self.keep = store, run, first, last, keep

    def of(self, round: int, keep: Keep | None = None) -> Pool:
        """Those of one round, and of those the ones to ``keep``."""
        if not self.first <= round <= self.last:
            return Pool(self.store, self.run, 0, -1)
        asked = [one for one in (self.keep, keep) if one is not None]
        every = (lambda c: all(one(c) for one in asked)) if asked else None
        return Pool(self.store, self.run, round, round, every)

    def by_task(self) -> Iterator[tuple[str, list[Candidate]]]:
        """:func:`by_task`."""
        if self._small:
            yield from by_task(self._all)
            return
        _, places = self._index
        names = sorted(places)
        some: list[str] = []
        held = 0
        for n, name in enumerate(names, 1):
            some.append(name)
            held += len(places[name])
            if held < PART and n < len(names):
                continue
            groups: dict[str, list[Candidate]] = {one: [] for one in some}
            for candidate in self._read([at for one in some for at in places[one]]):
                groups[candidate.task].append(candidate)
            for one, group in groups.items():
                if group:
                    yield one, sorted(group, key=lambda c: c.id)
            some, held = [], 0

    @cached_property
    def _index(self) -> tuple[array[int], dict[str, array[int]]]:
        """Where the candidates lie: all in the order of proposal, and by task."""
        order = array("q")
        places: dict[str, array[int]] = defaultdict(lambda: array("q"))
        for at, task in self.store.places(self.run, self.first, self.last):
            order.append(at)
            places[task].append(at)
        return order, dict(places)

    @property
    def _small(self) -> bool:
        return len(self._index[0]) <= SMALL

    @cached_property
    def _all(self) -> list[Candidate]:
        return list(self._read(self._index[0]))

    def _read(self, places: Sequence[int]) -> Iterator[Candidate]:
        for start in range(0, len(places), PART):
            for candidate in self.store.candidates_at(places[start : start + PART]):
                if self.keep is None or self.keep(candidate):
                    yield candidate

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._all) if self._small else self._read(self._index[0])

    def __len__(self) -> int:
        return len(self._index[0]) if self.keep is None else sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        if not self._small and self.keep is None and isinstance(index, int):
            return self.store.candidates_at([self._index[0][index]])[0]
        return (self._all if self._small else list(self))[index]


def of_round(
    pool: Sequence[Candidate], round: int, keep: Keep | None = None
) -> Sequence[Candidate]:
    """The candidates of ``pool`` that were proposed in ``round``, and of those the ones to keep."""
    if isinstance(pool, Pool):
        return pool.of(round, keep)
    return [c for c in pool if c.round == round and (keep is None or keep(c))]


def by_task(candidates: Iterable[Candidate]) -> Iterator[tuple[str, list[Candidate]]]:
    """Tasks with their candidates, both in the order of their ids, one task at a time."""
    if isinstance(candidates, Pool):
        yield from candidates.by_task()
        return
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(candidates, key=lambda c: c.id):
        groups[candidate.task].append(candidate)
    for name in sorted(groups):
        yield name, groups[name]
