"""A tiny causal language model with LLaSA's symbols, saved as a user would have it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>"
    "\n\n{{ m['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
SYMBOLS = ["<|TEXT_UNDERSTANDING_START|>", "<|TEXT_UNDERSTANDING_END|>",
           "<|SPEECH_GENERATION_START|>", "<|SPEECH_GENERATION_END|>"]  # fmt: skip


def llasa_tokenizer(codes: int, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level BPE (bytes only) that begins every text with its first symbol, as Llama's does."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(s, special=True) for s in SPECIAL])
    inner.add_tokens([AddedToken(s) for s in (*SYMBOLS, *(f"<|s_{i}|>" for i in range(codes)))])
    begin = SPECIAL[0]
    inner.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, inner.token_to_id(begin))]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=begin, eos_token="<|eot_id|>", pad_token="<|eot_id|>"
    )
    made.chat_template = template
    return made


def save_lm(folder: Path, codes: int, template: str | None = TEMPLATE) -> None:
    """Model and tokenizer of seed 0."""
    tokenizer = llasa_tokenizer(codes, template)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64,
                    num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=1024)
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
