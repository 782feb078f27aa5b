"""A random Llama that knows a few words, a task that it can learn, and the command in a process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from common import cli

WORDS = ["<pad>", "<end>", "<unk>", "Question:", "Answer:", "say", "twice", "The", "answer", "is",
         "1.", "2.", "3.", "so"]  # fmt: skip


def checkpoint(folder: Path, seed: int = 1, more: Sequence[str] = ()) -> Path:
    """A folder with the model, as transformers loads it; it knows ``more`` words, too."""
    known = [*WORDS, *more]
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(known), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=1,
        bos_token_id=None, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def task(folder: Path, count: int = 60) -> str:
    """A task whose answer is mostly 2, which a model learns to say: ``--task`` of it."""
    path = folder / "say.jsonl"
    rows = [
        {"prompt": f"say twice {i}", "answer": "3" if i % 5 == 0 else "2"} for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return f"jsonl:{path}"


def upspiral(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object and stderr of a command, with the domain as if installed."""
    point = EntryPoint("text", "text.commands:domain", "upspiral.domains")
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(cli, "domains", lambda: {"text": point})
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        code = cli.main(
            [*(["text"] if words[0] not in ("runs", "lifelong") else []), *words, "--json"]
        )
    said = out.getvalue().strip()
    return code, json.loads(said.splitlines()[-1]) if said else {}, err.getvalue()
