"""One stream of symbols for text and codec tokens, so that any causal LM tooling works on it.

A prompt is ``<text> k ɔː l | … <speech>``, with ``<voice> <c17> …`` before it for a voice prompt.
A completion says aloud what it is saying, one phone ahead: ``k ɔː <c9> <c9> <c31> l <c4> …``.
Before the codes of a phone stand that phone and the next one, ``_`` is silence, ``#`` follows the
last phone, ``</s>`` ends. The echo ties every code to a place in the text and to its neighbours;
a plain stream of codes needs far more speech than we have before anything is intelligible
(``docs/lab-notes.md``). :class:`Monotonic` can hold a sampler to the order of the text; a server
without it samples the same stream freely. A policy that learnt in hindsight has :data:`GOOD` or
:data:`BAD` before the prompt, two symbols that the starter's vocabulary does not have yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from speech.segmentation import SILENCE, Segment
from speech.text import WORD_END

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
VOICE, TEXT, SPEECH, LAST = "<voice>", "<text>", "<speech>", "#"
GOOD, BAD = "<good>", "<bad>"
CODE = re.compile(r"<c(\d+)>")


def tokenizer(phones: Iterable[str], codes: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over special symbols, ``phones`` and ``codes`` codec tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = [PAD, BOS, EOS, UNKNOWN, VOICE, TEXT, SPEECH, LAST, WORD_END, SILENCE]
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
    segments = list(segments)
    symbols = [segments[0].phone]
    for segment, following in zip(segments, [*(s.phone for s in segments[1:]), LAST], strict=True):
        symbols.append(following)
        symbols += [f"<c{c}>" for c in codes[segment.start : segment.end]]
    return " ".join([*symbols, EOS])


def frames(text: str) -> tuple[list[int], list[str]]:
    """The first-codebook codes of a completion, and the phone that each of them belongs to."""
    codes: list[int] = []
    spoken: list[str] = []
    names = [SILENCE, SILENCE]
    for symbol in text.split():
        if code := CODE.fullmatch(symbol):
            codes.append(int(code[1]))
            spoken.append(names[-2])
        else:
            names.append(symbol)
    return codes, spoken


def phones_of(text: str) -> list[str]:
    """The phones of a prompt (with word ends)."""
    return text.split(TEXT)[-1].split(SPEECH)[0].split()


class Monotonic:
    """Holds samples to the text: its phones in order, each with a code or more.

    The model chooses between a code, silence and going on; *which* phone it goes on to is read
    from the text. So what the model gives to any phone counts for the one whose turn it is: were
    the others only forbidden, a model that is unsure which phone comes next would hardly ever go
    on. Silence may stand at the ends and between words; nothing lasts longer than ``longest``
    frames. Phones that the vocabulary lacks are left out.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], longest: int = 40
    ) -> None:
        vocabulary = tokenizer.get_vocab()
        self.size = len(vocabulary)
        self.silence: int = vocabulary[SILENCE]
        self.last: int = vocabulary[LAST]
        self.end: int = vocabulary[EOS]
        self.is_code = torch.zeros(self.size, dtype=torch.bool)
        self.is_code[[i for s, i in vocabulary.items() if CODE.fullmatch(s)]] = True
        self.longest = longest
        self.rows = [_Place(*self._line(text, vocabulary)) for text in prompts]

    @staticmethod
    def _line(text: str, vocabulary: dict[str, int]) -> tuple[list[int], set[int]]:
        line: list[int] = []
        ends = {0}
        for phone in phones_of(text):
            if phone == WORD_END:
                ends.add(len(line))
            elif phone in vocabulary:
                line.append(vocabulary[phone])
        return line, ends | {len(line)}

    def __call__(self, rows: Sequence[int], so_far: Tensor, logits: Tensor) -> Tensor:
        """Scores ``(B, V)`` of the next symbol for prompts ``rows`` after ``so_far`` ``(B, t)``.

        ``logits`` are the model's. To be called for every ``t`` in turn: only the newest column
        of ``so_far`` is read.
        """
        drawn = so_far[:, -1].tolist() if so_far.shape[1] else [None] * len(rows)
        options = []
        for row, token in zip(rows, drawn, strict=True):
            if token is not None:
                self._advance(self.rows[row], token)
            options.append(self._options(self.rows[row]))
        return self._scores(torch.tensor(options, device=logits.device), logits)

    def forced(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """The scores ``(B, T, V)`` at every step of completions ``(B, T)``, as step by step."""
        options = []
        for place, line in zip(self.rows, tokens.tolist(), strict=True):
            options.append([self._options(place)])
            for token in line[:-1]:
                self._advance(place, token)
                options[-1].append(self._options(place))
        return self._scores(torch.tensor(options, device=logits.device), logits)

    def _options(self, place: _Place) -> tuple[bool, int, bool]:
        """What is open: codes or not, the symbol to go on with (-1 for none), silence or not."""
        codes = place.announced >= 2 and place.frames < self.longest
        if place.announced >= 2 and not place.frames:
            return codes, -1, False
        between = place.read in place.word_ends and place.newest not in (self.silence, self.last)
        return codes, self._next(place), between

    def _scores(self, options: Tensor, logits: Tensor) -> Tensor:
        """Of options ``(..., 3)`` and logits ``(..., V)``."""
        codes, onward, silence = (part[..., None] for part in options.unbind(-1))
        self.is_code = self.is_code.to(logits.device)
        name = ~self.is_code
        name[self.silence] = False
        going_on = logits.masked_fill(~name, -torch.inf).logsumexp(-1, keepdim=True)
        symbol = torch.arange(self.size, device=logits.device)
        scores = logits.masked_fill(~(self.is_code & codes.bool()), -torch.inf)
        scores = torch.where(symbol == onward, going_on, scores)
        return torch.where((symbol == self.silence) & silence.bool(), logits, scores)

    def _next(self, place: _Place) -> int:
        """The symbol with which ``place`` goes on."""
        if place.newest == self.last:
            return self.end
        at_end = place.read == len(place.line)
        return self.last if at_end else place.line[place.read]

    def _advance(self, place: _Place, token: int) -> None:
        if self.is_code[token]:
            place.frames += 1
        else:
            place.read += token not in (self.silence, self.last)
            place.announced += 1
            place.newest, place.frames = token, 0


@dataclass
class _Place:
    """How far a row has come: phones read, names announced, codes since the newest name."""

    line: list[int]
    word_ends: set[int]
    read: int = 0
    announced: int = 0
    newest: int = -1
    frames: int = 0
