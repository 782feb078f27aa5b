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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEEN = 24
TEMPLATE = f"{{% for m in messages %}}{{{{ m['content'][:{SEEN}] }}}} {{% endfor %}}<go> "


def taught(answers: Mapping[str, str], folder: Path) -> Path:
    """A model that answers a last message with such a beginning by such a text."""
    texts = {begins[:SEEN]: answer for begins, answer in answers.items()}
    words = sorted({w for pair in texts.items() for text in pair for w in text.split()})
    vocabulary = {w: i for i, w in enumerate(["<pad>", "<end>", "<unk>", "<go>", *words])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=1024, pad_token_id=0, eos_token_id=1,
            bos_token_id=None,
        )
    )  # fmt: skip
    rows = [
        tokenizer(f"<unk> <unk> <unk> {b} <go> {a} <end>")["input_ids"] for b, a in texts.items()
    ]
    go = vocabulary["<go>"]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels = ids.clone()
    for n, row in enumerate(rows):
        labels[n, : row.index(go) + 1] = -100
        labels[n, len(row) :] = -100
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(400):
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.002:
            break
    assert loss < 0.05, f"not learnt: {loss:.3f}"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


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
