"""A model that has read a batch of prompts and goes on token by token, with its keys and values.

Keys and values are written into a buffer of the final size instead of being copied at every token.
What all prompts begin with is read once, and so is a prompt of several rows; where the model can
attend to it apart (:mod:`common.policies.shared_prefix`) its keys and values stay one copy.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from common.policies.packing import bare, full_attention, packable, read_to_last
from common.policies.shared_prefix import Prefix, attending


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


class Reading:
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


def _common(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, of which none may be a whole prompt."""
    first, last = min(prompts), max(prompts)  # what these two share all others do
    return min(same_start(first, last), min(map(len, prompts)) - 1)


def same_start(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def _tensors(prompt: Sequence[int], at: int) -> tuple[Tensor, Tensor]:
    whole = torch.tensor(prompt)
    return whole[:at], whole[at:]


def _take(cache: Any, rows: Tensor) -> None:
    for layer in cache.layers:
        if isinstance(layer, _Buffer):
            layer.take(rows)
        else:
            layer.reorder_cache(rows)
