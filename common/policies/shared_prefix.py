"""Attention to a beginning that all sequences share: its keys and values are read once, not by row.

When many answers are sampled side by side each token attends to all before it, and the worked
examples before all the questions are the most of that. Their keys and values are one copy here. A
batch's queries go over them together, one matrix product instead of one a sequence, and over what
is each sequence's own apart; two softmaxes become one by their sums,

    out = (e^a out_prefix + e^b out_own) / (e^a + e^b)      a, b: the logarithms of the sums

(Hydragen, arXiv 2402.05099, section 3). Several heads of queries that share keys go over one copy
of these as well. For processors: the kernel is PyTorch's flash attention for them, which gives the
logarithms; on other devices everything is as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from common.policies.packing import bare

NAME = "shared_prefix"
Prefix = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of each layer, (1, K, S, D): K heads, S tokens."""
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001  # nothing is sampled from a model in training
    prefix: Prefix = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of ``query`` (B, H, Q, D) to the prefix of its layer and to ``key``, ``value``.

    ``key`` and ``value`` (B, K, T, D) are what follows the prefix. ``attention_mask`` (B, 1, Q, T)
    is added to their scores; each query has to see one of them. Returns (B, Q, H, D). The
    signature is that of transformers' attention functions.
    """
    B, H, Q, D = query.shape
    K = key.shape[1]
    rows = query.reshape(B, K, H // K * Q, D)
    if Q == 1:  # all of a group's queries see the same
        mask = attention_mask.expand(B, 1, H // K, -1)
        own, own_sum = _flash(rows, key, value, attn_mask=mask, scale=scaling)
    else:
        wide = [states.repeat_interleave(H // K, 1) for states in (key, value)]
        own, own_sum = _flash(query, *wide, attn_mask=attention_mask, scale=scaling)
    own, own_sum = own.reshape(B, H, Q, D), own_sum.reshape(B, H, Q)
    keys, values = prefix[module.layer_idx]
    together = rows.transpose(0, 1).reshape(1, K, -1, D)
    said, said_sum = _flash(together, keys, values, scale=scaling)
    said = said.view(K, B, -1, D).transpose(0, 1).reshape(B, H, Q, D)
    said_sum = said_sum.reshape(K, B, -1).transpose(0, 1).reshape(B, H, Q)
    share = torch.sigmoid(said_sum - own_sum)[..., None].to(own.dtype)
    return (own + share * (said - own)).transpose(1, 2), None


AttentionInterface.register(NAME, attention)


@contextmanager
def attending(model: Any) -> Iterator[None]:
    """Inside, ``model`` takes a ``prefix`` and attends to it before what it is given."""
    config = bare(model).config.get_text_config()
    usual = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
