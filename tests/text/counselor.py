"""A tiny Llama whose words are those of the synthetic conversations and their feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from common.records import Split
from text.counseling import synthetic
from text.counseling.tasks import asking, augmented, completion


def words() -> list[str]:
    """Every word that occurs, in a fixed order."""
    found: dict[str, None] = {}
    splits: tuple[Split, ...] = ("train", "dev", "test")
    for turn in [t for s in splits for c in synthetic.conversations(60, 0, s) for t in c.turns]:
        texts = [asking(turn.line())]
        if turn.feedback:
            other = augmented(turn.line(), turn.feedback)
            texts += [asking(other[0]), completion(other[1])] if other else []
            texts.append(completion(turn.feedback))
        found |= dict.fromkeys(" ".join(texts).split())
    return list(found)


def checkpoint(folder: Path, seed: int = 1) -> Path:
    """A folder with the model, as transformers loads it."""
    vocabulary = ["<pad>", "<end>", "<unk>", *words()]
    known: Any = Tokenizer(
        WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    known.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=known, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=512, pad_token_id=0, eos_token_id=1,
        bos_token_id=None, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
