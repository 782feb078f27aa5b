"""Repetition, early stops, durations and speed, by hand; and the recogniser that tells them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from speech import audio, corpora, measures
from speech.corpora import Corpus, Utterance
from speech.judges import Recogniser


@pytest.mark.parametrize(
    ("text", "heard", "wanted"),
    [
        ("please hold the line", "Please hold the line.", 0),
        ("please hold the line", "please hold please hold the line", 1),
        ("please hold the line", "please hold the the line", 1),
        ("please hold the line", "please hold the line please hold", 0),  # not at once
        ("that that is is", "that that is is", 0),  # the text repeats it itself
        ("that that is is", "that that is that is", 1),
        ("please hold", "", 0),
    ],
)
def test_repetition(text: str, heard: str, wanted: float) -> None:
    assert measures.repetition(text, heard) == wanted


@pytest.mark.parametrize(
    ("text", "heard", "wanted"),
    [
        ("press one now", "Press one now!", 0),
        ("press one now", "press one", 1),
        ("press one now", "press now", 0),  # a hole is no early stop
        ("press one now", "press one cow", 0),  # said badly, but said
        ("press one now", "press one now and then", 0),
        ("press one now", "", 1),
        ("", "anything", 0),
    ],
)
def test_early_stop(text: str, heard: str, wanted: float) -> None:
    assert measures.early_stop(text, heard) == wanted


words = st.lists(st.sampled_from("abcd"), max_size=10)


@given(words, words)
def test_a_text_heard_as_it_is_neither_loops_nor_stops(text: list[str], more: list[str]) -> None:
    said = " ".join(text)
    assert measures.repetition(said, said) == measures.early_stop(said, said) == 0
    assert measures.repeats([*more, *text, *text]) >= ({tuple(text)} if text else set())
    assert not measures.repeats(sorted(set(text)))


def test_expected_seconds_are_the_recordings_or_the_phones() -> None:
    one, two = measures.phones_in(["press", "press press"])
    assert (one, two) == (4, 8)
    found = measures.expected_seconds(["press", "press press"], {"press": 0.7}, 0.1)
    assert found == pytest.approx([0.7, 0.8])


def test_durations_against_recordings_and_pace(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    audio.write(tmp_path / "a.wav", noise)  # 2 s for 4 phones
    audio.write(tmp_path / "b.wav", noise[:16_000])  # 1 s, in test
    corpus = Corpus("two", (
        Utterance("a", "press", tmp_path / "a.wav", "one"),
        Utterance("b", "hold", tmp_path / "b.wav", "one", split="test"),
    ))  # fmt: skip
    assert measures.seconds_per_phone(corpus) == pytest.approx(0.5)
    judge = measures.Duration(corpus)
    texts = ["press", "hold", "press press", "press"]
    waves = [noise, noise, noise, np.zeros(16_000, np.float32)]
    scores = judge.score(waves, texts)
    assert [s["duration_ratio"] for s in scores] == pytest.approx([1, 2, 0.5, 0])
    assert [s["duration_error"] for s in scores] == pytest.approx(
        [0, math.log(2), math.log(2), math.log(10)]
    )
    with pytest.raises(ValueError, match="has a phone"):
        measures.seconds_per_phone(Corpus("none", corpus.utterances[1:]))


def test_loops_and_early_stops_of_recordings_are_heard() -> None:
    try:
        found = corpora.load("prompts").split("train")
    except (UserError, ModuleNotFoundError) as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    utterance = next(u for u in found if u.text.lower().startswith("please enter"))
    wave = audio.read(utterance.path)
    judge = measures.Fluency()
    whole, twice, half = judge.score(
        [wave, np.concatenate([wave, wave]), wave[: len(wave) // 2]], [utterance.text] * 3
    )
    assert whole["repetition"] == whole["early_stop"] == 0
    assert twice["repetition"] == 1 and twice["early_stop"] == 0
    assert half["early_stop"] == 1 and half["repetition"] == 0
    plain = Recogniser().score([wave], [utterance.text])[0]
    assert plain == {"wer": whole["wer"], "cer": whole["cer"]}
    assert judge.score([np.zeros(16_000, np.float32)], ["press"]) == [judge.lowest()]
