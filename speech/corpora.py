"""Recorded speech with transcripts, split by phrase so that no sentence of test is in train.

Corpora: the telephone prompts that ``upspiral data get prompts`` installs, a folder with a CSV,
and the LJSpeech, LibriTTS, LibriSpeech and VCTK layouts. Each gives :class:`Utterance` records and
nothing is read from disk until audio is asked for.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserError
from common.records import Split, identity
from speech.text import normalise

VOICES = {
    "en": ("en_US_f_Allison", "allison"),
    "es": ("es_MX_f_Allison", "allison"),
    "fr": ("fr_CA_f_June", "june"),
    "it": ("it_IT_m_Carlo", "carlo"),
    "ru": ("ru_RU_f_IvrvoiceRU", "ivrvoice"),
}
"""Language of the recorded prompts → (folder, speaker). English and Spanish are one person."""
BLOCK = 512
"""Texts that are compared with all others at once."""


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it."""

    id: str
    text: str
    path: Path
    speaker: str
    language: str = "en"
    split: Split = "train"


@dataclass(frozen=True)
class Corpus:
    """Utterances whose splits share no phrase."""

    name: str
    utterances: tuple[Utterance, ...]

    def split(self, split: Split, language: str | None = None) -> list[Utterance]:
        chosen = [u for u in self.utterances if u.split == split]
        return [u for u in chosen if language in (None, u.language)]


def load(name: str, languages: Sequence[str] = ("en",)) -> Corpus:
    """``prompts``, or ``KIND:FOLDER`` of csv, ljspeech, libritts, librispeech or vctk, as a corpus.

    LibriTTS and LibriSpeech are split as their subsets are named, so that no speaker is in two
    splits; the others by phrase.

    Raises:
        UserError: the name, the folder or the layout is not one we know.
    """
    kind, _, where = name.partition(":")
    if kind == "prompts":
        from common import registry

        root = registry.get("prompts", languages=tuple(languages))
        found = [u for language in languages for u in _prompts(root, language)]
        return Corpus(name, tuple(split_by_phrase(found, test=64, dev=30)))
    readers = {"csv": _csv, "ljspeech": _ljspeech, "libritts": _libritts,
               "librispeech": _librispeech, "vctk": _vctk}  # fmt: skip
    if kind not in readers:
        known = ", ".join(f"{kind}:FOLDER" for kind in readers)
        raise UserError(f"unknown corpus {name!r}", f"use prompts, {known}")
    folder = Path(where).expanduser()
    if not folder.is_dir():
        raise UserError(f"corpus folder {where!r} is not there", f"check the path after {kind}:")
    found = list(readers[kind](folder))
    if not found:
        raise UserError(f"no recordings with transcripts in {where!r}", f"is it a {kind} folder?")
    if kind.startswith("libri"):
        return Corpus(name, tuple(found))
    held_out = max(1, min(64, len(found) // 10))
    return Corpus(name, tuple(split_by_phrase(found, test=held_out, dev=held_out)))


def _prompts(root: Path, language: str) -> Iterator[Utterance]:
    if language not in VOICES:
        raise UserError(f"no recorded prompts in {language!r}", f"use one of {', '.join(VOICES)}")
    folder, speaker = VOICES[language]
    listing = root / f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
    sounds = root / "usr/share/asterisk/sounds" / folder
    with gzip.open(listing, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, colon, text = line.partition(":")
            text = spoken_part(text)
            path = sounds / f"{key.strip()}.g722"
            if not colon or line.startswith(";") or not text or key.startswith("silence/"):
                continue
            if path.is_file():
                yield Utterance(f"{language}/{key.strip()}", text, path, speaker, language)


def spoken_part(text: str) -> str:
    """The transcript without descriptions of noises, notes in brackets and dots of omission."""
    text = re.sub(r"[\[(<{][^\])>}]*[\])>}]", " ", text)
    return " ".join(text.replace("...", " ").replace("…", " ").replace('"', " ").split())


def _csv(folder: Path) -> Iterator[Utterance]:
    """``metadata.csv`` with a header: ``file`` and ``text``, and if known ``speaker, language``."""
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(f"no metadata.csv in {str(folder)!r}", "add one with columns file,text")
    with table.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        if not {"file", "text"} <= set(rows.fieldnames or ()):
            raise UserError(f"{str(table)!r} lacks a column", "its header must name file and text")
        for row in rows:
            path = folder / row["file"]
            speaker, language = row.get("speaker") or "one", row.get("language") or "en"
            yield Utterance(row["file"], row["text"], path, speaker, language)


def _ljspeech(folder: Path) -> Iterator[Utterance]:
    """``metadata.csv`` of ``id|raw|normalised`` lines beside ``wavs/``."""
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(f"no metadata.csv in {str(folder)!r}", "name the folder that holds wavs/")
    for line in table.read_text(encoding="utf-8").splitlines():
        key, *texts = line.split("|")
        if texts and texts[-1].strip():
            yield Utterance(key, texts[-1].strip(), folder / "wavs" / f"{key}.wav", "lj")


def _subset(name: str) -> Split:
    """The split that a subset such as ``dev-clean`` belongs to."""
    prefix = name.split("-")[0]
    return "dev" if prefix == "dev" else "test" if prefix == "test" else "train"


def _libritts(folder: Path) -> Iterator[Utterance]:
    """``SUBSET/SPEAKER/CHAPTER/*.wav`` with ``*.normalized.txt``; the subset names the split."""
    for path in sorted(folder.glob("*/*/*/*.wav")):
        subset, speaker = path.relative_to(folder).parts[:2]
        transcript = path.with_suffix(".normalized.txt")
        if transcript.is_file():
            text = transcript.read_text(encoding="utf-8").strip()
            yield Utterance(path.stem, text, path, speaker, "en", _subset(subset))


def _librispeech(folder: Path) -> Iterator[Utterance]:
    """``SUBSET/SPEAKER/CHAPTER/*.flac``, ``ID TEXT`` lines in the chapter's ``*.trans.txt``.

    The texts are in capitals; they are kept in lower case, which every reader of text knows.
    """
    for table in sorted(folder.glob("*/*/*/*.trans.txt")):
        subset, speaker = table.relative_to(folder).parts[:2]
        for line in table.read_text(encoding="utf-8").splitlines():
            key, _, text = line.strip().partition(" ")
            path = table.with_name(f"{key}.flac")
            if text and path.is_file():
                yield Utterance(key, text.strip().lower(), path, speaker, "en", _subset(subset))


def _vctk(folder: Path) -> Iterator[Utterance]:
    """``txt/SPEAKER/ID.txt`` and its sound, the first microphone's where there are two.

    ``wav48_silence_trimmed/SPEAKER/ID_mic1.flac`` (0.92) or ``wav48/SPEAKER/ID.wav`` (0.80). All
    speakers read some texts; a text is in one split, whoever reads it.
    """
    for transcript in sorted(folder.glob("txt/*/*.txt")):
        speaker, key = transcript.parent.name, transcript.stem
        sounds = (
            folder / "wav48_silence_trimmed" / speaker / f"{key}_mic1.flac",
            folder / "wav48" / speaker / f"{key}.wav",
        )
        text = " ".join(transcript.read_text(encoding="utf-8").split())
        path = next((sound for sound in sounds if sound.is_file()), None)
        if text and path is not None:
            yield Utterance(key, text, path, speaker)


def split_by_phrase(
    utterances: Iterable[Utterance], test: int, dev: int, words: tuple[int, int] = (3, 20)
) -> list[Utterance]:
    """Assign splits so that utterances which share a sentence, or nearly, stay together.

    Per language, groups of linked utterances are drawn in an order that depends only on their
    texts, until ``test`` and then ``dev`` different texts are held out, each at least ``words[0]``
    words long. A group with a text longer than ``words[1]`` stays in train (a minute of reading
    would be half of a small test set), and so does one larger than a quarter of what is wanted.
    """
    found = list(utterances)
    result: dict[str, Split] = {}
    for language in sorted({u.language for u in found}):
        mine = [u for u in found if u.language == language]
        wanted: dict[Split, int] = {"test": test, "dev": dev}
        groups = sorted(_linked(mine), key=lambda g: identity(sorted(normalise(u.text) for u in g)))
        for group in groups:
            texts = {normalise(u.text, language) for u in group}
            lengths = [len(text.split()) for text in texts]
            counted = sum(length >= words[0] for length in lengths)
            for split, room in wanted.items():
                if counted and max(lengths) <= words[1] and counted <= min(room, max(1, room // 4)):
                    wanted[split] -= counted
                    result |= {u.id: split for u in group}
                    break
    return [replace(u, split=result.get(u.id, "train")) for u in found]


def _linked(utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """Groups connected by a shared sentence of three words, or texts at least 85% alike."""
    import numpy as np
    from rapidfuzz import fuzz, process

    texts = [normalise(u.text, u.language) for u in utterances]
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    owner: dict[str, int] = {}
    for i, utterance in enumerate(utterances):
        sentences = re.split(r"[.!?]+", utterance.text)
        for sentence in {normalise(s, utterance.language) for s in sentences} | {texts[i]}:
            if len(sentence.split()) >= 3 or sentence == texts[i]:
                parent[root(owner.setdefault(sentence, i))] = root(i)
    # Each text once and in blocks: all against all of a large corpus would not fit into memory.
    first = {text: i for i, text in reversed([*enumerate(texts)])}
    unique, places = [*first], [*first.values()]
    for start in range(0, len(unique), BLOCK):
        block = unique[start : start + BLOCK]
        alike = process.cdist(block, unique, scorer=fuzz.ratio, score_cutoff=85, dtype=np.float32)
        for i, j in zip(*alike.nonzero(), strict=True):
            parent[root(places[start + int(i)])] = root(places[int(j)])
    groups: dict[int, list[Utterance]] = {}
    for i, utterance in enumerate(utterances):
        groups.setdefault(root(i), []).append(utterance)
    return list(groups.values())
