"""The codec language models: data they learn from, losses, and decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.policies import Sample
from common.policies.local import HFPolicy
from common.records import Task
from common.training import generator
from speech.lm import stream
from speech.lm.ar import IGNORED, ARTraining, Batches, Spoken, build, code_loss, splice, words
from speech.lm.nar import (
    Coded,
    MaskedCodes,
    NARConfig,
    NARTraining,
    corrupt,
    masked_loss,
    train_nar,
    voice_prompt,
)
from speech.segmentation import SILENCE, Segment
from speech.text import WORD_END

SMALL = NARConfig((16, 32, 32), ("a", "b"), width=32, blocks=2, heads=2, steps=(4, 2))


def spoken(seed: int) -> Spoken:
    """Two words with a silence between; each phone has codes of its own."""
    random = np.random.default_rng(seed)
    names = [SILENCE, "k", "a", SILENCE, "t", "a"]
    lengths = random.integers(2, 5, len(names))
    ends = np.cumsum(lengths).tolist()
    where = [Segment(n, e - d, e) for n, d, e in zip(names, lengths.tolist(), ends, strict=True)]
    base = {SILENCE: 0, "k": 4, "a": 8, "t": 12}
    codes = np.concatenate([base[s.phone] + random.integers(0, 4, s.end - s.start) for s in where])
    return Spoken(("k", "a", WORD_END, "t", "a", WORD_END), tuple(where), codes)


def test_words_take_their_silence() -> None:
    one = spoken(0)
    parts = words(one)
    assert [line for line, _ in parts] == [("k", "a", WORD_END), ("t", "a", WORD_END)]
    assert [s.phone for s in parts[0][1]] == [SILENCE, "k", "a", SILENCE]
    assert [s for _, run in parts for s in run] == list(one.segments)


@pytest.mark.parametrize("seed", range(8))
def test_splices_are_well_formed(seed: int) -> None:
    corpus = [spoken(i) for i in range(4)]
    made = splice([(s, words(s)) for s in corpus], np.random.default_rng(seed))
    assert [p for p in made.phones if p != WORD_END] == [
        s.phone for s in made.segments if s.phone != SILENCE
    ]
    assert made.segments[0].start == 0 and made.segments[-1].end == len(made.codes)
    for a, b in zip(made.segments, made.segments[1:], strict=False):
        assert a.end == b.start and not a.phone == b.phone == SILENCE
    base = {SILENCE: 0, "k": 4, "a": 8, "t": 12}
    for s in made.segments:
        assert (made.codes[s.start : s.end] // 4 * 4 == base[s.phone]).all()


def test_batches_hide_prompts_and_corrupt_inputs_only() -> None:
    corpus = [spoken(i) for i in range(4)]
    tokenizer = stream.tokenizer({p for s in corpus for p in s.phones}, 16)
    config = ARTraining(batch_tokens=300, corruption=0.9, splice=0.0, voice=0.0)
    batches = Batches(config, tokenizer, corpus)
    tokens, labels = batches.batch(3)
    again = batches.batch(3)
    assert torch.equal(tokens, again[0]) and torch.equal(labels, again[1])
    speech = tokenizer.convert_tokens_to_ids(stream.SPEECH)
    changed = (labels != IGNORED) & (tokens != labels)
    assert changed.any() and (tokens[changed] >= batches.first_code).all()
    for row, marks in zip(tokens, labels, strict=True):
        start = int((row == speech).nonzero()[0]) + 1
        assert (marks[:start] == IGNORED).all() and marks[start] != IGNORED
        ended = marks[marks != IGNORED]
        assert ended[-1] == tokenizer.eos_token_id
        texts = [tokenizer.decode(ended)]
        assert texts[0] in {stream.completion(s.segments, s.codes.tolist()) for s in corpus}


def test_the_ar_learns_to_read_and_a_policy_speaks() -> None:
    corpus = [spoken(i) for i in range(30)]
    tokenizer = stream.tokenizer({p for s in corpus for p in s.phones}, 16)
    config = ARTraining(width=32, layers=2, heads=2, batch_tokens=600, dropout=0.0, splice=0.3)
    model = build(config, tokenizer)
    batches = Batches(config, tokenizer, corpus)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(250):
        loss, _, _ = code_loss(model, *batches.batch(step), batches.first_code)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy = HFPolicy(model, tokenizer)
    policy.steer = lambda prompts: stream.Monotonic(tokenizer, prompts)
    task = Task("x", stream.prompt(["t", "a", WORD_END, "k", "a", WORD_END]))
    found = policy.generate([task], n=6, seeds=lambda _, i: i, max_new_tokens=200)
    base = {SILENCE: 0, "k": 4, "a": 8, "t": 12}
    right = total = 0
    for candidate in found:
        symbols = candidate.output.split()
        names = [s for s in symbols if not stream.CODE.fullmatch(s)]
        assert [s for s in names if s in "kat"] == ["t", "a", "k", "a"]
        announced: list[str] = []
        for symbol in symbols:
            if stream.CODE.fullmatch(symbol):
                right += int(symbol[2:-1]) // 4 * 4 == base[announced[-2]]
                total += 1
            else:
                announced.append(symbol)
    assert right / total > 0.8  # chance is a quarter
    assert Sample(n=1).n == 1


def nar_batch(
    random: np.random.Generator, size: int = 4, frames: int = 12
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    first = random.integers(0, 16, (size, frames))
    codes = np.stack([first, 2 * first % 32, (3 * first + 1) % 32], 1)
    return (
        torch.from_numpy(codes),
        torch.zeros(size, frames, dtype=torch.long),
        torch.from_numpy(codes[:, :, :8]),
        torch.ones(size, frames, dtype=torch.bool),
    )


def test_an_untrained_nar_is_near_the_uniform_loss_and_learns_a_rule() -> None:
    torch.manual_seed(0)
    model = MaskedCodes(SMALL)
    random = np.random.default_rng(0)
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(80):
        loss, level = masked_loss(model, *nar_batch(random), random)
        assert level in (1, 2)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(np.mean(losses[:3]) - np.log(32)) < 1.0
    assert np.mean(losses[-10:]) < 0.5 * np.log(32)
    codes, _, voice, _ = nar_batch(random, 1)
    line = codes[0, 0].tolist()
    (made,) = model.eval().generate([line], [["?"] * len(line)], voice[0])
    assert (made[1] == 2 * made[0] % 32).float().mean() > 0.8


def test_nar_batch_equals_single_and_keeps_the_first_book(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = MaskedCodes(SMALL).eval()
    voice = torch.randint(0, 16, (3, 10))
    lines = [[1, 2, 3, 4, 5], list(range(16)), [7] * 9]
    phones = [["a", "b", "?", "b", "b"], ["b"] * 16, ["a"] * 9]
    together = model.generate(lines, phones, voice)
    for line, said, made in zip(lines, phones, together, strict=True):
        (alone,) = model.generate([line], [said], voice)
        assert torch.equal(made, alone) and made[0].tolist() == line
        assert all(int(made[q].max()) < size for q, size in enumerate(SMALL.sizes))
    model.half().float().save(tmp_path)
    loaded = MaskedCodes.load(tmp_path).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())


def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    codes = [nar_batch(generator(0, i), 1, 20)[0][0].numpy() for i in range(5)]
    data = [Coded("one", c, ("a", "b") * 10 if i else ()) for i, c in enumerate(codes)]
    config = NARTraining(SMALL, steps=6, batch=2, frames=10, voice_frames=6)
    whole = train_nar(config, data, [], tmp_path / "a")
    # The schedule looks at the number of steps, so an interruption is an error within a step.
    seen = 0

    def interrupt(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen = done
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_nar(config, data, [], tmp_path / "b", interrupt)
    assert seen == 6
    resumed = train_nar(config, data, [], tmp_path / "b")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_what_the_nar_says_depends_on_the_phones() -> None:
    torch.manual_seed(2)
    model = MaskedCodes(SMALL).eval()
    codes = torch.full((1, 3, 6), 5)
    voice, known = torch.zeros(1, 3, 4, dtype=torch.long), torch.ones(1, 6, dtype=torch.bool)
    by_phone = [
        model(codes, torch.tensor([model.number([p] * 6)]), 1, voice, known)
        for p in ("a", "b", "?")
    ]
    assert not torch.allclose(by_phone[0], by_phone[1])
    hidden = model(codes, torch.zeros(1, 6, dtype=torch.long), 1, voice, known)
    assert torch.equal(by_phone[2], hidden)


def test_corruption_changes_at_most_the_share_asked_for() -> None:
    first = torch.full((50, 400), 99)
    random = np.random.default_rng(0)
    assert torch.equal(corrupt(first, 16, 0.0, random), first)
    wrong = (corrupt(first, 16, 0.3, random) != first).float().mean(1)
    assert wrong.max() < 0.4 and 0.1 < wrong.mean() < 0.2


def test_a_short_voice_is_repeated() -> None:
    codes = np.arange(6).reshape(2, 3)
    prompt = voice_prompt([codes], 2, 7, np.random.default_rng(0))
    assert prompt.tolist() == [[0, 1, 2, 0, 1, 2, 0], [3, 4, 5, 3, 4, 5, 3]]
