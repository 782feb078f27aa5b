"""An AR+NAR pair of one's own behind the speaker protocol; voices of a corpus with several."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common import registry
from common.artifacts import Files
from common.errors import UserError
from common.learners.dpo import Preference
from common.records import Candidate, Task
from common.stages import Context
from common.tracking import Nothing
from speech import audio, corpora
from speech.align import AlignConfig
from speech.codec.seanet import SEANetCodec, SEANetConfig
from speech.corpora import Corpus, Utterance
from speech.judges import SpeakerSimilarity
from speech.lm import ar, stream
from speech.lm.nar import MaskedCodes, NARConfig
from speech.setup import judges, rewarding
from speech.speaker import Coder, Speaker, Voice
from speech.speaking import load_policy, speaker_of, text_tasks
from speech.strategies import learner
from speech.tasks import recorded_tasks, tasks
from speech.text import phonemes
from speech.train import save_segments
from speech.vocoder import Vocoder, save_voice, voice_codes
from speech.voices import OwnVoice, VoicePrompts


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSPIRAL_PROMPTS", str(registry.get("prompts")))
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))


prompts = functools.cache(lambda: corpora.load("prompts"))


def context(folder: Path) -> Context:
    return Context(0, 1, Files(folder / "files"), Nothing(), lambda *_: None, folder)


def pair(folder: Path, codes: int = 16) -> AlignConfig:
    """An untrained codec at 24 kHz, its NAR and its AR, saved as their trainings save them."""
    torch.manual_seed(0)
    settings = SEANetConfig(
        sample_rate=24_000, filters=4, latent=8, lstm=0, codebooks=3, entries=16
    )
    codec = SEANetCodec(settings)
    codec.standardise(0.1 * torch.randn(1, 12_000))
    codec.eval()
    codec.seed_codebooks(0.1 * torch.randn(1, 24_000))
    codec.save(folder / "codec")
    lines = phonemes(["please enter your password again"])
    nar = MaskedCodes(NARConfig((16, 16, 16), tuple(lines[0]), 16, 2, 2, (2, 1)))
    nar.save(folder / "nar")
    wave = 0.1 * torch.randn(72_000).numpy()
    save_voice(voice_codes(codec, wave, 3), folder / "nar")
    tokenizer = stream.tokenizer(lines[0], codes)
    model = ar.build(ar.ARTraining(width=16, layers=1, heads=1), tokenizer)
    model.save_pretrained(folder / "ar")
    tokenizer.save_pretrained(folder / "ar")
    return AlignConfig(
        policy=str(folder / "ar"), codec=str(folder / "codec"), nar=str(folder / "nar")
    )


def test_a_pair_of_ones_own_says_a_text(tmp_path: Path) -> None:
    config = pair(tmp_path)
    policy = load_policy(config.policy)
    speaker = speaker_of(config, policy)
    assert isinstance(speaker, Vocoder) and speaker.codec.sample_rate == 24_000
    (task,) = text_tasks(["please enter your password again"], speaker)
    (said,) = policy.generate([task], n=1, seeds=lambda *_: 5, max_new_tokens=400)
    codes, _ = stream.frames(said.output)
    (wave,) = speaker.waves([said.output])
    assert codes and len(wave) == len(codes) * speaker.codec.hop
    assert speaker.prompts(["?!"]) == [""]


def test_a_pairs_golden_needs_the_places_of_phones(tmp_path: Path) -> None:
    config = pair(tmp_path)
    u = next(u for u in prompts().utterances if u.id == "en/vm-review")
    assert speaker_of(config, load_policy(config.policy)).golden(u) is None
    from speech.train import load_segments

    placed = load_segments(registry.get("starter-ar") / "segments.json.gz")
    save_segments({u.id: placed[u.id]}, tmp_path / "ar/segments.json.gz")
    speaker = speaker_of(config, load_policy(config.policy))
    golden = speaker.golden(u)
    assert golden is not None
    wave = torch.from_numpy(audio.read(u.path, 24_000))[None]
    codes, spoken = stream.frames(golden)
    assert codes == speaker.codec.encode(wave)[0, 0].tolist()
    assert set(spoken) <= set(placed[u.id][0]) | {stream.SILENCE}


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = pair(tmp_path / "a")
    policy = load_policy(config.policy)
    with pytest.raises(UserError, match="is for codebooks of .*16.*give the codec"):
        speaker_of(replace(config, codec="starter"), policy)
    with pytest.raises(UserError, match="no NAR with a voice prompt"):
        speaker_of(replace(config, nar=str(tmp_path)), policy)
    other = pair(tmp_path / "b", codes=32)
    with pytest.raises(UserError, match="holds 32 codes, the codec's first codebook 16"):
        speaker_of(other, load_policy(other.policy))


def test_the_starters_prompts_are_the_same_with_and_without_a_speaker() -> None:
    config, corpus = AlignConfig(texts=4, dev_texts=3), prompts()
    plain = tasks(config, corpus)
    starter = speaker_of(AlignConfig(), load_policy("starter"))
    assert tasks(config, corpus, starter) == plain
    assert len(tasks(replace(config, test_texts=5), corpus)) == 4 + 3 + 5


def corpus_of(folder: Path, subsets: tuple[str, ...] = ("train", "dev", "test")) -> Corpus:
    """Two speakers in each split, three recordings each, in one voice and another pitch."""
    found = [u for u in prompts().utterances if 4 <= len(u.text.split()) <= 8]
    source, made = iter(found), []
    for split in subsets:
        for voice, pitch in (("low", 1.25), ("high", 0.8)):
            for number in range(3):
                u = next(source)
                path = folder / f"{split}-{voice}-{number}.wav"
                soundfile.write(path, audio.read(u.path), round(16_000 / pitch))
                speaker = f"{split}-{voice}"
                made.append(Utterance(path.stem, u.text, path, speaker, "en", split))  # type: ignore[arg-type]
    return Corpus("own", tuple(made))


class Quiet(Vocoder):
    """A speaker that only writes prompts, and shows which voice it was given."""

    def __init__(self) -> None:
        pass

    def prompts(self, texts: object, voices: object = None) -> list[str]:
        assert isinstance(texts, list) and isinstance(voices, list)
        return [f"{v.text if v else ''}>{t}" for t, v in zip(texts, voices, strict=True)]


def test_each_text_is_prompted_with_its_own_speaker(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    codec = SEANetCodec(SEANetConfig(filters=2, latent=4, lstm=0, codebooks=1, entries=4))
    voices = VoicePrompts(corpus, Coder(codec.eval()))
    config = AlignConfig(pairs="golden", samples=1, texts=4, dev_texts=4)
    work = recorded_tasks(config, corpus, Quiet(), voices)
    assert {split: sum(t.split == split for t in work) for split in ("train", "dev", "test")} == {
        "train": 4, "dev": 4, "test": 4,
    }  # fmt: skip
    by_id = {u.id: u for u in corpus.utterances}
    for task in work:
        own, prompt = by_id[task.meta["utterance"]], by_id[task.meta["voice"]]
        assert own.speaker == prompt.speaker == task.meta["speaker"] and own.id != prompt.id
        assert task.reference == own.text and task.prompt == f"{prompt.text}>{own.text}"
        assert own.split == task.split
    assert not {t.meta["utterance"] for t in work} & voices.ids
    heard = voices.heard(by_id[work[0].meta["utterance"]])
    assert isinstance(heard, Voice) and heard.codes.dtype == np.uint16


def test_similarity_is_to_ones_own_voice(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ("test",))
    paths = {u.id: u.path for u in corpus.utterances}
    ctx = context(tmp_path)
    sets = [("low", "test-low-0"), ("low", "test-high-0"), ("none", None)]
    tasks_ = {
        str(i): Task(str(i), "p", "test", "x", meta={"voice": v}) for i, (_, v) in enumerate(sets)
    }
    clip = ctx.artifacts.put(paths["test-low-1"].read_bytes(), ".wav")
    candidates = [Candidate(f"c{i}", str(i), 0, "", artifact=clip) for i in range(3)]
    scores = [s["similarity"] for s in OwnVoice(paths).judge(tasks_, candidates, ctx)]
    direct = SpeakerSimilarity([audio.read(paths["test-low-0"])])
    assert scores[0] == direct.score([audio.read(paths["test-low-1"])])[0]["similarity"]
    assert scores[0] > scores[1] and scores[2] == 0


def test_a_corpus_without_dev_is_refused(tmp_path: Path) -> None:
    config = AlignConfig(pairs="golden", samples=1)
    with pytest.raises(UserError, match="'own' has 0 dev texts"):
        recorded_tasks(config, corpus_of(tmp_path, ("train", "test")), Vocoder.starter())


def test_who_rewards_does_not_evaluate(tmp_path: Path) -> None:
    own = corpus_of(tmp_path)
    # Two voices, no prompts: nothing is similar to anything.
    assert [j.names[0] for j in judges(own)] == ["wer", "dnsmos", "duration_ratio"]
    assert [j.names[0] for j in judges(prompts())] == [
        *("wer", "similarity", "dnsmos", "duration_ratio")
    ]
    far = AlignConfig(corpus="libritts:/x", pairs="golden")
    assert rewarding(far, own) == ([], {})
    assert rewarding(replace(far, pairs="self", reward="base.en"), own)[1] == {"wer": "lower"}
    found, by = rewarding(AlignConfig(rank="pareto"), prompts())
    assert by == {"ctc": "higher", "voice": "higher"}
    assert {name for judge in found for name in judge.names} >= by.keys()
    for config, said in (
        (replace(far, pairs="both"), "knows the starter's voice"),
        (replace(far, pairs="self", reward="tiny.en"), "cannot reward as well"),
    ):
        with pytest.raises(UserError, match=said):
            rewarding(config, own)


def nobody() -> Speaker:
    raise AssertionError("nothing needs to be heard")


def test_a_step_has_as_many_pairs_however_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AlignConfig(batch_size=16, grad_accum=8)
    for processes in (1, 2, 4, 16, 64, 128):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        made = learner(config, nobody)
        assert isinstance(made, Preference)
        assert made.batch_size * made.grad_accum * processes == 128
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="3 processes cannot share 16 x 8 pairs"):
        learner(config, nobody)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="ppo learns in one process"):
        learner(replace(config, strategy="ppo"), nobody)
