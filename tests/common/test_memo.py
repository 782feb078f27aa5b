"""Remembered work: the same run as without it, and no work twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from common.memo import Memo
from common.records import Candidate, Task
from common.stages import Context
from common.store import Store
from tests.common import toy


class Counting(toy.Perturb):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def propose(self, policy: toy.Weights, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        self.asked += len(tasks)
        return super().propose(policy, tasks, ctx)


def remembered(
    home: Path, name: str, rate: float = 1.3, seed: int = 0
) -> tuple[Counting, toy.SquaredError]:
    """Run the toy loop with a memo in ``home``; its stages, which counted what they did."""
    propose, measure, memo = Counting(), toy.SquaredError(), Memo(home / "memo")
    made = toy.loop(
        propose=memo.propose(propose, "n=4"),
        measure=memo.measure(measure),
        learn=toy.Step(rate=rate),
    )
    toy.run(home, name, made, seed=seed)
    return propose, measure


def test_a_run_is_the_same_with_a_memo_and_from_it(tmp_path: Path) -> None:
    toy.run(tmp_path / "plain")
    plain = toy.everything(tmp_path / "plain")
    remembered(tmp_path, "first")
    propose, measure = remembered(tmp_path, "again")
    assert propose.asked == 0 and measure.seen == []
    first, again = (toy.everything(tmp_path, name) for name in ("first", "again"))
    assert first == again == plain


def test_remembered_work_counts_with_the_seconds_that_it_took(tmp_path: Path) -> None:
    remembered(tmp_path, "first")
    for path in (tmp_path / "memo").glob("*.json"):
        kept = json.loads(path.read_text())
        assert kept["seconds"] >= 0
        path.write_text(json.dumps({**kept, "seconds": 1000.0}))
    remembered(tmp_path, "again")
    store = Store(tmp_path)
    shards = len(store.units("again", 1, "propose"))
    for this in store.rounds("again"):  # dev is measured once, and each shard is proposed
        expected = 1000 * (1 if this.index == 0 else 1 + shards)
        assert expected <= this.seconds < expected + 100
    store.close()


def test_only_what_depends_on_the_learner_is_done_again(tmp_path: Path) -> None:
    propose, measure = remembered(tmp_path, "first")
    rounds, tasks = 3, propose.asked // 3
    other, looked = remembered(tmp_path, "other", rate=0.9)
    assert other.asked == tasks * (rounds - 1)  # the first round starts alike
    assert looked.seen.count("dev") == measure.seen.count("dev") - 1
    fresh, _ = remembered(tmp_path, "seed", seed=1)
    assert fresh.asked == propose.asked


def test_lost_artifacts_and_broken_files_are_made_again(tmp_path: Path) -> None:
    propose, _ = remembered(tmp_path, "first")
    for path in (tmp_path / "memo").glob("*.json"):
        path.write_text(path.read_text()[:-7])
    again, measure = remembered(tmp_path, "again")
    assert again.asked == propose.asked and measure.seen
    for path in (tmp_path / "artifacts").rglob("*.bin"):
        path.unlink()
    third, measure = remembered(tmp_path, "third")
    assert third.asked == propose.asked and measure.seen == []
