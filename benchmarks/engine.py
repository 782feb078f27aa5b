"""What the engine itself costs a round: everything that is not a stage, beside the stages' time.

    python benchmarks/engine.py                     # a round of the starter on 16 texts
    python benchmarks/engine.py --texts 4 --samples 2

A run of ``speech align`` whose stages are timed from outside, starter and test measured too: what
is left of the run's time is the engine's, for the store, the policy saved, restored and told by its
fingerprint, seeds and checks. Checked first: the run is the same, to the last record, as one whose
stages nobody times. A round of the starter recipe has twelve times as many texts, so the share here
is more than that of a real run. That the store stays as fast as it fills is ``store_scale.py``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from claim import Result, seconds, tell, threads

from common.loop import Loop
from common.store import Store
from speech.align import AlignConfig
from speech.setup import build


class Timed:
    """A stage whose one method is timed; all else is the stage's own."""

    def __init__(self, stage: Any, method: str, spent: Counter[str]) -> None:
        self._stage, self._method, self._spent = stage, method, spent

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stage, name)
        if name != self._method:
            return found

        def timed(*args: Any, **kw: Any) -> Any:
            begun = time.perf_counter()
            try:
                return found(*args, **kw)
            finally:
                self._spent[name] += time.perf_counter() - begun  # type: ignore[assignment]

        return timed


def timed(loop: Loop, spent: Counter[str]) -> Loop:
    """``loop`` with a watch at every stage."""

    def at(stage: Any, method: str) -> Any:
        stages = stage if isinstance(stage, list | tuple) else [stage]
        return [Timed(one, method, spent) for one in stages]

    loop.propose, loop.select, loop.learn = (
        at(getattr(loop, name), name)[0] for name in ("propose", "select", "learn")
    )
    loop.judge, loop.measure = at(loop.judge, "judge"), at(loop.measure, "measure")
    return loop


def run(config: AlignConfig, change: Callable[[Loop], Loop]) -> tuple[float, list[Any]]:
    """Seconds of the run, and its candidates."""
    loop = change(build(config))
    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home))
        took = seconds(lambda: loop.run(config.rounds, store, "engine"))
        found = sorted((c.id, c.output, c.logprob) for c in store.candidates("engine"))
        store.close()
    return took, found


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--texts", type=int, default=16)
    flags.add_argument("--samples", type=int, default=4)
    chosen = flags.parse_args()
    torch.set_num_threads(threads())
    config = AlignConfig(rounds=1, texts=chosen.texts, samples=chosen.samples, gap_texts=0,
                         dev_texts=max(2, chosen.texts // 2), test_samples=1,
                         test_texts=max(2, chosen.texts // 4))  # fmt: skip
    _, expected = run(config, lambda loop: loop)  # which loads what is loaded once
    shares = []
    for _ in range(2):
        spent: Counter[str] = Counter()
        took, found = run(config, lambda loop, s=spent: timed(loop, s))
        if found != expected:
            raise SystemExit("the run is another when it is timed")
        stages = sum(spent.values())
        shares.append((took - stages) / stages)
        told = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
        print(f"{took:.2f} s, of which stages: {told}", flush=True)
    about = f"the engine's own time in a run of one round, {chosen.texts} texts"
    shown = sum(shares) / len(shares)
    tell(Result(about, shown, (min(shares), max(shares)), len(shares), "the stages' time",
                aim=0.02, unit="share", better="lower"))  # fmt: skip


if __name__ == "__main__":
    main()
