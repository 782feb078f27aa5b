"""The sweep that chose the learning settings of `speech align`: one pool, many ways to learn.

    python studies/align_sweep.py                 # DPO's settings: about 45 minutes on two cores
    python studies/align_sweep.py --what strategies --texts 64 --dev-texts 60 --seed 100

Every setting starts from the starter, learns from the same preference pairs and is measured on the
same dev texts with the same random numbers. Dev only: test is for `speech align`. A setting that
was measured before is read from the results file and not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.artifacts import Files
from common.gate import paired_interval
from common.progress import progress
from common.records import Metric
from common.stages import Context
from common.tracking import Nothing
from speech.align import AlignConfig, SelectSpeech, Speak
from speech.setup import build
from speech.strategies import learner

Settings = tuple[Mapping[str, float | str], ...]

DPO: Settings = (
    {},
    {"beta": 0.05},
    {"beta": 0.3},
    {"nll_weight": 0.0},
    {"nll_weight": 1.0},
    {"learning_rate": 3e-5},
    {"learning_rate": 3e-4},
    {"pairs": "golden"},
    {"pairs": "both"},
)
"""Each is one step away from the defaults, which were the first."""
STRATEGIES: Settings = tuple(
    {"strategy": strategy, **changes}
    for strategy, changes in (
        ("ppo", {}),
        ("ppo", {"kl_coef": 0.015}),
        ("ppo", {"learning_rate": 3e-4}),
        ("ppo", {"learning_rate": 1e-3}),
        ("grpo", {}),
        ("grpo", {"kl_coef": 0.015}),
        ("grpo", {"learning_rate": 3e-4}),
        ("grpo", {"learning_rate": 1e-3}),
        ("sft", {}),
        ("sft", {"learning_rate": 3e-5}),
        ("sft", {"learning_rate": 3e-4}),
        ("sft", {"learning_rate": 1e-3}),
        ("chain-of-hindsight", {}),
        ("chain-of-hindsight", {"learning_rate": 3e-5}),
        ("chain-of-hindsight", {"learning_rate": 3e-4}),
    )
)
"""What DPO is compared with gets the care that DPO got."""
SETTINGS: Mapping[str, Settings] = {"dpo": DPO, "strategies": STRATEGIES}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--texts", type=int, default=AlignConfig().texts)
    flags.add_argument("--dev-texts", type=int, default=AlignConfig().dev_texts)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--what", choices=tuple(SETTINGS), default="dpo")
    flags.add_argument("--results", type=Path, default=Path("work/align-sweep.jsonl"))
    chosen = flags.parse_args()
    pairs = "self" if chosen.what == "dpo" else "both"  # what was the default when it was swept
    config = AlignConfig(texts=chosen.texts, dev_texts=chosen.dev_texts, pairs=pairs)
    results: Path = chosen.results
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = results.read_text().splitlines() if results.is_file() else []
    known = [json.loads(line)["setting"] for line in lines]

    loop = build(replace(config, pairs="both"))
    policy, propose, judge, measure = loop.policy, loop.propose, loop.judge, loop.measure
    assert isinstance(loop.select, SelectSpeech) and isinstance(propose, Speak)
    assert isinstance(judge, Sequence) and not isinstance(measure, Sequence)
    tasks = {t.id: t for t in loop.tasks if t.split == "train"}
    dev = [t for t in loop.tasks if t.split == "dev"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = folder / "start"
        start.mkdir()
        policy.save(start)
        ctx = Context(chosen.seed, 1, Files(folder / "artifacts"), Nothing(), progress(), folder)
        blank = [replace(task, reference=None) for task in tasks.values()]
        pool = [replace(c, round=1) for c in propose.propose(policy, blank, ctx)]
        scores = judge[0].judge(tasks, pool, ctx)
        pool = [replace(c, scores=s) for c, s in zip(pool, scores, strict=True)]
        before = measure.measure(policy, dev, ctx)
        print("starter", json.dumps(figures(before)), flush=True)
        for setting in SETTINGS[chosen.what]:
            if setting in known:
                continue
            policy.restore(start)
            tried = replace(config, **setting)  # type: ignore[arg-type]
            select = replace(loop.select, pairs=tried.pairs, imitate=tried.strategy == "sft")
            lessons = select.select(tasks, pool, ctx)
            learned = learner(tried, lambda: propose.vocoder).learn(policy, lessons, ctx)  # type: ignore[arg-type]
            after = measure.measure(policy, dev, ctx)
            row = {
                "setting": setting,
                "seed": chosen.seed,
                **figures(after),
                "learned": dict(learned),
            }
            row |= {"change": change(before, after)}
            print(json.dumps(row), flush=True)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")


def figures(metrics: Sequence[Metric]) -> dict[str, float]:
    """Means and standard errors of what decides."""
    found = {m.name: m for m in metrics if m.name in ("wer", "similarity", "dnsmos", "ctc")}
    means = {name: round(m.value, 4) for name, m in found.items()}
    return means | {f"{name}_se": round(m.se, 4) for name, m in found.items()}


def change(before: Sequence[Metric], after: Sequence[Metric]) -> tuple[float, float, float]:
    """Paired change of dev WER and its 95% interval."""
    old, new = ({m.name: m.items for m in metrics}["wer"] for metrics in (before, after))
    found = paired_interval(old, new)
    return round(found.mean, 4), round(found.low, 4), round(found.high, 4)


if __name__ == "__main__":
    main()
