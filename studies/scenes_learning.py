"""Whether what `scenes learn` learnt helps queries that neither it nor its gate has seen.

    for seed in 0 1 2; do upspiral scenes learn --library lib-$seed --seed $seed; done
    python studies/scenes_learning.py lib-0 lib-1 lib-2

The library as it began and as it ended answer the same test queries, of 15 assets at most, with
the solver of the loop and a seed of their own. Prints each library's paired gain and that of all
together, queries being the samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from common.gate import paired_interval
from common.progress import progress
from scenes.assets.furniture import index
from scenes.benchmark.queries import LEARNT, builtin
from scenes.learn import Answers
from scenes.planners.rules import Rules
from scenes.skills import opened, starting

SEED = 100
FIGURES = ("constraint", "relations")


def main(folders: list[Path]) -> None:
    models, _ = index()
    queries = [q for q in builtin("test", each=1) if q.size <= LEARNT]
    answers = Answers(models, Rules(), SEED)
    before = answers.answer(starting("published"), queries, progress())
    for name in FIGURES:
        print(f"as published: {name} {before[name].value:.3f} ± {before[name].se:.3f}")
    gains: dict[str, dict[str, list[float]]] = {name: {} for name in FIGURES}
    for folder in folders:
        skills = list(opened(folder))
        learnt = [s.name for s in skills if s.provenance.get("origin") != "published"]
        after = answers.answer(skills, queries, progress()) if learnt else before
        for name in FIGURES:
            d = paired_interval(before[name].items, after[name].items)
            print(
                f"{folder}, {', '.join(learnt) or 'nothing learnt'}: {name} "
                f"{after[name].value:.3f}, {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}], n={d.n}"
            )
            for query, value in after[name].items.items():
                gains[name].setdefault(query, []).append(value - before[name].items[query])
    for name, found in gains.items():
        means = {query: float(np.mean(of)) for query, of in found.items()}
        d = paired_interval(dict.fromkeys(means, 0.0), means)
        print(f"all: {name} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}], n={d.n}")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
