"""The autoregressive codec language model: text → first-codebook tokens.

A standard transformers ``LlamaForCausalLM`` over the symbols of ``speech/lm/stream.py``; the only
part of the codec language model that preference optimisation changes, as in SpeechAlign
(arXiv 2404.05600). ``upspiral speech train ar --recipe starter`` makes the starter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.training import generator, run_steps
from speech.lm import stream
from speech.segmentation import SILENCE, Segment
from speech.text import WORD_END

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Report = Callable[[int, int, str], None]
IGNORED = -100


@dataclass(frozen=True)
class ARTraining:
    """Size of the model and how it is trained; the defaults made the starter."""

    width: int = 192
    layers: int = 5
    heads: int = 3
    seed: int = 0
    steps: int = 2000
    batch_tokens: int = 2000
    learning_rate: float = 1.5e-3
    dropout: float = 0.1
    splice: float = 0.6
    voice: float = 0.1
    voice_frames: int = 150
    longest: int = 640
    corruption: float = 0.4
    """Up to this share of a row's codes is replaced in the input, so that sampled mistakes do not
    lead the model astray and a few recordings cannot be learnt by heart."""
    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Each recording is heard at these speeds, which also changes its codes."""


@dataclass(frozen=True)
class Spoken:
    """A recording as the model learns it: phones with word ends, segments, first-codebook codes."""

    phones: tuple[str, ...]
    segments: tuple[Segment, ...]
    codes: NDArray[np.int64]
    speaker: str = "one"


def build(config: ARTraining, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model for ``tokenizer``'s vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=round(config.width * 8 / 3 / 32) * 32,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=2048,
            attention_dropout=config.dropout,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


Word = tuple[tuple[str, ...], list[Segment]]
Example = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Input ids, and labels with the prompt ignored."""


def words(spoken: Spoken) -> list[Word]:
    """The words of a recording: phones (with the word end) and segments, trailing silence too."""
    found: list[Word] = []
    segments = list(spoken.segments)
    at = 0
    leading: list[Segment] = []
    while at < len(segments) and segments[at].phone == SILENCE:
        leading.append(segments[at])
        at += 1
    current: list[str] = []
    for phone in spoken.phones:
        if phone != WORD_END:
            current.append(phone)
            continue
        taken, wanted = list(leading), len(current)
        leading = []
        while at < len(segments) and (wanted or segments[at].phone == SILENCE):
            wanted -= segments[at].phone != SILENCE
            taken.append(segments[at])
            at += 1
        found.append(((*current, WORD_END), taken))
        current = []
    return found


def splice(
    corpus: Sequence[tuple[Spoken, list[Word]]], random: np.random.Generator, longest: int = 12
) -> Spoken:
    """A phrase nobody said: runs of words from several recordings, end to end.

    Runs keep the coarticulation inside them; new neighbours teach the model to read rather than
    to remember the few hundred sentences that were recorded.
    """
    phones: list[str] = []
    segments: list[Segment] = []
    codes: list[NDArray[np.int64]] = []
    at, left = 0, int(random.integers(2, longest + 1))
    while left > 0:
        source, parts = corpus[int(random.integers(len(corpus)))]
        length = min(left, int(random.integers(1, 5)), len(parts))
        if length == 0:
            continue
        start = int(random.integers(0, len(parts) - length + 1))
        for line, run in parts[start : start + length]:
            phones += line
            for segment in run:
                segments.append(Segment(segment.phone, at, at + segment.end - segment.start))
                codes.append(source.codes[segment.start : segment.end])
                at += segment.end - segment.start
        left -= length
    merged: list[Segment] = []
    for segment in segments:  # a silence after a run and one before the next are one silence
        if merged and merged[-1].phone == segment.phone == SILENCE:
            merged[-1] = merged[-1]._replace(end=segment.end)
        else:
            merged.append(segment)
    return Spoken(tuple(phones), tuple(merged), np.concatenate(codes))


class Batches:
    """Token batches that depend only on the seed and the step."""

    def __init__(
        self, config: ARTraining, tokenizer: PreTrainedTokenizerFast, corpus: Sequence[Spoken]
    ) -> None:
        self.config, self.tokenizer, self.corpus = config, tokenizer, corpus
        self.words = [(spoken, words(spoken)) for spoken in corpus]
        self.vocabulary = tokenizer.get_vocab()
        self.first_code = self.vocabulary["<c0>"]
        self.weights = np.array([len(s.codes) for s in corpus], float)
        self.weights /= self.weights.sum()

    def example(self, random: np.random.Generator) -> Example:
        """A prompt and its completion, some of whose codes are replaced in the input."""
        c = self.config
        while True:
            spoken = self.corpus[int(random.choice(len(self.corpus), p=self.weights))]
            if random.random() < c.splice:
                spoken = splice(self.words, random)
            voice: Sequence[int] = ()
            if random.random() < c.voice:
                other = self.corpus[int(random.choice(len(self.corpus), p=self.weights))]
                voice = list(other.codes[: c.voice_frames])
            ids, start = encode(self.vocabulary, spoken, voice)
            if len(ids) <= c.longest:
                break
        wanted = np.array(ids)
        shown = wanted.copy()
        swap = random.random(len(ids)) < random.uniform(0, c.corruption)
        swap &= (wanted >= self.first_code) & (np.arange(len(ids)) >= start)
        shown[swap] = random.integers(self.first_code, len(self.vocabulary), int(swap.sum()))
        wanted[:start] = IGNORED
        return shown, wanted

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Token ids ``(B, T)`` right-padded, and labels that count completions only."""
        random = generator(self.config.seed, "ar", step)
        # Neighbours in length share a batch, or half of it would be padding.
        pool = sorted((self.example(random) for _ in range(24)), key=lambda pair: len(pair[0]))
        last = int(random.integers(len(pool)))
        examples = [pool[last]]
        for pair in reversed(pool[:last]):
            if len(pool[last][0]) * (len(examples) + 1) > self.config.batch_tokens:
                break
            examples.append(pair)
        return pad(examples, self.tokenizer.pad_token_id)


def encode(
    vocabulary: Mapping[str, int], spoken: Spoken, voice: Sequence[int] = ()
) -> tuple[list[int], int]:
    """Token ids of prompt and completion, and the prompt's length."""
    unknown = vocabulary[stream.UNKNOWN]
    first = stream.prompt(spoken.phones, voice).split()
    then = stream.completion(spoken.segments, spoken.codes.tolist()).split()
    return [vocabulary.get(symbol, unknown) for symbol in (*first, *then)], len(first)


def pad(examples: Sequence[Example], padding: int) -> tuple[Tensor, Tensor]:
    """Ids ``(B, T)`` and labels, where prompts and padding are ignored."""
    length = max(len(shown) for shown, _ in examples)
    tokens = torch.full((len(examples), length), padding)
    labels = torch.full((len(examples), length), IGNORED)
    for row, (shown, wanted) in enumerate(examples):
        tokens[row, : len(shown)] = torch.from_numpy(shown)
        labels[row, : len(wanted)] = torch.from_numpy(wanted)
    return tokens, labels


def whole(vocabulary: Mapping[str, int], spoken: Spoken) -> Example:
    """``spoken`` as it was recorded, for validation."""
    ids, start = encode(vocabulary, spoken)
    wanted = np.array(ids)
    wanted[:start] = IGNORED
    return np.array(ids), wanted


def code_loss(
    model: LlamaForCausalLM, tokens: Tensor, labels: Tensor, first_code: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy of completions, and the means over code and over structure symbols."""
    logits = model(tokens, attention_mask=(tokens != model.config.pad_token_id).long()).logits
    wanted = labels[:, 1:].reshape(-1)
    losses = F.cross_entropy(
        logits[:, :-1].reshape(len(wanted), -1), wanted, ignore_index=IGNORED, reduction="none"
    )
    counted, is_code = wanted != IGNORED, wanted >= first_code
    structure = counted & ~is_code
    return losses[counted].mean(), losses[is_code].mean(), losses[structure].mean()


def train_ar(
    config: ARTraining,
    corpus: Sequence[Spoken],
    held_out: Sequence[Spoken],
    codes: int,
    folder: Path,
    progress: Report | None = None,
    name: str = "ar",
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Train on ``corpus``; ``held_out`` recordings only draw the curve of validation loss.

    ``name`` is that of the checkpoint and the curve in ``folder``.
    """
    tokenizer = stream.tokenizer({p for s in corpus for p in s.phones}, codes)
    model = build(config, tokenizer)
    batches = Batches(config, tokenizer, corpus)
    first_code = tokenizer.convert_tokens_to_ids("<c0>")
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    vocabulary = tokenizer.get_vocab()
    validation = [pad([whole(vocabulary, s)], tokenizer.pad_token_id) for s in held_out]

    def step(i: int) -> dict[str, float]:
        model.train()
        loss, on_codes, on_structure = code_loss(model, *batches.batch(i), first_code)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        figures = {"codes": on_codes.item(), "structure": on_structure.item()}
        if validation and (i + 1) % 250 == 0:
            model.eval()
            with torch.inference_mode():
                kept = [code_loss(model, *pair, first_code) for pair in validation]
            figures["held_out_codes"] = float(np.mean([k[1].item() for k in kept]))
            figures["held_out_structure"] = float(np.mean([k[2].item() for k in kept]))
        return figures

    run_steps(
        name, folder, config.steps, step, {"model": model}, {"ar": optimizer}, progress=progress
    )
    return model.eval(), tokenizer
