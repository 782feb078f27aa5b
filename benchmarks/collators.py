"""Claim: our collators corrupt at least as many tokens a second as transformers' MLM collator.

    python benchmarks/collators.py
    python benchmarks/collators.py --batch 64 --length 512

All see the same examples in one run, transformers' with the mask of special tokens that it would
otherwise work out in a Python loop. Rounds alternate between collators, the best of each counts.
Correctness first: the shares that are chosen, masked and swapped, and the labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from claim import of, tell
from transformers import DataCollatorForLanguageModeling

from text.pretraining.clusters import CRTS
from text.pretraining.objectives import IGNORED, Collator, corruption
from text.pretraining.tokens import Vocabulary, train_tokenizer

VOCABULARY = 30_522
CLUSTERS = 100


def tokenizer() -> Any:
    """A tokenizer of BERT's size; its pieces are of no matter here."""
    made = train_tokenizer(["a b c d"], 100)
    made.add_tokens([f"w{i}" for i in range(VOCABULARY - len(made))])
    return made


def check(name: str, batch: dict[str, torch.Tensor], ids_BT: torch.Tensor, special: Any) -> None:
    """Whether a batch is what the objective asks for, within four standard errors."""
    inputs, labels = batch["input_ids"], batch["labels"]
    ordinary = ~special[ids_BT]
    n = int(ordinary.sum())
    slack = 4 * (0.15 * 0.85 / n) ** 0.5
    assert torch.equal(inputs[~ordinary], ids_BT[~ordinary]), f"{name} changed a special token"
    changed = inputs != ids_BT
    if name in ("mlm", "slm", "transformers' mlm"):
        asked = labels != IGNORED
        assert torch.equal(labels[asked], ids_BT[asked]), f"{name} asks for other tokens"
        assert not changed[~asked].any(), f"{name} changed what it does not ask for"
        assert abs(float(asked.sum()) / n - 0.15) < slack, f"{name} asks for too many or few"
        if name == "slm":
            assert torch.equal(asked, changed), "slm asks where nothing is swapped"
    else:
        assert torch.equal(labels[ordinary] == 1, changed[ordinary]), f"{name} mislabels"
        assert (labels[~ordinary] == IGNORED).all(), f"{name} judges special tokens"
        assert abs(float(changed.sum()) / n - 0.15) < slack + 1e-3, f"{name} swaps too many or few"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--batch", type=int, default=32)
    flags.add_argument("--length", type=int, default=512)
    flags.add_argument("--rounds", type=int, default=12)
    chosen = flags.parse_args()
    torch.manual_seed(0)
    made = tokenizer()
    words = Vocabulary.of(made)
    random = np.random.default_rng(0)
    ordinary = words.ordinary.numpy()
    ids = random.choice(ordinary, (chosen.batch, chosen.length)).astype(np.int64)
    ids[:, 0], ids[:, -1] = made.cls_token_id, made.sep_token_id
    special = words.special[torch.from_numpy(ids)].long().tolist()
    rows = [{"input_ids": row} for row in ids.tolist()]
    with_special = [{**row, "special_tokens_mask": s} for row, s in zip(rows, special, strict=True)]
    own = torch.full((words.size,), -1)
    own[words.ordinary] = torch.from_numpy(random.integers(CLUSTERS, size=len(ordinary)))
    collators: dict[str, Callable[[list[Any]], Any]] = {
        "transformers' mlm": DataCollatorForLanguageModeling(made, mlm_probability=0.15),
        **{name: Collator(corruption(name, words), words) for name in ("mlm", "slm", "rts")},
        "c-rts": Collator(CRTS.of(words, own), words),
    }
    best = dict.fromkeys(collators, float("inf"))
    for number in range(chosen.rounds):
        for name, collate in collators.items():
            examples = with_special if name.startswith("transformers") else rows
            begun = time.perf_counter()
            batch = collate(examples)
            best[name] = min(best[name], time.perf_counter() - begun)
            if number == 0:
                check(name, batch, torch.from_numpy(ids), words.special)
    count = chosen.batch * chosen.length
    for name, seconds in best.items():
        ratio = best["transformers' mlm"] / seconds
        print(f"{name:18} {count / seconds / 1e6:7.2f} million tokens/s   ratio {ratio:5.2f}")
    slowest = max(best[name] for name in best if name != "transformers' mlm")
    theirs = best["transformers' mlm"]
    print(f"ratio of the slowest of ours: {theirs / slowest:.2f}")
    tell(of("corrupting tokens, the slowest objective", [theirs / slowest],
            "transformers' collator for masked models", aim=1))  # fmt: skip


if __name__ == "__main__":
    main()
