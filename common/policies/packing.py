"""Sequences end to end in one row: no arithmetic on padding, and logits only where they are needed.

A batch of uneven sequences is a rectangle, and what fills it up costs as much as what counts. Here
the batch is one long row. Everything in a transformer but attention treats each token alone, and
attention goes sequence by sequence. What sequences begin with in common stands in the row once: a
token is what it is and what came before it, so the worked examples of all prompts, and the prompt
of all its responses, are computed for all of them. Only the hidden states from which a token of a
response comes go through the output layer.

Results are those of the rectangle up to rounding, but for dropout, which drops the same in a shared
beginning. On one core of a processor the starter's codec language model learns 1.8 times as many
tokens a second as from rectangles of like lengths, and 2.6 times as many as from lengths as they
come; pairs of short answers to long prompts gain as much again from what they share
(docs/lab-notes.md). Models that do more across tokens than full attention, and other devices than
processors, get rectangles as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

NAME = "packed"


class Path(NamedTuple):
    """A sequence in a row: its own tokens are at ``start`` up to ``end``, all of it is ``along``.

    ``seen`` (own, all) says what each of its own may look at; None where all are its own.
    """

    start: int
    end: int
    along: Tensor | slice
    seen: Tensor | None


class Row(NamedTuple):
    """Sequences in one row: ``ids`` and ``positions`` (1, N), and ``at`` (B, T), where each token
    of each sequence is in it, 0 for padding."""

    ids: Tensor
    positions: Tensor
    at: Tensor
    paths: list[Path]

    def inputs(self) -> dict[str, Any]:
        """The keyword arguments of a model that reads it."""
        return {"input_ids": self.ids, "position_ids": self.positions, "paths": self.paths}


def row_of(ids_BT: Tensor, real_BT: Tensor) -> Row:
    """The row of sequences that are padded at the end.

    In the order of their tokens, so that each shares most with the one before it.
    """
    lengths = real_BT.sum(1).tolist()
    whole = [ids[:n] for ids, n in zip(ids_BT.tolist(), lengths, strict=True)]
    at_BT = torch.zeros_like(ids_BT)
    ids: list[int] = []
    positions: list[int] = []
    paths: list[Path] = []
    before: list[int] = []
    along = torch.empty(0, dtype=torch.long)
    for b in sorted(range(len(whole)), key=lambda b: whole[b]):
        now = whole[b]
        pairs = enumerate(zip(before, now, strict=False))
        shared = next((t for t, (x, y) in pairs if x != y), min(len(before), len(now)))
        start, end, n = len(ids), len(ids) + len(now) - shared, len(now)
        along = torch.cat([along[:shared], torch.arange(start, end)])
        if end > start:
            own = torch.ones(n - shared, n, dtype=torch.bool).tril(shared) if shared else None
            paths.append(Path(start, end, along if shared else slice(start, end), own))
        ids += now[shared:]
        positions += range(shared, n)
        at_BT[b, :n] = along
        before = now
    return Row(torch.tensor([ids]), torch.tensor([positions]), at_BT, paths)


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
    paths: Sequence[Path] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention along each of ``paths``: (1, H, N, D) to (1, N, H, D).

    The signature is that of transformers' attention functions.
    """
    assert attention_mask is None and len(query) == 1
    grouped = query.shape[1] != key.shape[1]
    found = [
        F.scaled_dot_product_attention(
            query[:, :, path.start : path.end],
            key[:, :, path.along],
            value[:, :, path.along],
            attn_mask=path.seen,
            dropout_p=dropout,
            is_causal=path.seen is None,
            scale=scaling,
            enable_gqa=grouped,
        )
        for path in paths
    ]
    return torch.cat(found, 2).transpose(1, 2), None


AttentionInterface.register(NAME, attention)


@contextmanager
def reading_packed(model: Any, keep_K: Tensor) -> Iterator[None]:
    """Inside, ``model`` reads packed rows, and its output layer gets the states ``keep_K``."""

    def needed(_: Any, __: Any, out: Any) -> Any:
        out.last_hidden_state = out.last_hidden_state[:, keep_K]
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
    row = row_of(ids_BT, real_BT)
    with reading_packed(bare(model), row.at[:, :-1][asked_BT]):
        logits_KV = model(**row.inputs(), use_cache=False).logits[0]
    return logits_KV


def read_to_last(model: Any, **inputs: Any) -> Any:
    """What ``model(**inputs)`` returns, with logits of the last position only.

    The states that go through the output layer are brought together first. PyTorch multiplies a
    slice of states by as many copies of the layer's weights as there are sequences: for 128 of them
    and the vocabulary of SmolLM2 7 GB, which took two thirds of the time of a short sample.
    """

    def together(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(states.contiguous() for states in given)

    hook = bare(model).get_output_embeddings().register_forward_pre_hook(together)
    try:
        return model(**inputs, logits_to_keep=1)
    finally:
        hook.remove()


def next_logits(model: Any, sequences: Sequence[Sequence[int]], pad: int) -> Tensor:
    """(B, V): what ``model`` makes of the token after each of ``sequences``."""
    longest, device = max(map(len, sequences)), model.device
    packed = packable(bare(model))
    # In a rectangle padding goes before, so that the last position is each sequence's last token.
    filled = [[pad] * (longest - len(ids)) for ids in sequences]
    pairs = list(zip(sequences, filled, strict=True))
    ids_BT = torch.tensor([[*ids, *more] if packed else [*more, *ids] for ids, more in pairs])
    ids_BT = ids_BT.to(device)
    lengths_B = torch.tensor([len(ids) for ids in sequences], device=device)
    places_T = torch.arange(longest, device=device)
    if packed:
        row = row_of(ids_BT, places_T < lengths_B[:, None])
        with reading_packed(bare(model), row.at.gather(1, lengths_B[:, None] - 1)[:, 0]):
            logits_BV: Tensor = model(**row.inputs(), use_cache=False).logits[0]
        return logits_BV
    real_BT = places_T >= longest - lengths_B[:, None]
    logits_BV = read_to_last(
        model,
        input_ids=ids_BT,
        attention_mask=real_BT.long(),
        position_ids=(real_BT.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    ).logits[:, -1]
    return logits_BV


def last_scores(model: Any, ids_BT: Tensor, real_BT: Tensor) -> Tensor:
    """What ``model``, a sequence classifier of one label, gives each sequence: (B, 1).

    It is read at the last token; what is not ``real_BT`` is padding at the end.
    """
    alone = bare(model)
    if not packable(alone) or not hasattr(alone, "score"):
        mask_BT = real_BT.long()
        found: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        return found
    row = row_of(ids_BT, real_BT)
    last_B = row.at.gather(1, real_BT.sum(1, keepdim=True) - 1)[:, 0]
    with reading_packed(alone, last_B):
        states_BC = alone.base_model(**row.inputs(), use_cache=False).last_hidden_state[0]
    scores_B1: Tensor = alone.score(states_BC)
    return scores_B1


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
    next_BT = inputs["labels"][:, 1:]
    asked_BT = next_BT != -100
    row = row_of(inputs["input_ids"], real_BT)
    with reading_packed(alone, row.at[:, :-1][asked_BT]):
        out = model(**row.inputs(), shift_labels=next_BT[asked_BT][None], **other)

    def placed(values_1K: Tensor) -> Tensor:
        return values_1K.new_zeros(asked_BT.shape).masked_scatter(asked_BT, values_1K)

    held = {
        name: placed(value) if isinstance(value, Tensor) and value.dim() == 2 else value
        for name, value in out.items()
    }
    return type(out)(**held)
