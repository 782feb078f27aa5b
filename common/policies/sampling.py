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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from common.policies.packing import bare, full_attention, packable, read_to_last
from common.policies.shared_prefix import Prefix, attending
from common.stages import Progress

Steer = Callable[[Sequence[int], Tensor, Tensor], Tensor]
"""Changes what may come next: from the numbers of B rows (row = prompt * n + sample), the tokens
they have drawn so far, (B, t), and the model's logits, (B, V), to scores, (B, V); -inf forbids.
Called for every t in turn. Which tokens it forbids must not depend on the logits. A steer may offer
a method ``forced`` that does the whole of :func:`forced_scores` at once."""

Stop = Callable[[Sequence[int]], bool]
"""Whether a completion with these tokens has come to its end, as by a text that nothing follows."""

_COMPACT_BELOW = 0.85  # copying the cache costs about as much as a few steps: not for every row


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


class _Buffer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer in a buffer of the final length; ``keys`` is the filled view."""

    def __init__(self, capacity: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.capacity = capacity
        self.store: tuple[Tensor, Tensor] | None = None

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        if self.store is None:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        keys, values = self.store
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def take(self, rows: Tensor) -> None:
        """Keep (or repeat) ``rows`` of the batch, in a buffer of the full capacity."""
        filled = self.get_seq_length()
        held = []
        for states in (self.keys, self.values):
            assert states is not None  # a prompt was read
            _, h, _, d = states.shape
            store = states.new_empty(len(rows), h, self.capacity, d)
            store[:, :, :filled] = states[rows]
            held.append(store)
        self.store = (held[0], held[1])
        self.keys, self.values = held[0][:, :, :filled], held[1][:, :, :filled]


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
    # The longest first: memory runs out at once or not at all.
    rows = sorted(range(len(seeds)), key=lambda row: (-len(prompts[row // n]), row))
    result: list[Sampled | None] = [None] * len(rows)
    draw = functools.partial(_draw, temperature=temperature, top_k=top_k, top_p=top_p, steer=steer)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            texts = [prompts[row // n] for row in batch]
            uniform = np.stack(
                [np.random.Generator(np.random.Philox(seeds[row])).random(max_new_tokens)
                 for row in batch]
            )  # fmt: skip
            drawn = _batch(model, texts, batch, torch.from_numpy(uniform), eos, pad, draw, stop)
            for row, one in zip(batch, drawn, strict=True):
                result[row] = one
            if progress is not None:
                progress(min(start + batch_size, len(rows)), len(rows), "samples")
    finally:
        model.train(training)
    done = [one for one in result if one is not None]
    return [done[i : i + n] for i in range(0, len(done), n)] if n else [[] for _ in prompts]


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


class _Reading:
    """A model that has read ``prompts``, and reads up to ``steps`` tokens more of each.

    ``logits_BV`` are those after the prompts. What all prompts begin with is read once, and where
    the model can attend to it apart, its keys and values stay one copy. In the rest of each prompt
    padding comes first.
    """

    def __init__(self, model: Any, prompts: list[Sequence[int]], steps: int, pad: int) -> None:
        self.model, device = model, model.device
        unique: dict[tuple[int, ...], int] = {}
        which = [unique.setdefault(tuple(p), len(unique)) for p in prompts]
        # Sliding windows and recurrent layers need the library's own cache and masks.
        self.plain = full_attention(model.config)
        apart = len(prompts) > 1 and packable(bare(model))
        shared = _common(list(unique)) if apart or (self.plain and len(unique) > 1) else 0
        self.prefix: Prefix = ()
        longest = max(map(len, unique))
        if shared and apart:
            first = torch.tensor([list(prompts[0][:shared])], device=device)
            held = DynamicCache(config=model.config)
            read_to_last(model, input_ids=first, past_key_values=held, use_cache=True)
            self.prefix = [(layer.keys, layer.values) for layer in held.layers]
        before = shared if self.prefix else 0  # what is in no mask, and not in the cache
        ids_UP = torch.full((len(unique), longest), pad)
        real_UP = torch.zeros((len(unique), longest), dtype=torch.bool)
        for row, prompt in enumerate(unique):
            start = longest - len(prompt) + shared
            ids_UP[row, :shared], ids_UP[row, start:] = _tensors(prompt, shared)
            real_UP[row, :shared] = real_UP[row, start:] = True
        ids_UP, real_UP = ids_UP.to(device), real_UP.to(device)
        layers = functools.partial(_Buffer, longest - before + steps)
        self.cache = (
            Cache(layer_class_to_replicate=layers)
            if self.plain
            else DynamicCache(config=model.config)
        )
        if shared and not self.prefix:
            ids = ids_UP[:1, :shared]
            read_to_last(model, input_ids=ids, past_key_values=self.cache, use_cache=True)
            _take(self.cache, torch.zeros(len(unique), dtype=torch.long, device=device))
        position_UP = (real_UP.cumsum(1) - 1).clamp(min=0)[:, shared:]
        real_UP = real_UP[:, before:]
        with self._attending() as more:
            out = read_to_last(
                model,
                input_ids=ids_UP[:, shared:],
                attention_mask=self._added(_causal(real_UP)) if self.prefix else real_UP.long(),
                position_ids=position_UP,
                past_key_values=self.cache,
                use_cache=True,
                **more,
            )
        rows = torch.tensor(which, device=device)
        _take(self.cache, rows)
        self.logits_BV = out.logits[:, -1][rows]
        self.position_B = position_UP[rows, -1]
        self.mask_BL = real_UP[rows]

    def next(self, token_B: Tensor) -> Tensor:
        """The logits after one token more, (B, V)."""
        self.position_B = self.position_B + 1
        self.mask_BL = torch.cat([self.mask_BL, self.mask_BL.new_ones(len(token_B), 1)], 1)
        mask = self.mask_BL
        if self.plain:
            mask = mask[:, None, None, :]
        with self._attending() as more:
            out = self.model(
                input_ids=token_B[:, None],
                attention_mask=self._added(mask)
                if self.prefix
                else mask
                if self.plain
                else mask.long(),
                position_ids=self.position_B[:, None],
                past_key_values=self.cache,
                use_cache=True,
                **more,
            )
        logits_BV: Tensor = out.logits[:, -1]
        return logits_BV

    def keep(self, rows: Tensor) -> None:
        """Go on with ``rows`` of the batch only."""
        _take(self.cache, rows)
        self.position_B, self.mask_BL = self.position_B[rows], self.mask_BL[rows]

    @contextmanager
    def _attending(self) -> Iterator[dict[str, Any]]:
        if self.prefix:
            with attending(self.model):
                yield {"prefix": self.prefix}
        else:
            yield {}

    def _added(self, mask: Tensor) -> Tensor:
        """A mask as numbers that are added to scores."""
        zeros = torch.zeros(mask.shape, dtype=self.model.dtype, device=mask.device)
        return zeros.masked_fill_(~mask, -torch.inf)


def _causal(real_UP: Tensor) -> Tensor:
    """(U, 1, P, P): what each token may look at, which is at least itself, padding or not."""
    P = real_UP.shape[1]
    past_PP = torch.ones(P, P, dtype=torch.bool, device=real_UP.device).tril()
    self_PP = torch.eye(P, dtype=torch.bool, device=real_UP.device)
    return ((past_PP & real_UP[:, None, :]) | self_PP)[:, None]


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
    read = _Reading(model, prompts, steps, pad)
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
        scores_BV = scores_BV / temperature
        order = None
        if 0 < top_k < scores_BV.shape[-1]:
            scores_BV, order = scores_BV.topk(top_k, dim=-1)
        elif top_p < 1:
            scores_BV, order = scores_BV.sort(dim=-1, descending=True)
        p_BV = scores_BV.softmax(-1, dtype=torch.float32).to(uniform_B.dtype)
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


def _common(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, of which none may be a whole prompt."""
    first, last = min(prompts), max(prompts)  # what these two share all others do
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    least = min(map(len, prompts)) - 1
    return least if same is None else min(same, least)


def _tensors(prompt: Sequence[int], at: int) -> tuple[Tensor, Tensor]:
    whole = torch.tensor(prompt)
    return whole[:at], whole[at:]


def _take(cache: Any, rows: Tensor) -> None:
    for layer in cache.layers:
        if isinstance(layer, _Buffer):
            layer.take(rows)
        else:
            layer.reorder_cache(rows)
