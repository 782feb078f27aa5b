"""The judges of speech on real recordings, and on clips that nothing can be heard in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from common.records import Candidate, Task
from common.stages import Context
from speech import audio, corpora, judges
from speech.audio import Wave
from speech.corpora import Utterance


@pytest.fixture(scope="module")
def recordings() -> list[tuple[Utterance, Wave]]:
    """Six English prompts of two to five seconds."""
    return clips("en", 6)


def clips(language: str, count: int) -> list[tuple[Utterance, Wave]]:
    try:
        found = corpora.load("prompts", languages=(language,)).split("train")
    except (UserError, ModuleNotFoundError) as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    chosen: list[tuple[Utterance, Wave]] = []
    for utterance in found:
        wave = audio.read(utterance.path)
        if 2 < len(wave) / audio.SAMPLE_RATE < 5 and len(utterance.text.split()) >= 4:
            chosen.append((utterance, wave))
        if len(chosen) == count:
            break
    return chosen


def unheard() -> list[Wave]:
    """Nothing, a click, silence and numbers that are none."""
    broken = np.full(16_000, np.nan, np.float32)
    return [np.zeros(n, np.float32) for n in (0, 100, 16_000)] + [broken]


class Folder:
    """Artifacts in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes, suffix: str = "") -> str:
        name = hashlib.sha256(data).hexdigest() + suffix
        (self.root / name).write_bytes(data)
        return name

    def path(self, address: str) -> Path:
        return self.root / address


class Quiet:
    """Progress and tracking that keep what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        self.told.append((done, total))

    def log(self, values: object, step: int) -> None: ...


def test_rates_by_hand() -> None:
    assert judges.wer("press one, please", "Press 1 please!") == 0
    assert judges.wer("please hold the line", "please fold the line") == pytest.approx(1 / 4)
    assert judges.wer("hello", "hello hello hello") == pytest.approx(2)
    assert judges.clipped_wer("hello", "hello hello hello") == 1
    assert judges.cer("abcd", "abed") == pytest.approx(1 / 4)
    assert judges.wer("", "") == 0
    assert judges.wer("", "two words") == 2
    assert judges.wer("two words", "") == 1


def test_recogniser_hears_recordings(recordings: list[tuple[Utterance, Wave]]) -> None:
    waves = [wave for _, wave in recordings]
    texts = [utterance.text for utterance, _ in recordings]
    judge = judges.Recogniser()
    scores = judge.score(waves, texts)
    assert np.mean([s["wer"] for s in scores]) < 0.3
    assert np.mean([s["cer"] for s in scores]) < 0.3
    wrong = judge.score(waves[:2], texts[2:4])
    assert min(s["wer"] for s in wrong) > 0.5


def test_a_transcript_depends_on_its_clip_alone(recordings: list[tuple[Utterance, Wave]]) -> None:
    judge = judges.Recogniser()
    waves = [wave for _, wave in recordings[:3]]
    assert judge.transcribe(waves) == [judge.transcribe([wave])[0] for wave in waves]
    assert judge.transcribe([unheard()[2], waves[0]]) == ["", judge.transcribe(waves[:1])[0]]


def test_a_loop_is_known() -> None:
    line = [11, 12, 13, 14, 15]
    assert judges._loops(line + line)
    assert not judges._loops(line)
    assert not judges._loops([1, 1, 1, 1])


def test_similarity_tells_voices_apart(recordings: list[tuple[Utterance, Wave]]) -> None:
    waves = [wave for _, wave in recordings]
    judge = judges.SpeakerSimilarity(waves[:3])
    same = [s["similarity"] for s in judge.score(waves[3:])]
    other = [s["similarity"] for s in judge.score([w for _, w in clips("it", 3)])]
    assert min(same) > max(other)
    assert np.allclose(np.linalg.norm(judge.embed(waves[:2]), axis=1), 1, atol=1e-5)
    assert judges.SpeakerSimilarity(judge.voice).score(waves[3:4])[0][
        "similarity"
    ] == pytest.approx(same[0])


def test_a_batch_of_voices_is_the_single_ones(recordings: list[tuple[Utterance, Wave]]) -> None:
    judge = judges.SpeakerSimilarity([recordings[0][1]])
    waves = [wave for _, wave in recordings[:3]]
    single = np.concatenate([judge.embed([wave]) for wave in waves])
    assert np.allclose(judge.embed(waves), single, atol=1e-5)


def test_reference_without_voice_is_refused() -> None:
    with pytest.raises(UserError, match="no voice"):
        judges.SpeakerSimilarity([np.zeros(16_000, np.float32)]).score(unheard())


def test_quality_falls_with_noise(recordings: list[tuple[Utterance, Wave]]) -> None:
    rng = np.random.default_rng(0)
    waves = [wave for _, wave in recordings[:2]]
    noisy = [w + 0.1 * rng.normal(size=len(w)).astype(np.float32) for w in waves]
    judge = judges.Quality()
    for good, bad in zip(judge.score(waves), judge.score(noisy), strict=True):
        assert all(1 <= value <= 5 for value in good.values())
        assert bad["dnsmos"] < good["dnsmos"] - 0.3
        assert bad["dnsmos_background"] < good["dnsmos_background"]


def test_quality_agrees_with_its_package(recordings: list[tuple[Utterance, Wave]]) -> None:
    from speechmos import dnsmos

    short = recordings[0][1][: 3 * audio.SAMPLE_RATE]
    long = np.concatenate([wave for _, wave in recordings])[: 10 * audio.SAMPLE_RATE]
    assert len(long) > judges.Quality.WINDOW > len(short)
    for wave, close in ((long, 1e-5), (short, 0.15)):
        mine, theirs = judges.Quality().score([wave])[0], dnsmos.run(wave, audio.SAMPLE_RATE)
        for name, key in (("dnsmos", "ovrl_mos"), ("dnsmos_signal", "sig_mos")):
            assert mine[name] == pytest.approx(theirs[key], abs=close)


def test_nothing_to_hear_scores_worst(recordings: list[tuple[Utterance, Wave]]) -> None:
    waves, texts = unheard(), ["please hold"] * 4
    made: list[judges.WaveJudge] = [
        judges.Recogniser(),
        judges.Quality(),
        judges.SpeakerSimilarity([recordings[0][1]]),
    ]
    for judge in made:
        assert judge.score(waves, texts) == [judge.lowest()] * len(waves)


def test_as_judges_of_candidates(tmp_path: Path, recordings: list[tuple[Utterance, Wave]]) -> None:
    utterance, wave = recordings[0]
    artifacts, quiet = Folder(tmp_path), Quiet()
    address = artifacts.put(audio.encode(wave), ".wav")
    ctx = Context(0, 0, artifacts, quiet, quiet, tmp_path)
    tasks = {"t": Task("t", "say it", reference=utterance.text), "n": Task("n", "say it")}
    spoken = Candidate("a", "t", 0, "", artifact=address)
    mute = Candidate("b", "t", 0, "")
    for judge in (judges.Quality(), judges.Recogniser()):
        scores = judge.judge(tasks, [spoken, mute], ctx)
        assert scores[1] == judge.lowest()
        assert scores[0] != judge.lowest()
    assert quiet.told[-1] == (2, 2)
    with pytest.raises(ValueError, match="no reference"):
        judges.Recogniser().judge(tasks, [Candidate("c", "n", 0, "", artifact=address)], ctx)
