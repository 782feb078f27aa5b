"""Sampling against transformers' own generation, teacher forcing, and the exact distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from common.policies import sampling
from common.policies.sampling import Sampled, forced_scores, sample

EOS, PAD, VOCAB = 1, 0, 24


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None, initializer_range=0.4,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 2, 3], [4, 4], [20, 21, 22]]


def draw(model: Any, prompts: list[list[int]] = PROMPTS, n: int = 3, **kw: Any) -> Any:
    seeds = [1000 * prompts[i // n][0] + i % n for i in range(n * len(prompts))]
    options = {"max_new_tokens": 20, "seeds": seeds, "eos": EOS, "pad": PAD, "n": n}
    return sample(model, prompts, **{**options, **kw})


def forced(model: Any, prompt: list[int], one: Sampled) -> float:
    ids = one.ids + ([EOS] if one.finished else [])
    with torch.no_grad():
        logp = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
    return sum(float(logp[len(prompt) + i - 1, token]) for i, token in enumerate(ids))


def test_greedy_equals_generate(model: Any) -> None:
    for prompt, [one] in zip(PROMPTS, draw(model, n=1, temperature=0.0), strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(ids, do_sample=False, max_new_tokens=20)[0, len(prompt) :]
        assert one.ids + [EOS] * one.finished == expected.tolist()


def test_batch_size_and_order_change_nothing(model: Any) -> None:
    whole = draw(model)
    assert {one.finished for group in whole for one in group} == {True, False}
    assert len({tuple(one.ids) for one in whole[0]}) == 3
    for batch_size in (1, 4):
        for left, right in zip(draw(model, batch_size=batch_size), whole, strict=True):
            assert [one.ids for one in left] == [one.ids for one in right]
            for a, b in zip(left, right, strict=True):
                assert a.logprob_sum == pytest.approx(b.logprob_sum, abs=1e-4)
    turned = draw(model, PROMPTS[::-1])
    assert [[one.ids for one in g] for g in turned[::-1]] == [[o.ids for o in g] for g in whole]


SHARED = [[9, 8, 7, 6, *prompt] for prompt in PROMPTS]


def test_a_shared_beginning_is_read_once_and_changes_nothing(model: Any) -> None:
    """Prompts of one batch that begin alike, against each by itself, which shares nothing."""
    read: list[int] = []

    def counted(*args: Any, **kw: Any) -> Any:
        read.append(kw["input_ids"].numel())
        return forward(*args, **kw)

    forward = model.forward
    model.forward = counted
    try:
        together = draw(model, SHARED)
        assert read[0] == 4 and read[1] == len(SHARED) * max(map(len, PROMPTS))
    finally:
        model.forward = forward
    for prompt, group in zip(SHARED, together, strict=True):
        [alone] = draw(model, [prompt])
        assert [one.ids for one in group] == [one.ids for one in alone]
        for one in group:
            assert one.logprob_sum == pytest.approx(forced(model, prompt, one), abs=1e-3)
    nested = [[9, 8], [9, 8, 7], [9, 8, 7, 6]]  # one prompt is the beginning of another
    for prompt, [one] in zip(nested, draw(model, nested, n=1), strict=True):
        assert one.logprob_sum == pytest.approx(forced(model, prompt, one), abs=1e-3)


def test_a_stop_ends_a_row_and_nothing_after_it_counts(model: Any) -> None:
    """The draws up to the stop are those without one; the log-probability is theirs alone."""

    def stop(ids: Sequence[int]) -> bool:
        return len(ids) >= 3 and ids[-1] % 3 == 0

    free, held = draw(model), draw(model, stop=stop)
    stopped = 0
    for prompt, before, after in zip(PROMPTS, free, held, strict=True):
        for whole, one in zip(before, after, strict=True):
            ends = [i for i in range(3, len(whole.ids) + 1) if stop(whole.ids[:i])]
            if not ends:
                assert one.ids == whole.ids and one.tokens == whole.tokens
                continue
            stopped += 1
            assert one.ids == whole.ids[: ends[0]] and one.tokens == ends[0] and one.finished
            with torch.no_grad():
                logp = model(torch.tensor([prompt + one.ids])).logits[0].log_softmax(-1)
            drawn = [float(logp[len(prompt) + i - 1, t]) for i, t in enumerate(one.ids)]
            assert one.logprob_sum == pytest.approx(sum(drawn), abs=1e-3)
    assert 0 < stopped < 15


@pytest.mark.parametrize("options", [{}, {"temperature": 0.6, "top_k": 5}, {"top_p": 0.7}])
def test_logprob_is_that_of_teacher_forcing(model: Any, options: dict[str, Any]) -> None:
    for prompt, group in zip(PROMPTS, draw(model, **options), strict=True):
        for one in group:
            assert one.tokens == len(one.ids) + one.finished
            assert one.logprob_sum == pytest.approx(forced(model, prompt, one), abs=1e-3)


def test_frequencies_follow_the_distribution(model: Any) -> None:
    """The first token of 4000 draws, against the softmax at a temperature: chi-square."""
    prompt, n, temperature = [5, 6, 7], 4000, 2.0
    [group] = draw(model, [prompt], n=n, max_new_tokens=1, temperature=temperature, batch_size=n)
    with torch.no_grad():
        p = (model(torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1)
    first = torch.tensor([one.ids[0] if one.ids else EOS for one in group])
    count = torch.bincount(first, minlength=VOCAB)
    common = p * n >= 5
    chi2 = ((count - p * n) ** 2 / (p * n))[common].sum().item()
    assert chi2 < 55  # 23 degrees of freedom: beyond 55 with probability 2e-4


def test_truncation_draws_only_from_the_kept_tokens(model: Any) -> None:
    prompt = [5, 6, 7]
    with torch.no_grad():
        p = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    order = p.argsort(descending=True)
    [top] = draw(model, [prompt], n=300, max_new_tokens=1, top_k=3)
    assert {(o.ids or [EOS])[0] for o in top} == set(order[:3].tolist())
    nucleus = order[: int((p[order].cumsum(0) < 0.5).sum()) + 1]
    [kept] = draw(model, [prompt], n=300, max_new_tokens=1, top_p=0.5)
    assert {(o.ids or [EOS])[0] for o in kept} == set(nucleus.tolist())


@pytest.mark.parametrize("top_p", [0.3, 0.95])
def test_a_nucleus_is_found_without_sorting_the_vocabulary(
    model: Any, monkeypatch: pytest.MonkeyPatch, top_p: float
) -> None:
    """Draws are the same where few tokens are looked through, enough of them or not."""
    drawn = []
    for few in (VOCAB, 8):
        monkeypatch.setattr(sampling, "NUCLEUS", few)
        drawn.append(draw(model, n=20, top_p=top_p))
    assert drawn[0] == drawn[1]
    p = torch.rand(3, VOCAB).softmax(-1)
    assert sampling._likeliest(p, 0.05)[0].shape == (3, 8)
    assert sampling._likeliest(p, 0.9)[0].shape == (3, VOCAB)


def test_steering_bends_the_draw_and_not_the_logprob(model: Any) -> None:
    """Each row has a rule of its own: it must meet its own number in any batch, also when rows
    that ended have left."""
    seen: set[int] = set()

    def steer(rows: Sequence[int], so_far: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        assert len(rows) == len(so_far) == len(logits)
        seen.update(rows)
        scores = torch.full_like(logits, -torch.inf)
        for i, row in enumerate(rows):
            done = so_far.shape[1] == 2 + row % 3
            keep = [EOS] if done else list(range(2 + row % 2, VOCAB, 2))
            scores[i, keep] = logits[i, keep]
        return scores

    for batch_size in (64, 4):
        groups = draw(model, steer=steer, batch_size=batch_size)
        for row, one in enumerate(one for group in groups for one in group):
            assert len(one.ids) == 2 + row % 3 and one.finished
            assert all(i % 2 == row % 2 for i in one.ids)
            assert one.logprob_sum == pytest.approx(forced(model, PROMPTS[row // 3], one), abs=1e-3)
    assert seen == set(range(15))


def test_forced_scores_replay_the_steps(model: Any) -> None:
    """A steer that counts what it has seen: forcing its own draws shows it what sampling did."""

    class Tired:
        """The more of the even tokens a row has had, the less it wants of them."""

        def __init__(self, rows: int) -> None:
            self.had = torch.zeros(rows)

        def __call__(self, rows: Sequence[int], so_far: Tensor, logits: Tensor) -> Tensor:
            if so_far.shape[1]:
                self.had[list(rows)] += (so_far[:, -1] % 2 == 0).float()
            scores = logits.clone()
            scores[:, ::2] -= self.had[list(rows), None]
            return scores

    shown: dict[tuple[int, int], Tensor] = {}
    steer = Tired(15)

    def watched(rows: Sequence[int], so_far: Tensor, logits: Tensor) -> Tensor:
        scores = steer(rows, so_far, logits)
        shown.update({(row, so_far.shape[1]): one for row, one in zip(rows, scores, strict=True)})
        return scores

    groups = draw(model, steer=watched, max_new_tokens=8)
    for number, [prompt, group] in enumerate(zip(PROMPTS, groups, strict=True)):
        for i, one in enumerate(group):
            ids = torch.tensor([one.ids + [EOS] * one.finished])
            with torch.no_grad():
                whole = torch.cat([torch.tensor([prompt]), ids], 1)
                logits = model(whole).logits[:, len(prompt) - 1 : -1]
            [scores] = forced_scores(Tired(1), ids, logits)
            for t, step in enumerate(scores):
                assert torch.allclose(step, shown[3 * number + i, t], atol=1e-4)


def test_bad_arguments(model: Any) -> None:
    with pytest.raises(ValueError, match="seeds"):
        draw(model, seeds=[1])
    with pytest.raises(ValueError, match="no tokens"):
        sample(model, [[5], []], max_new_tokens=1, eos=EOS, pad=PAD, seeds=[1, 2])
    with pytest.raises(ValueError, match="top_p"):
        draw(model, top_p=0.0)
