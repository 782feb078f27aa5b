"""What does it save to grow trees of plans in batches? Same seed, same trees, one call at a time.

Run: ``python benchmarks/tree_search.py [MODEL] [PROBLEMS] [ITERATIONS] [THREADS]``. Plans are
searched for PROBLEMS problems of code-basics: first as the engine does it, where siblings,
their scores and the problems themselves share each generation call; then through a policy that
hands every prompt to the model alone. Correctness comes first: the trees must be the same. What is
printed is generation calls, sampled tokens, and seconds of processor time and of the clock, with
the ratio; processor time is disturbed less by other work on the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from claim import of, tell

from common.artifacts import Files
from common.policies import Sample
from common.policies.local import HFPolicy
from common.records import Candidate, Task
from common.search import Log, Search, Tree
from common.stages import Context
from common.tracking import Nothing
from text import tasks
from text.planning import FAMILY
from text.prompts import stops
from text.sra_mcts import SearchPlans, planned_task


class Counted:
    """``policy``, whose calls are counted; with ``alone`` each prompt is a call of its own."""

    def __init__(self, policy: HFPolicy, alone: bool) -> None:
        self.policy, self.alone = policy, alone
        self.calls = self.tokens = 0

    def generate(self, asked: Sequence[Task], **options: Any) -> list[Candidate]:
        """As the policy's."""
        groups = [[task] for task in asked] if self.alone else [list(asked)]
        found = []
        for group in groups:
            found += self.policy.generate(group, **options)
            self.calls += 1
        self.tokens += sum(c.tokens for c in found)
        return found


def grow(policy: Counted, problems: Sequence[Task], iterations: int) -> dict[str, Tree]:
    """The trees of ``problems``."""
    # A gate that nobody reaches: every tree takes all its iterations.
    search = Search(iterations=iterations, gate=100)
    sample = Sample(n=1, temperature=0.7, max_new_tokens=48, stop=stops(FAMILY))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ctx = Context(0, 0, Files(folder), Nothing(), lambda *_: None, folder)
        with Log(folder / "steps.jsonl", "benchmark", search) as log:
            return SearchPlans(sample, search).grow(policy, problems, ctx, log)


def main(
    model: str = "smollm2", problems: str = "8", iterations: str = "2", threads: str = ""
) -> None:
    """Print the costs and the ratios."""
    if threads:
        torch.set_num_threads(int(threads))
    policy = HFPolicy.load(model, batch_size=128)  # in float32: rounding must not tell them apart
    found = tasks.load("code-basics", 0, int(problems), 0, 0)
    asked = [planned_task(task, 2, False) for task in found]
    costs, trees = [], []
    for name, alone in (("together", False), ("one call at a time", True)):
        counted = Counted(policy, alone)
        clock, processor = time.perf_counter(), time.process_time()
        trees.append(grow(counted, asked, int(iterations)))
        cost = time.process_time() - processor, time.perf_counter() - clock
        costs.append(cost)
        print(f"{name:<20} {counted.calls:>5} calls, {counted.tokens} tokens, "
              f"{cost[0]:.1f} s of processor, {cost[1]:.1f} s clock", flush=True)  # fmt: skip
    nodes = [{name: tree.nodes for name, tree in own.items()} for own in trees]
    if nodes[0] != nodes[1]:
        raise SystemExit("the trees differ")
    grown = sum(len(tree.nodes) - 1 for tree in trees[0].values())
    ratios = [alone / together for together, alone in zip(*costs, strict=True)]
    print(f"the same {grown} nodes in {len(asked)} trees; together: {ratios[0]:.2f} times as fast "
          f"in processor time, {ratios[1]:.2f} times by the clock")  # fmt: skip
    tell(of(f"{len(asked)} trees of plans grown in batches", ratios[1:], "one call at a time"))


if __name__ == "__main__":
    main(*sys.argv[1:5])
