"""A DPO round on codec pairs: our learner against TRL's DPOTrainer, same pairs, steps and rates.

    python benchmarks/dpo.py                # 192 pairs, what fits into five minutes on two cores
    python benchmarks/dpo.py --pairs 2000 --turns 1

Pairs are recordings over the starter's own samples of 64 texts, several samples a text as a round
has them. Both sides start from the starter without its attention dropout (TRL's
switch leaves it on, and two draws of dropout have no equal loss), learn the same pairs for the same
steps of 16 at the same rates, reference log-probabilities included, and TRL's side gets the rows as
tokens, as ours does. Checked first: with the same batches both come to the same losses, step by
step. Timed in turns: each side with its own way to make batches; then the losses of both over all
pairs are the same within ``TOLERANCE``.

The floor of the arithmetic: six operations a weight and token to learn and two for the reference
(prompt and response of both sides, once each), and those of causal attention, at the rate of a
wide matrix product of this machine, measured between the turns; beside it, at the rate of products
as narrow as the starter's layers.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from claim import of, ratios, seconds, tell, threads
from datasets import Dataset
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from common.artifacts import Files
from common.learners import data
from common.learners.dpo import Preference, release
from common.policies.local import HFPolicy
from common.policies.packing import packable
from common.progress import silent
from common.records import Lessons, identity
from common.records import Preference as Pair
from common.stages import Context
from common.tracking import Nothing
from speech import corpora
from speech.align import AlignConfig
from speech.speaking import load_policy, speaker_of

BATCH, RATE, BETA = 16, 1e-4, 0.1
LEARNER = Preference(beta=BETA, learning_rate=RATE, epochs=1.0, batch_size=BATCH)
TOLERANCE = 0.1
"""Nats that the losses of both sides may be apart after learning a round, each from batches of its
own: few steps, in another order. From the same batches they are the same."""


def policy() -> HFPolicy:
    """The starter, as both sides begin."""
    made = load_policy("starter")
    for module in made.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    return made


def pairs(count: int) -> list[Pair]:
    """Golden over sampled, for the first texts that are recorded."""
    made = policy()
    speaker = speaker_of(AlignConfig(), made)
    texts = min(count, 64)
    chosen: list[tuple[str, str]] = []
    for one in corpora.load("prompts").split("train"):
        golden = speaker.golden(one) if 3 <= len(one.text.split()) <= 20 else None
        if golden:
            chosen.append((speaker.prompts([one.text])[0], golden))
        if len(chosen) == texts:
            break
    prompts = [prompt for prompt, _ in chosen]
    each = math.ceil(count / texts)
    groups = made.sample(
        prompts, n=each, seeds=range(texts * each), temperature=0.7, max_new_tokens=600
    )
    found = [
        Pair(identity(number, n), f"t{n}", 1, prompt, golden, made.decode(groups[n][number].ids))
        for number in range(each)
        for n, (prompt, golden) in enumerate(chosen)
    ]
    return found[:count]


@contextlib.contextmanager
def scratch(tracker: Any = None) -> Iterator[Context]:
    """A context whose files are gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield Context(0, 1, Files(folder), tracker or Nothing(), silent, folder)


def ours(made: HFPolicy, lessons: Sequence[Pair], learner: Preference = LEARNER) -> list[float]:
    """Learn as a round does; the losses step by step."""
    losses: list[float] = []

    class Losses(Nothing):
        def log(self, values: Any, step: int) -> None:  # noqa: ARG002
            losses.extend(value for name, value in values.items() if name == "dpo/loss")

    with scratch(Losses()) as ctx:
        learner.learn(made, Lessons(tuple(lessons)), ctx)
    return losses


def theirs(
    made: HFPolicy, lessons: Sequence[Pair], order: Any = None, learner: Preference = LEARNER
) -> list[float]:
    """The same by TRL alone; ``order`` gives it batches that are not its own."""
    rows = data.preference_rows(made, lessons, learner.max_length)
    with scratch() as ctx, data.quiet(), tempfile.TemporaryDirectory() as folder:
        arguments = data.arguments(
            ctx, Path(folder), device=made.device, learning_rate=learner.learning_rate, epochs=1.0,
            steps=None, batch_size=learner.batch_size, grad_accum=1, warmup=learner.warmup,
            checkpoint_every=10**6,
        )  # fmt: skip
        config = DPOConfig(**arguments, beta=learner.beta, precompute_ref_log_probs=True)
        prepared = mock.patch.object(DPOTrainer, "_prepare_dataset", lambda _, d, *__, **___: d)
        sampled = mock.patch.object(DPOTrainer, "_get_train_sampler", return_value=order)
        with prepared, sampled if order else contextlib.nullcontext():
            trainer = DPOTrainer(
                model=made.model,
                args=config,
                train_dataset=Dataset.from_list(rows),
                processing_class=made.tokenizer,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    release(made)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def order(lessons: Sequence[Pair]) -> data.Shuffled:
    """The order of our batches: packed rows are shuffled."""
    with scratch() as ctx:
        return data.Shuffled(len(lessons), ctx.seed_for("learn", ctx.round) % 2**31)


def check(lessons: Sequence[Pair]) -> None:
    """Stop unless both take the same steps on the same batches."""
    one, two = policy(), policy()
    assert packable(one.model), "the starter should learn from packed rows"
    by_ours = ours(one, lessons)
    by_trl = theirs(two, lessons, order(lessons))
    off = max(abs(a - b) for a, b in zip(by_ours, by_trl, strict=True))
    print(f"the same batches, {len(by_ours)} steps: losses differ by {off:.1e} at most")
    if off > 2e-3:
        raise SystemExit("our steps are not TRL's")


def loss_over(made: HFPolicy, lessons: Sequence[Pair]) -> float:
    """The mean DPO loss over all pairs, against the starter."""
    start = policy()
    prompts = [p.prompt for p in lessons]
    gaps = []
    for side in ("chosen", "rejected"):
        texts = [getattr(p, side) for p in lessons]
        after, before = (one.logprobs(prompts, texts).sums for one in (made, start))
        gaps.append([a - b for a, b in zip(after, before, strict=True)])
    margins = [BETA * (a - b) for a, b in zip(*gaps, strict=True)]
    return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)


def arithmetic(lessons: Sequence[Pair]) -> tuple[float, float]:
    """Seconds that the matrix products of a round would take at the full rate of this machine, and
    at the rate that it reaches for products as narrow as the starter's."""
    made = policy()
    rows = data.preference_rows(made, lessons, LEARNER.max_length)
    lengths = [
        len(row["prompt_ids"]) + len(row[side])
        for row in rows
        for side in ("chosen_ids", "rejected_ids")
    ]
    config = made.model.config
    a_token = 2 * sum(p.numel() for p in made.model.parameters())
    # Two products of each token with those up to it: half the square.
    a_square = 2 * config.hidden_size * config.num_hidden_layers
    forward = sum(a_token * n + a_square * n**2 for n in lengths)
    batch = BATCH * sum(lengths) // len(rows)
    own = rate(batch, config.hidden_size, config.intermediate_size)
    return 4 * forward / rate(4096, 1024, 1024), 4 * forward / own


def rate(rows: int, inner: int, columns: int) -> float:
    """Operations a second of a product of matrices of these sizes."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    a @ b
    return 2 * rows * inner * columns / min(seconds(lambda: a @ b) for _ in range(20))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--pairs", type=int, default=192)
    flags.add_argument("--turns", type=int, default=3)
    chosen = flags.parse_args()
    torch.set_num_threads(threads())
    lessons = pairs(chosen.pairs)
    check(lessons[: 3 * BATCH])
    times: dict[str, list[float]] = {"ours": [], "TRL": []}
    losses: dict[str, list[float]] = {"ours": [], "TRL": []}
    floors: dict[str, list[float]] = {"wide": [], "own": []}
    for turn in range(chosen.turns):
        for name in list(times)[:: 1 if turn % 2 == 0 else -1]:
            made = policy()
            times[name].append(seconds(lambda m=made, n=name: (ours if n == "ours" else theirs)(
                m, lessons)))  # fmt: skip
            losses[name].append(loss_over(made, lessons))
            print(f"turn {turn + 1}: {name} {times[name][-1]:.1f} s, loss {losses[name][-1]:.4f}",
                  flush=True)  # fmt: skip
        for name, floor in zip(floors, arithmetic(lessons), strict=True):
            floors[name].append(floor)
    apart = abs(losses["ours"][0] - losses["TRL"][0])
    if apart > TOLERANCE:
        raise SystemExit(f"the losses after learning are {apart:.3f} apart")
    about = f"a DPO round on {chosen.pairs} codec pairs, starter"
    tell(
        of(about, ratios(times["TRL"], times["ours"]), "TRL's DPOTrainer", aim=1.6),
        of(f"{about}: share of the arithmetic floor", ratios(floors["wide"], times["ours"]),
           "wide matrix products alone", aim=0.7, unit="share"),
        of(f"{about}: share of the floor at its own widths", ratios(floors["own"], times["ours"]),
           "matrix products of the starter's widths alone", unit="share"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
