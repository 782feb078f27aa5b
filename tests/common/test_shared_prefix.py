"""Attention to a shared beginning equals attention to all of it in every row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from common.policies import reading, sampling
from common.policies.shared_prefix import attending, attention
from tests.common.tiny import tiny_config


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 9),
    st.booleans(), st.integers(0, 10**6),
)  # fmt: skip
def test_two_softmaxes_become_one(
    B: int, K: int, group: int, T: int, S: int, one: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return 2 * torch.randn(*shape, 16, generator=generator)

    Q = 1 if one else T
    # As a model gives it: the heads' axis is not the outer one.
    query = drawn(B, Q, K * group).transpose(1, 2)
    key, value = drawn(B, K, T), drawn(B, K, T)
    prefix = [(drawn(1, K, S), drawn(1, K, S))]
    seen = torch.rand(B, 1, Q, T, generator=generator) < 0.6
    seen[..., -1] = True
    mask = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    said, _ = attention(SimpleNamespace(layer_idx=0), query, key, value, mask, 0.3, prefix=prefix)
    keys, values = (
        torch.cat([first.expand(B, -1, -1, -1), own], 2).repeat_interleave(group, 1)
        for first, own in zip(prefix[0], (key, value), strict=True)
    )
    scores = 0.3 * query @ keys.transpose(-1, -2)
    scores[..., S:] += mask
    wanted = scores.softmax(-1) @ values
    torch.testing.assert_close(said, wanted.transpose(1, 2), atol=1e-5, rtol=1e-5)


def draw(model: Any, prompts: list[list[int]], n: int) -> list[list[sampling.Sampled]]:
    return sampling.sample(
        model, prompts, n=n, max_new_tokens=12, eos=1, pad=0, seeds=range(n * len(prompts))
    )


@pytest.mark.parametrize("n", [1, 3])
def test_samples_are_those_of_rows_that_hold_it_all(
    monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    config = tiny_config()
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 6
    torch.manual_seed(3)
    model = LlamaForCausalLM(config).eval()
    prompts = [[3, 5, 6, 7, *rest] for rest in ([4], [8, 9, 10], [4, 4], [11, 12, 13, 14, 15])]
    reached: list[int] = []

    def counted(one: Any) -> Any:
        reached.append(1)
        return attending(one)

    monkeypatch.setattr(reading, "attending", counted)
    apart = draw(model, prompts, n)
    assert reached
    reached.clear()
    monkeypatch.setattr(reading, "packable", lambda _: False)
    whole = draw(model, prompts, n)
    assert not reached
    for ours, theirs in zip(apart, whole, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.ids == b.ids
            assert a.logprob_sum == pytest.approx(b.logprob_sum, abs=1e-4)
    assert config._attn_implementation != "shared_prefix"


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=40)


@given(PROMPTS, st.integers(1, 12), st.booleans())
def test_every_row_is_in_one_batch(prompts: list[list[int]], size: int, apart: bool) -> None:
    found = sampling.batches(prompts, size, apart)
    assert sorted(row for batch in found for row in batch) == list(range(len(prompts)))
    assert all(1 <= len(batch) <= size for batch in found)
    # No more small ones than four for each that there would have to be.
    assert len(found) <= 4 * -(-len(prompts) // size) + 1


def test_rows_that_begin_alike_come_together() -> None:
    heads = [[head] * 20 for head in (3, 1, 2)]
    prompts = [[*heads[i % 3], i] for i in range(30)]
    for batch in sampling.batches(prompts, 16, apart=True):
        assert len(batch) == 10 and len({prompts[row][0] for row in batch}) == 1
    # What all have in common is enough.
    near = [[*heads[0], *[i % 3] * 5, i] for i in range(32)]
    assert [len(batch) for batch in sampling.batches(near, 16, apart=True)] == [16, 16]
