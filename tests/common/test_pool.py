"""Candidates read as they are needed are those that are stored, in the same order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import pool as pools
from common.pairing import best_worst, pareto_best_worst, right_over_wrong
from common.pool import Pool, by_task, of_round
from common.records import Candidate, Task
from common.store import Store

RUN = "run"
rows = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from("abcd"), st.floats(0, 1)),
    max_size=60,
)


def stored(home: Path, made: list[tuple[int, int, str, float]]) -> Store:
    """Candidates of rounds, shards, tasks and scores, written in that order; one of another run."""
    store = Store(home)
    for n, (round, shard, task, score) in enumerate(made):
        candidate = Candidate(
            f"c{(n * 7919) % 101:03}", task, round, f"text {n}", scores={"good": score}
        )
        with store.database.write() as connection:
            store._append(connection, RUN, [candidate], shard)
    store.add("other", [Candidate("x", "a", 1, "not mine")])
    return store


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(1, 3), st.sampled_from([(1, 0), (3, 0), (1000, 20_000)]))
def test_a_pool_is_what_a_list_is(
    made: list[tuple[int, int, str, float]], last: int, parts: tuple[int, int]
) -> None:
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "PART", parts[0])
        patch.setattr(pools, "SMALL", parts[1])
        store = stored(Path(home), made)
        wanted = [c for c in store.candidates(RUN) if c.round <= last]
        pool = Pool(store, RUN, 1, last)
        assert list(pool) == wanted and len(pool) == len(wanted)
        assert pool[:2] == wanted[:2] and [pool[i] for i in range(-len(wanted), 0)] == wanted
        with pytest.raises(IndexError):
            pool[len(wanted)]
        assert list(by_task(pool)) == list(by_task(wanted))

        def good(c: Candidate) -> bool:
            return c.scores["good"] > 0.5

        for round in range(1, 4):
            some, same = of_round(pool, round, good), of_round(wanted, round, good)
            assert list(some) == list(same) and len(some) == len(same)
            assert list(by_task(some)) == list(by_task(same))
            assert [some[i] for i in range(len(same))] == list(same)
        tasks = {name: Task(name, "?") for name in "abcd"}
        how = {"key": "good", "pairs_per_task": 2}
        assert best_worst(tasks, pool, **how) == best_worst(tasks, wanted, **how)  # type: ignore[arg-type]
        right = [right_over_wrong(tasks, some, **how, seed=1) for some in (pool, wanted)]  # type: ignore[arg-type]
        assert right[0] == right[1]
        of = {"objectives": {"good": "higher"}}
        assert pareto_best_worst(tasks, pool, **of) == pareto_best_worst(tasks, wanted, **of)  # type: ignore[arg-type]
        store.close()


def test_a_pool_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, [(1, 0, "abcd"[n % 4], 0.5) for n in range(40)])
    monkeypatch.setattr(pools, "PART", 10)
    monkeypatch.setattr(pools, "SMALL", 0)
    sizes: list[int] = []
    read = store.candidates_at

    def counted(places: object) -> list[Candidate]:
        found = read(places)  # type: ignore[arg-type]
        sizes.append(len(found))
        return found

    monkeypatch.setattr(store, "candidates_at", counted)
    pool = Pool(store, RUN, 1, 1)
    assert len(pool) == 40 and not sizes
    next(iter(pool))
    assert sizes == [10]
    sizes.clear()
    assert [len(group) for _, group in by_task(pool)] == [10] * 4 and sizes == [10] * 4
    sizes.clear()
    monkeypatch.setattr(pools, "SMALL", 40)
    assert list(pool) == list(pool) and list(by_task(pool)) and sizes == [10] * 4
    store.close()
