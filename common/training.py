"""A resumable training loop, shared by all starters: codec, language models, judges, CLIP.

What a step sees depends only on the seed and the step's number, so that a training which was
killed and continued ends where an uninterrupted one would have ended.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from common.errors import UserError
from common.records import identity


def generator(seed: int, *what: object) -> np.random.Generator:
    """Random numbers that depend only on ``seed`` and the identity of ``what``."""
    return np.random.default_rng(int(identity(seed, *what), 16))


def cosine(step: int, steps: int, warmup: int = 100, floor: float = 0.05) -> float:
    """Factor of the peak learning rate: linear warm-up, then half a cosine down to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def keep_memory() -> None:
    """Keep freed memory for the next step (glibc): mapping it afresh took 13% of a step's time."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(-4, 0)  # M_MMAP_MAX: no separate mappings for large tensors
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: give nothing back


def run_steps(
    name: str,
    folder: Path,
    steps: int,
    step: Callable[[int], Mapping[str, float]],
    state: Mapping[str, torch.nn.Module],
    optimizers: Mapping[str, Optimizer],
    *,
    schedule: Callable[[int], float] | None = None,
    checkpoint_seconds: float = 120.0,
    log_every: int = 25,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, float]]:
    """Run ``step(i)`` for ``i`` below ``steps``, continuing from ``folder/NAME.pt`` if it is there.

    ``step`` does its own backward and optimiser steps and returns figures; their means over
    ``log_every`` steps become the curve, which is returned and kept in ``folder/NAME.jsonl``.
    Torch's own random numbers are seeded at every step, from the seed it had before.

    Raises:
        UserError: the checkpoint cannot be read.
        FloatingPointError: a figure is not finite; the last checkpoint stays as it was.
    """
    keep_memory()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, curve_file = folder / f"{name}.pt", folder / f"{name}.jsonl"
    seed = torch.initial_seed()
    start, curve = 0, list[dict[str, float]]()
    if checkpoint.is_file():
        try:
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
            for key, module in state.items():
                module.load_state_dict(saved["state"][key])
            for key, optimizer in optimizers.items():
                optimizer.load_state_dict(saved["optimizers"][key])
        except (RuntimeError, UnpicklingError, KeyError, ValueError, EOFError) as error:
            raise UserError(
                f"{str(checkpoint)!r} is damaged, or of another training", "delete it, run again"
            ) from error
        start, curve = saved["step"], saved["curve"]
    peaks = {key: [g["lr"] for g in o.param_groups] for key, o in optimizers.items()}
    if start:
        peaks = saved["peaks"]

    def save(done: int) -> None:
        contents: dict[str, Any] = {
            "step": done,
            "curve": curve,
            "peaks": peaks,
            "state": {key: module.state_dict() for key, module in state.items()},
            "optimizers": {key: o.state_dict() for key, o in optimizers.items()},
        }
        partial = checkpoint.with_suffix(".partial")
        torch.save(contents, partial)
        os.replace(partial, checkpoint)
        curve_file.write_text("".join(json.dumps(row) + "\n" for row in curve))

    recent: list[Mapping[str, float]] = []
    saved_at = time.monotonic()
    for i in range(start, steps):
        factor = (schedule or (lambda s: cosine(s, steps)))(i)
        for key, optimizer in optimizers.items():
            for group, peak in zip(optimizer.param_groups, peaks[key], strict=True):
                group["lr"] = peak * factor
        torch.manual_seed(int(identity(seed, name, i), 16) >> 17)  # dropout, dead entries
        recent.append(step(i))
        if (i + 1) % log_every == 0 or i + 1 == steps:
            names = dict.fromkeys(k for r in recent for k in r)
            row = {k: float(np.mean([r[k] for r in recent if k in r])) for k in names}
            if not all(map(math.isfinite, row.values())):
                raise FloatingPointError(f"{name} diverged by step {i + 1}: {row}")
            curve.append({"step": i + 1, **row})
            recent = []
            if progress:
                figures = " ".join(f"{k} {v:.3f}" for k, v in row.items())
                progress(i + 1, steps, f"{name}: {figures}")
        # A checkpoint falls on a logged step, so that the curve of a resumed run is the same.
        due = time.monotonic() - saved_at > checkpoint_seconds
        if (due and not recent) or i + 1 == steps:
            save(i + 1)
            saved_at = time.monotonic()
    torch.manual_seed(seed)
    return curve
