"""The five comparisons, and a gap model that learnt a planted preference."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from common.learners.gap import GapModel, comparisons, joined
from common.learners.reward import RewardModel, RewardTraining
from tests.common.test_reward import planted
from tests.common.tiny import context, tiny_policy


def test_the_five_comparisons() -> None:
    [one] = planted(1, seed=0)
    w, l = one.chosen, one.rejected  # noqa: E741
    made = comparisons([one])
    assert [(p.chosen, p.rejected) for p in made] == [
        (joined(w, l), joined(w, w)), (joined(w, l), joined(l, l)), (joined(w, l), joined(l, w)),
        (joined(w, w), joined(l, w)), (joined(l, l), joined(l, w)),
    ]  # fmt: skip
    assert len({p.id for p in made}) == 5 and {p.prompt for p in made} == {one.prompt}


def test_it_learns_which_is_better_and_by_which_order(tmp_path: Path) -> None:
    policy = tiny_policy()
    training = RewardTraining(steps=150, batch_size=32, learning_rate=5e-3)
    model = GapModel(RewardModel.from_policy(policy, training))
    held_out = planted(60, seed=2)
    prompts = [p.prompt for p in held_out]
    better, worse = [p.chosen for p in held_out], [p.rejected for p in held_out]
    assert model.gap(prompts, better, worse) == [0.0] * 60  # nothing learnt yet
    figures = model.fit(planted(96, seed=1), context(tmp_path))
    assert figures["loss_first"] == pytest.approx(math.log(2), abs=1e-6)
    assert figures["pairs"] == 5 * 96 and figures["loss"] < 0.45
    up, down = model.gap(prompts, better, worse), model.gap(prompts, worse, better)
    assert np.mean([g > 0 for g in up]) > 0.85 and np.mean([g < 0 for g in down]) > 0.85
    assert model.gap(prompts, worse, worse) == [0.0] * 60
    score = model.model.score
    wl, ww, ll, lw = (
        np.array(score(prompts, [joined(a, b) for a, b in zip(one, two, strict=True)]))
        for one, two in ((better, worse), (better, better), (worse, worse), (worse, better))
    )
    assert wl.mean() > ww.mean() > lw.mean() and wl.mean() > ll.mean() > lw.mean()
    before = model.fingerprint()
    model.save(tmp_path / "gap")
    other = GapModel(RewardModel.from_policy(policy, training))
    other.restore(tmp_path / "gap")
    assert other.fingerprint() == before
