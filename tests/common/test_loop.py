"""The loop: its order, its gate, what no stage may see, and what results may not depend on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.gate import Gate
from common.records import Candidate, Lessons, Round, Task
from common.stages import Context
from common.store import Store
from tests.common import toy


def test_rounds_improve_and_the_gate_rolls_back(tmp_path: Path) -> None:
    loop = toy.loop()
    result = toy.run(tmp_path, made=loop)
    assert [r.kept for r in result.rounds] == [True, False, True, True]
    start, worse, better, last = result.rounds
    assert worse.state == start.state != better.state != last.state
    assert worse.metrics[0].value > start.metrics[0].value > last.metrics[0].value
    assert worse.pairs == worse.demonstrations == 16 and worse.seconds > 0
    assert worse.notes["learn"]["pairs"] == 16 and worse.notes["gate"]["mean"] < 0
    widest = max(p.margin for p in Store(tmp_path).preferences("toy", 1))
    assert worse.notes["select"] == {"widest": widest}
    assert result.test["final"][0].value < result.test["starter"][0].value
    store = Store(tmp_path)
    assert np.array_equal(np.load(store.path(result.state) / "w.npy"), loop.policy.w)
    assert store.run("toy").status == "done"
    pool = store.candidates("toy", 1)
    assert len(pool) == 64 and set(pool[0].scores) == {"error", "norm"}
    assert [c.task for c in pool[:8]] == ["train-0"] * 4 + ["train-1"] * 4
    assert pool[0].artifact is not None and store.path(pool[0].artifact).exists()
    assert not list((tmp_path / "runs" / "toy").iterdir())
    store.close()


def test_the_test_split_is_measured_once_at_the_end(tmp_path: Path) -> None:
    measure = toy.SquaredError()
    first = toy.run(tmp_path, made=toy.loop(measure=measure))
    assert measure.seen == ["dev"] * 4 + ["test"] * 2
    loop = toy.loop(measure=measure)
    assert toy.run(tmp_path, made=loop) == first
    assert len(measure.seen) == 6
    assert loop.policy.fingerprint() != toy.Weights().fingerprint(), "it ends as the final policy"


def test_no_stage_sees_a_test_task_and_no_proposer_a_reference(tmp_path: Path) -> None:
    seen: list[Task] = []

    class Spy:
        def __init__(self, stage: Any) -> None:
            self.stage = stage

        def __getattr__(self, name: str) -> Any:
            def call(*given: Any) -> Any:
                for one in given:
                    found = one.values() if isinstance(one, Mapping) else one
                    if isinstance(found, Sequence) or isinstance(one, Mapping):
                        seen.extend(x for x in found if isinstance(x, Task))
                return getattr(self.stage, name)(*given)

            return call

    base = toy.loop()
    spied = {n: Spy(getattr(base, n)) for n in ("propose", "select", "learn")}
    loop = replace(base, **spied, judge=[Spy(judge) for judge in base.judge])  # type: ignore
    toy.run(tmp_path, made=loop)
    assert {task.split for task in seen} == {"train"}
    # Perturb itself asserts that references are blank.


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("calm")
    toy.run(home, rounds=2)
    return toy.everything(home)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 20))
def test_results_do_not_depend_on_the_shard_size(calm: dict[str, Any], size: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        toy.run(Path(home), rounds=2, shard_size=size)
        found = toy.everything(Path(home))
    assert {**found, "units": 0} == {**calm, "units": 0}


def test_results_depend_on_the_seed(calm: dict[str, Any], tmp_path: Path) -> None:
    toy.run(tmp_path, rounds=2, seed=1)
    assert toy.everything(tmp_path)["2"] != calm["2"]


class StopError(Exception):
    pass


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 38), st.sampled_from([StopError, KeyboardInterrupt]), st.integers(1, 20))
def test_an_interrupted_run_continues_whatever_shard_size_it_is_given(
    calm: dict[str, Any], units: int, kind: type[BaseException], size: int
) -> None:
    left = units

    class Stops(toy.Perturb):
        def propose(self, *given: Any) -> list[Candidate]:
            nonlocal left
            left -= 1
            if left == 0:
                raise kind
            return super().propose(*given)

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            toy.run(home, made=toy.loop(propose=Stops()), rounds=2)
        except kind:
            store = Store(home)
            wanted = "failed" if kind is StopError else "interrupted"
            assert store.run("toy").status == wanted
            store.close()
        toy.run(home, rounds=2, shard_size=size)
        assert toy.everything(home) == calm


def test_learning_continues_from_its_checkpoint(tmp_path: Path) -> None:
    steps = 0

    class Fails(toy.Step):
        def learn(self, policy: toy.Weights, lessons: Lessons, ctx: Context) -> Any:
            nonlocal steps
            steps += 1
            values = super().learn(policy, lessons, ctx)
            if steps == 1:
                policy.w = policy.w + 100  # spoilt in memory only
                raise StopError
            return values

    with pytest.raises(StopError):
        toy.run(tmp_path / "a", made=toy.loop(learn=Fails()))
    result = toy.run(tmp_path / "a", made=toy.loop(learn=Fails()))
    assert result.rounds[1].metrics == toy.run(tmp_path / "b").rounds[1].metrics


def test_a_monitor_rolls_back(tmp_path: Path) -> None:
    class Watch:
        def check(self, history: Sequence[Round], current: Round) -> str | None:
            assert [r.index for r in history] == list(range(current.index))
            assert current.metrics and "step" in current.notes["learn"]
            return "judge and gold disagree" if current.index == 2 else None

    result = toy.run(tmp_path, made=toy.loop(monitors=[Watch()]))
    assert not result.rounds[2].kept and result.rounds[2].state == result.rounds[0].state
    assert result.rounds[2].reason.startswith("judge and gold disagree; error ")
    assert result.rounds[2].notes["monitors"] == ["judge and gold disagree"]


def test_without_a_gate_every_round_is_kept(tmp_path: Path) -> None:
    assert all(r.kept for r in toy.run(tmp_path, made=toy.loop(gate=None)).rounds)


def test_a_round_without_lessons_leaves_all_as_it_is(tmp_path: Path) -> None:
    class Nothing:
        def select(self, *given: Any) -> Lessons:
            return Lessons()

    measure = toy.SquaredError()
    result = toy.run(tmp_path, made=toy.loop(select=Nothing(), measure=measure))
    start, *rest = result.rounds
    for index, this in enumerate(rest, 1):
        assert (this.kept, this.state) == (False, start.state) and "no lessons" in this.reason
        assert this.metrics == (replace(start.metrics[0], round=index),)
    assert measure.seen == ["dev", "test"], "one policy is measured once"
    assert result.test["starter"] == result.test["final"]


def test_a_policy_that_does_not_come_back_as_saved_is_found_out(tmp_path: Path) -> None:
    class Forgets(toy.Weights):
        extra = 0

        def fingerprint(self) -> str:
            return f"{super().fingerprint()}{self.extra}"

    with pytest.raises(StopError):
        toy.run(tmp_path, made=toy.loop(policy=Forgets(), propose=Raises()))
    spoilt = Forgets()
    spoilt.extra = 1
    with pytest.raises(RuntimeError, match="does not come back"):
        toy.run(tmp_path, made=toy.loop(policy=spoilt))


class Raises:
    def propose(self, *given: Any) -> list[Candidate]:
        raise StopError


class Twice(toy.Perturb):
    def propose(self, *given: Any) -> list[Candidate]:
        return super().propose(*given) * 2


class Stray(toy.Perturb):
    def propose(self, *given: Any) -> list[Candidate]:
        return [replace(c, task="dev-0") for c in super().propose(*given)]


class Short:
    def judge(self, *given: Any) -> list[dict[str, float]]:
        return [{"error": 0.0}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propose": Twice()}, "comes twice"),
        ({"propose": Stray()}, "no task of its shard"),
        ({"judge": Short()}, "8 candidates were judged, 1 scores came"),
        ({"judge": [toy.Error(), toy.Error()]}, "two judges give a score named 'error'"),
        ({"measure": [toy.SquaredError(), toy.SquaredError()]}, "two metrics share a name"),
        ({"gate": Gate("wer")}, "the gate looks at 'wer'"),
        ({"tasks": toy.tasks(train=0)}, "no train tasks"),
        ({"tasks": toy.tasks(dev=0)}, "no dev tasks"),
        ({"tasks": toy.tasks() * 2}, "share an id"),
    ],
)
def test_a_stage_that_breaks_its_contract_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        toy.run(tmp_path, made=toy.loop(**changes))


def test_a_run_is_continued_only_as_it_was_begun(tmp_path: Path) -> None:
    toy.run(tmp_path, rounds=1)
    with pytest.raises(UserError, match="rounds 1, not 2"):
        toy.run(tmp_path, rounds=2)
    with pytest.raises(UserError, match="begun with tasks"):
        toy.run(tmp_path, made=toy.loop(tasks=toy.tasks(dev=5)), rounds=1)
    with pytest.raises(ValueError, match="at least one round"):
        toy.run(tmp_path, rounds=0)


def test_tracker_and_progress_hear_of_it(tmp_path: Path) -> None:
    said: list[tuple[str, int]] = []
    shown: list[tuple[int, int, str]] = []

    class Tracker:
        def log(self, values: Mapping[str, float], step: int) -> None:
            said.extend((name, step) for name in values)

    toy.run(tmp_path, rounds=1, tracker=Tracker(), progress=lambda *now: shown.append(now))
    assert {("dev/error", 0), ("dev/error", 1), ("learn/step", 1), ("pool/norm", 1)} <= set(said)
    assert (8, 8, "round 1 propose") in shown and (8, 8, "round 1 judge") in shown
