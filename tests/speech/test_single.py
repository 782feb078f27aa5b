"""Single-stream models: prompts and codes as LLaSA writes them, any number of codebooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from common.errors import UserError
from common.policies.local import HFPolicy
from common.records import Task
from common.stages import Progress
from speech import audio, corpora
from speech.audio import Wave
from speech.codec.seanet import SEANetCodec, SEANetConfig
from speech.lm.single import FILE, LLASA, OnlyCodes, SingleStream, TokenFormat, detect
from speech.speaker import Golden, Voice, recordings_of
from speech.speaking import load_policy, speaker_of
from tests.speech.single import llasa_tokenizer, save_lm


@pytest.fixture(scope="module")
def codec() -> SEANetCodec:
    """Three codebooks of 16 at 16 kHz, untrained."""
    torch.manual_seed(0)
    made = SEANetCodec(SEANetConfig(filters=4, latent=8, lstm=0, codebooks=3, entries=16))
    made.standardise(0.1 * torch.randn(1, 16_000))
    made.eval()
    made.seed_codebooks(0.1 * torch.randn(1, 32_000))
    return made


def single(codec: SEANetCodec, books: int = 2, tokens: TokenFormat = LLASA) -> SingleStream:
    return SingleStream(codec, tokens, llasa_tokenizer(16 * books))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    return tmp_path


def tiny_policy(books: int) -> HFPolicy:
    tokenizer = llasa_tokenizer(16 * books)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer) + 5, hidden_size=16, intermediate_size=32,
                         num_hidden_layers=1, num_attention_heads=2)  # fmt: skip
    return HFPolicy(LlamaForCausalLM(config), tokenizer)


def test_the_prompt_is_llasas(codec: SEANetCodec) -> None:
    speaker = single(codec)
    (prompt,) = speaker.prompts(["Good day."])
    wanted = (
        "<|start_header_id|>user<|end_header_id|>\n\nConvert the text to speech:"
        "<|TEXT_UNDERSTANDING_START|>Good day.<|TEXT_UNDERSTANDING_END|><|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n<|SPEECH_GENERATION_START|>"
    )
    assert prompt == wanted
    ids = tiny_policy(2).encode_prompt(prompt)
    begin = speaker.tokenizer.bos_token_id
    assert ids[0] == begin and ids.count(begin) == 1
    for symbol in LLASA.symbols[:-1]:
        assert ids.count(speaker.tokenizer.convert_tokens_to_ids(symbol)) == 1
    assert speaker.prompts(["?! ...", ""]) == ["", ""]


def test_a_voice_prompt_is_its_words_and_its_codes(codec: SEANetCodec) -> None:
    codes = np.array([[1, 2], [3, 4], [5, 6]], np.uint16)
    (prompt,) = single(codec).prompts(["good day"], [Voice("hello there", codes)])
    assert "START|>hello there good day<|TEXT" in prompt
    assert prompt.endswith("<|SPEECH_GENERATION_START|><|s_1|><|s_19|><|s_2|><|s_20|>")


@given(st.integers(1, 3), st.data())
@settings(deadline=None, max_examples=30)
def test_codes_are_read_as_they_were_written(books: int, data: st.DataObject) -> None:
    made = SEANetCodec(SEANetConfig(filters=2, latent=4, lstm=0, codebooks=3, entries=16))
    speaker = single(made, books)
    frames = data.draw(st.integers(1, 6))
    row = st.lists(st.integers(0, 15), min_size=frames, max_size=frames)
    codes = np.array([data.draw(row) for _ in range(3)])
    text = speaker.write(codes) + LLASA.end
    assert np.array_equal(speaker.read(text).numpy(), codes[:books])
    policy = tiny_policy(books)
    speaker.prepare(policy)
    ids = policy.encode_completion(text)
    assert len(ids) == books * frames + 1 and ids[-1] == policy.tokenizer.eos_token_id
    assert policy.encode_completion(policy.decode(ids[:-1])) == ids


def test_what_is_no_whole_frame_is_left_out(codec: SEANetCodec) -> None:
    speaker = single(codec)  # codes 0 to 15, then 16 to 31
    read = speaker.read("noise<|s_3|><|s_20|> words <|s_5|><|s_6|><|s_16|><|s_99|><|s_17|><|s_1|>")
    assert read.tolist() == [[3, 6], [4, 0]]
    assert speaker.read("nothing").shape == (2, 0)
    waves = speaker.waves(["nothing", speaker.write(np.array([[1, 2], [3, 4]]))])
    assert [len(w) for w in waves] == [0, 2 * codec.hop]


@pytest.mark.parametrize("books", [1, 2, 3])
def test_sampling_keeps_to_whole_frames(codec: SEANetCodec, books: int) -> None:
    speaker, policy = single(codec, books), tiny_policy(books)
    speaker.prepare(policy)
    end = policy.tokenizer.convert_tokens_to_ids(LLASA.end)
    assert policy.model.generation_config.eos_token_id == policy.tokenizer.eos_token_id == end
    tasks = [Task(str(i), speaker.prompts(["hello"])[0]) for i in range(3)]
    found = policy.generate(
        tasks, n=4, seeds=lambda t, i: 7 * int(t.id) + i, max_new_tokens=6 * books
    )
    for candidate in found:
        codes = speaker.read(candidate.output)
        drawn = candidate.tokens - candidate.meta["finished"]
        assert codes.shape == (books, drawn // books) and drawn % books == 0 and drawn > 0
    assert len({c.output for c in found}) > 6
    ended = OnlyCodes([[0, 1], [2, 3]], end=4)
    scores = ended([0], torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 6))
    assert scores.isfinite()[0].tolist() == [True, True, False, False, True, False]
    scores = ended([0], torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 6))
    assert scores.isfinite()[0].tolist() == [False, False, True, True, False, False]


def test_a_recording_is_its_codes(codec: SEANetCodec, home: Path) -> None:
    speaker = single(codec)
    u = next(u for u in corpora.load("prompts").utterances if u.id == "en/vm-review")
    text = speaker.golden(u)
    assert text is not None
    codes = codec.encode(torch.from_numpy(audio.read(u.path))[None])[0]
    assert torch.equal(speaker.read(text), codes[:2])
    # A second codec object finds what the first one coded.
    stored = [*(home / "home/cache/codes").rglob("*.npy")]
    assert len(stored) == 1 and single(codec).golden(u) == text
    speaker.longest = 10
    assert speaker.golden(u) is None
    told: list[tuple[int, int]] = []
    tasks = [Task("t", "p", reference=u.text), Task("other", "p", reference="nobody said this")]
    golden = Golden(recordings_of(tasks, [u]), single(codec))
    progress: Progress = lambda done, total, what: told.append((done, total))  # noqa: E731
    golden.fill(["t", "t2"], progress)
    assert dict(golden) == {"t": text} and "other" not in golden and told == [(1, 1)]


def test_formats_are_found_in_vocabulary_or_file(tmp_path: Path) -> None:
    assert detect(llasa_tokenizer(4), tmp_path) == LLASA
    from speech.lm import stream

    assert detect(stream.tokenizer(["k"], 4), tmp_path) is None
    other = TokenFormat(
        "<|s_{}|>", "say {text}", "<|SPEECH_GENERATION_START|>", "<|eot_id|>", False
    )
    (tmp_path / FILE).write_text(json.dumps(vars(other)))
    assert detect(llasa_tokenizer(4), tmp_path) == other
    for text, said in (
        ("{", "describes no tokens"),
        ('{"codes": 1}', "describes no tokens"),
        ('{"code": "<c>"}', "lacks its braces"),
    ):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UserError, match=said):
            detect(llasa_tokenizer(4), tmp_path)


def test_without_a_chat_template_halves_stand_side_by_side(codec: SEANetCodec) -> None:
    plain = TokenFormat(chat=False)
    speaker = SingleStream(codec, plain, llasa_tokenizer(16, None))
    assert speaker.prompts(["hi"]) == [plain.ask.format(text="hi") + plain.answer]
    with pytest.raises(UserError, match="no chat template"):
        SingleStream(codec, LLASA, llasa_tokenizer(16, None)).prompts(["hi"])


@pytest.mark.parametrize("codes", [8, 17, 64])
def test_a_codec_of_other_sizes_is_refused(codec: SEANetCodec, codes: int) -> None:
    with pytest.raises(UserError, match=f"holds {codes} codes like .*16, 32, 48 together.*--codec"):
        SingleStream(codec, LLASA, llasa_tokenizer(codes))


def test_a_model_smaller_than_its_tokenizer_is_refused(codec: SEANetCodec) -> None:
    policy = tiny_policy(2)
    policy.model.resize_token_embeddings(100)
    with pytest.raises(UserError, match="the model embeds 100"):
        single(codec).prepare(policy)


def test_any_model_is_told_apart_when_it_is_loaded(
    codec: SEANetCodec, home: Path, tmp_path: Path
) -> None:
    from speech.align import AlignConfig

    save_lm(tmp_path / "lm", codes=32)
    codec.save(tmp_path / "codec")
    policy = load_policy(str(tmp_path / "lm"))
    config = AlignConfig(policy=str(tmp_path / "lm"), codec=str(tmp_path / "codec"))
    speaker = speaker_of(config, policy)
    assert isinstance(speaker, SingleStream) and speaker.books == 2
    with pytest.raises(UserError, match="holds 32 codes.*--codec"):
        speaker_of(AlignConfig(policy=config.policy), policy)
    save_lm(tmp_path / "text", codes=0)
    with pytest.raises(UserError, match=f"no codec language model.*{FILE}"):
        load_policy(str(tmp_path / "text"))


def test_sound_is_what_the_codec_makes_of_the_codes(codec: SEANetCodec) -> None:
    def direct(codes: Sequence[Sequence[int]]) -> Wave:
        return codec.decode(torch.tensor([codes]))[0].clamp(-1, 1).numpy()

    codes = [[1, 2, 3], [4, 5, 6]]
    (wave,) = single(codec).waves([single(codec).write(np.array(codes)) + LLASA.end])
    np.testing.assert_array_equal(wave, direct(codes))
