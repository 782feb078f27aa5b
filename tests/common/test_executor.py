"""Shards on a Ray cluster of two nodes: the same run as in one process, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.executor import AHEAD, Ray, _reach
from common.records import Candidate, Task
from common.shards import Shard
from common.stages import Context
from common.store import Store
from tests.common import toy

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    health = {"health_check_initial_delay_ms": 0, "health_check_failure_threshold": 3}
    health |= {"health_check_period_ms": 1000, "health_check_timeout_ms": 3000}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": health}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_the_same_run_on_nodes_one_of_which_is_killed(tmp_path: Path, cluster: Any) -> None:
    calm = tmp_path / "calm"
    toy.run(calm)
    node = cluster.add_node(num_cpus=1)
    build = partial(toy.loop, pause=0.1)
    home = tmp_path / "cluster"
    committed: list[int] = []

    def progress(done: int, total: int, what: str) -> None:
        committed.append(done)
        if len(committed) == 4:
            cluster.remove_node(node, allow_graceful=False)

    with closing(Ray(build, home, "toy", 0, workers=3)) as executor:
        toy.run(home, executor=executor, progress=progress)
    assert toy.everything(home) == toy.everything(calm)


class Fatal(toy.Perturb):
    """Ends its process at one task: always, or until there is a file of that name."""

    def __init__(self, task: str, once: Path | None = None) -> None:
        super().__init__()
        self.task, self.once = task, once

    def propose(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        spared = self.once is not None and self.once.exists()
        if any(task.id == self.task for task in tasks) and not spared:
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().propose(policy, tasks, ctx)


def test_a_worker_that_dies_costs_its_shards_in_flight(tmp_path: Path, cluster: Any) -> None:
    toy.run(tmp_path / "calm")
    home = tmp_path / "cluster"
    fatal = Fatal("train-5", tmp_path / "died")
    build = partial(toy.loop, propose=fatal)
    with closing(Ray(build, home, "toy", 0, workers=2)) as executor:
        toy.run(home, executor=executor)
    assert fatal.once is not None and fatal.once.exists()
    assert toy.everything(home) == toy.everything(tmp_path / "calm")


def test_a_shard_that_kills_every_worker_ends_the_run_and_keeps_the_rest(
    tmp_path: Path, cluster: Any
) -> None:
    fatal = Fatal("train-5")
    made = Ray(partial(toy.loop, propose=fatal), tmp_path, "toy", 0, workers=1)
    told = pytest.raises(UserError, match="3 workers died at shard 2")
    with closing(made) as executor, told:
        toy.run(tmp_path, executor=executor)
    toy.run(tmp_path / "calm")
    toy.run(tmp_path)  # here, where nothing is fatal
    assert toy.everything(tmp_path) == toy.everything(tmp_path / "calm")


class Broken(toy.Error):
    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        raise UserError("the judge is out", "ask another one")


def test_errors_of_a_stage_come_through(tmp_path: Path, cluster: Any) -> None:
    made = Ray(partial(toy.loop, judge=Broken()), tmp_path, "toy", 0, workers=1)
    told = pytest.raises(UserError, match="the judge is out")
    with closing(made) as executor, told as caught:
        toy.run(tmp_path, executor=executor)
    assert caught.value.remedy == "ask another one"


def test_shards_are_read_no_further_than_there_are_hands(tmp_path: Path, cluster: Any) -> None:
    Store(tmp_path).close()
    toy.run(tmp_path)
    store = Store(tmp_path)
    state = store.rounds("toy")[0].state
    store.close()
    read: list[int] = []

    def shards() -> Iterator[Shard]:
        for number in range(12):
            read.append(number)
            yield Shard("propose", 1, number, (f"train-{number}",), state)

    with closing(Ray(toy.loop, tmp_path, "toy", 0, workers=1)) as executor:
        for done, _ in enumerate(executor.map(shards())):
            assert len(read) <= done + AHEAD + 1
    assert read == list(range(12))


def test_bad_numbers(tmp_path: Path, cluster: Any) -> None:
    with pytest.raises(UserError, match="workers=0"):
        Ray(toy.loop, tmp_path, "toy", 0, workers=0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_listens_is_told_at_once(address: str) -> None:
    with pytest.raises(UserError, match="no Ray cluster answers"):
        _reach(address)
    _reach("auto")  # left to Ray


def test_a_policy_that_comes_back_otherwise_is_found_out(tmp_path: Path, cluster: Any) -> None:
    toy.run(tmp_path)
    store = Store(tmp_path)
    state = store.rounds("toy")[0].state
    store.close()
    wrong = Shard("propose", 1, 0, ("train-0",), state, fingerprint="another")
    with (
        closing(Ray(toy.loop, tmp_path, "toy", 0, workers=1)) as executor,
        pytest.raises(RuntimeError, match="does not come back"),
    ):
        list(executor.map([wrong]))
