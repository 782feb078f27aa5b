"""Improving with a known gap, and the whole curriculum on a tiny model, killed and continued."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.learners.gap import GapModel
from common.learners.ppo import PPO
from common.learners.reward import RewardModel, RewardTraining
from common.learners.sft import SFT
from common.policies import Sample
from common.records import Lessons, Task
from tests.common.test_reward import planted
from tests.common.tiny import context, tiny_policy
from tests.text.simulated import Simulated
from text.pit import Curriculum, Improving, improve_prompt, references_of, taught


class Known:
    """The gap is the difference of the numbers that the answers are; 7 is as good as it gets."""

    def gap(self, prompts: Any, new: list[str], old: list[str]) -> list[float]:
        assert all("better" not in prompt for prompt in prompts)  # of the question itself
        return [min(int(a), 7) - min(int(b), 7) for a, b in zip(new, old, strict=True)]


def counting(task: Task, rng: Any, temperature: float) -> str:
    """A first answer from 0 to 2; an improvement adds 0 to 4."""
    if "better answer" not in task.prompt:
        return str(rng.integers(3))
    before = int(task.prompt.split("\n")[-2].split()[-1])
    return str(before + int(rng.integers(5)))


@pytest.mark.parametrize("steps", [0, 1, 3, 12])
def test_it_improves_until_the_gap_is_not_above_0(tmp_path: Path, steps: int) -> None:
    policy = Improving(Simulated(counting), Known(), steps)  # type: ignore[arg-type]
    tasks = [Task(f"t{i}", f"question {i}") for i in range(20)]
    found = Sample(n=2).propose(policy, tasks, context(tmp_path))
    assert [c.task for c in found] == [t.id for t in tasks for _ in range(2)]
    assert len({c.id for c in found}) == 40
    for c in found:
        made = c.meta["steps"]
        assert made <= steps and int(c.output) >= int(c.meta["draft"]) + made
        assert c.meta["spent"] >= c.tokens * (1 + made)
    assert any(c.meta["steps"] == min(steps, 2) for c in found)
    if steps == 12:  # none goes on for ever: 7 cannot be bettered
        assert max(c.meta["steps"] for c in found) < 8
    # The same, whoever else is improved beside it.
    alone = [c for t in tasks for c in Sample(n=2).propose(policy, [t], context(tmp_path))]
    assert alone == found
    with pytest.raises(UserError, match="steps"):
        Improving(Simulated(counting), Known(), -1)  # type: ignore[arg-type]


def test_prompts_and_what_is_taught() -> None:
    assert improve_prompt("Q: 1+1?\nA:", " 3").endswith("A: 3\nA better answer:")
    assert improve_prompt("What is it?", "3") == "What is it?\n\nAnswer: 3\nA better answer:"
    pairs = planted(4, seed=0)
    lessons = taught(pairs)
    assert len(lessons.demonstrations) == 8
    assert {d.completion for d in lessons.demonstrations} == {p.chosen for p in pairs}
    references = references_of(pairs)
    assert len(references) == 8
    assert set(references.values()) == {
        (p.prompt, text) for p in pairs for text in (p.chosen, p.rejected)
    }


def made() -> Improving:
    policy = tiny_policy()
    gap = GapModel(
        RewardModel.from_policy(policy, RewardTraining(steps=10, batch_size=16, learning_rate=5e-3))
    )
    return Improving(policy, gap, steps=2)


CURRICULUM = Curriculum(
    SFT(steps=4, batch_size=8, learning_rate=3e-3),
    PPO(iterations=2, rollouts=8, batch_size=8, max_new_tokens=8, learning_rate=1e-3),
    references=6,
)


def test_the_curriculum_and_its_resumption(tmp_path: Path) -> None:
    lessons = Lessons(tuple(planted(16, seed=1)))
    whole = made()
    expected = CURRICULUM.learn(whole, lessons, context(tmp_path / "a"))
    for name in ("gap_loss", "sft_loss", "first_kl", "second_reward"):
        assert name in expected
    assert expected["sampled_tokens"] >= 32 and expected["tokens"] > expected["first_tokens"] > 0
    assert expected["pairs"] == 16 and expected["first_iterations"] == 2
    assert whole.policy.fingerprint() != tiny_policy().fingerprint()

    class StopError(Exception):
        pass

    seen: list[str] = []

    def stop(done: int, total: int, what: str) -> None:
        seen.append(what)
        # In the second stage, and after the first one had begun.
        if what == "ppo steps" and done == total and seen.count("stage") == 0:
            seen.append("stage")
        elif what == "ppo steps" and "stage" in seen and done > 1:
            raise StopError

    ctx = context(tmp_path / "b")
    with pytest.raises(StopError):
        CURRICULUM.learn(made(), lessons, dataclasses.replace(ctx, progress=stop))
    assert {"gap", "sft", "first"} <= {path.name for path in (tmp_path / "b").iterdir()}
    again = made()
    assert CURRICULUM.learn(again, lessons, ctx) == pytest.approx(expected)
    assert again.fingerprint() == whole.fingerprint()
    folder = tmp_path / "state"
    folder.mkdir()
    again.save(folder)
    other = made()
    other.restore(folder)
    assert other.fingerprint() == whole.fingerprint()
    assert CURRICULUM.learn(made(), Lessons(), context(tmp_path / "c"))["steps"] == 0


def test_stages_can_be_left_out_and_the_others_do_the_same(tmp_path: Path) -> None:
    lessons = Lessons(tuple(planted(16, seed=1)))
    whole, parts = made(), ("gap", "sft", "first", "second")
    expected = CURRICULUM.learn(whole, lessons, context(tmp_path / "2"))
    policies = []
    for stages in (0, 1):
        less, folder = dataclasses.replace(CURRICULUM, stages=stages), tmp_path / f"{stages}"
        some = made()
        found = less.learn(some, lessons, context(folder))
        assert {p.name for p in folder.iterdir() if p.name in parts} == set(parts[: 2 + stages])
        assert found["tokens"] < expected["tokens"]
        shared = {k: v for k, v in found.items() if k.split("_")[0] in parts[: 2 + stages]}
        assert shared == pytest.approx({k: expected[k] for k in shared})
        policies.append(some.policy.fingerprint())
    assert len({*policies, whole.policy.fingerprint()}) == 3
