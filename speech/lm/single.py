"""Single-stream codec language models: text and codec tokens in one vocabulary, no NAR.

LLaSA (arXiv 2502.04128) is the model: a Llama whose tokenizer got ``<|s_0|>`` to ``<|s_65535|>``.
Its prompt is a chat turn with the text between ``<|TEXT_UNDERSTANDING_START|>`` and
``<|TEXT_UNDERSTANDING_END|>``, answered by ``<|SPEECH_GENERATION_START|>``; the completion is
codec tokens and ``<|SPEECH_GENERATION_END|>``. A voice prompt is the words of a recording before
the text, and its tokens at the start of the answer.

Another model's symbols go into ``token_format.json`` in its folder, with the fields of
:class:`TokenFormat`. Several codebooks are flattened: the codes of a frame follow one another, each
codebook with tokens of its own, so that code c of codebook q is number ``size_0 + … + size_{q-1} +
c``. How many codebooks there are is read off the number of code tokens in the vocabulary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.stages import Progress
from speech import audio
from speech.audio import Wave
from speech.codec import Codec
from speech.corpora import Utterance
from speech.speaker import Coder, Voice, device_of

if TYPE_CHECKING:
    from common.policies.local import HFPolicy

FILE = "token_format.json"
VOICE_SECONDS = 8.0
"""A voice prompt is cut here; its words cannot be, so a longer recording is refused."""


@dataclass(frozen=True)
class TokenFormat:
    """How a model writes speech. ``{}`` is a code's number, ``{text}`` what is to be said.

    With ``chat`` the two halves of the prompt go through the tokenizer's chat template, as the
    user's message and the beginning of the answer; without it they stand side by side.
    """

    code: str = "<|s_{}|>"
    ask: str = (
        "Convert the text to speech:<|TEXT_UNDERSTANDING_START|>{text}<|TEXT_UNDERSTANDING_END|>"
    )
    answer: str = "<|SPEECH_GENERATION_START|>"
    end: str = "<|SPEECH_GENERATION_END|>"
    chat: bool = True

    @property
    def symbols(self) -> list[str]:
        """What must be single tokens beside the codes."""
        return [*re.findall(r"<\|[^|]+\|>", self.ask), self.answer, self.end]

    def codes_in(self, vocabulary: dict[str, int]) -> dict[int, int]:
        """Number of each code → its token, for the codes that ``vocabulary`` holds."""
        pattern = re.compile(re.escape(self.code).replace(re.escape("{}"), r"(\d+)"))
        return {
            int(found[1]): token
            for symbol, token in vocabulary.items()
            if (found := pattern.fullmatch(symbol))
        }


LLASA = TokenFormat()


def detect(tokenizer: Any, folder: str | Path) -> TokenFormat | None:
    """The format of a model: its ``token_format.json``, or LLaSA's if its symbols are there.

    Raises:
        UserError: the file is not of that form.
    """
    path = Path(folder) / FILE
    if path.is_file():
        try:
            found = TokenFormat(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            known = ", ".join(asdict(LLASA))
            raise UserError(f"{path} describes no tokens: {error}", f"fields: {known}") from error
        if "{}" not in found.code or "{text}" not in found.ask:
            raise UserError(f"{path}: code or ask lacks its braces", "write {} and {text}")
        return found
    vocabulary = tokenizer.get_vocab()
    whole = all(symbol in vocabulary for symbol in LLASA.symbols)
    return LLASA if whole and LLASA.codes_in(vocabulary) else None


@dataclass
class SingleStream:
    """A codec and a model's token format. Satisfies :class:`speech.speaker.Speaker`.

    ``longest`` is how many tokens a golden completion may have; ``voice`` is a voice prompt for
    every text that comes without one of its own.
    """

    codec: Codec
    tokens: TokenFormat
    tokenizer: Any
    longest: int = 10**9
    voice: Voice | None = None

    def __post_init__(self) -> None:
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        self.by_code = self.tokens.codes_in(vocabulary)
        missing = [s for s in self.tokens.symbols if s not in vocabulary]
        if missing:
            raise UserError(
                f"the model's vocabulary lacks the symbol {missing[0]!r}",
                f"give a model that has it, or describe its own symbols in {FILE} in its folder",
            )
        ends = np.cumsum(self.codec.codebook_sizes).tolist()
        count = len(self.by_code)
        if count not in ends or sorted(self.by_code) != list(range(count)):
            raise UserError(
                f"the model's vocabulary holds {count} codes like {self.tokens.code.format(0)}, "
                f"this codec's first codebooks have {', '.join(map(str, ends[:8]))} together",
                "give the codec that the model was trained with: --codec",
            )
        self.books = ends.index(count) + 1
        self.offsets = [0, *ends[: self.books - 1]]
        self.coder = Coder(self.codec)

    def prepare(self, policy: HFPolicy) -> None:
        """See :class:`speech.speaker.Speaker`. A completion ends with ``tokens.end``."""
        tokenizer = policy.tokenizer
        size = policy.model.get_input_embeddings().num_embeddings
        if max(self.by_code.values()) >= size:
            raise UserError(
                f"the tokenizer has {len(tokenizer)} symbols, the model embeds {size}",
                "give model and tokenizer of one checkpoint",
            )
        tokenizer.eos_token = self.tokens.end
        # What transformers' own generation needs of the saved model, and its trainer warns of.
        for config in (policy.model.config, policy.model.generation_config):
            config.bos_token_id = tokenizer.bos_token_id
            config.eos_token_id = tokenizer.eos_token_id
            config.pad_token_id = tokenizer.pad_token_id
        some = [self.by_code[i] for i in (0, len(self.by_code) - 1, 0)]
        written = policy.decode(some)
        if tokenizer(written, add_special_tokens=False)["input_ids"] != some:
            raise UserError(
                f"the tokenizer reads {written!r} otherwise than it wrote it",
                f"make symbols like {self.tokens.code.format(0)} added tokens of the tokenizer",
            )
        policy.steer = self._steer

    def _steer(self, prompts: Sequence[str]) -> OnlyCodes:
        books = [
            [self.by_code[i] for i in range(start, start + size)]
            for start, size in zip(self.offsets, self.codec.codebook_sizes, strict=False)
        ]
        del prompts  # what may come next does not depend on the text
        return OnlyCodes(books, self.tokenizer.convert_tokens_to_ids(self.tokens.end))

    def prompts(
        self, texts: Sequence[str], voices: Sequence[Voice | None] | None = None
    ) -> list[str]:
        """What the policy continues to say each text; empty where there are no letters."""
        given = voices or [self.voice] * len(texts)
        return [
            self._prompt(text, voice or self.voice) if any(map(str.isalnum, text)) else ""
            for text, voice in zip(texts, given, strict=True)
        ]

    def _prompt(self, text: str, voice: Voice | None) -> str:
        before = f"{voice.text} " if voice else ""
        ask = self.tokens.ask.format(text=before + text)
        answer = self.tokens.answer + (self.write(voice.codes) if voice else "")
        if not self.tokens.chat:
            return ask + answer
        if self.tokenizer.chat_template is None:
            raise UserError(
                "the tokenizer has no chat template, which its token format asks for",
                f'write "chat": false into {FILE} in its folder if it was trained without',
            )
        turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
        whole: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, continue_final_message=True
        )
        # The tokenizer begins every text with it, and templates write it as well.
        begin = self.tokenizer.bos_token
        ids = self.tokenizer("")["input_ids"]
        if begin and ids[:1] == [self.tokenizer.bos_token_id]:
            whole = whole.removeprefix(begin)
        return whole

    def write(self, codes: Any) -> str:
        """Codes ``(Q, F)`` as the model writes them, without the end."""
        numbers = np.asarray(codes[: self.books], np.int64) + np.array(self.offsets)[:, None]
        return "".join(self.tokens.code.format(n) for n in numbers.T.ravel().tolist())

    def read(self, completion: str) -> Tensor:
        """Codes ``(books, F)`` of a completion's whole frames; whatever is no code is left out."""
        pattern = re.escape(self.tokens.code).replace(re.escape("{}"), r"(\d+)")
        numbers = [n for n in map(int, re.findall(pattern, completion)) if n in self.by_code]
        frames: list[list[int]] = []
        frame: list[int] = []
        for number in numbers:
            code = number - self.offsets[len(frame)]
            if 0 <= code < self.codec.codebook_sizes[len(frame)]:
                frame.append(code)
            else:  # out of step: the frame is lost, and this may be the first code of the next
                frame = [number] if number < self.codec.codebook_sizes[0] else []
            if len(frame) == self.books:
                frames.append(frame)
                frame = []
        return torch.tensor(frames, dtype=torch.int64).reshape(-1, self.books).T

    def golden(self, utterance: Utterance) -> str | None:
        """The codes of a recording and the end; None where that would pass ``longest`` tokens."""
        codes = self.coder(utterance.path)[: self.books]
        return self.write(codes) + self.tokens.end if codes.size < self.longest else None

    def waves(self, completions: Sequence[str], progress: Progress | None = None) -> list[Wave]:
        """Sound of each completion at the codec's rate; empty where it holds no whole frame."""
        made: list[Wave] = []
        for text in completions:
            codes = self.read(text)
            if codes.shape[1]:
                wave = self.codec.decode(codes[None].to(device_of(self.codec)))[0]
                made.append(wave.float().clamp(-1, 1).cpu().numpy())
            else:
                made.append(np.zeros(0, np.float32))
            if progress:
                progress(len(made), len(completions), "decode")
        return made

    def with_voice(self, wave: Wave) -> SingleStream:
        """The same with ``wave`` (codec rate) as voice prompt; a recogniser tells its words.

        Raises:
            UserError: it is longer than eight seconds, or no word is heard in it.
        """
        import soxr

        from speech.judges import Recogniser

        rate = self.codec.sample_rate
        if len(wave) > VOICE_SECONDS * rate:
            raise UserError(
                f"a voice prompt of {len(wave) / rate:.1f} s",
                f"give {VOICE_SECONDS:g} s at most: the model reads its words and hears all of it",
            )
        heard = Recogniser().transcribe([soxr.resample(wave, rate, audio.SAMPLE_RATE)])[0]
        if not heard:
            raise UserError("no words are heard in the voice prompt", "give clear speech")
        sound = torch.from_numpy(wave)[None].to(device_of(self.codec))
        codes = self.codec.encode(sound)[0].cpu().numpy().astype(np.uint16)
        return replace(self, voice=Voice(heard, codes))


class OnlyCodes:
    """Steers sampling to codes of the codebook whose turn it is; the end comes after whole frames.

    ``books`` are the tokens of each codebook. At least one frame is drawn.
    """

    def __init__(self, books: Sequence[Sequence[int]], end: int) -> None:
        self.books, self.end = books, end
        self._allowed: Tensor | None = None

    def __call__(self, rows: Sequence[int], so_far: Tensor, logits: Tensor) -> Tensor:  # noqa: ARG002
        """Scores ``(B, V)`` of the next token after ``so_far`` ``(B, t)``."""
        if self._allowed is None or self._allowed.shape[1] != logits.shape[1]:
            self._allowed = torch.zeros(
                len(self.books), logits.shape[1], dtype=torch.bool, device=logits.device
            )
            for turn, tokens in enumerate(self.books):
                self._allowed[turn, list(tokens)] = True
            self._allowed[0, self.end] = True
        turn = so_far.shape[1] % len(self.books)
        scores = logits.masked_fill(~self._allowed[turn], -torch.inf)
        if so_far.shape[1] == 0:
            scores[:, self.end] = -torch.inf
        return scores
