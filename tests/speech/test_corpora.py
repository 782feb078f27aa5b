"""Splits share no sentence, layouts are read, mistakes are explained."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from speech import audio, corpora
from speech.corpora import Utterance, load, split_by_phrase, spoken_part
from speech.text import normalise
from speech.texts import practice

WORDS = ("press", "one", "the", "call", "pound", "your", "message", "is", "new", "hold")
PHRASES = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=40
)


def test_prompts_hold_out_sixty_texts_that_train_never_says() -> None:
    corpus = load("prompts")
    test = {normalise(u.text) for u in corpus.split("test")}
    dev = {normalise(u.text) for u in corpus.split("dev")}
    train = {normalise(u.text) for u in corpus.split("train")}
    assert len(test) >= 60
    assert all(len(text.split()) <= 20 for text in test | dev)
    assert not test & dev and not test & train and not dev & train
    assert len(corpus.split("train")) > 400
    assert all("silence" not in u.id and "[" not in u.text for u in corpus.utterances)


@settings(deadline=None)
@given(PHRASES)
def test_equal_texts_are_in_one_split(phrases: list[str]) -> None:
    utterances = [Utterance(str(i), text, Path("x"), "one") for i, text in enumerate(phrases)]
    split = split_by_phrase(utterances, test=4, dev=4)
    assert [u.id for u in split] == [u.id for u in utterances]
    where: dict[str, set[str]] = {}
    for u in split:
        where.setdefault(normalise(u.text), set()).add(u.split)
    assert all(len(splits) == 1 for splits in where.values())


def test_a_shared_sentence_links() -> None:
    texts = ["Login incorrect. Please try that again.", "Please try that again.", "Something else"]
    utterances = [Utterance(str(i), text, Path("x"), "one") for i, text in enumerate(texts)]
    for test in range(1, 5):
        a, b, _ = split_by_phrase(utterances, test=test, dev=0)
        assert a.split == b.split


def test_descriptions_are_not_speech() -> None:
    assert spoken_part("[this is a beep]") == ""
    assert spoken_part('IAX (note: does not say "2")') == "IAX"
    assert spoken_part("... extension ...") == "extension"


def test_layouts(tmp_path: Path) -> None:
    lj = tmp_path / "lj"
    (lj / "wavs").mkdir(parents=True)
    (lj / "metadata.csv").write_text("a|Dr. Who|Doctor Who\nb|It rains|It rains\n")
    assert [u.text for u in load(f"ljspeech:{lj}").utterances] == ["Doctor Who", "It rains"]
    libri = tmp_path / "libri/test-clean/12/34"
    libri.mkdir(parents=True)
    (libri / "12_34_0.wav").write_bytes(b"")
    (libri / "12_34_0.normalized.txt").write_text("Good day.")
    (found,) = load(f"libritts:{tmp_path / 'libri'}").utterances
    assert (found.speaker, found.split, found.text) == ("12", "test", "Good day.")
    own = tmp_path / "own"
    own.mkdir()
    (own / "metadata.csv").write_text("file,text,speaker\na.wav,hello there,me\n")
    (utterance,) = load(f"csv:{own}").utterances
    assert (utterance.path, utterance.speaker) == (own / "a.wav", "me")


prompts = functools.cache(lambda: load("prompts"))


def recorded(path: Path, number: int, rate: int) -> Utterance:
    """Real speech written to ``path`` at ``rate`` Hz; the recording that it came from."""
    found = [u for u in prompts().utterances if 3 <= len(u.text.split()) <= 6]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio.read(found[number].path, rate), rate)
    return found[number]


def test_librispeech_layout(tmp_path: Path) -> None:
    wanted = {}
    for number, place in enumerate(("train-clean-100/19/198", "dev-other/84/121", "test-x/61/7")):
        _, speaker, chapter = place.split("/")
        key = f"{speaker}-{chapter}-0000"
        original = recorded(tmp_path / place / f"{key}.flac", number, 16_000)
        text = original.text.upper()
        lines = f"{key} {text}\n{speaker}-{chapter}-0001 SOUND IS MISSING\n"
        (tmp_path / place / f"{speaker}-{chapter}.trans.txt").write_text(lines)
        wanted[key] = (speaker, ("train", "dev", "test")[number], original)
    found = load(f"librispeech:{tmp_path}").utterances
    assert {u.id for u in found} == wanted.keys()
    for u in found:
        speaker, split, original = wanted[u.id]
        assert (u.speaker, u.split, u.text) == (speaker, split, original.text.lower())
        heard, given = audio.read(u.path), audio.read(original.path)
        assert len(heard) == len(given) and abs(heard - given).max() < 1e-3


@pytest.mark.parametrize("version", ["0.92", "0.80"])
def test_vctk_layout(tmp_path: Path, version: str) -> None:
    for speaker in ("p225", "p226"):
        for number in range(6):
            key = f"{speaker}_{number + 1:03d}"
            name = f"{key}.wav" if version == "0.80" else f"{key}_mic1.flac"
            place = "wav48" if version == "0.80" else "wav48_silence_trimmed"
            original = recorded(tmp_path / place / speaker / name, number, 48_000)
            transcript = tmp_path / "txt" / speaker / f"{key}.txt"
            transcript.parent.mkdir(parents=True, exist_ok=True)
            transcript.write_text(f"{original.text}\n")
    (tmp_path / "txt/p225/p225_999.txt").write_text("a text without its sound\n")
    corpus = load(f"vctk:{tmp_path}")
    assert len(corpus.utterances) == 12
    assert {u.speaker for u in corpus.utterances} == {"p225", "p226"}
    assert all(audio.duration(u.path) > 0.3 for u in corpus.utterances)
    where: dict[str, set[str]] = {}
    for u in corpus.utterances:  # what both speakers read is in one split
        where.setdefault(u.text, set()).add(u.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert corpus.split("train") and corpus.split("dev") and corpus.split("test")


def test_links_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = prompts().utterances[:150]
    whole = split_by_phrase(utterances, test=20, dev=10)
    monkeypatch.setattr(corpora, "BLOCK", 7)
    assert split_by_phrase(utterances, test=20, dev=10) == whole


@pytest.mark.parametrize("name", ["nothing", "csv:/nowhere/at/all", "ljspeech:", "prompts:"])
def test_mistakes_name_the_input(name: str, tmp_path: Path) -> None:
    if name == "prompts:":
        (tmp_path / "metadata.csv").write_text("path,words\n")
        name = f"csv:{tmp_path}"
    with pytest.raises(UserError) as error:
        load(name)
    assert error.value.remedy


def test_practice_texts_are_new_and_disjoint() -> None:
    held_out = {normalise(u.text) for u in load("prompts").split("test")}
    train, dev = practice("train", 400, held_out), practice("dev", 100, held_out)
    assert len({*train}) == 400 and len({*dev}) == 100
    assert not {*map(normalise, train)} & {*map(normalise, dev)}
    assert not {*map(normalise, [*train, *dev])} & held_out
    avoided = normalise(train[0])
    assert avoided not in map(normalise, practice("train", 10, {avoided}))
    with pytest.raises(ValueError, match="patterns give"):
        practice("dev", 10**6)
