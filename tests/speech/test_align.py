"""Selection of speech lessons, strategies' budgets, and settings that contradict one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from common.learners import dpo as dpo_learner
from common.learners.grpo import GRPO
from common.learners.hindsight import Hindsight
from common.learners.ppo import PPO
from common.learners.sft import SFT
from common.records import Candidate, Preference, Task
from common.settings import override
from common.stages import Context
from common.tracking import Nothing
from speech.align import AlignConfig, SelectSpeech
from speech.speaker import Speaker
from speech.strategies import ROLLOUTS, Heard, learner
from tests.common.toy import quiet

TASKS = {name: Task(name, f"say {name}") for name in ("a", "b")}


def context(folder: Path, round: int) -> Context:
    return Context(0, round, None, Nothing(), quiet, folder)  # type: ignore[arg-type]


def candidates(round: int) -> list[Candidate]:
    """Three a task, with scores that rise with their number but for the voice of the last."""
    return [
        Candidate(
            f"{task}{i}-{round}",
            task,
            round,
            f"{task} {i} of {round}",
            artifact="x.wav",
            scores={"ctc": -1.0 * (3 - i), "voice": [0.0, 1.0, 0.5][i]},
        )
        for task in TASKS
        for i in range(3)
    ]


def nobody() -> Speaker:
    raise AssertionError("nothing needs to be heard")


SELECT = SelectSpeech("self", {"ctc": "higher"}, 1, 0.1, {})
POOL = [*candidates(1), *candidates(2)]


def chosen_of(select: SelectSpeech, folder: Path, round: int = 2) -> list[tuple[str, str]]:
    lessons = select.select(TASKS, POOL, context(folder, round))
    return [(p.chosen, p.rejected) for p in lessons.preferences]


def test_best_over_worst_of_the_newest_round(tmp_path: Path) -> None:
    assert chosen_of(SELECT, tmp_path) == [(f"{t} 2 of 2", f"{t} 0 of 2") for t in TASKS]
    mute = [replace(c, artifact=None) for c in POOL]
    assert not len(SELECT.select(TASKS, mute, context(tmp_path, 2)))
    unheard = replace(SELECT, audible=False).select(TASKS, mute, context(tmp_path, 2))
    assert len(unheard) == 2


def test_the_front_prefers_who_is_better_in_all(tmp_path: Path) -> None:
    both = replace(SELECT, objectives={"ctc": "higher", "voice": "higher"}, per_text=2)
    found = chosen_of(both, tmp_path)
    # 2 has less voice than 1, so only 0 is worse than either in both, and is used once.
    assert {r for _, r in found} == {f"{t} 0 of 2" for t in TASKS} and len(found) == 2


def test_earlier_rounds_pairs_come_again(tmp_path: Path) -> None:
    select = replace(SELECT, accumulate=True, pairs="both", golden={"a": "a as recorded"})
    once = select.select(TASKS, POOL, context(tmp_path, 1)).preferences
    twice = select.select(TASKS, POOL, context(tmp_path, 2)).preferences
    texts = [(p.chosen, p.rejected) for p in twice]
    assert len(once) == 3 and len(twice) == 6
    assert texts[:3] == [(p.chosen, p.rejected) for p in once]
    assert len({p.id for p in (*once, *twice)}) == 9


def test_the_control_imitates_what_others_prefer(tmp_path: Path) -> None:
    lessons = replace(SELECT, imitate=True).select(TASKS, POOL, context(tmp_path, 2))
    assert not lessons.preferences
    pairs = SELECT.select(TASKS, POOL, context(tmp_path, 2)).preferences
    assert [(d.prompt, d.completion) for d in lessons.demonstrations] == [
        (p.prompt, p.chosen) for p in pairs
    ]


def test_people_s_pairs_need_no_samples(tmp_path: Path) -> None:
    def human(tasks: Mapping[str, Task], round: int) -> list[Preference]:
        return [Preference(f"h{round}", "a", round, tasks["a"].prompt, "good", "bad", 1.0, "human")]

    select = replace(SELECT, pairs="human", human=human)
    (found,) = select.select(TASKS, POOL, context(tmp_path, 2)).preferences
    assert (found.source, found.round) == ("human", 2)


def test_equal_budgets() -> None:
    config = AlignConfig(epochs=1.5)
    dpo = learner(config, nobody)
    sft = learner(replace(config, strategy="sft"), nobody)
    hindsight = learner(replace(config, strategy="chain-of-hindsight"), nobody)
    assert isinstance(dpo, dpo_learner.Preference)
    assert isinstance(sft, SFT)
    assert isinstance(hindsight, Hindsight)
    # Sequences a pair: DPO and hindsight two, the control one.
    assert 2 * dpo.epochs == 1 * sft.epochs == 2 * hindsight.sft.epochs == 3.0
    assert dpo.learning_rate == sft.learning_rate == hindsight.sft.learning_rate
    for strategy, kind in (("ppo", PPO), ("grpo", GRPO)):
        sampling = learner(replace(config, strategy=strategy), nobody)  # type: ignore[arg-type]
        assert isinstance(sampling, kind)
        assert sampling.reward_training.epochs == dpo.epochs
        # As many samples as the round proposed, drawn at the run's temperature.
        assert sampling.iterations * ROLLOUTS == config.texts * config.samples
        assert sampling.temperature == config.temperature
        heard = learner(replace(config, strategy=strategy, reward_model="wave"), nobody)  # type: ignore[arg-type]
        assert heard == Heard(sampling, nobody)
        by_points = learner(replace(config, strategy=strategy, reward_model="smpconv"), nobody)  # type: ignore[arg-type]
        assert by_points == Heard(sampling, nobody, "smpconv")


def test_at_most_so_many_pairs(tmp_path: Path) -> None:
    every = replace(SELECT, accumulate=True, per_text=2)
    whole = chosen_of(every, tmp_path)
    some = chosen_of(replace(every, max_pairs=3), tmp_path)
    assert len(some) == 3 and [pair for pair in whole if pair in some] == some
    assert some == chosen_of(replace(every, max_pairs=3), tmp_path)
    assert chosen_of(replace(every, max_pairs=len(whole)), tmp_path) == whole


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": "human"}, "people rated"),
        ({"ratings": "run"}, "people rated"),
        ({"strategy": "magic"}, "no strategy 'magic'"),
        ({"rank": "taste"}, "no rank 'taste'"),
        ({"best_of": 0}, "best_of=0"),
        ({"reward_model": "ears"}, "no reward_model 'ears'"),
        ({"max_pairs": -1}, "max_pairs=-1"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        AlignConfig(**changes)  # type: ignore[arg-type]


def test_settings_by_name() -> None:
    found = override(AlignConfig(), ["accumulate=true", "beta=0.2", "rank=pareto"])
    assert found == AlignConfig(accumulate=True, beta=0.2, rank="pareto")
    assert override(found, ["accumulate=False"]).accumulate is False
    with pytest.raises(UserError, match="accumulate=perhaps is no bool"):
        override(found, ["accumulate=perhaps"])
