"""DPO and SFT as a process of a launcher, with FSDP on CPUs: ``torch.distributed.run`` starts two.

    python tests/common/sharded.py OUT

accelerate has FSDP for GPUs only, torch for CPUs as well: what accelerate finds out about the
machine is changed here, and nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

from common.distributed import Team, Together, sharded, world
from common.learners import data
from common.learners.dpo import Preference
from common.learners.sft import SFT
from common.records import Demonstration, Lessons
from common.records import Preference as Pair
from tests.common.tiny import context, tiny_policy

PAIRS = tuple(
    Pair(f"p{i}", f"t{i}", 1, f"go w{i}", f"w{i} w{3 * i % 20}", f"w{i + 5}") for i in range(8)
)
SHOWN = tuple(
    Demonstration(f"d{i}", f"t{i}", 1, f"go w{i}", f"w{i} w{3 * i % 20} w1") for i in range(8)
)
# A step takes all eight, whatever the number of processes.
STEPS: dict[str, Any] = {"batch_size": 4, "grad_accum": 2 // world(), "warmup": 0.0, "steps": 3}
LEARNERS: dict[str, tuple[Any, Lessons]] = {
    "dpo": (Preference(nll_weight=0.3, learning_rate=1e-2, **STEPS), Lessons(preferences=PAIRS)),
    "dpo-lora": (Preference(lora=2, learning_rate=3e-2, **STEPS), Lessons(preferences=PAIRS)),
    "sft": (SFT(learning_rate=1e-2, **STEPS), Lessons(demonstrations=SHOWN)),
}


def on_cpus() -> None:
    """Have accelerate take these processes for ones with GPUs."""
    begin = state.PartialState.__init__

    def init(self: Any, *args: Any, **kw: Any) -> None:
        begin(self, *args, **kw)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    state.PartialState.__init__ = init


def main(out: Path) -> None:
    kinds: list[str] = []
    give_back = data._give_back

    def noted(policy: Any, trainer: Any, device: Any) -> None:
        kinds.extend({type(p).__name__ for p in trainer.model.parameters()})
        give_back(policy, trainer, device)

    data._give_back = noted
    if sharded():
        on_cpus()
    team = Team() if world() > 1 else None
    told: dict[str, Any] = {}
    for name, (learner, lessons) in LEARNERS.items():
        policy = tiny_policy()
        if team is not None and not team.main:
            Together(learner, team).serve(policy)
            continue
        ctx = context(out / name)
        together = Together(learner, team) if team else learner
        figures = together.learn(policy, lessons, ctx)
        if isinstance(together, Together):
            together.dismiss()
        curve = [v for _, s in ctx.tracker.steps for k, v in s.items() if k.endswith("/loss")]  # type: ignore[attr-defined]
        policy.save(out / name)
        print_before = policy.fingerprint()
        policy.restore(out / name)
        same = policy.fingerprint() == print_before
        weights = {n: p.detach().flatten().tolist() for n, p in policy.model.named_parameters()}
        told[name] = {"figures": dict(figures), "curve": curve, "same": same, "weights": weights}
    if told:
        (out / "told.json").write_text(json.dumps({**told, "kinds": kinds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
