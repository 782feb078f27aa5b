"""DPO on short answers to long prompts: our learner against TRL's DPOTrainer, the same batches.

    python benchmarks/dpo_text.py [--pairs 16] [--turns 2]

Pairs are two answers of SmolLM2 to a question of ``arithmetic``, after the worked examples that all
questions of a run begin with. Both sides learn them in the same batches of 8, reference
log-probabilities included. Checked in every turn: the losses of all steps are the same.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from claim import of, ratios, seconds, tell, threads
from dpo import LEARNER, order, ours, theirs

from common.policies.local import HFPolicy
from common.records import Preference as Pair
from common.records import identity
from text.prompts import STOPS, prompted
from text.tasks import load

LEARNT = replace(LEARNER, batch_size=8, learning_rate=1e-5)


def pairs(count: int) -> list[Pair]:
    """Two different answers to each of so many questions."""
    policy = HFPolicy.load("smollm2")
    tasks = [
        t for t in prompted(load("arithmetic", train=count, dev=2, test=2), 2) if t.split == "train"
    ]
    groups = policy.sample(
        [t.prompt for t in tasks], n=8, seeds=range(8 * len(tasks)), temperature=1.0,
        max_new_tokens=48, stop=STOPS,
    )  # fmt: skip
    found = []
    for task, group in zip(tasks, groups, strict=True):
        one, *others = dict.fromkeys(policy.decode(s.ids) for s in group)
        if others:
            found.append(Pair(identity(task.id), task.id, 1, task.prompt, one, others[0]))
    return found


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--pairs", type=int, default=16)
    flags.add_argument("--turns", type=int, default=2)
    chosen = flags.parse_args()
    torch.set_num_threads(threads())
    lessons = pairs(chosen.pairs)
    times: dict[str, list[float]] = {"ours": [], "TRL": []}
    losses: dict[str, list[float]] = {}
    for turn in range(chosen.turns):
        for name in list(times)[:: 1 if turn % 2 == 0 else -1]:
            made = HFPolicy.load("smollm2")

            def learn(name: str = name, made: HFPolicy = made) -> None:
                told = ours(made, lessons, LEARNT) if name == "ours" else theirs(
                    made, lessons, order(lessons), LEARNT)  # fmt: skip
                losses[name] = told

            times[name].append(seconds(learn))
            print(f"turn {turn + 1}: {name} {times[name][-1]:.1f} s, {losses[name]}", flush=True)
        off = max(abs(a - b) for a, b in zip(losses["ours"], losses["TRL"], strict=True))
        if off > 2e-3:
            raise SystemExit(f"losses of a step are {off:.2g} apart")
    tell(of(f"DPO on {len(lessons)} pairs of short answers, SmolLM2",
            ratios(times["TRL"], times["ours"]), "TRL's DPOTrainer", aim=1.6))  # fmt: skip


if __name__ == "__main__":
    main()
