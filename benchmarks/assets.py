"""Claim: the furniture is indexed in under five minutes, and a search costs little but its words.

    python benchmarks/assets.py

A new index of all models, text and icons, in a temporary file, against reading the bytes of the
same models' files; then searches against encoding the same words, which no search by meaning can do
without. Processor time, which other work on the machine disturbs less. Correctness first: every
model is there, and a second pass finds nothing new.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from claim import Result, of, tell

from scenes.assets import furniture
from scenes.assets.index import Index
from scenes.assets.search import search
from scenes.clip.encoder import load

QUERIES = "chair,round table,a small lamp,double bed,kitchen sink,bookcase,plant,office desk".split(
    ","
)
REPEATS = 15


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor and by the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - clock


def main() -> None:
    furniture.catalogues()  # fetched and unpacked, which is no indexing
    files = sorted({model.file for model in furniture.models()})
    encoder = load("starter")
    with tempfile.TemporaryDirectory() as folder:
        index = Index(Path(folder) / "assets.db")
        cpu, clock = spent(lambda: furniture.index(images=encoder, into=index))
        count = sum(index.sources().values())
        _, again = furniture.index(images=encoder, into=index)
        assert count == len(index.all()[0]) and not any(done.new for done in again.values())
        floor, _ = spent(lambda: [file.read_bytes() for file in files])
        print(f"{count} models indexed: {cpu:.1f} s of processor, {clock:.1f} s by the clock")
        print(f"ratio to reading their {len(files)} files ({floor:.2f} s): {cpu / floor:.0f}")
        index.encode(QUERIES), search(index, QUERIES[0])  # what is loaded at the first call
        searching = [spent(lambda q=q: search(index, q))[0] for q in QUERIES * REPEATS]
        encoding = [spent(lambda q=q: index.encode([q]))[0] for q in QUERIES * REPEATS]
        one, words = median(searching), median(encoding)
        print(f"a search: {one * 1e3:.1f} ms of processor, its words alone {words * 1e3:.1f} ms "
              f"(medians of {len(searching)})")  # fmt: skip
        tell(
            Result(f"indexing {count} models, seconds of processor", cpu, (cpu, cpu), 1,
                   "nothing: seconds of processor", aim=300, unit="s", better="lower"),
            of("a search by words", [one / words], "encoding the words alone", better="lower"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
