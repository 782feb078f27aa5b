"""One stream of symbols for text and codec tokens, so that any causal LM tooling works on it.

A prompt is ``<text> k ɔː l | … <speech>``, with ``<voice> <c17> …`` before it for a voice prompt.
A completion names each phone and then the first-codebook codes heard while it lasts:
``k <c9> <c9> <c31> ɔː <c4> …``, ends with ``</s>``, and has ``_`` for silence. The echo of the
phones ties every code to a place in the text: plain streams of codes needed five times the
training before anything was intelligible (``docs/lab-notes.md``). :class:`Monotonic` can hold a
sampler to the order of the text; a server without it samples the same stream freely.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from speech.segmentation import SILENCE, Segment
from speech.text import WORD_END

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
VOICE, TEXT, SPEECH = "<voice>", "<text>", "<speech>"
CODE = re.compile(r"<c(\d+)>")


def tokenizer(phones: Iterable[str], codes: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over special symbols, ``phones`` and ``codes`` codec tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = [PAD, BOS, EOS, UNKNOWN, VOICE, TEXT, SPEECH, WORD_END, SILENCE]
    symbols += sorted(set(phones) - set(symbols))
    symbols += [f"<c{i}>" for i in range(codes)]
    model = models.WordLevel({s: i for i, s in enumerate(symbols)}, unk_token=UNKNOWN)
    inner = Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN
    )


def prompt(phones: Sequence[str], voice: Sequence[int] = ()) -> str:
    """What the model continues: an optional voice prompt's codes, then the phones of the text."""
    start = [VOICE, *(f"<c{c}>" for c in voice)] if len(voice) else []
    return " ".join([BOS, *start, TEXT, *phones, SPEECH])


def completion(segments: Iterable[Segment], codes: Sequence[int]) -> str:
    """The stream of ``segments`` with their codes, ended."""
    symbols: list[str] = []
    for segment in segments:
        symbols.append(segment.phone)
        symbols += [f"<c{c}>" for c in codes[segment.start : segment.end]]
    return " ".join([*symbols, EOS])


def codes(text: str) -> list[int]:
    """The first-codebook codes of a completion."""
    return [int(number) for number in CODE.findall(text)]


def phones_of(text: str) -> list[str]:
    """The phones of a prompt (with word ends)."""
    return text.split(TEXT)[-1].split(SPEECH)[0].split()


class Monotonic:
    """A mask that holds samples to the text: phones in order, each with a code, end at the end.

    Called by the sampler with the rows that are still running; after a phone at least one code
    must follow, silence may stand at the ends and between words, and no phone may last longer
    than ``longest`` frames.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], longest: int = 40
    ) -> None:
        vocabulary = tokenizer.get_vocab()
        self.size = len(vocabulary)
        self.silence, self.end = vocabulary[SILENCE], vocabulary[EOS]
        self.is_code = torch.zeros(self.size, dtype=torch.bool)
        self.is_code[[i for s, i in vocabulary.items() if CODE.fullmatch(s)]] = True
        self.longest = longest
        unknown = vocabulary[UNKNOWN]
        self.lines: list[list[int]] = []
        self.word_ends: list[set[int]] = []
        for text in prompts:
            line: list[int] = []
            ends = {0}
            for phone in phones_of(text):
                if phone == WORD_END:
                    ends.add(len(line))
                elif (number := vocabulary.get(phone, unknown)) != unknown:
                    line.append(number)
            self.lines.append(line)
            self.word_ends.append(ends)
        self.place = [0] * len(prompts)
        self.spoken = [0] * len(prompts)  # codes since the last phone or silence
        self.silent = [False] * len(prompts)

    def __call__(self, rows: Sequence[int], last: Tensor | None) -> Tensor:
        """``(len(rows), V)`` of what may come next, after ``last`` ``(len(rows),)`` was drawn."""
        allowed = torch.zeros(len(rows), self.size, dtype=torch.bool)
        drawn = last.tolist() if last is not None else [None] * len(rows)
        for i, (row, token) in enumerate(zip(rows, drawn, strict=True)):
            if token is not None:
                self._advance(row, token)
            line, place = self.lines[row], self.place[row]
            started = place > 0 or self.silent[row]
            if started and self.spoken[row] < self.longest:
                allowed[i] |= self.is_code
            if self.spoken[row] or not started:
                if place < len(line):
                    allowed[i, line[place]] = True
                else:
                    allowed[i, self.end] = True
                if place in self.word_ends[row] and not self.silent[row]:
                    allowed[i, self.silence] = True
        return allowed

    def _advance(self, row: int, token: int) -> None:
        if token == self.silence:
            self.silent[row], self.spoken[row] = True, 0
        elif self.is_code[token]:
            self.spoken[row] += 1
        elif token != self.end:
            self.place[row] += 1
            self.silent[row], self.spoken[row] = False, 0
