"""How well planners read sentences: the rules against SmolLM2 with an adapter trained for it.

    upspiral scenes train planner --out planner
    python studies/planner.py --adapter planner

Held out are sentences in words that neither the rules nor the generator of training texts were
written for (``planner_phrasings.txt``), and generated texts that training has not seen. Printed are
means with the standard error: agreement with the scene that was meant (the mean F1 of things and of
what lies where, ``scenes.planners.compact.agreement``), its two halves, and the share of texts of
which everything is right; and the paired difference in agreement with its 95% interval.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.gate import paired_interval
from scenes.graph import SceneGraph
from scenes.planners import Planner, compact
from scenes.planners.phrasings import Example, examples, parsed
from scenes.planners.rules import Rules
from scenes.planners.smollm2 import SmolLM2
from scenes.planners.train import metric

HELD_OUT = Path(__file__).with_name("planner_phrasings.txt")


def graphs(planner: Planner, texts: Sequence[str]) -> list[SceneGraph | None]:
    """The graph of each text; None where the planner has none."""
    found: list[SceneGraph | None] = []
    for text in texts:
        try:
            found.append(planner.plan(text).graph)
        except UserError:
            found.append(None)
    return found


def scored(made: Sequence[SceneGraph | None], wanted: Sequence[Example]) -> dict[str, list[float]]:
    """Figures by name, a number for each text."""
    figures: dict[str, list[float]] = {"agreement": [], "things": [], "where": [], "right": []}
    for graph, example in zip(made, wanted, strict=True):
        meant = compact.read(example.form).graph
        things, where = compact.agreements(graph, meant) if graph is not None else (0.0, 0.0)
        for name, value in zip(
            figures, ((things + where) / 2, things, where, things * where == 1), strict=True
        ):
            figures[name].append(float(value))
    return figures


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--adapter", type=Path, nargs="*", default=[], help="folders of adapters")
    flags.add_argument("--generated", type=int, default=100, help="generated texts, unseen")
    flags.add_argument("--seed", type=int, default=1_000_000, help="of the generated texts")
    chosen = flags.parse_args()

    planners: dict[str, Planner] = {"rules": Rules()}
    planners |= {f"smollm2 {p}": SmolLM2.load(p) for p in chosen.adapter}
    sets = {
        "held-out phrasings": parsed(HELD_OUT.read_text(encoding="utf-8").splitlines()),
        "generated texts": examples(chosen.generated, chosen.seed) if chosen.generated else [],
    }
    table: dict[str, dict[str, dict[str, float]]] = {}
    for title, wanted in sets.items():
        if not wanted:
            continue
        print(f"{title}, n {len(wanted)}")
        every: dict[str, dict[str, float]] = {}
        for name, planner in planners.items():
            begun = time.monotonic()
            made = graphs(planner, [e.text for e in wanted])
            seconds = (time.monotonic() - begun) / len(wanted)
            figures = scored(made, wanted)
            cells, table.setdefault(title, {})[name] = [], {"seconds": round(seconds, 3)}
            for key, values in figures.items():
                items = {str(n): v for n, v in enumerate(values)}
                m = metric(key, items, "test")
                cells.append(f"{key} {m.value:.3f} ± {m.se:.3f}")
                table[title][name] |= {key: round(m.value, 4), f"{key}_se": round(m.se, 4)}
                if key == "agreement":
                    every[name] = items
            print(f"  {name:28} {'   '.join(cells)}   {seconds:.2f} s a text", flush=True)
        for name in planners:
            if name != "rules":
                gain = paired_interval(every["rules"], every[name])
                print(f"  {name} over rules: {gain.mean:+.3f} ({gain.low:+.3f}, {gain.high:+.3f})")
        misses = [
            e.text for n, e in enumerate(wanted) if all(v[str(n)] < 0.5 for v in every.values())
        ]
        print(f"  below 0.5 for all: {len(misses)}; {'; '.join(misses[:3])}", flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
