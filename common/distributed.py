"""Learning on several processes: ``accelerate launch --config_file FILE -m common.cli ...``.

Files for DDP, FSDP and DeepSpeed are in ``common/learners/accelerate`` (docs/scaling.md).

The loop runs in the first process alone: it proposes, judges, measures and holds the run's lease.
The others wait for lessons and take part in learning, where a trainer splits its batches over all
of them (data parallel, as accelerate sets it up). Model and lessons reach them through the run's
folder, so all processes must see the same disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from common.artifacts import Files
from common.errors import UserError
from common.progress import silent
from common.records import Lessons
from common.stages import Context, Learner, Policy
from common.tracking import Nothing

WAIT = timedelta(days=30)
"""How long a process waits for lessons; proposing and judging may take that long."""


def world() -> int:
    """How many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sharded() -> bool:
    """Whether the launcher has FSDP cut the weights into shards while they learn.

    Raises:
        UserError: it has another way to cut them, of which nothing whole would be left.
    """
    if world() > 1 and zero() and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise UserError("weights do not learn in shards of DeepSpeed", "use ZeRO stage 2, or FSDP")
    if world() == 1 or os.environ.get("ACCELERATE_USE_FSDP", "").lower() != "true":
        return False
    for name, needed in (("FSDP_VERSION", "2"), ("FSDP_STATE_DICT_TYPE", "FULL_STATE_DICT")):
        if (given := os.environ.get(name)) != needed:
            raise UserError(f"{name.lower()} is {given}", f"set {name.lower()}: {needed}")
    return True


def zero() -> bool:
    """Whether the launcher has DeepSpeed share gradients and optimiser."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


class Team:
    """The processes of a launcher, to be made before a model is loaded.

    ``main`` is true in the process that runs the loop. Messages have a group of their own, which
    waits longer than that of gradients.
    """

    def __init__(self) -> None:
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())  # also chooses this process's GPU
        self.main: bool = state.process_index == 0
        self.group: Any = distributed.new_group(backend="gloo", timeout=WAIT)

    def share(self, message: Any = None) -> Any:
        """What the main process passes, in all of them."""
        held = [message if self.main else None]
        distributed.broadcast_object_list(held, src=0, group=self.group)
        return held[0]

    def meet(self) -> None:
        """Go on when all of them are here."""
        distributed.barrier(group=self.group)


class Together:
    """A learner whose trainer works on all processes of ``team``.

    The main process calls :meth:`learn` and, when its loop has ended, :meth:`dismiss`; every other
    one calls :meth:`serve`.
    """

    def __init__(self, learner: Learner, team: Team) -> None:
        self.learner, self.team = learner, team
        self._learning = False

    def learn(self, policy: Policy, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        """As the learner's own, with everyone's help."""
        state = ctx.workdir / "policy"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        policy.save(state)
        self._learning = True
        order = {"lessons": lessons, "seed": ctx.seed, "round": ctx.round, "workdir": ctx.workdir}
        self.team.share(order)
        self.team.meet()
        figures = self.learner.learn(policy, lessons, ctx)
        self.team.meet()
        self._learning = False
        return figures

    def dismiss(self) -> None:
        """Tell the others that there is nothing more to learn.

        After an error in the middle of learning they cannot hear it; the launcher ends them.
        """
        if not self._learning:
            self.team.share(None)

    def serve(self, policy: Policy) -> None:
        """Take part in learning until :meth:`dismiss`."""
        while (order := self.team.share()) is not None:
            shared: Path = order["workdir"]
            policy.restore(shared / "policy")
            # Each process removes its checkpoints when it is done: not those of another.
            own = shared / f"process-{distributed.get_rank()}"
            shutil.rmtree(own, ignore_errors=True)
            own.mkdir()
            for folder in shared.iterdir():
                if folder.is_dir() and folder.name != "policy" and folder.name[:8] != "process-":
                    shutil.copytree(folder, own / folder.name)
            self.team.meet()
            ctx = Context(order["seed"], order["round"], Files(own), Nothing(), silent, own)
            self.learner.learn(policy, order["lessons"], ctx)
            self.team.meet()
