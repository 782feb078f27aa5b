"""``transformers serve``, a real OpenAI-compatible server, with a model that knows a few answers.

The model is a Llama of a few thousand parameters whose words are those of the answers; learning two
answers takes it seconds. Its chat template shows it the first letters of each message only.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SEEN = 24
ONLY_TEXT = f"{{% for m in messages %}}{{{{ m['content'][:{SEEN}] }}}} {{% endfor %}}<go> "
WITH_PICTURES = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'text' %}"
    f"{{{{ c['text'][:{SEEN}] }}}} "
    "{% else %}<image> {% endif %}{% endfor %}{% endfor %}<go> "
)


def taught(answers: Mapping[str, str], folder: Path) -> Path:
    """A model that answers a last message with such a beginning by such a text."""
    texts = {begins[:SEEN]: answer for begins, answer in answers.items()}
    tokenizer = words(text for pair in texts.items() for text in pair)
    tokenizer.chat_template = ONLY_TEXT
    model = LlamaForCausalLM(small(tokenizer))
    rows = [
        tokenizer(f"<unk> <unk> <unk> {b} <go> {a} <end>")["input_ids"] for b, a in texts.items()
    ]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    learn(model, {"input_ids": ids, "attention_mask": (ids != 0).long()})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def taught_to_see(begins: str, pictures: int, answer: str, folder: Path) -> Path:
    """A model that gives such an answer to a text with such a beginning and so many pictures."""
    tokenizer = words([begins[:SEEN], answer])
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=WITH_PICTURES,
        num_additional_image_tokens=1,
    )
    seeing = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8,
    )  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=seeing, text_config=small(tokenizer),
        image_token_index=image, image_token_id=image,
        vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    text = f"{begins[:SEEN]} {'<image> ' * pictures}<go> {answer} <end>"
    shown = [Image.new("RGB", (64, 48), (90, 120, 10))] * pictures
    learn(model, dict(processor(images=shown, text=text, return_tensors="pt")))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def words(texts: Iterable[str]) -> Any:
    """A tokenizer of the words in ``texts``."""
    every = sorted({w for text in texts for w in text.split()})
    names = ["<pad>", "<end>", "<unk>", "<go>", "<image>", *every]
    plain = Tokenizer(WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    plain.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<end>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip


def small(tokenizer: Any) -> LlamaConfig:
    torch.manual_seed(0)
    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=512, pad_token_id=0, eos_token_id=1,
        bos_token_id=None,
    )  # fmt: skip


def learn(model: Any, batch: dict[str, torch.Tensor]) -> None:
    """By heart: what follows ``<go>``, the token of index 3."""
    ids = batch["input_ids"]
    answer = ((ids == 3).cumsum(1) > 0) & (ids != 3) & (ids != 0)
    labels = torch.where(answer, ids, -100)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(400):
        loss = model(**batch, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.002:
            break
    assert loss < 0.05, f"not learnt: {loss:.3f}"


@contextmanager
def serve(model: Path) -> Iterator[str]:
    """The address of a server of ``model`` that ends with the context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = model.with_name("serve.log")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        for _ in range(900):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, log.read_text()[-2000:]
                time.sleep(0.1)
        else:
            raise AssertionError(log.read_text()[-2000:])
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)
