"""The judge of voices: its mixture against closed forms, and voices it can and cannot have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from speech import audio, corpora, voice
from speech.audio import Wave
from speech.voice import VoiceLikelihood


@pytest.fixture(scope="module")
def clips() -> list[Wave]:
    dev = corpora.load("prompts").split("dev")
    return [audio.read(u.path) for u in dev if len(u.text.split()) >= 4][:10]


def mixture(seed: int, width: int = 3, components: int = 4) -> dict[str, voice.Frames]:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.dirichlet(np.ones(components)),
        "means": rng.normal(size=(components, width)),
        "variances": rng.uniform(0.3, 2.0, size=(components, width)),
    }


def test_density_is_the_library_s() -> None:
    from sklearn.mixture import GaussianMixture

    model, frames = mixture(0), np.random.default_rng(1).normal(size=(20, 3))
    other = GaussianMixture(4, covariance_type="diag")
    other.weights_, other.means_ = model["weights"], model["means"]
    other.covariances_ = model["variances"]
    other.precisions_cholesky_ = 1 / np.sqrt(model["variances"])
    mine = voice.log_likelihood(frames, *model.values())
    assert np.allclose(mine, other.score_samples(frames), atol=1e-10)


@given(st.integers(0, 100), st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_one_component_adapts_by_the_formula(seed: int, count: int) -> None:
    model = mixture(seed, components=1)
    frames = np.random.default_rng(seed).normal(2.0, 1.0, size=(count, 3))
    trust = count / (count + voice.RELEVANCE)
    wanted = trust * frames.mean(0) + (1 - trust) * model["means"][0]
    assert np.allclose(voice.adapt(model, frames)[0], wanted)


def test_components_that_hear_nothing_stay() -> None:
    model = mixture(3)
    model["means"][2] = 500.0
    moved = voice.adapt(model, np.random.default_rng(0).normal(size=(50, 3)))
    assert np.allclose(moved[2], 500.0) and not np.allclose(moved[0], model["means"][0])


def test_the_voice_and_a_deeper_one(clips: list[Wave]) -> None:
    judge = VoiceLikelihood(clips[:5])
    deeper = [soxr.resample(w, 16_000, 20_000).astype(np.float32) for w in clips[5:]]
    own = [row["voice"] for row in judge.score(clips[5:])]
    other = [row["voice"] for row in judge.score(deeper)]
    assert min(own) > 0 > np.mean(other) and all(
        a > b + 0.5 for a, b in zip(own, other, strict=True)
    )


def test_nothing_to_hear_scores_worst_and_is_no_reference(clips: list[Wave]) -> None:
    judge = VoiceLikelihood(clips[:1])
    nothing = [np.zeros(0, np.float32), np.zeros(16_000, np.float32), np.full(8000, np.nan)]
    assert judge.score(nothing) == [judge.lowest()] * 3
    with pytest.raises(UserError, match="no speech"):
        VoiceLikelihood(nothing).score(clips[:1])


def test_a_background_is_fitted_and_kept(tmp_path: Path, clips: list[Wave]) -> None:
    with pytest.raises(UserError, match="too few"):
        voice.train_background([clips[0][:8000]])
    background = voice.train_background(clips)
    assert background["weights"].sum() == pytest.approx(1.0)
    voice.save_background(background, tmp_path)
    held = VoiceLikelihood(clips[:2], tmp_path).background
    assert np.allclose(held["means"], background["means"], atol=1e-4)
