"""What must hold of pairs, whatever the candidates."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.pairing import (
    best_worst,
    distinct,
    golden_over_sampled,
    pareto_best_worst,
    right_over_wrong,
)
from common.records import Candidate, Preference, Task

TASKS = {f"t{i}": Task(id=f"t{i}", prompt=f"prompt {i}") for i in range(3)}
OBJECTIVES = {"wer": "lower", "sim": "higher"}


def candidate(i: int, task: int, text: int, wer: int, sim: int, ended: bool = True) -> Candidate:
    return Candidate(
        id=f"c{i:03}", task=f"t{task}", round=1, output=f"text {text}",
        scores={"wer": wer / 10, "sim": sim / 10}, meta={"finished": ended},
    )  # fmt: skip


rows = st.tuples(
    st.integers(0, 2), st.integers(0, 4), st.integers(0, 5), st.integers(0, 5), st.booleans()
)
pools = st.lists(rows, max_size=24).map(
    lambda found: [candidate(i, *row) for i, row in enumerate(found)]
)


def sound(pairs: list[Preference], pool: list[Candidate], per_task: int) -> None:
    by_id = {c.id: c for c in pool}
    assert len({(p.prompt, p.chosen, p.rejected) for p in pairs}) == len(pairs)
    assert len({p.id for p in pairs}) == len(pairs)
    for p in pairs:
        assert p.chosen != p.rejected and p.prompt == TASKS[p.task].prompt and p.round == 4
        rejected = by_id[p.rejected_id or ""]
        assert (rejected.task, rejected.output) == (p.task, p.rejected)
        if p.chosen_id:
            chosen = by_id[p.chosen_id]
            assert (chosen.task, chosen.output) == (p.task, p.chosen)
            assert chosen.meta["finished"]
    for task in TASKS:
        assert sum(p.task == task for p in pairs) <= per_task


@settings(max_examples=80, deadline=None)
@given(pools, st.integers(1, 3), st.floats(0, 0.4), st.randoms())
def test_best_worst(pool: list[Candidate], k: int, least: float, rng: random.Random) -> None:
    options = {"key": "wer", "better": "lower", "min_margin": least, "pairs_per_task": k}
    pairs = best_worst(TASKS, pool, round=4, **options)  # type: ignore[arg-type]
    sound(pairs, pool, k)
    by_id = {c.id: c for c in pool}
    for p in pairs:
        gain = by_id[p.rejected_id or ""].scores["wer"] - by_id[p.chosen_id or ""].scores["wer"]
        assert p.margin == pytest.approx(gain) and gain > 0 and gain >= least
    for task in TASKS:  # the first pair of a task is the widest there is
        group = [c for c in pool if c.task == task]
        gaps = [
            b.scores["wer"] - a.scores["wer"]
            for a in group for b in group if a.meta["finished"] and a.output != b.output
        ]  # fmt: skip
        widest = max(gaps, default=0.0)
        of_task = [p.margin for p in pairs if p.task == task]
        best = [c for c in group if c.meta["finished"]]
        if of_task and best:
            assert of_task[0] <= widest + 1e-12
        if len({c.output for c in group}) == len(group):
            assert (widest > 0 and widest >= least) == bool(of_task)
            assert not of_task or of_task[0] == pytest.approx(widest)
    rng.shuffle(pool)
    assert best_worst(TASKS, pool, round=4, **options) == pairs  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(pools, st.integers(1, 3), st.floats(0, 1.0), st.randoms())
def test_pareto(pool: list[Candidate], k: int, least: float, rng: random.Random) -> None:
    options = {"objectives": OBJECTIVES, "min_margin": least, "pairs_per_task": k}
    pairs = pareto_best_worst(TASKS, pool, round=4, **options)  # type: ignore[arg-type]
    sound(pairs, pool, k)
    by_id = {c.id: c for c in pool}

    def dominates(a: Candidate, b: Candidate) -> bool:
        point = [(c.scores["sim"], -c.scores["wer"]) for c in (a, b)]
        return point[0] != point[1] and all(x >= y for x, y in zip(*point, strict=True))

    used = [i for p in pairs for i in (p.chosen_id, p.rejected_id)]
    assert len(set(used)) == len(used)
    for p in pairs:
        chosen, rejected = by_id[p.chosen_id or ""], by_id[p.rejected_id or ""]
        assert dominates(chosen, rejected) and not dominates(rejected, chosen)
        assert not any(dominates(c, chosen) for c in pool if c.task == p.task)
        assert p.margin >= least and p.margin > 0
    rng.shuffle(pool)
    assert pareto_best_worst(TASKS, pool, round=4, **options) == pairs  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(pools, st.integers(1, 3), st.integers(0, 5), st.randoms())
def test_golden(pool: list[Candidate], k: int, seed: int, rng: random.Random) -> None:
    goldens = {"t0": "golden", "t1": "text 1"}
    pairs = golden_over_sampled(TASKS, goldens, pool, pairs_per_task=k, seed=seed, round=4)
    sound(pairs, pool, k)
    assert all(p.chosen == goldens[p.task] and p.source == "golden" for p in pairs)
    for task in goldens:
        texts = {c.output for c in pool if c.task == task} - {goldens[task]}
        assert sum(p.task == task for p in pairs) == min(k, len(texts))
    rng.shuffle(pool)
    again = golden_over_sampled(TASKS, goldens, pool, pairs_per_task=k, seed=seed, round=4)
    assert again == pairs


def test_golden_over_the_worst_with_a_margin() -> None:
    pool = [candidate(0, 0, 0, 5, 0), candidate(1, 0, 1, 1, 0), candidate(2, 1, 2, 1, 0)]
    pairs = golden_over_sampled(
        TASKS, {"t0": "g", "t1": "g"}, pool, key="wer", better="lower",
        golden_scores={"t0": 0.1, "t1": 0.1}, min_margin=0.2, pairs_per_task=2,
    )  # fmt: skip
    [pair] = pairs
    assert pair.rejected_id == "c000" and pair.margin == pytest.approx(0.4)


def test_golden_draws_change_with_the_seed() -> None:
    pool = [candidate(i, 0, i, 0, 0) for i in range(20)]
    drawn = {golden_over_sampled(TASKS, {"t0": "g"}, pool, seed=s)[0].rejected for s in range(9)}
    assert len(drawn) > 3


def test_near_ties_are_dropped() -> None:
    pool = [candidate(0, 0, 0, 2, 5), candidate(1, 0, 1, 3, 5), candidate(2, 1, 2, 0, 9)]
    pool.append(candidate(3, 1, 3, 9, 1))
    assert len(pareto_best_worst(TASKS, pool, objectives=OBJECTIVES)) == 2  # type: ignore[arg-type]
    [pair] = pareto_best_worst(TASKS, pool, objectives=OBJECTIVES, min_margin=0.5)  # type: ignore[arg-type]
    assert pair.chosen_id == "c002"


def test_mistakes() -> None:
    pool = [candidate(0, 0, 0, 2, 5), candidate(1, 0, 1, 3, 5)]
    with pytest.raises(UserError, match="no score 'mos'"):
        best_worst(TASKS, pool, key="mos")
    with pytest.raises(UserError, match="objective"):
        pareto_best_worst(TASKS, pool, objectives={})
    broken = [Candidate(id="x", task="t0", round=0, output="", scores={"wer": float("nan")})]
    with pytest.raises(UserError, match="not a number"):
        best_worst(TASKS, broken, key="wer")
    [pair] = best_worst(TASKS, pool, key="wer")
    assert distinct([pair, pair]) == [pair]


@settings(max_examples=80, deadline=None)
@given(pools, st.integers(1, 3), st.integers(0, 5), st.randoms())
def test_right_over_wrong(pool: list[Candidate], k: int, seed: int, rng: random.Random) -> None:
    pool = [replace(c, scores={"correct": float(c.scores["wer"] > 0.2)}) for c in pool]
    other = replace(candidate(99, 0, 7, 0, 0), scores={"judged": 5.0})  # no answer at all
    options = {"key": "correct", "pairs_per_task": k, "seed": seed, "round": 4}
    pairs = right_over_wrong(TASKS, [*pool, other], **options)  # type: ignore[arg-type]
    sound(pairs, pool, k)
    for p in pairs:
        right = {c.output for c in pool if c.task == p.task and c.scores["correct"]}
        assert p.chosen in right and p.rejected not in right
    for task in TASKS:
        group = [c for c in pool if c.task == task]
        good = {c.output for c in group if c.scores["correct"] and c.meta["finished"]}
        bad = {c.output for c in group} - {c.output for c in group if c.scores["correct"]}
        assert sum(p.task == task for p in pairs) >= (1 if good and bad else 0)
    rng.shuffle(pool)
    assert right_over_wrong(TASKS, pool, **options) == pairs  # type: ignore[arg-type]
