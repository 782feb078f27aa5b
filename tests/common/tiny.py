"""A random Llama of a few thousand parameters with a tokenizer of words, and a bare context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from common.policies.local import HFPolicy
from common.stages import Context

WORDS = ["<pad>", "<end>", "<unk>", "go", *(f"w{i}" for i in range(20))]


def tiny_tokenizer() -> Any:
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )


def tiny_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(WORDS), hidden_size=24, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=128, pad_token_id=0, eos_token_id=1,
        bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip


def tiny_policy(seed: int = 0) -> HFPolicy:
    torch.manual_seed(seed)
    return HFPolicy(LlamaForCausalLM(tiny_config()), tiny_tokenizer(), device="cpu")


@dataclass
class Recorder:
    """A tracker that keeps what it is given."""

    steps: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.steps.append((step, dict(values)))


class Folder:
    """Artifacts are not used here."""

    def put(self, data: bytes, suffix: str = "") -> str:
        raise NotImplementedError

    def path(self, address: str) -> Path:
        raise KeyError(address)


def context(workdir: Path, *, seed: int = 7, round: int = 1) -> Context:
    workdir.mkdir(parents=True, exist_ok=True)
    return Context(
        seed=seed,
        round=round,
        artifacts=Folder(),
        tracker=Recorder(),
        progress=lambda done, total, what: None,
        workdir=workdir,
    )
