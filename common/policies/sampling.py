"""Batched ancestral sampling from a causal language model, with the log-probability of each draw.

Three things ``transformers.generate`` does not give together:

* **A draw depends on its seed only.** Every row has its own generator and is drawn by the inverse
  of the cumulative distribution, so batch size, order and neighbours change nothing but the last
  bits of the logits.
* **The log-probability is that of the policy**, at temperature 1 and before any truncation, so
  that it compares between policies and equals teacher forcing.
* **No work for rows that have ended.** They leave the batch and its cache; keys and values are
  written into a buffer of the final size instead of being copied at every token; the samples of
  one prompt share its prefill, and different prompts that of what they begin with in common, such
  as the worked examples before a question, whose keys and values are one copy for all rows
  (:mod:`common.policies.shared_prefix`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.policies.packing import bare, packable
from common.policies.reading import Reading, same_start
from common.stages import Progress

Steer = Callable[[Sequence[int], Tensor, Tensor], Tensor]
"""Changes what may come next: from the numbers of B rows (row = prompt * n + sample), the tokens
they have drawn so far, (B, t), and the model's logits, (B, V), to scores, (B, V); -inf forbids.
Called for every t in turn. Which tokens it forbids must not depend on the logits. A steer may offer
a method ``forced`` that does the whole of :func:`forced_scores` at once."""

Stop = Callable[[Sequence[int]], bool]
"""Whether a completion with these tokens has come to its end, as by a text that nothing follows."""

_COMPACT_BELOW = 0.85  # copying the cache costs about as much as a few steps: not for every row
NUCLEUS = 4096
"""Tokens looked through for a nucleus (``top_p``) before the whole vocabulary is sorted."""


@dataclass(frozen=True)
class Sampled:
    """One completion. ``ids`` leaves out the end token, which ``tokens`` and ``logprob_sum`` count.

    ``logprob_sum`` is in nats, under the model's full distribution at temperature 1.
    ``finished`` is false when the completion was cut at ``max_new_tokens``. One that a stop ended
    holds and counts the tokens up to the one that brought the stop about, and none after it.
    """

    ids: list[int]
    logprob_sum: float
    tokens: int
    finished: bool


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    eos: int,
    pad: int,
    seeds: Sequence[int],
    batch_size: int = 64,
    steer: Steer | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> list[list[Sampled]]:
    """``n`` completions for each of ``prompts``, in order, each up to its end token or ``stop``.

    ``seeds`` has one number for each completion, prompt by prompt. Temperature 0 takes the most
    likely token. ``top_k`` 0 and ``top_p`` 1 truncate nothing; both act after ``steer`` and the
    temperature, as in transformers. Raises ``ValueError`` for an empty prompt or a wrong number
    of seeds.
    """
    if len(seeds) != n * len(prompts):
        raise ValueError(f"{len(prompts)} prompts x {n} samples need {n * len(prompts)} seeds")
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt has no tokens")
    if max_new_tokens < 1 or temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError("max_new_tokens >= 1, temperature >= 0, top_k >= 0, 0 < top_p <= 1")
    result: list[Sampled | None] = [None] * len(seeds)
    done = 0
    draw = functools.partial(_draw, temperature=temperature, top_k=top_k, top_p=top_p, steer=steer)
    training = model.training
    model.eval()
    try:
        for batch in batches([prompts[row // n] for row in range(len(seeds))], batch_size,
                             packable(bare(model))):  # fmt: skip
            texts = [prompts[row // n] for row in batch]
            uniform = np.stack(
                [np.random.Generator(np.random.Philox(seeds[row])).random(max_new_tokens)
                 for row in batch]
            )  # fmt: skip
            made = _batch(model, texts, batch, torch.from_numpy(uniform), eos, pad, draw, stop)
            for row, one in zip(batch, made, strict=True):
                result[row] = one
            done += len(batch)
            if progress is not None:
                progress(done, len(seeds), "samples")
    finally:
        model.train(training)
    drawn = [one for one in result if one is not None]
    return [drawn[i : i + n] for i in range(0, len(drawn), n)] if n else [[] for _ in prompts]


def batches(prompts: Sequence[Sequence[int]], size: int, apart: bool) -> list[list[int]]:
    """The rows of each batch, of at most ``size``.

    Where what a batch begins with is read ``apart`` and once, those that begin alike come together,
    and a batch that is a quarter full ends where it would lose more than half of its beginning.
    Elsewhere the longest come first: memory runs out at once or not at all.
    """
    if not apart:
        rows = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
        return [rows[i : i + size] for i in range(0, len(rows), size)]
    found: list[list[int]] = []
    shared = 0
    for row in sorted(range(len(prompts)), key=lambda row: (tuple(prompts[row]), row)):
        now = found[-1] if found else []
        left = min(shared, same_start(prompts[now[0]], prompts[row])) if now else 0
        if not now or len(now) == size or (4 * len(now) >= size and 2 * left < shared):
            found.append([])
            left = len(prompts[row])
        found[-1].append(row)
        shared = left
    return found


def forced_scores(steer: Steer, tokens_BT: Tensor, logits_BTV: Tensor) -> Tensor:
    """What ``steer`` makes of the logits at every step of given completions: ``(B, T, V)``.

    ``steer`` is fresh, made for the B prompts in order; ``tokens_BT`` are the tokens drawn, and
    ``logits_BTV[:, t]`` those from which token t came. Differentiable in the logits. What follows
    a completion's end means nothing, and may be -inf throughout.
    """
    forced = getattr(steer, "forced", None)
    if forced is not None:
        scores: Tensor = forced(tokens_BT, logits_BTV)
        return scores
    rows = range(len(tokens_BT))
    steps = range(tokens_BT.shape[1])
    return torch.stack([steer(rows, tokens_BT[:, :t], logits_BTV[:, t]) for t in steps], dim=1)


@torch.inference_mode()
def _batch(
    model: Any,
    prompts: list[Sequence[int]],
    rows: list[int],
    uniform_BT: Tensor,
    eos: int,
    pad: int,
    draw: Callable[[Tensor, Tensor, Tensor, list[int]], tuple[Tensor, Tensor]],
    stop: Stop | None,
) -> list[Sampled]:
    device = model.device
    steps = uniform_BT.shape[1]
    uniform_BT = uniform_BT.to(device) if device.type != "mps" else uniform_BT.float().to(device)
    read = Reading(model, prompts, steps, pad)
    logits_BV = read.logits_BV
    tokens_BT = torch.full((len(prompts), steps), pad, device=device)
    logp_B = torch.zeros(len(prompts), dtype=torch.float64, device=device)
    length_B = torch.full((len(prompts),), steps, device=device)
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    live = torch.arange(len(prompts), device=device)  # the row of each member of the cache
    for t in range(steps):
        numbers = [rows[i] for i in live.tolist()]
        token, logp = draw(logits_BV, uniform_BT[live, t], tokens_BT[live, :t], numbers)
        going = ~ended_B[live]  # ended rows that still wait to be dropped draw nothing
        tokens_BT[live[going], t] = token[going]
        logp_B[live[going]] += logp[going].double()
        ends = going & (token == eos)
        if stop is not None:
            told = [stop(ids) for ids in tokens_BT[live, : t + 1].tolist()]
            ends |= going & torch.tensor(told, device=device)
        if ends.any():
            ended_B[live[ends]] = True
            length_B[live[ends]] = t + 1
            keep = (~ended_B[live]).nonzero().squeeze(1)
            if len(keep) == 0:
                break
            if len(keep) < _COMPACT_BELOW * len(live) or len(keep) < 8:
                read.keep(keep)
                live, token = live[keep], token[keep]
        if t + 1 == steps:
            break
        logits_BV = read.next(token)
    tokens, lengths = tokens_BT.tolist(), length_B.tolist()
    return [
        Sampled(
            ids=tokens[row][: length - (ended and tokens[row][length - 1] == eos)],
            logprob_sum=logp,
            tokens=length,
            finished=ended,
        )
        for row, (length, logp, ended) in enumerate(
            zip(lengths, logp_B.tolist(), ended_B.tolist(), strict=True)
        )
    ]


def _draw(
    logits_BV: Tensor,
    uniform_B: Tensor,
    so_far_BT: Tensor,
    rows: list[int],
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    steer: Steer | None,
) -> tuple[Tensor, Tensor]:
    """One token a row, (B,), and its log-probability under the untouched distribution, (B,)."""
    logits_BV = logits_BV.float()
    scores_BV = logits_BV
    if steer is not None:
        scores_BV = steer(rows, so_far_BT, scores_BV)
    if temperature == 0:
        token_B = scores_BV.argmax(-1)
    else:
        scores_BV, order = scores_BV / temperature, None
        if 0 < top_k < scores_BV.shape[-1]:
            scores_BV, order = scores_BV.topk(top_k, dim=-1)
        p_BV = scores_BV.softmax(-1, dtype=torch.float32)
        if top_p < 1 and order is None:
            p_BV, order = _likeliest(p_BV, top_p)
        p_BV = p_BV.to(uniform_B.dtype)
        cdf_BV = p_BV.cumsum(-1)
        if top_p < 1:
            # Keep a token while the mass before it is below top_p: never fewer than one.
            cdf_BV = torch.where(cdf_BV - p_BV < top_p, p_BV, 0.0).cumsum(-1)
        target_B = uniform_B * cdf_BV[:, -1]
        pick_B = torch.searchsorted(cdf_BV, target_B[:, None], right=True).squeeze(1)
        pick_B = pick_B.clamp(max=p_BV.shape[-1] - 1)
        token_B = pick_B if order is None else order.gather(1, pick_B[:, None]).squeeze(1)
    chosen_B = logits_BV.gather(1, token_B[:, None]).squeeze(1)
    return token_B, chosen_B - logits_BV.logsumexp(-1)


def _likeliest(p_BV: Tensor, mass: float) -> tuple[Tensor, Tensor]:
    """The likeliest tokens of each row, likeliest first, (B, K), that hold ``mass``, and their ids.

    Seldom is that more than a few of the vocabulary, and to sort all of it takes several times as
    long as to find them.
    """
    few = p_BV.topk(min(NUCLEUS, p_BV.shape[-1]), dim=-1)
    if bool((few.values.sum(-1) >= mass).all()):
        return few.values, few.indices
    return p_BV.sort(dim=-1, descending=True)
