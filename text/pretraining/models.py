"""Encoders: from nothing by a size, or existing ones; and heads that cost no more than is asked.

A vocabulary's output layer is most of a small encoder's arithmetic, and only 15% of its rows are
asked for. So the head of a masked language model gets the states of those positions alone, by a
hook that works for every architecture: loss and gradients are the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common import registry
from common.errors import UserError
from common.learners.data import quiet
from common.policies.weights import no_bars, reach

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2,
             "intermediate_size": 512},
    "mini": {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4,
             "intermediate_size": 1024},
    "small": {"num_hidden_layers": 12, "hidden_size": 256, "num_attention_heads": 4,
              "intermediate_size": 1024},
    "base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12,
             "intermediate_size": 3072},
}  # fmt: skip
"""BERT's shape; small and base are the published ones."""
Kind = Literal["vocabulary", "detection"]


def source(name: str) -> str | None:
    """The folder or hub name of an existing encoder called ``name``; None of a size."""
    if name in SIZES:
        return None
    return str(registry.get("minilm")) if name == "minilm" else name


def load_tokenizer(name: str) -> Any:
    """The tokenizer of an existing encoder.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    where = source(name)
    try:
        if where is not None:
            reach(where)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except Exception as error:  # OSError, ValueError, or what the hub's client raises
        raise cannot(name, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"{name!r} has no fast tokenizer", "choose another encoder")
    return tokenizer


def start(name: str, tokenizer: Any, kind: Kind, seed: int) -> Any:
    """A model with the head of ``kind``: new of a size, or an existing encoder's.

    Raises:
        UserError: there is no such encoder.
    """
    from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, BertConfig

    architecture = AutoModelForMaskedLM if kind == "vocabulary" else AutoModelForTokenClassification
    labels = {} if kind == "vocabulary" else {"num_labels": 2}
    torch.manual_seed(seed)
    where = source(name)
    if where is None:
        config = BertConfig(
            vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **SIZES[name], **labels
        )
        return architecture.from_config(config, dtype=torch.float32)
    try:
        with quiet():
            return architecture.from_pretrained(where, dtype=torch.float32, **labels)
    except Exception as error:  # OSError, ValueError, or what the hub's client raises
        raise cannot(name, error) from error


def cannot(name: str, error: Exception) -> UserError:
    """The error for an encoder that cannot be loaded."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(
        f"cannot load the encoder {name!r} ({reason})",
        f"use {', '.join(SIZES)}, minilm, a folder, or a hub name (online)",
    )


def room(model: Any, tokenizer: Any) -> int:
    """The longest input in tokens."""
    limits = [
        int(getattr(model.config, "max_position_embeddings", 0) or 512),
        int(tokenizer.model_max_length),
    ]
    # RoBERTa's positions begin after the padding token's.
    offset = 2 if "roberta" in str(model.config.model_type) else 0
    return min(limits[0] - offset, limits[1])


def check_length(model: Any, tokenizer: Any, length: int) -> None:
    """Raises :class:`UserError` where ``length`` tokens are more than the encoder reads."""
    most = room(model, tokenizer)
    if not 8 <= length <= most:
        raise UserError(f"{length} tokens", f"give 8 to {most}, which is what this encoder reads")


class Selected:
    """Between an encoder and the head of its model: the head sees the states that are asked for."""

    def __init__(self, model: Any) -> None:
        self.at_BT: Tensor | None = None
        self.states_BTH: Tensor
        model.base_model.register_forward_hook(self._hook)

    def _hook(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        self.states_BTH = output[0]
        if self.at_BT is not None:
            output["last_hidden_state"] = self.states_BTH[self.at_BT][None]
        return output

    def logits(self, model: Any, at_BT: Tensor, **inputs: Any) -> Tensor:
        """What the head says of the states at ``at_BT``: ``(N, V)``; all are in ``states_BTH``."""
        self.at_BT = at_BT
        try:
            found: Tensor = model(**inputs).logits[0]
        finally:
            self.at_BT = None
        return found


def save(model: Any, tokenizer: Any, folder: Path, extras: tuple[str, ...] = ()) -> None:
    """Write a model as transformers loads it, without the parts that training added to it."""
    kept = {name: getattr(model, name) for name in extras if hasattr(model, name)}
    for name in kept:
        delattr(model, name)
    try:
        with no_bars():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    finally:
        for name, part in kept.items():
            setattr(model, name, part)
