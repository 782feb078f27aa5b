"""Gödel Agent with and without its parts, in independent cycles: the paper's ablation (table 2).

    python studies/godel_ablation.py --task mgsm:FOLDER --model served:NAME --base-url URL \
        --cycles 6 --validation 128 --test 800 --prices 2.5 10

Every arm (all parts; without thinking, error handling, code, calls to models) has as many runs as
there are cycles, each with a name of its own in the store: stop it when you like, and start it
again. Printed: test of the start and of the best versions, means over cycles with standard errors,
how many cycles dropped on the way or ended below their start by validation, and what they cost. The
paper's is MGSM with GPT-4o: 64.2, without the parts 50.8, 49.4, 57.1 and 60.4.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.commands import Output
from text.commands.evolve import EvolveConfig, evolve
from text.godel.workshop import SWITCHES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="game24")
    parser.add_argument("--model", default="scripted:rewrite-to-search")
    parser.add_argument("--base-url")
    parser.add_argument("--arms", nargs="*", default=["all", *SWITCHES])
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--validation", type=int, default=20)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--prices", type=float, nargs=2, default=(0.0, 0.0))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    given = parser.parse_args()
    out = Output(sys.stderr)
    rows = []
    for arm in given.arms:
        runs = []
        for cycle in range(given.cycles):
            name = f"godel-{given.task.partition(':')[0]}-{arm}-{cycle}"
            place = given.out / name
            place.mkdir(parents=True, exist_ok=True)
            config = EvolveConfig(
                task=given.task,
                model=given.model,
                base_url=given.base_url,
                iterations=given.iterations,
                validation=given.validation,
                test=given.test,
                seconds=given.seconds,
                without=() if arm == "all" else (arm,),
                prices=tuple(given.prices),
                out=str(place.absolute()),
            )
            runs.append(evolve(config, name, out))
        rows.append((f"without {arm}" if arm != "all" else "all parts", *told(runs)))
    columns = ("", "start", "best", "dropped", "ended below", "US dollars a cycle", "n")
    Output(sys.stdout).table(columns, rows)


def told(runs: list[dict[str, Any]]) -> tuple[object, ...]:
    """What the cycles of one arm came to."""
    metric = next(iter(runs[0]["test"]["start"]))
    kept = [[v[metric] for v in run["versions"] if v["kept"]] for run in runs]
    dropped = sum(any(b < a for a, b in pairwise(v)) for v in kept)
    below = sum(v[-1] < v[0] for v in kept)
    usd = [sum(run["spent"][role]["usd"] for role in run["spent"]) for run in runs]
    return (
        mean([run["test"]["start"][metric] for run in runs]),
        mean([run["test"]["best"][metric] for run in runs]),
        dropped,
        below,
        statistics.mean(usd),
        len(runs),
    )


def mean(values: list[float]) -> str:
    se = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3f} ± {se:.3f}"


if __name__ == "__main__":
    main()
