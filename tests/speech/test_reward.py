"""The reward model of sound: what it learns of recordings, and as a judge."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from common.errors import UserError
from common.records import Preference
from speech import corpora
from speech.align import AlignConfig
from speech.audio import SAMPLE_RATE, Wave
from speech.lm.stream import CODE
from speech.reward import (
    BOUND,
    SMPCONV,
    NetworkConfig,
    SpokenReward,
    WaveNetwork,
    WaveReward,
    WaveTraining,
    fresh,
    stack,
)
from speech.speaking import load_policy, speaker_of
from tests.common.tiny import context
from tests.speech.test_judges import clips, unheard

SMALL = NetworkConfig(filters=16, width=16, blocks=1, dropout=0.0)


def degraded(wave: Wave, rng: np.random.Generator) -> Wave:
    """``wave`` with hiss 25 dB below it; or 30 ms of every 300 said twice; or without its top."""
    kind = int(rng.integers(3))
    if kind == 0:
        hiss = rng.normal(size=len(wave)) * wave.std() * 10 ** (-25 / 20)
        return (wave + hiss).astype(np.float32)
    if kind == 1:
        wave = wave.copy()
        for start in range(int(rng.integers(4800)), len(wave) - 960, 4800):
            wave[start + 480 : start + 960] = wave[start : start + 480]
        return wave
    spectrum = np.fft.rfft(wave)
    spectrum[int(3400 / SAMPLE_RATE * len(wave)) :] *= 0.2
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


@pytest.fixture(scope="module")
def recordings() -> list[Wave]:
    return [wave for _, wave in clips("en", 72)]


def pairs(waves: list[Wave], seed: int) -> list[tuple[Wave, Wave]]:
    rng = np.random.default_rng(seed)
    return [(wave, degraded(wave, rng)) for wave in waves]


@pytest.mark.parametrize("config", [NetworkConfig(), SMPCONV])
def test_tells_recordings_from_degraded_ones(
    config: NetworkConfig, recordings: list[Wave], tmp_path: Path
) -> None:
    taught, held_out = pairs(recordings[:48] * 3, 1), pairs(recordings[48:] * 2, 2)
    judge = WaveReward(fresh(config), WaveTraining(steps=60, batch_size=12, seconds=2.0))

    def right() -> int:
        better = judge.score([a for a, _ in held_out])
        worse = judge.score([b for _, b in held_out])
        return sum(a["reward"] > b["reward"] for a, b in zip(better, worse, strict=True))

    assert right() == 0, "it starts with one reward for all"
    figures = judge.fit(taught, context(tmp_path))
    assert figures["loss_first"] == pytest.approx(math.log(2), abs=1e-6)
    assert figures["pairs"] == len(taught) and figures["steps"] == 60
    assert figures["loss"] < 0.5 and figures["reward_margin"] > 0.5
    count = right()
    assert count / len(held_out) > 0.8
    assert binomtest(count, len(held_out), alternative="greater").pvalue < 1e-4
    judge.save(tmp_path / "saved")
    same = WaveReward.load(tmp_path / "saved")
    waves = [wave for pair in held_out[:4] for wave in pair]
    assert same.score(waves) == judge.score(waves)


def test_a_clip_scores_the_same_in_company_and_at_any_level(recordings: list[Wave]) -> None:
    network = WaveNetwork(SMALL).eval()
    torch.manual_seed(0)
    torch.nn.init.normal_(network.head.weight)
    waves = [recordings[0][: 1000 * k] for k in (2, 11, 30)]
    with torch.inference_mode():
        together = network(*stack(waves))
        alone = torch.cat([network(*stack([wave])) for wave in waves])
    assert torch.allclose(together, alone, atol=1e-4)
    assert together.std() > 0.01 and together.abs().max() < BOUND
    judge = WaveReward(network)
    quiet = [0.01 * wave for wave in waves]
    for loud, soft in zip(judge.score(waves), judge.score(quiet), strict=True):
        assert loud["reward"] == pytest.approx(soft["reward"], abs=1e-4)
    assert judge.score(waves, ["a text"] * 3) == judge.score(waves, ["another"] * 3)


def test_the_filters_start_as_bands() -> None:
    """A tone comes out loudest in the band that it is the middle of."""
    network = WaveNetwork(NetworkConfig())
    time = np.arange(8000) / SAMPLE_RATE
    spacing = np.linspace(*(2595 * np.log10(1 + np.array([60.0, 7600.0]) / 700)), 64)
    for band in (8, 20, 40, 60):
        hertz = 700 * (10 ** (spacing[band] / 2595) - 1)
        tone = torch.from_numpy(np.sin(2 * np.pi * hertz * time)).float()
        pairs = network.filters(tone[None, None])[0].square().mean(1)
        assert abs(int((pairs[0::2] + pairs[1::2]).argmax()) - band) <= 1


class Killed(BaseException):
    pass


def test_training_goes_on_where_it_stopped(
    recordings: list[Wave], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, how = pairs(recordings[:6], 1), WaveTraining(steps=6, batch_size=3, seconds=0.5)

    def fresh() -> WaveReward:
        torch.manual_seed(3)
        return WaveReward(WaveNetwork(SMALL), how)

    whole = fresh()
    expected = whole.fit(taught, context(tmp_path / "a"))
    from speech import reward

    original = reward.run_steps

    def often(*args: Any, **kw: Any) -> Any:
        return original(*args, **kw, checkpoint_seconds=0.0)

    monkeypatch.setattr(reward, "run_steps", often)

    def stop(done: int, total: int, what: str) -> None:
        if done == 4:
            raise Killed

    ctx = context(tmp_path / "b")
    with pytest.raises(Killed):
        fresh().fit(taught, dataclasses.replace(ctx, progress=stop))
    steps: list[int] = []
    continued = fresh()
    ctx = dataclasses.replace(ctx, progress=lambda done, total, what: steps.append(done))
    assert continued.fit(taught, ctx) == expected
    assert steps == [4, 5, 6], "the third was saved"
    for a, b in zip(whole.network.parameters(), continued.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_cannot_be_judged_or_learnt_from(recordings: list[Wave], tmp_path: Path) -> None:
    judge = WaveReward(WaveNetwork(SMALL))
    assert judge.score(unheard()) == [{"reward": -BOUND}] * 4
    before = judge.network.state_dict()["stem.weight"].clone()
    nothing = [(recordings[0], wave) for wave in unheard()]
    for given in ([], nothing):
        assert judge.fit(given, context(tmp_path)) == {"pairs": 0.0, "steps": 0.0}
    assert torch.equal(before, judge.network.state_dict()["stem.weight"])
    with pytest.raises(UserError, match="no reward model"):
        WaveReward.load(tmp_path)


def test_completions_are_heard(tmp_path: Path) -> None:
    """What was recorded is told from the same phones with codes drawn at random."""
    speaker = speaker_of(AlignConfig(), load_policy("starter"))
    recorded = [u for u in corpora.load("prompts").split("train") if 3 <= len(u.text.split()) <= 6][
        :8
    ]
    golden = [text for u in recorded if (text := speaker.golden(u))]
    assert len(golden) >= 6
    rng = np.random.default_rng(0)
    broken = [CODE.sub(lambda _: f"<c{rng.integers(256)}>", text) for text in golden]
    pairs = [
        Preference(str(i), str(i), 1, "", good, bad, 1.0, "golden")
        for i, (good, bad) in enumerate(zip(golden, broken, strict=True))
    ]
    reward = SpokenReward(lambda: speaker, WaveTraining(steps=25, batch_size=6, seconds=1.0))
    fresh, nothing = reward.fingerprint(), [""]
    assert reward.score(["", ""], golden[:2]) == [0.0, 0.0]
    figures = reward.fit(pairs, context(tmp_path))
    assert figures["pairs"] == len(pairs) and figures["steps"] == 25
    assert reward.fingerprint() != fresh
    better, worse = (reward.score([""] * len(pairs), side) for side in (golden, broken))
    assert sum(a > b for a, b in zip(better, worse, strict=True)) >= len(pairs) - 1
    waves = speaker.waves(golden)
    assert better == [row["reward"] for row in reward.wave.score(waves)]
    assert reward.score([""], nothing) == [-BOUND]
    reward.save(tmp_path / "saved")
    same = SpokenReward(lambda: speaker)
    same.restore(tmp_path / "saved")
    assert same.fingerprint() == reward.fingerprint()
