"""What a SpeechAlign run of the published size would take, from what is measured here.

    python studies/paper_cost.py                        # SmolLM2, as large as the paper's small AR
    python studies/paper_cost.py --model PATH --device cuda --batch 64 --pairs 256 --learnt 16

Measured are sampling (tokens a second) and a DPO round of a few pairs, its reference
log-probabilities included, with streams of ``--tokens`` tokens: ten seconds of speech have 500 at
50 tokens a second. Amounts are those of ``--recipe paper``: three rounds of 50,000 sampled streams
and of 2,000 steps with 128 pairs, and what is said to be measured. Time is amount over rate. Left
out: decoding and judging what is measured, loading, the disk. The reference is counted each time
that a pair is learnt; a run computes it once a pair and round. Arithmetic is six operations a
weight and token learnt, and two for the reference.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from common.artifacts import Files
from common.comparison import lines
from common.learners.dpo import Preference
from common.policies.local import HFPolicy
from common.progress import duration, silent
from common.records import Lessons, identity
from common.records import Preference as Pair
from common.stages import Context
from common.tracking import Nothing
from speech.align import paper

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DAY = 86_400


def streams(policy: HFPolicy, count: int, tokens: int) -> list[str]:
    """Texts that the policy reads as ``tokens`` tokens each, more or less."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, tokens)) for _ in range(count)]
    return [policy.tokenizer.decode(policy.tokenizer(text)["input_ids"][:tokens]) for text in texts]


def sampling(policy: HFPolicy, batch: int, tokens: int) -> float:
    """Tokens a second."""
    prompts = streams(policy, batch, 40)
    policy.sample(prompts, seeds=range(batch), max_new_tokens=4)  # what is made once
    begun = time.perf_counter()
    drawn = policy.sample(prompts, seeds=range(batch), max_new_tokens=tokens)
    return sum(len(one.ids) for group in drawn for one in group) / (time.perf_counter() - begun)


def learning(policy: HFPolicy, pairs: int, tokens: int, batch: int) -> tuple[float, float]:
    """Pairs a second of a round, and tokens of a pair, prompt and both completions."""
    texts = streams(policy, 2 * pairs, tokens)  # no two alike: a row holds what is shared once
    lessons = [
        Pair(identity(i), f"t{i}", 1, "say: ", good, bad)
        for i, (good, bad) in enumerate(zip(texts[:pairs], texts[pairs:], strict=True))
    ]
    learner = Preference(batch_size=batch, learning_rate=5e-7, max_length=2 * tokens)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ctx = Context(0, 1, Files(folder), Nothing(), silent, folder)
        begun = time.perf_counter()
        told = learner.learn(policy, Lessons(tuple(lessons)), ctx)
        spent = time.perf_counter() - begun
    return pairs / spent, told["tokens"] / pairs


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--model", default="smollm2")
    flags.add_argument("--device")
    flags.add_argument("--tokens", type=int, default=500, help="of a stream")
    flags.add_argument("--batch", type=int, default=16, help="streams that are sampled together")
    flags.add_argument("--pairs", type=int, default=8, help="that are learnt from")
    flags.add_argument("--learnt", type=int, default=2, help="pairs of a step")
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = flags.parse_args()
    torch.set_num_threads(chosen.threads)
    policy = HFPolicy.load(chosen.model, device=chosen.device)
    weights = sum(p.numel() for p in policy.model.parameters())
    drawn = sampling(policy, chosen.batch, chosen.tokens)
    learnt, each = learning(policy, chosen.pairs, chosen.tokens, chosen.learnt)
    config = paper()
    streamed = config.rounds * config.texts * config.samples
    measured = (config.rounds + 1) * config.dev_texts + 2 * config.test_texts * config.test_samples
    practised = config.rounds * config.steps * config.batch_size * config.grad_accum
    rows = []
    for what, amount, rate in (
        ("sampling, streams", streamed, drawn / chosen.tokens),
        ("learning, pairs", practised, learnt),
        ("measuring, streams said", measured, drawn / chosen.tokens),
    ):
        rows.append((what, f"{amount:,}", f"{rate:.3g} a second", f"{amount / rate / DAY:.3g}"))
    print(f"{weights / 1e6:.0f} M weights, {policy.device}, {torch.get_num_threads()} threads; "
          f"{chosen.tokens} tokens a stream, {each:.0f} a pair")  # fmt: skip
    print(lines(("what", "amount", "measured", "days of one device"), rows))
    work = 8 * weights * each
    print(f"learning: {work * learnt / 1e9:.0f} GFLOP/s of matrix products, "
          f"{work * practised:.2g} FLOP in all; a step of 128 pairs takes "
          f"{duration(128 / learnt)}")  # fmt: skip


if __name__ == "__main__":
    main()
