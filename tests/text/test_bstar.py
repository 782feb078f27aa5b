"""The scan against the definition, the choice, and a policy whose best temperature is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.judges import ExactAnswer
from common.learners.sft import SFT
from common.loop import Loop
from common.policies import Sample
from common.records import Candidate, Metric, Task
from common.store import Store
from tests.common.tiny import context, tiny_policy
from tests.common.toy import quiet
from tests.text.simulated import Simulated
from text.bstar import THRESHOLDS, AboveThreshold, Balanced, Reward, choose, numbers, scan

samples = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-4, 4), st.booleans(), st.integers(0, 3)), max_size=40
)


def balance_of(rows: list[tuple], total: int, threshold: float, cap: int, n_star: int) -> tuple:
    """By the definition, one query after the other."""
    kept, summed = 0, 0.0
    for query in {row[0] for row in rows}:
        mine = sorted((r for r in rows if r[0] == query), key=lambda r: -r[1])
        selected = [r for r in mine if r[1] / 4 > threshold][:cap]
        good = {text for _, _, right, text in selected if right}
        kept += len(selected)
        if selected:
            summed += min(len(good) / n_star, 1) * len(good) / len(selected)
    return kept, summed / total


@settings(max_examples=150, deadline=None)
@given(samples, st.integers(1, 4), st.integers(1, 12))
def test_the_scan_is_the_definition_everywhere(rows: list[tuple], n_star: int, caps: int) -> None:
    # Equal texts are equally right, and of equal rewards any order is as good: make them differ.
    rows = [(q, r + i / 1000, text % 2 == 0, text) for i, (q, r, _, text) in enumerate(rows)]
    levels = [-1.0, -0.5, 0.0, 0.25, 1.0]
    found = scan(
        [r[0] for r in rows], [r[1] / 4 for r in rows], [r[2] for r in rows], [r[3] for r in rows],
        total=5, thresholds=levels, caps=caps, n_star=n_star,
    )  # fmt: skip
    for row, threshold in enumerate(levels):
        for cap in range(1, caps + 1):
            kept, balance = balance_of(rows, 5, threshold, cap, n_star)
            assert found.kept[row, cap - 1] == kept
            assert found.balance[row, cap - 1] == pytest.approx(balance, abs=1e-12)


def test_by_hand() -> None:
    """Query 0: four selected, two different correct ones; query 1: nothing above 0.5."""
    found = scan(
        [0, 0, 0, 0, 1], [1.2, 1.1, 1.1, 0.6, 0.1], [1, 1, 1, 0, 0], [1, 2, 2, 3, 4],
        total=2, thresholds=[0.5], n_star=4,
    )  # fmt: skip
    assert found.balance[0, -1] == pytest.approx((2 / 4) * (2 / 4) / 2)
    assert found.kept[0].tolist()[:5] == [1, 2, 3, 4, 4]


def test_choice_raises_the_cap_until_enough_is_kept() -> None:
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(50), 16)
    right = rng.random(800) < 0.5
    reward = right + 0.2 * rng.uniform(-1, 1, 800)
    found = scan(query, reward, right, np.arange(800), total=50, caps=16)
    best = choose(found, keep=200)
    assert best.balance == pytest.approx(found.balance[:, best.cap - 1][
        np.searchsorted(found.thresholds, best.threshold)])  # fmt: skip
    assert best.kept >= 200
    assert 0.2 <= best.threshold < 1  # above all wrong ones
    scarce = choose(found, keep=10**9)
    assert scarce.cap == 16
    empty = scan([], [], [], [], total=3)
    assert not empty.kept.any() and choose(empty, 5).balance == 0


def tasks(count: int, split: str) -> list[Task]:
    return [Task(f"{split}-{i}", f"w{i % 9} go", split, str(i)) for i in range(count)]  # type: ignore[arg-type]


def say(task: Task, rng: np.random.Generator, temperature: float) -> str:
    """Cold: one way to the right answer. Hot: many ways, few right. Between: many, most right."""
    ways = {0.5: 1, 0.9: 50, 1.1: 50}[temperature]
    right = rng.random() < {0.5: 0.9, 0.9: 0.8, 1.1: 0.2}[temperature]
    number = task.id.split("-")[1]
    return f"way {rng.integers(ways)} #### {number if right else 'none'}"


def test_the_best_temperature_is_found_and_used(tmp_path: Path) -> None:
    policy, dev = Simulated(say), tasks(12, "dev")
    judge = ExactAnswer(name="correct")
    stage = Balanced(dev, [judge], Sample(n=8), temperatures=(0.5, 0.9, 1.1))
    ctx = context(tmp_path)
    train = tasks(6, "train")
    blank = [dataclasses.replace(t, reference=None) for t in train]
    found = stage.propose(policy, blank[:3], ctx) + stage.propose(policy, blank[3:], ctx)
    assert policy.drawn == 3 * 12 * 8 + 6 * 8  # dev once, not once a shard
    assert {c.meta["temperature"] for c in found} == {0.9}
    rows = found[0].meta["scan"]
    assert [r["temperature"] for r in rows] == [0.5, 0.9, 1.1]
    assert rows[1]["balance"] > max(rows[0]["balance"], rows[2]["balance"])
    by_id = {t.id: t for t in train}
    scores = judge.judge(by_id, found, ctx)
    found = [dataclasses.replace(c, scores=s) for c, s in zip(found, scores, strict=True)]
    lessons = AboveThreshold().select(by_id, found, ctx)
    right = {(c.task, c.output) for c in found if c.scores["correct"]}
    learnt = [(d.task, d.completion) for d in lessons.demonstrations]
    assert learnt and set(learnt) <= right and len(set(learnt)) == len(learnt)
    notes = lessons.notes
    assert notes["temperature"] == 0.9 and notes["balance_dev"] == rows[1]["balance"]
    assert 0 < notes["balance"] <= 1 and notes["reward@8-4"] == pytest.approx(1.0, abs=0.05)
    # The reference answer itself is in no sample: it is never one.
    assert all(t.reference != d.completion for t in train for d in lessons.demonstrations)


def test_a_process_score_ranks_among_the_right_ones(tmp_path: Path) -> None:
    reward = Reward()
    assert reward({"correct": 1.0}) == 1.0
    assert reward({"correct": 1.0, "process": -0.5}) == pytest.approx(0.9)
    meta = {"temperature": 1.0, "threshold": 0.95, "cap": 4}
    pool = [
        Candidate(f"c{i}", "train-0", 1, f"text {i}", scores=scores, meta=meta)
        for i, scores in enumerate([{"correct": 1.0, "process": p} for p in (0.9, -0.9, 0.1)])
    ]
    lessons = AboveThreshold().select({"train-0": tasks(1, "train")[0]}, pool, context(tmp_path))
    assert [d.completion for d in lessons.demonstrations] == ["text 0", "text 2"]


def test_fixed_settings_and_mistakes(tmp_path: Path) -> None:
    stage = Balanced((), (), Sample(n=2), (0.9,), (0.0,))
    policy = Simulated(say)
    found = stage.propose(policy, tasks(2, "train"), context(tmp_path))
    assert policy.drawn == 4 and found[0].meta["threshold"] == 0.0
    with pytest.raises(UserError, match="temperature"):
        Balanced([], [], Sample(), temperatures=())
    with pytest.raises(UserError, match="no numbers"):
        numbers("temperatures", "hot")
    assert THRESHOLDS[0] == -1 and THRESHOLDS[-1] == 0.99 and len(THRESHOLDS) == 200


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The share of right ones among ``n`` samples of each task."""

    judge: ExactAnswer
    n: int = 50

    def measure(self, policy, tasks, ctx):  # type: ignore[no-untyped-def]
        same = dataclasses.replace(ctx, round=0)
        found = Sample(self.n, max_new_tokens=20).propose(policy, tasks, same)
        scores = self.judge.judge({t.id: t for t in tasks}, found, ctx)
        right = np.array([s["correct"] for s in scores]).reshape(len(tasks), self.n).mean(1)
        items = dict(zip([t.id for t in tasks], right.tolist(), strict=True))
        return [Metric("accuracy", float(right.mean()), 0.0, len(tasks), items=items)]


def test_a_whole_run_on_a_tiny_model_and_its_resumption(tmp_path: Path) -> None:
    """The answer of every task is w1: sampled by chance, then learnt."""
    every = [
        Task(f"{split}-{i}", f"w{i} go", split, "w1")  # type: ignore[arg-type]
        for split, n in (("train", 6), ("dev", 4), ("test", 3))
        for i in range(n)
    ]
    judge = ExactAnswer(
        extract=lambda text: text.split()[0] if text.split() else None, name="correct"
    )

    def loop() -> Loop:
        return Loop(
            tiny_policy(), every,
            Balanced([t for t in every if t.split == "dev"], [judge],
                     Sample(n=24, max_new_tokens=40), (0.8, 1.2)),
            judge, AboveThreshold(), SFT(steps=4, batch_size=4, learning_rate=1e-2, online=True),
            Accuracy(judge),
        )  # fmt: skip

    result = loop().run(2, Store(tmp_path / "a"), "bstar", shard_size=2, progress=quiet)
    assert result.rounds[1].demonstrations > 0
    notes = result.rounds[1].notes["select"]
    assert notes["temperature"] in (0.8, 1.2) and len(notes["scan"]) == 2
    assert result.test["final"][0].value > result.test["starter"][0].value

    class KilledError(Exception):
        pass

    seen = []

    def stop(done: int, total: int, what: str) -> None:
        seen.append(what)
        if what == "round 2 propose" and done == 2:
            raise KilledError

    store = Store(tmp_path / "b")
    with pytest.raises(KilledError):
        loop().run(2, store, "bstar", shard_size=2, progress=stop)
    again = loop().run(2, store, "bstar", shard_size=2, progress=quiet)
    assert again.state == result.state
    assert [r.notes["select"] for r in again.rounds[1:]] == [
        r.notes["select"] for r in result.rounds[1:]
    ]
