"""DIVE's selection: order decides nothing, diversity beats chance, and the loss is the paper's."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from common.diversity import Measure
from common.errors import UserError
from common.learners.dpo import Preference as Learner
from common.pairing import right_over_wrong
from common.records import Candidate, Lessons, Task, identity
from tests.common.test_learners import loss_of, nll_by_hand, pairs
from tests.common.tiny import context, tiny_policy
from text.dive import Diverse, diversity, weights

TASKS = {f"t{i}": Task(id=f"t{i}", prompt=f"question {i}") for i in range(12)}
WAYS = ["3 + 4 = 7 so 7", "4 + 3 = 7 and we are done", "count on from 3 : 4 5 6 7", "7"]


def embed(texts: list[str]) -> np.ndarray:
    """Bags of words, hashed."""
    made = np.zeros((len(texts), 32))
    for row, text in enumerate(texts):
        for word in text.split():
            made[row, int(identity(word), 16) % 32] += 1
    return made


def samples(round: int, count: int = 24) -> list[Candidate]:
    """Most samples say nearly the same, a few say it otherwise."""
    rng = random.Random(round)
    made = []
    for task in TASKS:
        for i in range(count):
            way = WAYS[0] if rng.random() < 0.7 else rng.choice(WAYS[1:])
            right = rng.random() < 0.5
            text = f"{way} {rng.choice('abcdefgh')}{'' if right else ' wrong'}"
            name = identity(task, round, i)
            made.append(Candidate(name, task, round, text, scores={"correct": float(right)}))
    return made


@pytest.mark.parametrize("measure", get_args(Measure))
def test_diverse_beats_chance_and_order_decides_nothing(tmp_path: Path, measure: Measure) -> None:
    ctx = context(tmp_path, round=2)
    pool = samples(1) + samples(2)
    stage = Diverse(measure, pairs=3, embed=embed)
    lessons = stage.select(TASKS, pool, ctx)
    per_task = [sum(p.task == t for p in lessons.preferences) for t in TASKS]
    assert max(per_task) <= 3 and sum(per_task) >= 30
    scores = {(c.task, c.output): c.scores["correct"] for c in pool}
    for p in lessons.preferences:
        assert scores[p.task, p.chosen] == 1 and scores[p.task, p.rejected] == 0
    shuffled = random.Random(0).sample(pool, len(pool))
    again = Diverse(measure, pairs=3, embed=embed).select(TASKS, shuffled, ctx)
    assert again == lessons
    ours = diversity(lessons.preferences, stage.known or None)
    name = {"distinct-n": "distinct_n", "chains": "chains"}.get(measure, "embedding")
    if not stage.known:
        texts = [c.output for c in pool]
        stage.known.update(zip(texts, embed(texts), strict=True))
    for side in ("chosen", "rejected"):
        chance = [
            diversity(
                right_over_wrong(TASKS, pool, key="correct", pairs_per_task=3, seed=s), stage.known
            )[f"{name}_{side}"]
            for s in range(5)
        ]
        assert ours[f"{name}_{side}"] > np.mean(chance)
    assert lessons.notes["questions"] == 12 and lessons.notes["pool"] == len(pool)


def test_the_pool_is_global_or_the_rounds(tmp_path: Path) -> None:
    ctx = context(tmp_path, round=2)
    pool = samples(1) + samples(2)
    rounds = {c.id: c.round for c in pool}
    for which, expected in (("global", {1, 2}), ("round", {2})):
        lessons = Diverse(pool=which, embed=embed).select(TASKS, pool, ctx)  # type: ignore[arg-type]
        assert {rounds[p.chosen_id or ""] for p in lessons.preferences} == expected


def test_outliers_are_dropped_per_side(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    pool = [
        Candidate(identity(i), "t0", 1, f"a {i % 2} b {i % 5} {i}", scores={"correct": i % 2})
        for i in range(60)
    ]
    odd = Candidate("odd", "t0", 1, " ".join("zyxwvutsrq" * 3), scores={"correct": 1.0})
    with_, without = (
        Diverse(drop=drop, pairs=20, embed=embed).select(TASKS, [*pool, odd], ctx)
        for drop in (0.1, 0.0)
    )
    assert odd.output in {p.chosen for p in without.preferences}
    assert odd.output not in {p.chosen for p in with_.preferences}
    assert with_.notes["outliers"] >= 1 and without.notes["outliers"] == 0


def test_no_lessons_without_both_sides(tmp_path: Path) -> None:
    right = [c for c in samples(1) if c.scores["correct"]]
    lessons = Diverse(embed=embed).select(TASKS, right, context(tmp_path))
    assert not lessons and lessons.notes["questions"] == 0


def test_the_loss_is_the_papers(tmp_path: Path) -> None:
    policy, items, alpha = tiny_policy(), pairs(), 0.3
    loss = loss_of(policy, items, tmp_path, beta=0.4, **weights(alpha))
    expected = alpha * math.log(2) + (1 - alpha) * nll_by_hand(policy, items)
    assert loss == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="alpha"):
        weights(1.5)
    with pytest.raises(UserError, match="pairs"):
        Diverse(pairs=0)


def test_learns_from_what_it_selects(tmp_path: Path) -> None:
    lessons = Diverse(pairs=2, embed=embed).select(TASKS, samples(1), context(tmp_path / "a"))
    words = {w for p in lessons.preferences for w in (p.chosen + " " + p.rejected).split()}
    policy = tiny_policy()
    policy.add_symbols(sorted(words))
    learner = Learner(
        steps=4, batch_size=8, learning_rate=1e-3, reference="previous", **weights(0.5)
    )
    figures = learner.learn(policy, Lessons(lessons.preferences), context(tmp_path / "b"))
    assert figures["steps"] == 4 and figures["loss"] < figures["loss_first"]
