"""What a language model is between rounds: weights or an adapter, a label, symbols, and its start.

A policy may speak under a label (``condition``) that stands before every prompt, as learning in
hindsight leaves it. The label belongs to the state, and so do the symbols that it needed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.policies.weights import (
    LABEL_FILE,
    Snapshot,
    copy_of,
    digest,
    fill_rows,
    no_bars,
    read,
    save_moments,
    saved_condition,
    saved_moments,
    trainable,
)


class State:
    """A transformers causal LM and its tokenizer, saved, restored and changed.

    ``source`` is where the weights came from: the start of a run can be read from there again;
    without it a copy is kept. ``adapter`` is a ``peft.LoraConfig`` to put on the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str | torch.device | None,
        adapter: Any,
        condition: str,
        source: str | Path | None,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end token", "set tokenizer.eos_token")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        rows = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} tokens and the model knows {rows}",
                "give the tokenizer that the model was trained with",
            )
        self.model = model.to(device) if device is not None else model
        self.model.eval()
        self.tokenizer = tokenizer
        self.condition = condition
        self.source = source
        self.moments: dict[int, Any] | None = None  # of an optimiser that goes on next round
        # With an adapter the start is the model below it.
        kept = copy_of(self.model) if source is None and not self.has_adapter else None
        self._start = Snapshot(kept, self._rows, tokenizer, condition)
        if adapter is not None and not self.has_adapter:
            self.add_adapter(adapter)

    @property
    def has_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def add_adapter(self, config: Any) -> None:
        """Put a fresh adapter (``peft.LoraConfig``) on the model; its output does not change yet.

        Seed torch before: the adapter's first matrix is random. Raises :class:`UserError` when
        symbols were added since the start: an adapter would be saved without their embeddings.
        """
        from peft import get_peft_model

        if self._has_grown:
            raise UserError(
                "an adapter does not save the embeddings of symbols that were added",
                "use labels that the tokenizer can spell, or learn without an adapter",
            )
        self.model = get_peft_model(self.model, config).eval()

    # Labels and symbols

    @contextmanager
    def conditioned(self, label: str) -> Iterator[None]:
        """Within the context prompts carry ``label``, or none if it is empty.

        Raises :class:`UserError` when the tokenizer cannot spell it.
        """
        if unknown := self.unknown(label.split()):
            raise UserError(
                f"the tokenizer has no symbol {unknown[0]!r}",
                "name a label that this policy has learnt",
            )
        before, self.condition = self.condition, label
        try:
            yield
        finally:
            self.condition = before

    def unknown(self, words: Iterable[str]) -> list[str]:
        """The ``words`` that the tokenizer cannot spell, each once; none if it spells in bytes."""
        blank = self.tokenizer.unk_token_id
        return [
            word
            for word in dict.fromkeys(words)
            if blank is not None
            and blank in self.tokenizer(word, add_special_tokens=False)["input_ids"]
        ]

    def add_symbols(self, symbols: Iterable[str]) -> None:
        """Give a token to each of ``symbols`` that the tokenizer cannot spell.

        Its row of the output is the mean of those there are, and its embedding lies beside their
        mean in a direction of its own (:func:`fill_rows`). Raises :class:`UserError` on an adapter,
        which is saved without embeddings.
        """
        new = self.unknown(symbols)
        if not new:
            return
        if self.has_adapter:
            raise UserError(
                f"the symbol {new[0]!r} needs an embedding, which an adapter does not save",
                "use labels that the tokenizer can spell, or learn without an adapter",
            )
        self.tokenizer = copy.deepcopy(self.tokenizer)  # the start keeps its own
        first = len(self.tokenizer)
        self.tokenizer.add_tokens(new)
        end = len(self.tokenizer)
        self._resize(max(end, self._rows))
        fill_rows(self.model, first, end)

    @property
    def _has_grown(self) -> bool:
        return len(self.tokenizer) != len(self._start.tokenizer)

    @property
    def _rows(self) -> int:
        """Tokens that the model has embeddings for: the tokenizer's or more."""
        rows: int = self.model.config.get_text_config().vocab_size
        return rows

    def _resize(self, rows: int) -> None:
        if rows != self._rows:
            self.model.resize_token_embeddings(rows, mean_resizing=False)

    # State

    def start_here(self, source: str | Path) -> None:
        """Make what the policy is now its start; ``source`` is the folder that it was read from.

        For a run that begins where another one ended. An adapter becomes part of the weights.
        """
        kept: dict[str, Tensor] | None = None
        self.source = source
        if self.has_adapter:
            self.model = self.model.merge_and_unload()
            for parameter in self.model.parameters():
                parameter.requires_grad_(True)
            self.source, kept = None, copy_of(self.model)
        self.moments = None
        self._start = Snapshot(kept, self._rows, self.tokenizer, self.condition)

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Within the context the policy is what the run started from: the fixed reference."""
        if self.has_adapter:
            with self.model.disable_adapter(), self.conditioned(self._start.condition):
                yield
            return
        now = Snapshot(copy_of(self.model), self._rows, self.tokenizer, self.condition)
        self._become(self._start)
        try:
            yield
        finally:
            self._become(now)

    def fingerprint(self) -> str:
        """A hash of the label and of the weights that can change: the adapter's, or else all."""
        return digest(trainable(self.model), self.condition)

    def save(self, folder: Path) -> None:
        """Safetensors and tokenizer, as transformers and peft load them; the adapter if any.

        The label lies beside them, in ``policy.json``.
        """
        options = {"save_embedding_layers": False} if self.has_adapter else {}
        with no_bars():
            self.model.save_pretrained(folder, **options)
            self.tokenizer.save_pretrained(folder)
        (folder / LABEL_FILE).write_text(json.dumps({"condition": self.condition}) + "\n")
        save_moments(folder, self.moments)

    def restore(self, folder: Path) -> None:
        """Take the state :meth:`save` wrote, adding or removing adapter and symbols as it needs."""
        if (folder / "adapter_config.json").exists():
            from peft import PeftModel, set_peft_model_state_dict
            from safetensors.torch import load_file

            if self.has_adapter:
                state = load_file(folder / "adapter_model.safetensors", device=str(self.device))
                set_peft_model_state_dict(self.model, state)
            else:
                if self._has_grown:
                    self._become(self._start)  # what an adapter lies on has no added symbols
                self.model = PeftModel.from_pretrained(self.model, folder, is_trainable=True)
            self.condition = saved_condition(folder)
        else:
            if self.has_adapter:
                self.model = self.model.unload()
                for parameter in self.model.parameters():
                    parameter.requires_grad_(True)
            weights, rows = read(type(self.model), folder, self.model.dtype)
            tokenizer = type(self.tokenizer).from_pretrained(folder)
            self._become(Snapshot(weights, rows, tokenizer, saved_condition(folder)))
        self.moments = saved_moments(folder)
        self.model.eval()

    def _become(self, state: Snapshot) -> None:
        weights = state.weights or read(type(self.model), str(self.source), self.model.dtype)[0]
        self._resize(state.rows)
        self.model.load_state_dict(weights)
        self.tokenizer, self.condition = state.tokenizer, state.condition
