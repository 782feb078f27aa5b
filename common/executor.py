"""Shards of a round on many machines: Ray actors that each hold the loop.

    upspiral speech align --executor ray                    # this machine's cores
    upspiral speech align --executor ray --address auto     # the cluster that this machine is in

An actor builds the loop, takes the saved policy from the store's folder and does one shard after
the other; what it returns is committed by the run's own process, shard by shard. All machines must
see ``UPSPIRAL_HOME`` under the same path, and have the same version of upspiral. A worker or a
node that dies costs the shards that it was at: they are given to others, and a new actor starts
where there is room. No more than :data:`AHEAD` shards an actor are under way, so that the memory
of the run's process does not grow with the pool. Learning stays with the run's process, or with
accelerate's (:mod:`common.distributed`).
"""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.artifacts import Files
from common.errors import UserError
from common.progress import silent
from common.shards import Done, Replica, Shard, Work, workdir
from common.stages import Context
from common.tracking import Nothing

if TYPE_CHECKING:
    from common.loop import Loop

AHEAD = 2
"""Shards that an actor has, the one it works on among them: it need not wait for the next."""
START = 600.0
"""Seconds within which a first actor has to be up; it may have a large model to load."""
DEATHS = 3
"""Actors that a shard may cost before it is held to be the reason."""


class Ray:
    """Does shards on a Ray cluster. Satisfies :class:`common.shards.Executor`.

    ``build`` makes the same loop anywhere (it travels by cloudpickle); ``home`` is the store's
    folder. Without an ``address`` a cluster of this machine's cores is started, and ended by
    :meth:`close`. ``workers`` is how many actors there are: by default one for each GPU of the
    cluster, or each core.

    Raises:
        UserError: Ray is not installed, the cluster does not answer, or it has no room at all.
    """

    def __init__(
        self,
        build: Callable[[], Loop],
        home: Path,
        run: str,
        seed: int,
        address: str | None = None,
        workers: int | None = None,
    ) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise UserError("ray is not installed", "pip install 'upspiral[ray]'") from error
        if workers is not None and workers < 1:
            raise UserError(f"workers={workers}", "give 1 or more")
        self._ray = ray
        self._own = not ray.is_initialized()
        if self._own:
            if address is not None:
                _reach(address)
            try:
                ray.init(
                    address=address,
                    num_cpus=workers if address is None else None,
                    include_dashboard=False,
                    log_to_driver=False,
                    configure_logging=False,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise _nobody(address, error) from error
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self._gpu = int(there.get("GPU", 0)) > 0
        self.workers = workers or int(there.get("GPU", 0)) or int(there.get("CPU", 0))
        if self.workers < 1:
            if self._own:
                ray.shutdown()
            raise UserError("the Ray cluster has neither a GPU nor a core", "add a node to it")
        self._made = ray.put((build, Path(home), run, seed))
        self._died = ray.exceptions.RayActorError
        self._up: list[Any] = []
        self._starting: dict[Any, Any] = {}  # by what tells that it is up
        self._failed = 0
        for _ in range(self.workers):
            self._start()

    @property
    def ready(self) -> int:
        """How many workers are up, as far as :meth:`map` has heard."""
        return len(self._up)

    def map(self, shards: Iterable[Shard]) -> Iterator[Done]:
        """As :meth:`common.shards.Executor.map`.

        Raises:
            UserError: actors died again and again at one shard, or there is room for none.
            Exception: what a stage raised.
        """
        waiting, source = deque[Shard](), iter(shards)
        deaths = Counter[int]()
        load = dict.fromkeys(self._up, 0)
        under_way: dict[Any, tuple[Any, Shard]] = {}
        while True:
            for actor in load:
                while load[actor] < AHEAD:
                    shard = waiting.popleft() if waiting else next(source, None)
                    if shard is None:
                        break
                    load[actor] += 1
                    under_way[actor.do.remote(shard)] = actor, shard
            if load and not under_way:
                return
            found, _ = self._ray.wait(
                [*under_way, *self._starting], timeout=None if load else START
            )
            if not found:
                raise UserError(
                    f"no worker of the Ray cluster was up within {START:.0f} s",
                    "look at it with: ray status",
                )
            if found[0] in self._starting:
                if (new := self._started_up(found[0])) is not None:
                    load[new] = 0
                continue
            actor, shard = under_way[found[0]]
            try:
                work, seconds = self._get(found[0])
            except self._died as error:
                lost = [(ref, s) for ref, (by, s) in under_way.items() if by is actor]
                for ref, _ in lost:
                    del under_way[ref]
                waiting.extendleft(s for _, s in reversed(lost))
                del load[actor]
                self._up.remove(actor)
                self._start()
                self._blame(deaths, lost[0][1], error)
            else:
                del under_way[found[0]]
                load[actor] -= 1
                yield Done(shard, work, seconds)

    def _blame(self, deaths: Counter[int], shard: Shard, error: Exception) -> None:
        """Note that an actor died at ``shard``, which it was at; the others only waited for it."""
        deaths[shard.number] += 1
        if deaths[shard.number] == DEATHS:
            raise UserError(
                f"{DEATHS} workers died at shard {shard.number} of round {shard.round} "
                f"({shard.stage}): {_line(error)}",
                "they may have run out of memory: use fewer workers, then resume",
            ) from error

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in [*self._up, *self._starting.values()]:
            self._ray.kill(actor)
        self._up, self._starting = [], {}
        if self._own:
            self._ray.shutdown()

    def _start(self) -> None:
        """Ask for one more actor; it counts when it is up."""
        needs: dict[str, Any] = {"num_gpus": 1} if self._gpu else {"num_cpus": 1}
        hand: Any = self._ray.remote(Hand)
        actor = hand.options(**needs, scheduling_strategy="SPREAD").remote(self._made)
        self._starting[actor.up.remote()] = actor

    def _started_up(self, answer: Any) -> Any:
        """The actor that is up now, or None if it died as it started, for which another one is."""
        actor = self._starting.pop(answer)
        try:
            self._get(answer)  # a loop that cannot be built says so
        except self._died as error:
            self._failed += 1
            if self._failed == DEATHS and not self._up:
                raise UserError(
                    f"{DEATHS} workers died as they started: {_line(error)}",
                    "they may have run out of memory: use fewer workers, then resume",
                ) from error
            self._start()
            return None
        self._failed = 0
        self._up.append(actor)
        return actor

    def _get(self, answer: Any) -> Any:
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


class Hand:
    """What an actor is: a replica of the loop that does shards."""

    def __init__(self, made: tuple[Callable[[], Loop], Path, str, int]) -> None:
        self.build, home, run, self.seed = made
        self.artifacts = Files(home / "artifacts")
        self.scratch = home / "runs" / run / "work"

    def up(self) -> None:
        """Build the loop."""
        self.replica = Replica(self.build(), self.artifacts)

    def do(self, shard: Shard) -> tuple[Work, float]:
        """The work of ``shard`` and its seconds."""
        began = time.monotonic()
        ctx = Context(
            seed=self.seed,
            round=shard.round,
            artifacts=self.artifacts,
            tracker=Nothing(),
            progress=silent,
            workdir=workdir(self.scratch, shard.round, shard.stage, shard.number),
        )
        left = self.replica.do(shard, ctx)
        return left, time.monotonic() - began + sum(ctx.spared)


def _reach(address: str) -> None:
    """Find out whether anybody listens: Ray itself would try for a minute and end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _nobody(address, error) from error


def _nobody(address: str | None, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers at {address!r}: {_line(error)}",
        "start one with: ray start --head",
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
