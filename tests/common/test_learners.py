"""The losses against closed forms and a plain loop; training; continuing after a kill."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from common.errors import UserError
from common.learners import data
from common.learners.dpo import Preference, release
from common.learners.sft import SFT
from common.policies.local import HFPolicy
from common.policies.packing import row_of
from common.records import Demonstration, Lessons
from common.records import Preference as Pair
from tests.common.tiny import context, tiny_policy


def pairs(n: int = 8) -> tuple[Pair, ...]:
    """Uneven lengths, so that padding and normalisation show."""
    return tuple(
        Pair(
            id=f"p{i}",
            task=f"t{i}",
            round=1,
            prompt=f"w{i % 5} go",
            chosen=" ".join(["w1", "w2", "w3", "w4", "w5"][: 1 + i % 5]),
            rejected=" ".join(["w7", "w8", "w9"][: 1 + i % 3]),
        )
        for i in range(n)
    )


def first_batch(
    policy: HFPolicy, items: tuple[Pair, ...], folder: Path, shift: float = 0.0, **options: Any
) -> tuple[Any, Any]:
    """The trainer and one batch of all pairs, the reference ``shift`` nats below on the chosen."""
    learner = Preference(batch_size=len(items), **options)
    ctx = context(folder)
    tokens = data.preference_rows(policy, items, learner.max_length)
    rows = learner._reference(policy, tokens, ctx)
    for row in rows:
        row["ref_chosen_logps"] -= shift
    trainer = learner.trainer(policy, rows, ctx, folder / "out")
    trainer.model.eval()
    return trainer, trainer._prepare_inputs(trainer.data_collator(rows))


def loss_of(policy: HFPolicy, items: tuple[Pair, ...], folder: Path, **options: Any) -> float:
    trainer, batch = first_batch(policy, items, folder, **options)
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch).item()
    release(policy)
    return float(loss)


def nll_by_hand(policy: HFPolicy, items: tuple[Pair, ...]) -> float:
    """Mean over pairs of the mean over chosen tokens, one sequence at a time."""
    means = []
    for p in items:
        prompt = policy.tokenizer(p.prompt)["input_ids"]
        chosen = [*policy.tokenizer(p.chosen)["input_ids"], policy.tokenizer.eos_token_id]
        with torch.no_grad():
            logp = policy.model(torch.tensor([prompt + chosen])).logits[0].log_softmax(-1)
        terms = [-float(logp[len(prompt) - 1 + i, token]) for i, token in enumerate(chosen)]
        means.append(sum(terms) / len(terms))
    return sum(means) / len(means)


@pytest.mark.parametrize("dpo_weight", [1.0, 0.25])
def test_ln2_at_the_reference(tmp_path: Path, dpo_weight: float) -> None:
    loss = loss_of(tiny_policy(), pairs(), tmp_path, dpo_weight=dpo_weight)
    assert loss == pytest.approx(dpo_weight * math.log(2), abs=1e-5)


def test_margin_has_the_closed_form_and_swapping_flips_its_sign(tmp_path: Path) -> None:
    policy, beta, shift = tiny_policy(), 0.3, 2.0
    trainer, batch = first_batch(policy, pairs(), tmp_path, shift=shift, beta=beta)
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch).item()
    [margin] = trainer._metrics["eval"]["rewards/margins"]
    assert margin == pytest.approx(beta * shift, abs=1e-5)
    assert loss == pytest.approx(math.log1p(math.exp(-beta * shift)), abs=1e-5)
    half = len(batch["input_ids"]) // 2
    turn = torch.cat([torch.arange(half, 2 * half), torch.arange(half)])
    for name in ("input_ids", "attention_mask", "completion_mask"):
        batch[name] = batch[name][turn]
    names = ("ref_chosen_logps", "ref_rejected_logps")
    batch[names[0]], batch[names[1]] = batch[names[1]], batch[names[0]]
    with torch.no_grad():
        trainer.compute_loss(trainer.model, batch)
    assert trainer._metrics["eval"]["rewards/margins"][1] == pytest.approx(-margin, abs=1e-5)


def test_nll_weight_is_exact(tmp_path: Path) -> None:
    policy, items = tiny_policy(), pairs()
    without = loss_of(policy, items, tmp_path)
    nll = nll_by_hand(policy, items)
    for weight in (0.5, 3.0):
        with_nll = loss_of(policy, items, tmp_path, nll_weight=weight)
        assert with_nll - without == pytest.approx(weight * nll, rel=1e-5)
    # Pooling the tokens of the batch, as TRL's own term does, gives another number.
    prompts, chosen = [p.prompt for p in items], [p.chosen for p in items]
    sums, counts = policy.logprobs(prompts, chosen)
    assert abs(-sum(sums) / sum(counts) - nll) > 1e-3


def test_mask_covers_exactly_the_response(tmp_path: Path) -> None:
    """By the gradient of the loss with respect to the logits: zero but where a response token,
    its end token included, is predicted."""
    policy, items = tiny_policy(), pairs(4)
    trainer, batch = first_batch(policy, items, tmp_path, nll_weight=0.5)
    states: list[torch.Tensor] = []

    def keep(module: Any, args: Any, out: torch.Tensor) -> None:
        out.retain_grad()
        states.append(out)

    hook = policy.model.model.norm.register_forward_hook(keep)
    trainer.compute_loss(trainer.model, batch).backward()
    hook.remove()
    assert states[0].grad is not None
    used_N = states[0].grad.abs().sum(-1)[0] > 0
    row = row_of(batch["input_ids"], batch["attention_mask"].bool())
    expected_N = torch.zeros_like(used_N)
    answers = [p.chosen for p in items] + [p.rejected for p in items]
    for at_T, p, answer in zip(row.at, [*items, *items], answers, strict=True):
        prompt, response = len(p.prompt.split()), len(answer.split()) + 1
        expected_N[at_T[prompt - 1 : prompt - 1 + response]] = True
    assert torch.equal(used_N, expected_N) and not used_N.all()


def test_completions_are_cut_at_max_length_and_empty_pairs_left_out() -> None:
    policy, items = tiny_policy(), pairs(10)
    rows = data.preference_rows(policy, items, 4)
    assert all(len(r["prompt_ids"] + r["chosen_ids"]) <= 4 for r in rows)
    assert data.preference_rows(policy, items, 2) == []
    same = (dataclasses.replace(items[0], rejected=items[0].chosen),)
    assert data.preference_rows(policy, same, 50) == []


def margins(policy: HFPolicy, items: tuple[Pair, ...]) -> float:
    prompts = [p.prompt for p in items]
    chosen = policy.logprobs(prompts, [p.chosen for p in items]).sums
    rejected = policy.logprobs(prompts, [p.rejected for p in items]).sums
    return (sum(chosen) - sum(rejected)) / len(items)


@pytest.mark.parametrize("lora", [None, 2])
def test_dpo_moves_the_margin(tmp_path: Path, lora: int | None, capsys: Any) -> None:
    policy, items = tiny_policy(), pairs()
    learner = Preference(steps=12, batch_size=4, learning_rate=3e-3, nll_weight=0.2, lora=lora)
    before = margins(policy, items)
    ctx = context(tmp_path)
    for _ in range(2):  # a second round starts from what the first left on the model
        figures = learner.learn(policy, Lessons(preferences=items), ctx)
    assert margins(policy, items) > before + 1
    assert figures["steps"] == 12 and figures["pairs"] == len(items)
    assert figures["reward_accuracy"] == 1.0 and figures["reward_margin"] > 0.05
    assert 0 <= figures["reward_accuracy_early"] <= 1
    assert policy.has_adapter == (lora is not None)
    if lora:
        assert list(policy.model.peft_config) == ["default"]
    assert len(ctx.tracker.steps) >= 24  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_reference_is_the_start_or_the_round_before(tmp_path: Path) -> None:
    items = pairs()
    for reference, at_ln2 in (("start", False), ("previous", True)):
        policy = tiny_policy()
        learner = Preference(
            steps=6, batch_size=8, learning_rate=3e-3, nll_weight=0.0,
            reference=reference,  # type: ignore[arg-type]
        )  # fmt: skip
        lessons, ctx = Lessons(preferences=items), context(tmp_path)
        first = learner.learn(policy, lessons, ctx)["loss_first"]
        assert first == pytest.approx(math.log(2), abs=1e-4)
        second = learner.learn(policy, lessons, ctx)["loss_first"]
        assert (abs(second - math.log(2)) < 1e-4) == at_ln2


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["dpo", "dpo-lora", "sft"])
def test_a_killed_learner_continues_to_the_same_weights(tmp_path: Path, kind: str) -> None:
    items = pairs(10)
    lessons = Lessons(preferences=items, demonstrations=demonstrations(10))
    options: dict[str, Any] = {"epochs": 3.0, "batch_size": 4, "learning_rate": 1e-3}
    options |= {"checkpoint_every": 2, "lora": 2 if kind == "dpo-lora" else None}
    learner = SFT(**options) if kind == "sft" else Preference(**options)
    whole = tiny_policy()
    expected = learner.learn(whole, lessons, context(tmp_path / "a"))

    def stop(done: int, total: int, what: str) -> None:
        if what.endswith("steps") and done == 6:
            raise Killed

    ctx = context(tmp_path / "b")
    with pytest.raises(Killed):
        learner.learn(tiny_policy(), lessons, dataclasses.replace(ctx, progress=stop))
    [folder] = (tmp_path / "b").iterdir()
    assert [path.name for path in folder.iterdir()] == ["checkpoint-4"]
    torn = folder / "checkpoint-6"  # as a kill in the middle of saving leaves it
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"epoch"')
    steps: list[int] = []
    ctx = dataclasses.replace(ctx, progress=lambda d, t, w: steps.append(d))
    torch.manual_seed(99)
    continued = tiny_policy()
    assert learner.learn(continued, lessons, ctx) == pytest.approx(expected)
    assert min(step for step in steps if step > 1) == 5
    assert continued.fingerprint() == whole.fingerprint()


def demonstrations(n: int) -> tuple[Demonstration, ...]:
    return tuple(
        Demonstration(id=f"d{p.id}", task=p.task, round=1, prompt=p.prompt, completion=p.chosen)
        for p in pairs(n)
    )


def test_sft_lowers_nll(tmp_path: Path) -> None:
    policy, items = tiny_policy(), demonstrations(8)
    prompts, answers = [d.prompt for d in items], [d.completion for d in items]
    before = policy.logprobs(prompts, answers)
    lessons = Lessons(demonstrations=items)
    figures = SFT(steps=15, batch_size=8, learning_rate=5e-3).learn(
        policy, lessons, context(tmp_path)
    )
    after = policy.logprobs(prompts, answers)
    assert figures["loss_first"] == pytest.approx(-sum(before.sums) / sum(before.counts), rel=1e-4)
    assert sum(after.sums) > sum(before.sums) + 5
    assert figures["loss"] < figures["loss_first"]


def test_sft_weights_and_mask(tmp_path: Path) -> None:
    """loss = sum over rows of weight * nll / response tokens, by hand."""
    policy, items = tiny_policy(), demonstrations(4)
    items = tuple(dataclasses.replace(d, weight=0.5 * i) for i, d in enumerate(items))
    learner, ctx = SFT(batch_size=4, steps=1, learning_rate=0.0), context(tmp_path)
    figures = learner.learn(policy, Lessons(demonstrations=items), ctx)
    sums, counts = policy.logprobs([d.prompt for d in items], [d.completion for d in items])
    by_hand = -sum(d.weight * s for d, s in zip(items, sums, strict=True)) / sum(counts)
    assert figures["loss_first"] == pytest.approx(by_hand, rel=1e-4)


def test_online_rounds_are_one_training(tmp_path: Path) -> None:
    """Two rounds of three steps, with the state saved and restored between, equal six steps."""
    lessons = Lessons(demonstrations=demonstrations(8))
    options = {"batch_size": 8, "learning_rate": 5e-3, "warmup": 0.0, "online": True}
    whole, parts = tiny_policy(), tiny_policy()
    SFT(steps=6, **options).learn(whole, lessons, context(tmp_path / "a"))  # type: ignore[arg-type]
    for number in (1, 2):
        ctx = context(tmp_path / f"b{number}", round=number)
        SFT(steps=3, **options).learn(parts, lessons, ctx)  # type: ignore[arg-type]
        folder = tmp_path / f"state-{number}"
        folder.mkdir()
        parts.save(folder)
        parts = tiny_policy(seed=number)
        parts.restore(folder)
    for name, weight in whole.model.state_dict().items():
        assert torch.allclose(weight, parts.model.state_dict()[name], atol=1e-6)
    fresh = tiny_policy()
    for number in (1, 2):  # without the moments it is another training
        SFT(steps=3, **options | {"online": False}).learn(  # type: ignore[arg-type]
            fresh, lessons, context(tmp_path / f"c{number}", round=number)
        )
    assert fresh.moments is None
    assert any(
        not torch.allclose(weight, fresh.model.state_dict()[name], atol=1e-4)
        for name, weight in whole.model.state_dict().items()
    )


def test_nothing_to_learn_and_bad_settings(tmp_path: Path) -> None:
    policy = tiny_policy()
    before = policy.fingerprint()
    assert Preference().learn(policy, Lessons(), context(tmp_path))["pairs"] == 0
    assert SFT().learn(policy, Lessons(), context(tmp_path))["demonstrations"] == 0
    assert policy.fingerprint() == before
    for wrong in ({"beta": 0.0}, {"nll_weight": -1.0}, {"dpo_weight": 0.0}):
        with pytest.raises(UserError):
            Preference(**wrong)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_at_once(tmp_path: Path) -> None:
    policy = tiny_policy()
    with torch.no_grad():
        policy.model.lm_head.weight[5] = torch.nan
    with pytest.raises(UserError, match="not finite at step 1"):
        SFT(steps=5).learn(policy, Lessons(demonstrations=demonstrations(4)), context(tmp_path))
    assert "forward" not in vars(policy.model)


def test_packed_rows_are_only_shuffled(tmp_path: Path) -> None:
    """On processors: rows of one text are alike in length and would come into one batch."""
    plain = [*data.Shuffled(40, seed=3)]
    assert sorted(plain) == [*range(40)] == sorted(data.ByLength([1] * 40, 8, seed=3))
    for learner, lessons in (
        (Preference(batch_size=8, epochs=1.0), Lessons(preferences=pairs(40))),
        (SFT(batch_size=8, epochs=1.0), Lessons(demonstrations=demonstrations(40))),
    ):
        used: list[object] = []
        usual = data.Plumbing._get_train_sampler

        def kept(self: Any, *args: Any, used: list[object] = used, usual: Any = usual) -> Any:
            used.append(usual(self, *args))
            return used[-1]

        with mock.patch.object(data.Plumbing, "_get_train_sampler", kept):
            learner.learn(tiny_policy(), lessons, context(tmp_path))
        assert [type(sampler) for sampler in used] == [data.Shuffled]


def test_dropout_is_off_while_a_margin_is_learnt(tmp_path: Path) -> None:
    policy = tiny_policy()
    rates = [layer.self_attn for layer in policy.model.model.layers]
    for attention in rates:
        attention.attention_dropout = 0.5
    figures = Preference(steps=1, nll_weight=0.0).learn(
        policy, Lessons(preferences=pairs(8)), context(tmp_path)
    )
    assert figures["loss_first"] == pytest.approx(math.log(2), abs=1e-5)
    assert [attention.attention_dropout for attention in rates] == [0.5, 0.5], "it is on again"


def test_batches_hold_like_lengths_and_depend_on_seed_and_epoch_only() -> None:
    lengths = [i % 17 + 1 for i in range(103)]
    sampler = data.ByLength(lengths, 8, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(103)) and list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    spread = [
        max(lengths[i] for i in first[k : k + 8]) - min(lengths[i] for i in first[k : k + 8])
        for k in range(0, 96, 8)
    ]
    assert sum(spread) / len(spread) < 3
