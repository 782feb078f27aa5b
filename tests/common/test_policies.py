"""A local policy on a tiny Llama: candidates, teacher forcing, save, restore, adapters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from common.errors import UserError
from common.policies import Sample, candidate_id
from common.policies.local import HFPolicy
from common.policies.stops import Stops, before
from common.policies.weights import rounded
from common.records import Candidate, Task
from tests.common.tiny import WORDS, context, tiny_policy


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def nudge(policy: HFPolicy) -> None:
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name:
                parameter.add_(0.05)


TASKS = [Task(id=f"t{i}", prompt=f"w{i} w{i + 1} go") for i in range(5)]


def test_sample_proposes_the_same_whatever_the_batch(tmp_path: Path) -> None:
    propose = Sample(n=3, temperature=0.9, max_new_tokens=12)
    policy, ctx = tiny_policy(), context(tmp_path)
    candidates = propose.propose(policy, TASKS, ctx)
    assert [c.task for c in candidates] == [t.id for t in TASKS for _ in range(3)]
    assert candidates[4].id == candidate_id(TASKS[1], ctx.round, 1)
    assert len({c.output for c in candidates}) > 5
    policy.batch_size = 2
    again = propose.propose(policy, TASKS[::-1], ctx)
    outputs = {c.id: c.output for c in candidates}
    assert {c.id: c.output for c in again} == outputs
    other_run = propose.propose(policy, TASKS, dataclasses.replace(ctx, seed=8))
    assert {c.id for c in other_run} == outputs.keys()
    assert [c.output for c in other_run] != [c.output for c in candidates]


def test_logprobs_agree_with_sampling_and_with_a_plain_loop(tmp_path: Path) -> None:
    policy = tiny_policy()
    candidates = Sample(n=4, max_new_tokens=30).propose(policy, TASKS, context(tmp_path))
    done = [c for c in candidates if c.meta["finished"]]
    assert len(done) > 5
    prompts = {t.id: t.prompt for t in TASKS}
    sums, counts = policy.logprobs([prompts[c.task] for c in done], [c.output for c in done])
    assert counts == [c.tokens for c in done]
    assert sums == pytest.approx([c.logprob for c in done], abs=1e-3)
    prompt, completion = policy.encode_prompt("w1 go"), policy.encode_completion("w2 w3")
    with torch.no_grad():
        logp = policy.model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
    by_hand = sum(logp[len(prompt) - 1 + i, t].item() for i, t in enumerate(completion))
    assert policy.logprobs(["w1 go"], ["w2 w3"]).sums[0] == pytest.approx(by_hand, abs=1e-4)


def test_completion_is_words_and_the_end() -> None:
    policy = tiny_policy()
    ids = policy.encode_completion("w1 w2")
    assert [policy.tokenizer.convert_ids_to_tokens(i) for i in ids] == ["w1", "w2", "<end>"]
    assert policy.decode(ids[:-1]) == "w1 w2"
    assert policy.encode_completion("w1 w2 <end>") == ids


def test_save_and_restore(tmp_path: Path) -> None:
    policy = tiny_policy()
    before, start = policy.fingerprint(), policy.logprobs(["w1 go"], ["w2 w3"]).sums[0]
    policy.save(tmp_path)
    nudge(policy)
    assert policy.fingerprint() != before
    moved = policy.logprobs(["w1 go"], ["w2 w3"]).sums[0]
    assert abs(moved - start) > 1e-3
    with policy.at_start():
        assert policy.logprobs(["w1 go"], ["w2 w3"]).sums[0] == pytest.approx(start, abs=1e-6)
    assert policy.logprobs(["w1 go"], ["w2 w3"]).sums[0] == moved
    policy.restore(tmp_path)
    assert policy.fingerprint() == before
    loaded = HFPolicy.load(tmp_path, device="cpu")
    assert loaded.fingerprint() == before
    nudge(loaded)  # the start of a loaded policy is read from its folder again
    with loaded.at_start():
        assert loaded.fingerprint() == before
    assert loaded.fingerprint() != before


def test_adapter_is_all_that_is_saved_and_rolls_back(tmp_path: Path) -> None:
    policy = tiny_policy()
    plain, base = tmp_path / "plain", policy.fingerprint()
    policy.save(plain)
    start = policy.logprobs(["w1 go"], ["w2"]).sums[0]
    torch.manual_seed(0)
    policy.add_adapter(lora())
    assert policy.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(start, abs=1e-6)
    nudge(policy)
    tuned, moved = policy.fingerprint(), policy.logprobs(["w1 go"], ["w2"]).sums[0]
    assert abs(moved - start) > 1e-4
    with policy.at_start():
        assert policy.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(start, abs=1e-6)
    folder = tmp_path / "adapter"
    policy.save(folder)
    assert not (folder / "model.safetensors").exists()
    loaded = HFPolicy.load(plain, lora=folder, device="cpu")
    assert loaded.fingerprint() == tuned
    assert loaded.logprobs(["w1 go"], ["w2"]).sums[0] == pytest.approx(moved, abs=1e-6)
    nudge(policy)
    policy.restore(folder)
    assert policy.fingerprint() == tuned
    policy.restore(plain)
    assert policy.fingerprint() == base and not policy.has_adapter
    nudge(policy)
    with policy.at_start():  # a model that came from no folder still knows its start
        assert policy.fingerprint() == base
    policy.restore(plain)
    assert all(parameter.requires_grad for parameter in policy.model.parameters())


@pytest.mark.parametrize("adapter", [False, True])
def test_a_run_may_start_where_another_ended(tmp_path: Path, adapter: bool) -> None:
    policy = tiny_policy()
    if adapter:
        policy.add_adapter(lora())
    nudge(policy)
    said = policy.logprobs(["w1 go"], ["w2 w3"]).sums
    with policy.at_start():
        assert policy.logprobs(["w1 go"], ["w2 w3"]).sums != said
    policy.save(tmp_path)
    policy.start_here(tmp_path)
    assert not policy.has_adapter  # it became part of the weights
    assert policy.logprobs(["w1 go"], ["w2 w3"]).sums == pytest.approx(said, abs=1e-4)
    nudge(policy)
    changed = policy.logprobs(["w1 go"], ["w2 w3"]).sums
    with policy.at_start():
        assert policy.logprobs(["w1 go"], ["w2 w3"]).sums == pytest.approx(said, abs=1e-4)
    assert policy.logprobs(["w1 go"], ["w2 w3"]).sums == changed != said


def test_completions_go_on_from_an_opening() -> None:
    policy = tiny_policy()
    for opening in ("", "w5 w6"):
        [[found]] = policy.sample(["go w1"], seeds=[3], max_new_tokens=6, opening=opening)
        [[plain]] = policy.sample([f"go w1 {opening}".strip()], seeds=[3], max_new_tokens=6)
        assert found == plain and found.tokens == len(found.ids) + found.finished


def test_mistakes_are_the_users(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        HFPolicy.load(tmp_path / "nothing")
    policy = tiny_policy()
    with pytest.raises(UserError, match="empty prompt"):
        policy.generate([Task(id="a", prompt="")], n=1, seeds=lambda t, i: i)
    policy.tokenizer.add_tokens(["<of another model>"])
    with pytest.raises(
        UserError, match=f"{len(WORDS) + 1} tokens and the model knows {len(WORDS)}"
    ):
        HFPolicy(policy.model, policy.tokenizer)
    policy.tokenizer.eos_token = None
    with pytest.raises(UserError, match="end token"):
        HFPolicy(policy.model, policy.tokenizer)
    assert len(WORDS) == policy.model.config.vocab_size


def test_a_completion_ends_before_a_stop() -> None:
    policy = tiny_policy()
    tasks = [Task("a", "go w1"), Task("b", "go w2 w3")]

    def said(**options: Any) -> list[Candidate]:
        return policy.generate(
            tasks, n=8, seeds=lambda t, i: 100 * len(t.prompt) + i, max_new_tokens=12, **options
        )

    cut = 0
    for whole, held in zip(said(), said(stop=("w3 w", "w5")), strict=True):
        text = before(whole.output, ("w3 w", "w5"))
        assert held.output == text and (held.tokens <= whole.tokens)
        if text != whole.output:
            cut += 1
            assert held.meta["finished"] and held.logprob >= whole.logprob - 1e-5
    assert 0 < cut < 16


def test_a_stop_is_seen_across_tokens_and_only_at_the_end() -> None:
    letters = "abcdefgh"
    stops = Stops(["cd", "h"], lambda ids: "".join(letters[i] for i in ids))
    assert stops([0, 2, 3]) and stops([7])
    assert not stops([0, 2]) and not stops([2, 3, 0, 0, 0])  # it was asked before, then


def test_samples_of_a_rounded_copy_leave_the_weights_alone() -> None:
    policy = tiny_policy()
    state = policy.fingerprint()
    prompts, seeds = ["go w1", "go w2"], list(range(8))
    policy.sampling_dtype = torch.float32  # a copy that is not rounded
    same = policy.sample(prompts, n=4, seeds=seeds, max_new_tokens=8)
    policy.sampling_dtype = None
    assert policy.sample(prompts, n=4, seeds=seeds, max_new_tokens=8) == same
    policy.sampling_dtype = torch.bfloat16
    near = policy.sample(prompts, n=4, seeds=seeds, max_new_tokens=8)
    assert policy.fingerprint() == state and policy.model.dtype == torch.float32
    for prompt, group in zip(prompts, near, strict=True):
        ids = [one.ids + [policy.tokenizer.eos_token_id] * one.finished for one in group]
        exact = policy.logprobs_of_ids([policy.encode_prompt(prompt)] * 4, ids).sums
        for one, value in zip(group, exact, strict=True):
            assert one.logprob_sum == pytest.approx(value, abs=0.05 * one.tokens)
    copy = rounded(policy.model, torch.bfloat16)
    assert copy.dtype == torch.bfloat16 and copy.model.rotary_emb.inv_freq.dtype == torch.float32
    with torch.no_grad():  # what is learnt is seen at once: no copy is kept
        policy.model.lm_head.weight[5] += 50.0
    [changed] = policy.sample(["go w1"], seeds=[1], max_new_tokens=3)
    assert changed[0].ids == [5, 5, 5]


def test_a_rounded_copy_keeps_tied_weights_and_adapters() -> None:
    policy = tiny_policy()
    torch.manual_seed(0)
    policy.add_adapter(lora())
    nudge(policy)
    seeds = list(range(4))
    exact = policy.sample(["go w1"], n=4, seeds=seeds, max_new_tokens=6)
    policy.sampling_dtype = torch.float32
    assert policy.sample(["go w1"], n=4, seeds=seeds, max_new_tokens=6) == exact
    tied = LlamaForCausalLM(LlamaConfig(vocab_size=24, hidden_size=8, intermediate_size=8,
                                        num_hidden_layers=1, num_attention_heads=2,
                                        tie_word_embeddings=True))  # fmt: skip
    copy = rounded(tied, torch.bfloat16)
    assert copy.lm_head.weight is copy.model.embed_tokens.weight
