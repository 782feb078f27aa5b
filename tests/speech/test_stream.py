"""Streams round-trip, and the mask admits recorded streams and nothing out of order."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.policies.local import HFPolicy
from common.policies.sampling import forced_scores
from common.records import Task
from speech.lm import ar, stream
from speech.segmentation import SILENCE, Segment
from speech.text import WORD_END

PHONES = ("k", "ɔː", "l", "t")
TOKENIZER = stream.tokenizer(PHONES, 16)
EVEN = torch.zeros(1, len(TOKENIZER))


def test_doubt_about_the_next_phone_does_not_slow_the_speech() -> None:
    prompt = stream.prompt(["k", "l", "t", WORD_END])
    k, ell, code = (TOKENIZER.convert_tokens_to_ids(s) for s in ("k", "l", "<c0>"))
    mask = stream.Monotonic(TOKENIZER, [prompt])
    for drawn in ([], [k], [k, ell]):
        mask([0], torch.tensor(drawn, dtype=torch.long).reshape(1, -1), EVEN)
    scores = mask([0], torch.tensor([[k, ell, code]]), EVEN).softmax(-1)
    names = len(TOKENIZER) - 16 - 1  # every symbol that is neither a code nor silence
    expected = names / (names + 16)
    assert abs(scores[0, TOKENIZER.convert_tokens_to_ids("t")].item() - expected) < 1e-5


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[str], list[Segment], list[int]]:
    """Words of phones, silences between some, and one to five codes for each."""
    words = draw(st.lists(st.lists(st.sampled_from(PHONES), min_size=1, max_size=3),
                          min_size=1, max_size=4))  # fmt: skip
    line: list[str] = []
    names = [SILENCE] if draw(st.booleans()) else []
    for word in words:
        line += [*word, WORD_END]
        names += word
        if draw(st.booleans()):
            names.append(SILENCE)
    segments, at = [], 0
    for name in names:
        length = draw(st.integers(1, 5))
        segments.append(Segment(name, at, at + length))
        at += length
    codes = draw(st.lists(st.integers(0, 15), min_size=at, max_size=at))
    return line, segments, codes


@given(recordings())
def test_codes_and_phones_come_back(recording: tuple[list[str], list[Segment], list[int]]) -> None:
    line, segments, codes = recording
    text = stream.completion(segments, codes)
    spoken = [s.phone for s in segments for _ in range(s.start, s.end)]
    assert stream.frames(text) == (codes, spoken)
    assert stream.phones_of(stream.prompt(line, [3, 4])) == line
    assert stream.frames(stream.prompt(line, [3, 4]))[0] == [3, 4]
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids).split() == text.split()


@given(recordings())
def test_the_mask_admits_what_was_recorded(
    recording: tuple[list[str], list[Segment], list[int]],
) -> None:
    line, segments, codes = recording
    mask = stream.Monotonic(TOKENIZER, [stream.prompt(line)])
    ids = TOKENIZER(stream.completion(segments, codes))["input_ids"]
    for t, token in enumerate(ids):
        so_far = torch.tensor([ids[:t]], dtype=torch.long).reshape(1, t)
        assert mask([0], so_far, EVEN)[0, token] > -torch.inf


@given(recordings(), st.integers(0, 2**32))
def test_whatever_the_mask_admits_reads_the_text_in_order(
    recording: tuple[list[str], list[Segment], list[int]], seed: int
) -> None:
    line, _, _ = recording
    random = np.random.default_rng(seed)
    mask = stream.Monotonic(TOKENIZER, [stream.prompt(line)], longest=3)
    drawn: list[int] = []
    while not drawn or drawn[-1] != TOKENIZER.eos_token_id:
        so_far = torch.tensor(drawn, dtype=torch.long).reshape(1, -1)
        choices = (mask([0], so_far, EVEN)[0] > -torch.inf).nonzero()[:, 0].tolist()
        assert choices and len(drawn) < 400
        drawn.append(int(random.choice(choices)))
    symbols = TOKENIZER.convert_ids_to_tokens(drawn)
    spoken = [s for s in symbols if s in PHONES]
    assert spoken == [phone for phone in line if phone != WORD_END]
    assert stream.frames(" ".join(symbols))[0]


def test_a_label_before_the_prompt_leaves_the_text_in_order() -> None:
    """Sampled by a policy that was given the label's symbols after its tokenizer was made."""
    config = ar.ARTraining(width=24, layers=1, heads=2)
    policy = HFPolicy(ar.build(config, TOKENIZER), TOKENIZER, device="cpu")
    policy.steer = lambda prompts: stream.Monotonic(policy.tokenizer, prompts, longest=3)
    policy.add_symbols([stream.GOOD, stream.BAD])
    line = ["k", "l", WORD_END, "t", WORD_END]
    task = Task("t", stream.prompt(line, [3, 4]))
    for label in (stream.GOOD, stream.BAD, ""):
        with policy.conditioned(label):
            ids = policy.encode_prompt(task.prompt)
            assert policy.decode(ids) == f"{label} {task.prompt}".strip()
            assert TOKENIZER.unk_token_id not in ids
            found = policy.generate(
                [task], n=20, seeds=lambda task, index: index, max_new_tokens=80
            )
        assert all(c.meta["finished"] for c in found)
        for candidate in found:
            spoken = [s for s in candidate.output.split() if s in PHONES]
            assert spoken == ["k", "l", "t"]
            assert stream.frames(candidate.output)[0]
    assert stream.phones_of(f"{stream.GOOD} {task.prompt}") == line
    with policy.at_start():
        assert len(policy.tokenizer) == len(TOKENIZER) == policy.model.config.vocab_size
        assert policy.generate([task], n=2, seeds=lambda t, i: i, max_new_tokens=80)


@given(st.lists(recordings(), min_size=1, max_size=3), st.integers(0, 2**32))
def test_all_steps_at_once_are_the_steps_one_by_one(
    found: list[tuple[list[str], list[Segment], list[int]]], seed: int
) -> None:
    """Scores equal to the last bit, in the gradient too; what a batch pads with does not matter."""
    prompts = [stream.prompt(line) for line, _, _ in found]
    ids = [
        TOKENIZER(stream.completion(segments, codes))["input_ids"] for _, segments, codes in found
    ]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in ids], batch_first=True)
    real = torch.arange(tokens.shape[1]) < torch.tensor([[len(one)] for one in ids])
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*tokens.shape, len(TOKENIZER), generator=generator, requires_grad=True)
    weight = torch.randn(*logits.shape, generator=generator) * real[..., None]
    answers = []
    for steer in (
        stream.Monotonic(TOKENIZER, prompts, longest=4),
        partial(stream.Monotonic(TOKENIZER, prompts, longest=4)),  # which hides its batched form
    ):
        scores = forced_scores(steer, tokens, logits)
        (gradient,) = torch.autograd.grad(
            (scores.masked_fill(scores.isinf(), 0) * weight).sum(), logits
        )
        answers.append((scores[real], gradient))
    assert torch.equal(answers[0][0], answers[1][0])
    assert (
        torch.allclose(answers[0][1], answers[1][1], atol=1e-6) and answers[0][1].isfinite().all()
    )
