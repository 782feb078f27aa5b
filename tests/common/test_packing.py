"""Packed rows give what rectangles give: values, gradients, and only where they may be used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from common.policies import packing
from common.policies.likelihood import teacher_forced
from tests.common.tiny import tiny_config

FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1")


def model(**options: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config()
    for name, value in options.items():
        setattr(config, name, value)
    return LlamaForCausalLM(config)


def batch(lengths: list[tuple[int, int]]) -> dict[str, Any]:
    """Random sequences of so many prompt and response tokens, padded at the end."""
    generator = torch.Generator().manual_seed(len(lengths))
    widest = max(map(sum, lengths))
    ids_BT = torch.zeros(len(lengths), widest, dtype=torch.long)
    mask_BT, labels_BT = torch.zeros_like(ids_BT), torch.full_like(ids_BT, -100)
    for row, (prompt, response) in enumerate(lengths):
        end = prompt + response
        ids_BT[row, :end] = torch.randint(2, 24, (end,), generator=generator)
        mask_BT[row, :end] = 1
        labels_BT[row, prompt:end] = ids_BT[row, prompt:end]
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT,
            "fused_lm_head": True}  # fmt: skip


def gradients(made: Any) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])
    made.zero_grad()
    return found


def shared(inputs: dict[str, Any], most: int) -> dict[str, Any]:
    """``inputs`` with up to ``most`` tokens in common at the start, the first two rows half of all.

    The last two rows are the same from start to end."""
    ids_BT, labels_BT = inputs["input_ids"], inputs["labels"]
    real_BT = inputs["attention_mask"].bool()
    ids_BT[:, :most] = torch.where(real_BT[:, :most], ids_BT[0, :most], 0)
    half = ids_BT.shape[1] // 2
    ids_BT[1, :half] = torch.where(real_BT[1, :half] & real_BT[0, :half], ids_BT[0, :half],
                                   ids_BT[1, :half])  # fmt: skip
    for values_BT in (ids_BT, inputs["attention_mask"], labels_BT):
        values_BT[-1] = values_BT[-2]
    inputs["labels"] = torch.where(labels_BT == -100, -100, ids_BT)
    return inputs


@pytest.mark.parametrize("most", [0, 1, 4])
@pytest.mark.parametrize("kind", ["plain", "grouped", "adapter"])
@pytest.mark.parametrize(
    "lengths", [[(1, 1)], [(5, 3), (5, 3)], [(1, 3), (1, 1), (9, 2), (3, 9), (2, 1)]]
)
def test_a_packed_row_is_the_rectangle(
    lengths: list[tuple[int, int]], kind: str, most: int
) -> None:
    made = model(num_key_value_heads=1) if kind == "grouped" else model()
    add_fused_lm_head(made, outputs=FIELDS)
    if kind == "adapter":
        lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        made = get_peft_model(made, lora)
    made.double().train()
    inputs = batch(lengths)
    if most and len(lengths) > 1:
        inputs = shared(inputs, most)
    expected = made(**inputs)
    weight_BT = torch.rand(expected.log_probs.shape, dtype=torch.float64)
    (expected.log_probs * weight_BT).sum().backward()
    wanted = gradients(made)
    alone = packing.bare(made)
    assert packing.packable(alone)
    found = packing.fused(made, alone, inputs)
    (found.log_probs * weight_BT).sum().backward()
    torch.testing.assert_close(gradients(made), wanted, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.label_mask, expected.label_mask)
    asked_BT = expected.label_mask
    for name in FIELDS:
        one, other = found[name].double(), expected[name].double() * asked_BT
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert alone.config._attn_implementation == "sdpa"  # as it was


def test_prompts_that_come_to_no_logits_change_nothing() -> None:
    """The output layer sees as many states as tokens are asked for."""
    made, inputs = model(), batch([(7, 2), (3, 4), (1, 1)])
    seen: list[int] = []
    made.lm_head.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    real_BT = inputs["attention_mask"].bool()
    asked_BT = inputs["labels"][:, 1:] != -100
    packed = packing.response_logits(made, inputs["input_ids"], real_BT, asked_BT)
    assert seen == [7]
    made.config._attn_implementation = "eager"
    plain = packing.response_logits(made, inputs["input_ids"], real_BT, asked_BT)
    assert seen[1] == 9
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("most", [0, 4])
def test_what_a_classifier_reads_at_the_last_token(most: int) -> None:
    torch.manual_seed(0)
    config = tiny_config()
    config.num_labels = 1
    made: Any = LlamaForSequenceClassification(config).double()
    inputs = shared(batch([(1, 3), (1, 1), (9, 2), (3, 9), (2, 1), (2, 1)]), most)
    ids_BT, real_BT = inputs["input_ids"], inputs["attention_mask"].bool()
    assert packing.packable(made)
    weight_B1 = torch.rand(len(ids_BT), 1, dtype=torch.float64)
    packed = packing.last_scores(made, ids_BT, real_BT)
    (packed * weight_B1).sum().backward()
    found = gradients(made)
    made.config._attn_implementation = "eager"
    assert not packing.packable(made)
    plain = packing.last_scores(made, ids_BT, real_BT)
    (plain * weight_B1).sum().backward()
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, gradients(made), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_teacher_forcing_is_the_sum_by_hand(attention: str) -> None:
    made = model()
    made.config._attn_implementation = attention
    prompts, answers = [[5, 6, 7], [4], [9, 9]], [[8, 1], [3, 2, 5, 1], [1]]
    sums, counts = teacher_forced(made, prompts, answers, pad=0, batch_size=2)
    assert counts == [2, 4, 1]
    for prompt, answer, total in zip(prompts, answers, sums, strict=True):
        with torch.no_grad():
            logp = made(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        by_hand = sum(float(logp[len(prompt) - 1 + i, t]) for i, t in enumerate(answer))
        assert total == pytest.approx(by_hand, abs=1e-4)


def test_attention_dropout_still_drops() -> None:
    made, inputs = model(attention_dropout=0.5).train(), batch([(3, 4), (2, 6)])
    add_fused_lm_head(made)
    once, again = (packing.fused(made, made, inputs).log_probs for _ in range(2))
    assert not torch.equal(once, again)


def test_windows_and_models_of_other_kinds_get_rectangles() -> None:
    windows = MistralForCausalLM(MistralConfig(
        vocab_size=24, hidden_size=24, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=4,
    ))  # fmt: skip
    assert not packing.packable(windows)
    assert not packing.packable(torch.nn.Linear(2, 2))
    add_fused_lm_head(windows)
    inputs = batch([(3, 6), (5, 2)])
    found = packing.fused(windows, windows, inputs)
    assert torch.equal(found.log_probs, windows(**inputs).log_probs)


def test_what_sequences_begin_with_is_computed_once() -> None:
    """Tokens in the row are those of the tree; all tokens are found where they are."""
    texts = [[7, 8, 9, 1], [7, 8, 9, 2, 3], [7, 8], [5, 8, 9], [7, 8, 9, 2, 3]]
    widest = max(map(len, texts))
    ids_BT = torch.tensor([text + [0] * (widest - len(text)) for text in texts])
    real_BT = torch.arange(widest) < torch.tensor([[len(text)] for text in texts])
    row = packing.row_of(ids_BT, real_BT)
    tree = {tuple(text[: n + 1]) for text in texts for n in range(len(text))}
    assert row.ids.shape == (1, len(tree)) == (1, 9)
    for b, text in enumerate(texts):
        at = row.at[b, : len(text)]
        assert row.ids[0, at].tolist() == text
        assert row.positions[0, at].tolist() == list(range(len(text)))
    assert sorted(n for path in row.paths for n in range(path.start, path.end)) == [*range(9)]


@pytest.mark.parametrize("adapter", [False, True])
def test_reading_to_the_last_position_multiplies_once(adapter: bool) -> None:
    one = model()
    if adapter:
        one = get_peft_model(one, LoraConfig(r=2, target_modules="all-linear"))
    ids_BT = torch.randint(3, 20, (5, 7))
    seen: list[bool] = []
    head = packing.bare(one).get_output_embeddings()
    spy = head.register_forward_hook(lambda _, given, __: seen.append(given[0].is_contiguous()))
    with torch.inference_mode():
        last = packing.read_to_last(one, input_ids=ids_BT).logits
        spy.remove()
        whole = one(input_ids=ids_BT).logits
    assert seen == [True] and not head._forward_pre_hooks
    assert last.shape[1] == 1
    torch.testing.assert_close(last[:, 0], whole[:, -1])


@pytest.mark.parametrize("packed", [False, True])
def test_next_logits_are_those_of_each_sequence_alone(
    monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    one = model().eval()
    sequences = [[3, 5, 6], [3], [3, 5, 6, 4, 7], [3, 5, 9], [3, 5]]
    if not packed:
        monkeypatch.setattr(packing, "packable", lambda _: False)
    with torch.inference_mode():
        found = packing.next_logits(one, sequences, pad=0)
        for row, ids in zip(found, sequences, strict=True):
            torch.testing.assert_close(row, one(torch.tensor([ids])).logits[0, -1])
