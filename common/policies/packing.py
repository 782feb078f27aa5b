"""Sequences end to end in one row: no arithmetic on padding, and logits only where they are needed.

A batch of uneven sequences is a rectangle, and what fills it up costs as much as what counts. Here
the batch is one long row. Everything in a transformer but attention treats each token alone, and
attention goes sequence by sequence (and needs no mask then). Only the hidden states from which a
token of a response comes go through the output layer.

Results are those of the rectangle up to rounding. On one core of a processor the starter's codec
language model learns 1.8 times as many tokens a second as from rectangles of like lengths, and 2.6
times as many as from lengths as they come (docs/lab-notes.md). Models that do more across tokens
than full attention, and other devices than processors, get rectangles as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

NAME = "packed"


def full_attention(config: Any) -> bool:
    """Whether all layers of the model attend to all that came before, by PyTorch's own kernels."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return (
        kinds == {"full_attention"}
        and not getattr(text, "sliding_window", None)
        and text._attn_implementation in ("sdpa", None)
    )


def packable(model: Any) -> bool:
    """Whether ``model``, a transformers model without wrappers, may read packed rows."""
    # Where the class says so, keyword arguments of the model reach its attention.
    known = bool(getattr(model, "_supports_attention_backend", False))
    return known and model.device.type == "cpu" and full_attention(model.config)


def attention(
    module: Any,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    lengths: Sequence[int] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each sequence of ``lengths``: (1, H, N, D) to (1, N, H, D).

    The signature is that of transformers' attention functions.
    """
    assert attention_mask is None and len(query) == 1
    grouped = query.shape[1] != key.shape[1]
    parts = (states.split(list(lengths), 2) for states in (query, key, value))
    found = [
        F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(found, 2).transpose(1, 2), None


AttentionInterface.register(NAME, attention)


@contextmanager
def reading_packed(model: Any, keep_N: Tensor) -> Iterator[None]:
    """Inside, ``model`` reads packed rows, and its output layer gets ``keep_N`` of their states."""

    def needed(_: Any, __: Any, out: Any) -> Any:
        out.last_hidden_state = out.last_hidden_state[:, keep_N]
        return out

    config = model.config.get_text_config()
    usual = config._attn_implementation
    config._attn_implementation = NAME
    hook = model.base_model.register_forward_hook(needed)
    try:
        yield
    finally:
        hook.remove()
        config._attn_implementation = usual


def bare(model: Any) -> Any:
    """``model`` without an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def response_logits(model: Any, ids_BT: Tensor, real_BT: Tensor, asked_BT: Tensor) -> Tensor:
    """(K, V): what ``model`` makes of the K tokens where ``asked_BT`` (B, T - 1), row by row.

    ``asked_BT[:, t]`` asks for token t + 1; what is not ``real_BT`` is padding at the end.
    """
    if not packable(bare(model)):
        out = model(input_ids=ids_BT, attention_mask=real_BT.long(), use_cache=False)
        logits_KV: Tensor = out.logits[:, :-1][asked_BT]
        return logits_KV
    keep_N = F.pad(asked_BT, (0, 1))[real_BT].nonzero().squeeze(1)
    with reading_packed(bare(model), keep_N):
        logits_KV = model(**_row(ids_BT, real_BT), use_cache=False).logits[0]
    return logits_KV


def fused(model: Callable[..., Any], alone: Any, inputs: dict[str, Any]) -> Any:
    """What ``model(**inputs)`` returns, a model with TRL's output layer, by way of a packed row.

    ``inputs`` hold ``input_ids``, ``labels`` (-100 where no token is asked for) and, if they are to
    be packed, ``attention_mask``, all (B, T) and padded at the end. ``alone`` is the model without
    wrappers. Values of tokens come back as (B, T - 1), 0 where none was asked for.
    """
    mask_BT = inputs.get("attention_mask")
    if mask_BT is None or not packable(alone):
        return model(**inputs)
    other = {k: v for k, v in inputs.items() if k not in ("input_ids", "labels", "attention_mask")}
    real_BT = mask_BT.bool()
    next_BT = F.pad(inputs["labels"][:, 1:], (0, 1), value=-100)
    asked_BT = (next_BT != -100)[:, :-1]
    next_N = next_BT[real_BT]
    keep_N = (next_N != -100).nonzero().squeeze(1)
    with reading_packed(alone, keep_N):
        row = _row(inputs["input_ids"], real_BT)
        out = model(**row, shift_labels=next_N[keep_N][None], **other)

    def placed(values_1K: Tensor) -> Tensor:
        return values_1K.new_zeros(asked_BT.shape).masked_scatter(asked_BT, values_1K)

    held = {
        name: placed(value) if isinstance(value, Tensor) and value.dim() == 2 else value
        for name, value in out.items()
    }
    return type(out)(**held)


def _row(ids_BT: Tensor, real_BT: Tensor) -> dict[str, Any]:
    """The keyword arguments of a model for the sequences, end to end."""
    return {
        "input_ids": ids_BT[real_BT][None],
        "position_ids": (real_BT.cumsum(1) - 1)[real_BT][None],
        "lengths": real_BT.sum(1).tolist(),
    }
