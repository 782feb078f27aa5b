"""The regression's value, gradient and optimum, and that it is not DPO."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from common.learners.margin import SquaredMargin, SquaredMarginTrainer, squared_margin
from common.records import Lessons
from tests.common.test_learners import pairs
from tests.common.tiny import context, tiny_policy

MARGINS = [1.5, -0.5, 0.25, 2.0, 0.0, 1.0, -1.0, 3.0]


def with_margins():  # type: ignore[no-untyped-def]
    return tuple(dataclasses.replace(p, margin=m) for p, m in zip(pairs(), MARGINS, strict=True))


def test_gradient_against_finite_differences() -> None:
    torch.manual_seed(0)
    gap = torch.randn(6, dtype=torch.float64, requires_grad=True)
    margin = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: squared_margin(a, b, 0.7), (gap, margin))
    squared_margin(gap, margin, 0.7).backward()
    step, by_hand = 1e-6, []
    for i in range(6):
        moved = [gap.detach().clone() for _ in range(2)]
        moved[0][i] += step
        moved[1][i] -= step
        up, down = (float(squared_margin(m, margin.detach(), 0.7)) for m in moved)
        by_hand.append((up - down) / (2 * step))
    assert gap.grad is not None
    assert gap.grad.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_value_at_the_reference_and_swap(tmp_path: Path) -> None:
    """The mean squared margin at the reference; a swap with the margin's sign changes nothing."""
    items = with_margins()
    mean = sum(m**2 for m in MARGINS) / len(MARGINS)
    swapped = tuple(
        dataclasses.replace(p, chosen=p.rejected, rejected=p.chosen, margin=-p.margin)
        for p in items
    )
    ends = []
    for n, some in enumerate((items, swapped)):
        policy = tiny_policy()
        figures = SquaredMargin(beta=0.5, steps=3, batch_size=8, learning_rate=1e-3).learn(
            policy, Lessons(some), context(tmp_path / str(n))
        )
        assert figures["loss_first"] == pytest.approx(mean, rel=1e-4)
        assert figures["loss"] < figures["loss_first"]
        ends.append(policy.model.state_dict())
    for name, weight in ends[0].items():
        assert torch.allclose(weight, ends[1][name], atol=1e-5), name


def test_the_trainer_computes_the_formula(tmp_path: Path) -> None:
    policy, items, beta = tiny_policy(), with_margins(), 0.3
    learner = SquaredMargin(beta=beta, batch_size=8, dpo_weight=0.5, nll_weight=0.25)
    from common.learners import data

    ctx = context(tmp_path)
    rows = learner._reference(policy, data.preference_rows(policy, items, 64), ctx)
    for i, row in enumerate(rows):  # as if the reference were another model
        row["ref_chosen_logps"] -= 0.1 * i
    trainer = learner.trainer(policy, rows, ctx, tmp_path / "out")
    assert isinstance(trainer, SquaredMarginTrainer)
    batch = trainer._prepare_inputs(trainer.data_collator(rows))
    trainer.model.eval()
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model, batch))
    [nll] = trainer._metrics["eval"]["nll"]
    expected = sum((beta * 0.1 * i - m) ** 2 for i, m in enumerate(MARGINS)) / 8
    assert loss == pytest.approx(0.5 * expected + 0.25 * nll, rel=1e-4)


def test_the_optimum_of_a_table_is_the_tilted_reference() -> None:
    """Over all pairs of a discrete policy: pi proportional to pi_ref^(1 + 1/beta)."""
    torch.manual_seed(3)
    reference = torch.randn(6, dtype=torch.float64).log_softmax(0)
    beta = 0.8
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    first, second = torch.triu_indices(6, 6, 1)
    optimiser = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        ratio = logits.log_softmax(0) - reference
        margin = reference[first] - reference[second]
        value = squared_margin(ratio[first] - ratio[second], margin, beta)
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    expected = ((1 + 1 / beta) * reference).softmax(0)
    assert torch.allclose(logits.softmax(0), expected, atol=1e-5)


def test_learning_reaches_the_margin(tmp_path: Path) -> None:
    """One pair, its margin met: no further, as the sigmoid of DPO would go."""
    [item] = with_margins()[:1]
    policy = tiny_policy()
    before = policy.logprobs([item.prompt] * 2, [item.chosen, item.rejected]).sums
    learner = SquaredMargin(beta=0.5, steps=60, batch_size=1, learning_rate=2e-3, warmup=0.0)
    figures = learner.learn(policy, Lessons((item,)), context(tmp_path))
    after = policy.logprobs([item.prompt] * 2, [item.chosen, item.rejected]).sums
    gap = (after[0] - before[0]) - (after[1] - before[1])
    assert 0.5 * gap == pytest.approx(item.margin, abs=0.1)
    assert figures["loss"] < 0.01
