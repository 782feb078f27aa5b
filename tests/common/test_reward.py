"""The reward model: where it starts, what it learns, and as a judge."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.learners.data import lora_config
from common.learners.reward import RewardModel, RewardTraining
from common.records import Candidate, Preference, Task
from tests.common.tiny import context, tiny_policy


def planted(n: int, seed: int) -> list[Preference]:
    """The completion with more of w1 is better, whatever else it says and however long it is."""
    rng = random.Random(seed)
    pairs = []
    for i in range(n):
        texts = [[rng.choice(["w5", "w6", "w7"]) for _ in range(rng.randint(3, 6))] for _ in "ab"]
        for k in rng.sample(range(3), 2):
            texts[0][k] = "w1"
        pairs.append(
            Preference(
                id=f"p{seed}-{i}",
                task=f"t{i}",
                round=1,
                prompt=f"w{i % 4} go",
                chosen=" ".join(texts[0]),
                rejected=" ".join(texts[1]),
            )
        )
    return pairs


def accuracy(model: RewardModel, pairs: list[Preference]) -> float:
    prompts = [p.prompt for p in pairs]
    chosen = model.score(prompts, [p.chosen for p in pairs])
    rejected = model.score(prompts, [p.rejected for p in pairs])
    return sum(c > r for c, r in zip(chosen, rejected, strict=True)) / len(pairs)


def test_learns_a_planted_preference(tmp_path: Path) -> None:
    policy = tiny_policy()
    before = policy.fingerprint()
    model = RewardModel.from_policy(
        policy, RewardTraining(steps=40, batch_size=16, learning_rate=5e-3)
    )
    held_out = planted(60, seed=2)
    assert accuracy(model, held_out) == 0  # all rewards are 0
    figures = model.fit(planted(96, seed=1), context(tmp_path))
    assert figures["loss_first"] == pytest.approx(math.log(2), abs=1e-6)
    assert figures["loss"] < 0.3 and figures["reward_accuracy"] > 0.9 and figures["pairs"] == 96
    assert accuracy(model, held_out) > 0.9
    assert policy.fingerprint() == before
    assert list(tmp_path.iterdir()) == []
    model.save(tmp_path)
    same = RewardModel.load(tmp_path, policy)
    assert accuracy(same, held_out) == accuracy(model, held_out)


def test_judges_in_batches_as_alone(tmp_path: Path) -> None:
    policy = tiny_policy()
    model = RewardModel.from_policy(policy, RewardTraining(batch_size=3))
    torch.manual_seed(1)
    torch.nn.init.normal_(model.model.score.weight)
    tasks = {f"t{i}": Task(id=f"t{i}", prompt=f"w{i} go") for i in range(4)}
    found = [
        Candidate(id=f"c{i}", task=f"t{i % 4}", round=1, output=" ".join(["w2"] * (i + 1)))
        for i in range(8)
    ]
    together = model.judge(tasks, found, context(tmp_path))
    assert len({round(s["reward"], 4) for s in together}) == 8
    for one, score in zip(found, together, strict=True):
        [alone] = model.judge(tasks, [one], context(tmp_path))
        assert alone["reward"] == pytest.approx(score["reward"], abs=1e-4)


def test_from_a_policy_with_an_adapter_and_mistakes(tmp_path: Path) -> None:
    plain, tuned = tiny_policy(), tiny_policy()
    tuned.add_adapter(lora_config(2))
    a, b = RewardModel.from_policy(plain), RewardModel.from_policy(tuned)
    for name, tensor in a.model.state_dict().items():
        assert torch.equal(tensor, b.model.state_dict()[name])
    assert a.fit([], context(tmp_path)) == {"pairs": 0.0, "steps": 0.0}
    a.model.config.num_labels = 2
    with pytest.raises(UserError, match="one output"):
        RewardModel(a.model, plain)
    with pytest.raises(UserError, match="cannot load"):
        RewardModel.load(tmp_path / "nothing", plain)
