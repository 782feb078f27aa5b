"""Texts to say, as tasks: practised, tuned on, and tested; no text is in two of the splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from common.errors import UserError
from common.records import Split, Task, identity
from speech.align import AlignConfig
from speech.text import normalise, phonemes
from speech.texts import practice

if TYPE_CHECKING:  # torch takes seconds to import, a mistyped setting should not
    from speech.corpora import Corpus, Utterance
    from speech.speaker import Speaker
    from speech.voices import VoicePrompts

WORDS = (3, 40)
"""Least and most words of a text of a user's corpus: about one to fifteen seconds."""


def tasks(config: AlignConfig, corpus: Corpus, speaker: Speaker | None = None) -> list[Task]:
    """Texts to say. Test is the recorded test split: nothing it says is practised or tuned on.

    Without a ``speaker`` prompts are those of the starter's stream.
    """
    splits: tuple[Split, ...] = ("train", "dev", "test")
    texts = {split: unique(u.text for u in corpus.split(split)) for split in splits}
    held_out = {normalise(t) for split in ("dev", "test") for t in texts[split]}
    recorded = [t for t in texts["train"] if 3 <= len(normalise(t).split()) <= 14]
    recorded = sorted(recorded, key=identity)[: config.texts // 2]
    train = [*recorded, *practice("train", config.texts - len(recorded), held_out)]
    in_dev = [t for t in texts["dev"] if len(normalise(t).split()) >= 3][: config.dev_texts // 3]
    avoid = {normalise(t) for t in texts["test"]}
    dev = [*in_dev, *practice("dev", config.dev_texts - len(in_dev), avoid)]
    test = [t for t in texts["test"] if len(normalise(t).split()) >= 3]
    test = test[: config.test_texts or None]
    found: list[Task] = []
    for split, lines in zip(splits, (train, dev, test), strict=True):
        prompts = speaker.prompts(lines) if speaker else _stream(lines)
        for text, prompt in zip(lines, prompts, strict=True):
            found.append(Task(identity(split, text), prompt, split, text))
    return found


def _stream(lines: Sequence[str]) -> list[str]:
    from speech.lm import stream

    return [stream.prompt(phones) for phones in phonemes(lines)]


def recorded_tasks(
    config: AlignConfig,
    corpus: Corpus,
    speaker: Speaker,
    voices: VoicePrompts | None = None,
) -> list[Task]:
    """The texts of a user's own corpus, each once, with the recording that says it.

    With ``voices`` each text is said in the voice of the one who recorded it. ``meta`` names a
    task's utterance, speaker and voice prompt.

    Raises:
        UserError: fewer than two texts to practise, or to measure on.
    """
    splits: tuple[Split, ...] = ("train", "dev", "test")
    wanted = {"train": config.texts, "dev": config.dev_texts, "test": config.test_texts}
    taken = voices.ids if voices else set()
    found: list[Task] = []
    said: set[str] = set()
    for split in reversed(splits):  # what test says nobody practises, whatever the corpus thinks
        by_text: dict[str, Utterance] = {}
        for u in corpus.split(split):
            text = normalise(u.text, u.language)
            if u.id not in taken and text not in said and WORDS[0] <= len(text.split()) <= WORDS[1]:
                by_text.setdefault(text, u)
        said |= by_text.keys()
        chosen = sorted(by_text.values(), key=lambda u: identity(u.id))[: wanted[split] or None]
        heard = [voices.heard(u) for u in chosen] if voices else None
        prompts = speaker.prompts([u.text for u in chosen], heard)
        mine = []
        for u, prompt in zip(chosen, prompts, strict=True):
            own = voices.of(u) if voices else None
            meta = {"utterance": u.id, "speaker": u.speaker, "voice": own.id if own else None}
            if prompt:
                mine.append(Task(identity(split, u.id), prompt, split, u.text, u.language, meta))
        if split != "test" and len(mine) < 2:
            raise UserError(
                f"{corpus.name!r} has {len(mine)} {split} texts of {WORDS[0]} to {WORDS[1]} words",
                "add recordings; LibriTTS and LibriSpeech need a train, a dev and a test subset",
            )
        found = mine + found
    return found


def unique(texts: Iterable[str]) -> list[str]:
    """One of each that says the same."""
    return list({normalise(text): text for text in texts}.values())
