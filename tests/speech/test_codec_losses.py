"""Spectral loss, balancer, discriminator and distillation loss against values known beforehand."""

from __future__ import annotations

import math

import pytest
import torch

from speech.codec.adversarial import Discriminator, discriminator_loss, generator_losses
from speech.codec.losses import Balancer, cosine_distillation, multi_scale_mel, multi_scale_stft

RATE = 16_000


def tone(pitch: float, seconds: float = 0.5, loudness: float = 0.3) -> torch.Tensor:
    at = torch.arange(round(seconds * RATE)) / RATE
    return loudness * torch.sin(2 * math.pi * pitch * at)[None]


def test_mel_distance_is_zero_only_for_equal_inputs() -> None:
    a, b = tone(300), tone(900)
    assert multi_scale_mel(a, a, RATE).item() == 0
    assert multi_scale_mel(a, b, RATE).item() > 0.1
    with pytest.raises(ValueError, match="shapes differ"):
        multi_scale_mel(a, b[:, :-1], RATE)


def test_mel_distance_of_half_the_loudness_is_ln_2_plus_the_square_term() -> None:
    noise = torch.randn(4, RATE, generator=torch.Generator().manual_seed(0)) * 0.3
    # log 1 - log 0.5, and an amplitude error of half the target's, weighted 0.1. The floor
    # takes a little off the first.
    expected = math.log(2) + 0.05
    assert multi_scale_mel(noise / 2, noise, RATE).item() == pytest.approx(expected, abs=0.01)


def test_mel_distance_grows_with_noise_and_leads_back_to_the_target() -> None:
    target = tone(440)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    near, far = (multi_scale_mel(target + s * noise, target, RATE) for s in (0.01, 0.1))
    assert 0 < near < far
    made = (0.1 * noise).requires_grad_()
    before = multi_scale_mel(made, target, RATE)
    torch.autograd.backward(before)
    assert made.grad is not None and torch.isfinite(made.grad).all()
    step = made.detach() - 0.1 * made.grad / made.grad.norm()
    assert multi_scale_mel(step, target, RATE) < before


def test_mel_gradient_is_finite_on_silence_and_at_equality() -> None:
    for target in (torch.zeros(2, 4000), tone(440)):
        made = target.clone().requires_grad_()
        torch.autograd.backward(multi_scale_mel(made, target, RATE))
        assert made.grad is not None and torch.isfinite(made.grad).all()


def test_short_clips_have_a_distance() -> None:
    assert multi_scale_mel(torch.zeros(1, 200), torch.full((1, 200), 0.1), RATE).item() > 0


def test_balancer_gives_the_shares_that_the_weights_name() -> None:
    output = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.zeros_like(output)
    made = output * 1.0
    balancer = Balancer({"loud": 1.0, "quiet": 3.0})
    losses = {"loud": 1000 * (made - target).abs().sum(), "quiet": 1e-3 * made.square().sum()}
    shares = balancer.backward(losses, made)
    assert shares["loud"] == pytest.approx(0.25, abs=1e-3)
    assert shares["quiet"] == pytest.approx(0.75, abs=1e-3)
    assert output.grad is not None
    # Unit norms weighted 1/4 and 3/4 cannot add up to more than a norm of one.
    assert 0 < output.grad.norm(dim=1).mean().item() <= 1 + 1e-5


def test_balancer_continues_from_its_state() -> None:
    def run(balancer: Balancer, scale: float) -> dict[str, float]:
        leaf = torch.full((2, 10), 2.0, requires_grad=True)
        made = leaf * 1.0
        return balancer.backward({"a": scale * made.sum(), "b": made.square().sum()}, made)

    whole = Balancer({"a": 1.0, "b": 1.0}, decay=0.5)
    run(whole, 1.0)
    resumed = Balancer({"a": 1.0, "b": 1.0}, decay=0.5)
    resumed.load_state_dict(whole.state_dict())
    assert run(resumed, 10.0) == run(whole, 10.0)
    # A sudden tenfold loss exceeds its share until the running mean has followed.
    assert run(Balancer({"a": 1.0, "b": 1.0}), 10.0)["a"] < run(resumed, 100.0)["a"]


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}])
def test_balancer_refuses_senseless_weights(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Balancer(weights)


def test_discriminator_learns_to_tell_tones_from_noise_and_the_hinge_losses_follow() -> None:
    torch.manual_seed(0)
    real = torch.cat([tone(200 + 100 * i, 0.15) for i in range(4)])
    made = 0.1 * torch.randn(real.shape)
    judge = Discriminator(filters=4)
    optimizer = torch.optim.Adam(judge.parameters(), 2e-2)
    first = discriminator_loss(judge, real, made).item()
    fooled_before = generator_losses(judge, real, made)[0].item()
    for _ in range(25):
        loss = discriminator_loss(judge, real, made)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert first == pytest.approx(2.0, abs=0.3)
    assert discriminator_loss(judge, real, made).item() < 0.8 * first
    assert generator_losses(judge, real, made)[0].item() > fooled_before


def test_generator_losses_reach_the_samples_and_not_the_discriminator() -> None:
    torch.manual_seed(0)
    judge = Discriminator(filters=4)
    real = tone(300, 0.15)
    made = (0.1 * torch.randn(real.shape)).requires_grad_()
    fooling, matching = generator_losses(judge, real, made)
    torch.autograd.backward(fooling + matching)
    assert made.grad is not None and made.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in judge.parameters())
    assert generator_losses(judge, real, real)[1].item() == 0
    with pytest.raises(ValueError, match="more than 1024"):
        judge(real[:, :500])


def test_cosine_distillation_is_0_for_aligned_and_2_for_opposite_states() -> None:
    teacher = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    same = torch.nn.Identity()
    states = teacher.transpose(1, 2)
    assert cosine_distillation(3 * states, teacher, same).item() == pytest.approx(0, abs=1e-6)
    assert cosine_distillation(-states, teacher, same).item() == pytest.approx(2, abs=1e-6)


def test_stft_distance_hears_what_lies_between_harmonics() -> None:
    voice = torch.stack([tone(200.0 * k, 1.0, 0.1 / k) for k in range(1, 40)]).sum(0)
    noise = 0.003 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    assert multi_scale_stft(voice, voice).item() == 0
    made = (voice + noise).requires_grad_()
    distance = multi_scale_stft(made, voice)
    distance.backward()
    assert made.grad is not None and made.grad.isfinite().all()
    # The bands of the mel loss hardly notice: a harmonic fills each of them.
    assert distance > 2 * multi_scale_mel(voice + noise, voice, 16_000)
    assert distance > multi_scale_stft(voice + 0.3 * noise, voice) > 0
