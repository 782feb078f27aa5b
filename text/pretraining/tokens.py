"""Text to tokens: a vocabulary learnt from a corpus, and documents packed into blocks.

A block is ``[CLS]``, tokens of documents one after the other with ``[SEP]`` between them, and a
last ``[SEP]``; all blocks are full, so that nothing is computed on padding. Blocks lie in one file
that is mapped and not read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from common.records import Split, identity
from text.pretraining.documents import Corpus, Progress

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_tokenizer(texts: Iterable[str], size: int) -> Any:
    """A lower-casing WordPiece of ``size`` pieces, with BERT's special tokens and templates."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import WordPiece as Decoder
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(WordPiece(unk_token="[UNK]"))
    pieces.normalizer = BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = BertPreTokenizer()
    pieces.decoder = Decoder()
    trainer = WordPieceTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), show_progress=False, min_frequency=2
    )
    pieces.train_from_iterator(texts, trainer)
    ends = [(name, pieces.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    pieces.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@dataclass(frozen=True)
class Vocabulary:
    """What corruption has to know of a tokenizer: tensors over all ids, to be looked up."""

    size: int
    mask: int
    pad: int
    special: Tensor
    """Whether an id is special: neither corrupted, nor put in, nor judged."""
    ordinary: Tensor
    """The ids that are not."""

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """Raises :class:`UserError` without a mask or a padding token."""
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise UserError(
                "the tokenizer has no mask or no padding token",
                "take an encoder that was trained with one (BERT, RoBERTa, ELECTRA, DeBERTa)",
            )
        size = len(tokenizer)
        special_V = torch.zeros(size, dtype=torch.bool)
        special_V[torch.tensor(tokenizer.all_special_ids)] = True
        return cls(
            size, tokenizer.mask_token_id, tokenizer.pad_token_id, special_V,
            torch.flatten(torch.nonzero(~special_V)),
        )  # fmt: skip

    def to(self, device: torch.device) -> Vocabulary:
        return Vocabulary(
            self.size, self.mask, self.pad, self.special.to(device), self.ordinary.to(device)
        )


class Blocks(Dataset[dict[str, Any]]):
    """Rows of token ids ``(N, length)``, mapped from a file."""

    def __init__(self, folder: Path) -> None:
        shape = json.loads((folder / "blocks.json").read_text(encoding="utf-8"))
        self.ids_NT: NDArray[np.int32] = np.memmap(
            folder / "blocks.bin", np.int32, "r", shape=(shape["blocks"], shape["length"])
        )

    def __len__(self) -> int:
        return len(self.ids_NT)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"input_ids": self.ids_NT[number]}


def pack(corpus: Corpus, tokenizer: Any, length: int, split: Split, progress: Progress) -> Blocks:
    """The documents of ``split`` as blocks of ``length`` tokens, kept beside the corpus.

    Raises:
        UserError: they do not fill one block.
    """
    name = identity(tokenizer.backend_tokenizer.to_str(), length, split)[:12]
    folder = corpus.folder / f"blocks-{name}"
    if not (folder / "blocks.json").exists():
        folder.mkdir(exist_ok=True)
        partial = folder / f"blocks.{os.getpid()}.partial"
        count = 0
        with partial.open("wb") as file:
            for block in _blocks(corpus, tokenizer, length, split, progress):
                file.write(block.tobytes())
                count += len(block)
        if not count:
            partial.unlink()
            raise UserError(
                f"the {split} documents do not fill one block of {length} tokens",
                "give more text, or --set length= with a smaller one",
            )
        partial.replace(folder / "blocks.bin")
        scratch = folder / f"shape.{os.getpid()}.partial"
        scratch.write_text(json.dumps({"blocks": count, "length": length}), encoding="utf-8")
        scratch.replace(folder / "blocks.json")  # last: with it the blocks are there
    return Blocks(folder)


def _blocks(
    corpus: Corpus, tokenizer: Any, length: int, split: Split, progress: Progress
) -> Iterator[NDArray[np.int32]]:
    """Blocks ``(n, length)`` of some documents at a time."""
    room = length - 2
    left = np.zeros(0, np.int32)
    numbers = corpus.numbers(split)
    separator = np.array([tokenizer.sep_token_id], np.int32)
    for start in range(0, len(numbers), 64):
        texts = [corpus[n].text for n in numbers[start : start + 64]]
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        parts = [part for ids in encoded for part in (np.array(ids, np.int32), separator)]
        stream = np.concatenate([left, *parts])
        rows = len(stream) // room
        left = stream[rows * room :]
        block = np.empty((rows, length), np.int32)
        block[:, 0], block[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
        block[:, 1:-1] = stream[: rows * room].reshape(rows, room)
        yield block
        progress(min(start + 64, len(numbers)), len(numbers), f"{split} documents as tokens")


def paragraphs(corpus: Corpus, most: int = 60_000) -> Iterator[str]:
    """Train paragraphs to learn a vocabulary from."""
    every = (" ".join(p) for d in corpus.split("train") for p in d.paragraphs)
    return islice(every, most)


def padded(rows: Sequence[Any], pad: int) -> Tensor:
    """Token ids ``(B, T)``, padded on the right to the longest row."""
    if isinstance(rows[0], np.ndarray) and len({len(row) for row in rows}) == 1:
        return torch.from_numpy(np.stack(rows).astype(np.int64))
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(ids)
