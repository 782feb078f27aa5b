"""Speaker similarity by WavLM, on a tiny random checkpoint of the published format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from speech.audio import Wave
from speech.hub_judges import UTMOS, WavLMSimilarity


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As microsoft/wavlm-base-plus-sv is: group norm in front, an x-vector head."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        tdnn_dim=(16, 16, 16, 16, 24), xvector_output_dim=20, use_weighted_layer_sum=True,
    )  # fmt: skip
    assert config.feat_extract_norm == "group"
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        do_normalize=False, return_attention_mask=False
    ).save_pretrained(folder)  # fmt: skip
    return folder


def tone(hertz: float, seconds: float = 1.5) -> Wave:
    """A buzz with an uneven spectrum."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    return sum((np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 9)), 0 * time).astype(
        np.float32
    )


def test_a_clip_is_its_own_voice(checkpoint: Path) -> None:
    wave = tone(120)
    judge = WavLMSimilarity([wave], checkpoint)
    same, other = (row["wavlm_similarity"] for row in judge.score([wave, tone(310)]))
    assert same == pytest.approx(1, abs=1e-6)
    assert other < same - 1e-6


def test_a_voice_depends_on_its_clip_alone(checkpoint: Path) -> None:
    judge = WavLMSimilarity([tone(120)], checkpoint)
    waves = [tone(120), tone(180, 3.1), tone(240, 0.2)]
    alone = np.concatenate([judge.embed([wave]) for wave in waves])
    assert np.array_equal(judge.embed(waves), alone)
    assert np.allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)


def test_padding_would_have_changed_it(checkpoint: Path) -> None:
    # Why clips go in one at a time: behind the group norm, silence at the end reaches every frame.
    judge = WavLMSimilarity([tone(120)], checkpoint)
    padded = np.concatenate([tone(120), np.zeros(32_000, np.float32)])
    assert not np.allclose(judge.embed([padded]), judge.embed([tone(120)]), atol=1e-4)


def test_it_is_the_librarys_own_embedding(checkpoint: Path) -> None:
    from transformers import WavLMForXVector

    wave = tone(200)
    with torch.inference_mode():
        own = WavLMForXVector.from_pretrained(checkpoint)(torch.from_numpy(wave)[None]).embeddings
    wanted = torch.nn.functional.normalize(own[0], dim=0).numpy()
    assert np.allclose(WavLMSimilarity([wave], checkpoint).voice, wanted, atol=1e-6)


def test_what_cannot_be_heard_and_what_is_no_model(checkpoint: Path, tmp_path: Path) -> None:
    silent = np.zeros(16_000, np.float32)
    judge = WavLMSimilarity([tone(120)], checkpoint)
    unheard = [silent, silent[:0], tone(120, 0.05), np.full(16_000, np.nan, np.float32)]
    assert judge.score(unheard) == [judge.lowest()] * 4
    with pytest.raises(UserError, match="no voice"):
        WavLMSimilarity([silent], checkpoint).voice  # noqa: B018
    with pytest.raises(UserError, match="cannot load the speaker model"):
        WavLMSimilarity([tone(120)], tmp_path).voice  # noqa: B018


class Loudness(torch.nn.Module):
    """Of the published module's form: 16-bit samples in, a number out."""

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return 1.0 + 4.0 * (samples.float() / 32767).abs().max()


def test_utmos_is_a_script_of_samples(tmp_path: Path) -> None:
    torch.jit.script(Loudness()).save(tmp_path / "utmos.jit")
    judge = UTMOS(tmp_path, "cpu")
    half = 0.5 * tone(200) / np.abs(tone(200)).max()
    scores = judge.score([half, 2 * half, 3 * half, np.zeros(16_000, np.float32)])
    assert [s["utmos"] for s in scores] == pytest.approx([3, 5, 5, 1], abs=1e-3)
    with pytest.raises(UserError, match=r"cannot load UTMOS from .*give a folder"):
        UTMOS(tmp_path / "nowhere", "cpu").score([half])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "utmos.jit").write_bytes(b"no script")
    with pytest.raises(UserError, match="cannot load UTMOS"):
        UTMOS(tmp_path / "broken", "cpu").score([half])
