"""Simulated actors, judges and meta-judges of known accuracy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.judges import ExactAnswer
from common.policies import Sample
from common.records import Candidate, Lessons, Task
from tests.common.tiny import context
from tests.text.simulated import Simulated
from text.meta_rewarding import (
    JUDGEMENT,
    META,
    ActorAndJudge,
    AnswersOnly,
    MeanPoints,
    SelfJudged,
    actor_pairs,
    better,
    points,
    watch,
)

TASKS = {f"t{i}": Task(f"t{i}", f"question {i}", reference="5") for i in range(30)}


class Model:
    """Answers have a quality from 0 to 5 that their text tells; longer is not better.

    ``noise`` is the judge's, in points; the meta-judge takes the judgement nearer to the quality
    with chance ``skill``, but the first one whatever they say with chance ``first``.
    """

    def __init__(self, noise: float = 1.0, skill: float = 0.9, first: float = 0.0) -> None:
        self.noise, self.skill, self.first = noise, skill, first

    def __call__(self, task: Task, rng: np.random.Generator, temperature: float) -> str:
        found = re.search(r"quality (\d)", task.prompt)
        if found is None:
            return f"quality {rng.integers(6)} {'x' * int(rng.integers(1, 40))}"
        quality = int(found[1])
        if "Judge A:" not in task.prompt:
            said = round(np.clip(quality + self.noise * rng.normal(), 0, 5))
            return f"reasons {rng.integers(1000)}\nScore: {said}"
        a, b = (abs(float(x) - quality) for x in re.findall(r"Score: (\d)", task.prompt))
        if rng.random() < self.first:
            return "Better: A"
        right = "A" if a < b or (a == b and rng.random() < 0.5) else "B"
        wrong = "B" if right == "A" else "A"
        return f"because\nBetter: {right if rng.random() < self.skill else wrong}"


def pool(folder: Path, model: Model, round: int = 1) -> list[Candidate]:
    ctx = context(folder, round=round)
    stage = SelfJudged(Sample(n=5), Sample(n=4))
    found = stage.propose(Simulated(model), list(TASKS.values()), ctx)
    scores = MeanPoints().judge(TASKS, found, ctx)
    return [replace(c, round=round, scores=s) for c, s in zip(found, scores, strict=True)]


def quality(text: str) -> int:
    found = re.search(r"quality (\d)", text)
    return int(found[1]) if found else -1


def test_reading_judgements() -> None:
    assert points("Good. Score: 3") == 3 and points("**Score:** 4.5\n") == 4.5
    assert points("Score: 2, no, Score: 5") == 5
    assert points("Score: 9") is None and points("fine") is None
    assert better("Better: B") == "second" and better("**Better:** A") == "first"
    assert better("Better: neither") is None


def test_everything_is_a_candidate_of_its_task(tmp_path: Path) -> None:
    found = pool(tmp_path, Model())
    assert len({c.id for c in found}) == len(found)
    answers = [c for c in found if c.parent is None]
    judged = [c for c in found if c.strategy == JUDGEMENT]
    said = [c for c in found if c.strategy == META]
    assert len(answers) == 150 and len(judged) == 600
    by_id = {c.id: c for c in found}
    for c in [*judged, *said]:
        assert by_id[c.parent or ""].task == c.task
    twos = {(c.meta["first"], c.meta["second"]) for c in said}
    assert said and all((b, a) in twos for a, b in twos)  # both orders
    for answer in answers:
        given = [float(c.answer or 0) for c in judged if c.parent == answer.id]
        assert answer.scores["judged"] == pytest.approx(np.mean(given))
    exact = AnswersOnly(ExactAnswer(name="correct"))
    scores = exact.judge(TASKS, found, context(tmp_path))
    assert [bool(s) for s in scores] == [c.parent is None for c in found]
    shards = SelfJudged(Sample(n=5), Sample(n=4))
    apart = [
        c
        for t in TASKS.values()
        for c in shards.propose(Simulated(Model()), [t], context(tmp_path))
    ]
    assert {c.id: c.output for c in apart} == {c.id: c.output for c in found}


def test_pairs_follow_the_quality_and_the_better_judgement(tmp_path: Path) -> None:
    found = pool(tmp_path, Model(noise=1.0, skill=0.95))
    lessons = ActorAndJudge().select(TASKS, found, context(tmp_path))
    actor = [p for p in lessons.preferences if p.source == "actor"]
    judge = [p for p in lessons.preferences if p.source == "judge"]
    assert len(actor) == lessons.notes["actor_pairs"] > 25
    assert np.mean([quality(p.chosen) > quality(p.rejected) for p in actor]) > 0.95
    assert len(judge) == lessons.notes["judge_pairs"] > 15
    error = {
        side: np.mean([abs((points(getattr(p, side)) or 0) - quality(p.prompt)) for p in judge])
        for side in ("chosen", "rejected")
    }
    assert error["chosen"] < error["rejected"] - 1
    assert all("Answer: quality" in p.prompt for p in judge)
    assert lessons.notes["judge_training"] == "on" and lessons.notes["higher_points"] < 0.8
    again = ActorAndJudge().select(TASKS, found[::-1], context(tmp_path))
    assert again == lessons


def test_tiers_hold_length_back() -> None:
    rows = [("a" * 90, 5.0), ("b" * 10, 4.5), ("c" * 40, 1.0), ("d" * 80, 1.4), ("e" * 5, 3.0)]
    some = [
        Candidate(f"c{i}", "t0", 1, text, scores={"judged": s}) for i, (text, s) in enumerate(rows)
    ]
    [plain] = actor_pairs(TASKS, some, 0.0)
    assert plain.chosen == rows[0][0] and plain.rejected == rows[2][0]
    [tiers] = actor_pairs(TASKS, some, 0.32)  # from 3.72 up, and to 2.28
    assert tiers.chosen == rows[1][0] and tiers.rejected == rows[3][0]
    assert tiers.margin == pytest.approx(3.1)
    assert not actor_pairs(TASKS, [replace(c, scores={"judged": 2.0}) for c in some], 0.0)


class Generous(Model):
    """Gives all points to everything."""

    def __call__(self, task: Task, rng: np.random.Generator, temperature: float) -> str:
        return "Score: 5" if "quality" in task.prompt else f"quality {rng.integers(6)}"


@pytest.mark.parametrize(
    ("model", "why"),
    [(Model(noise=0.3, first=0.9), "goes by position"), (Generous(), "hardly differ")],
)
def test_collapse_stops_the_judge_and_says_so(tmp_path: Path, model: Model, why: str) -> None:
    first = pool(tmp_path, model, round=1)
    lessons = ActorAndJudge().select(TASKS, first, context(tmp_path, round=1))
    assert "stopped in round 1" in lessons.notes["judge_training"]
    assert why in lessons.notes["judge_training"]
    assert not [p for p in lessons.preferences if p.source == "judge"]
    # A sound round later does not start it again; nor is it trained for more than two.
    sound = pool(tmp_path, Model(), round=2)
    later = ActorAndJudge().select(TASKS, first + sound, context(tmp_path, round=2))
    assert "round 1" in later.notes["judge_training"] and later.notes["judge_pairs"] == 0


def test_the_judge_learns_for_two_rounds(tmp_path: Path) -> None:
    rounds = [c for n in (1, 2, 3) for c in pool(tmp_path, Model(), round=n)]
    notes = [
        ActorAndJudge().select(TASKS, rounds, context(tmp_path, round=n)).notes for n in (1, 2, 3)
    ]
    assert [n["judge_training"] for n in notes] == ["on", "on", "ended after round 2"]
    assert [n["rho"] for n in notes] == [0.0, 0.32, 0.32]


def test_watch_and_mistakes(tmp_path: Path) -> None:
    assert watch([]) == {
        "entropy": 0, "points": 0, "readable": 0, "position_bias": 0, "higher_points": 0.5
    }  # fmt: skip
    seen = watch(pool(tmp_path, Model(noise=0.0, skill=0.5)))
    assert 1.5 < seen["entropy"] < np.log(6) + 0.01 and seen["readable"] == 1
    with pytest.raises(UserError, match="judgements"):
        SelfJudged(Sample(), Sample(n=1))
    assert not ActorAndJudge().select(TASKS, [], context(tmp_path)).preferences
    assert isinstance(ActorAndJudge().select(TASKS, [], context(tmp_path)), Lessons)
