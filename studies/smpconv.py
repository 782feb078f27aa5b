"""Long continuous kernels against dilated ones of equal parameters, on sequences with a label.

    python studies/smpconv.py languages
    python studies/smpconv.py languages --length 8000 --rate 8000 --width 30 --points 30 --blocks 6
    python studies/smpconv.py smnist --data MNIST_FOLDER
    python studies/smpconv.py speech-commands --data SPEECH_COMMANDS_FOLDER

``languages`` needs only the recorded prompts: which of five languages is spoken in half a second of
raw samples at 4 kHz, by small networks; about twenty minutes of a core. The others are the
published experiments at their published sizes, rates and epochs, which want a GPU's patience.

Both networks are trained alike: the same steps, examples, optimiser and schedule, and each at the
rate that was best on dev for it, of the same three, on seed 0. Test is asked once, at those rates,
for every seed. Figures are kept in a file for each training; started again the study continues.
Accuracy has its standard error over seeds, and over the sequences of test (each one's mean over
seeds).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.home import home
from common.progress import progress
from common.records import Metric, identity
from speech.corpora import VOICES
from speech.sequences import Sequences, languages, load
from speech.smpnet import (
    PUBLISHED,
    DilatedNet,
    NetConfig,
    NetTraining,
    SMPNet,
    fit,
    like,
    logits_of,
    parameters,
)

ARMS = {"SMPConv": SMPNet, "dilated": DilatedNet}


def trained(
    arm: str, config: NetConfig, data: Sequences, how: NetTraining, seed: int, folder: Path
) -> dict[str, Any]:
    """The figures of one training: accuracy on dev, what it says of test, seconds a step."""
    name = identity(arm, asdict(config), asdict(how), seed, data.name, len(data.train))
    file = folder / f"{name}.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text())
        return kept
    torch.manual_seed(seed)
    model = ARMS[arm](config)
    begun = time.process_time()
    curve = fit(model, data, how, folder / name, seed, progress())
    spent = time.process_time() - begun
    said = {split: logits_of(model, getattr(data, split)) for split in ("dev", "test")}
    found = {
        "arm": arm, "seed": seed, "rate": how.learning_rate, "parameters": parameters(model),
        "dev": float((said["dev"].argmax(1) == data.dev.y).mean()), "curve": curve,
        "test": said["test"].round(4).tolist(), "seconds": spent,
    }  # fmt: skip
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.replace(file)
    return found


def told(name: str, rows: Sequence[np.ndarray[Any, Any]]) -> str:
    """Accuracy of several seeds, ``rows`` of rights and wrongs, with both standard errors."""
    seeds = Metric.of(name, {str(i): float(row.mean()) for i, row in enumerate(rows)})
    items = Metric.of(name, {str(i): float(v) for i, v in enumerate(np.mean(rows, 0))})
    over = f" ± {seeds.se:.3f} over {seeds.n} seeds" if seeds.n > 1 else ""
    return f"{name} {items.value:.3f}{over}, ± {items.se:.3f} over {items.n} sequences"


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("what", choices=["languages", *(n for n in PUBLISHED if "char" not in n)])
    flags.add_argument("--data", type=Path, help="the folder with a published data set")
    flags.add_argument("--languages", nargs="+", default=[*VOICES], choices=[*VOICES])
    flags.add_argument("--rate", type=int, default=4_000, help="samples a second, of languages")
    flags.add_argument("--length", type=int, default=2_000, help="samples, of languages")
    flags.add_argument("--width", type=int, default=16)
    flags.add_argument("--blocks", type=int, default=4)
    flags.add_argument("--points", type=int, default=16)
    flags.add_argument("--steps", type=int, help="400 for languages, else the published epochs")
    flags.add_argument("--batch", type=int, default=32)
    flags.add_argument("--rates", type=float, nargs="+", help="learning rates that are tried")
    flags.add_argument("--seeds", type=int, default=3)
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--out", type=Path, help="where figures and checkpoints are kept")
    chosen = flags.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    folder = chosen.out or home() / "studies" / "smpconv"
    if chosen.what == "languages":
        data = languages(chosen.rate, chosen.length, chosen.languages)
        # A radius of 1.6 steps, as published for raw speech.
        config = NetConfig(
            1, len(data.classes), data.length, 3.2 / data.length, chosen.width, chosen.blocks,
            chosen.points, dropout=0.1,
        )  # fmt: skip
        how = NetTraining(chosen.steps or 400, 0.0, chosen.batch)
        rates = chosen.rates or [1e-3, 3e-3, 1e-2]
    else:
        if chosen.data is None:
            flags.error(f"{chosen.what} needs --data FOLDER")
        data = load(chosen.what, chosen.data)
        published = PUBLISHED[chosen.what]
        config = published.net
        epoch = math.ceil(len(data.train) / published.batch_size)
        how = NetTraining(
            chosen.steps or epoch * published.epochs, 0.0, published.batch_size,
            published.weight_decay,
        )  # fmt: skip
        best = published.learning_rate
        rates = chosen.rates or [best / 3, best, best * 3]
    sizes = {"SMPConv": config, "dilated": like(config)}
    print(f"{data.name}: {len(data.train)} train, {len(data.dev)} dev, {len(data.test)} test "
          f"sequences of {data.channels} x {data.length}, {len(data.classes)} classes",
          flush=True)  # fmt: skip
    for arm, size in sizes.items():
        tried = {
            rate: trained(arm, size, data, replace(how, learning_rate=rate), 0, folder)
            for rate in rates
        }
        rate = max(tried, key=lambda r: tried[r]["dev"])
        dev = ", ".join(f"{r:g}: {found['dev']:.3f}" for r, found in tried.items())
        count = tried[rate]["parameters"]
        print(f"\n{arm}: width {size.width}, {count:,} parameters; dev at {dev}", flush=True)
        rows = [tried[rate]] + [
            trained(arm, size, data, replace(how, learning_rate=rate), seed, folder)
            for seed in range(1, chosen.seeds)
        ]
        said = [np.array(row["test"]) for row in rows]
        print(told("test accuracy", [s.argmax(1) == data.test.y for s in said]))
        pair = [data.classes.index(one) for one in ("en", "es") if one in data.classes]
        if len(pair) == 2:
            mine = np.isin(data.test.y, pair)
            truth = np.searchsorted(pair, data.test.y[mine])
            print(told("English or Spanish, one voice,",
                       [s[mine][:, pair].argmax(1) == truth for s in said]))  # fmt: skip
        step = np.mean([row["seconds"] for row in rows]) / how.steps
        print(f"{step:.2f} s of a core a step of {how.batch_size}", flush=True)


if __name__ == "__main__":
    main()
