"""EnCodec checkpoints of both published formats, here with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from encodec.model import EncodecModel as PackageModel
from transformers import EncodecConfig, EncodecModel

from common.errors import UserError
from speech.codec import Codec, fingerprint, load_codec
from speech.codec.pretrained import PretrainedCodec


@pytest.fixture(scope="module")
def transformers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("transformers")
    config = EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, num_lstm_layers=1)
    network = EncodecModel(config)
    layers: Any = network.quantizer.layers
    for layer in layers:
        layer.codebook.embed.normal_(std=0.1)  # they start at zero: all distances would be equal
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def state_dict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = PackageModel.encodec_model_24khz(pretrained=False)
    layers: Any = network.quantizer.vq.layers
    for layer in layers:
        layer._codebook.embed.normal_(std=0.1)
    path = tmp_path_factory.mktemp("package") / "encodec_24khz.th"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(params=["transformers_folder", "state_dict"])
def codec(request: pytest.FixtureRequest) -> PretrainedCodec:
    loaded = load_codec(request.getfixturevalue(request.param))
    assert isinstance(loaded, PretrainedCodec)
    return loaded


def waves(batch: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(1))


def test_facts_of_the_24_khz_model(codec: PretrainedCodec) -> None:
    assert isinstance(codec, Codec)
    assert (codec.sample_rate, codec.frame_rate, codec.hop) == (24_000, 75, 320)
    assert codec.codebooks == 8 and codec.codebook_sizes == (1024,) * 8


@pytest.mark.parametrize("samples", [9_600, 9_601, 100])
def test_shapes_and_lengths(codec: PretrainedCodec, samples: int) -> None:
    codes = codec.encode(waves(2, samples))
    frames = -(-samples // 320)
    assert codes.shape == (2, 8, frames) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < 1024
    assert codec.decode(codes).shape == (2, frames * 320)
    assert codec.decode(codes[:, :3]).shape == (2, frames * 320)


def test_batch_equals_single(codec: PretrainedCodec) -> None:
    wave = waves(2, 8_000)
    codes = codec.encode(wave)
    assert torch.equal(codec.encode(wave[1:]), codes[1:])
    torch.testing.assert_close(codec.decode(codes[1:]), codec.decode(codes)[1:])


def test_save_and_load_are_bit_equal(codec: PretrainedCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    loaded = load_codec(tmp_path)
    wave = waves(1, 8_000)
    codes = codec.encode(wave)
    assert torch.equal(loaded.encode(wave), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))
    assert fingerprint(loaded) == fingerprint(codec)


def test_bandwidth_decides_the_codebooks_and_is_saved(
    transformers_folder: Path, state_dict: Path, tmp_path: Path
) -> None:
    for number, loaded in enumerate(
        (
            PretrainedCodec.from_hub(transformers_folder, 1.5),
            PretrainedCodec.from_state_dict(state_dict, 1.5),
        )
    ):
        assert loaded.codebooks == 2 and loaded.encode(waves(1, 4_000)).shape == (1, 2, 13)
        loaded.save(tmp_path / str(number))
        assert load_codec(tmp_path / str(number)).codebooks == 2
    with pytest.raises(UserError, match="no bandwidth of 5 kbit/s.*1.5, 3, 6, 12, 24"):
        PretrainedCodec.from_hub(transformers_folder, 5.0)


def test_both_formats_agree_on_the_same_weights(state_dict: Path) -> None:
    """The same numbers in both networks give the same codes: neither wrapper reorders anything."""
    package = PretrainedCodec.from_state_dict(state_dict)
    theirs = EncodecModel(EncodecConfig())
    source, target = package.network.state_dict(), theirs.state_dict()
    # Both list the same layers in the same order; only the names of their parts differ.
    parts = {"weight_g": 0, "original0": 0, "weight_v": 1, "original1": 1}

    def grouped(keys: list[str]) -> list[list[str]]:
        layers: dict[str, list[str]] = {}
        for key in keys:
            layer, _, part = key.replace(".parametrizations.weight", "").rpartition(".")
            group = layer if part in parts or part == "bias" else key
            layers.setdefault(group, []).append(key)
        return [
            sorted(g, key=lambda k: parts.get(k.rpartition(".")[2], 2)) for g in layers.values()
        ]

    package_names = [k for k in source if "_codebook" not in k]
    names = [k for k in target if ".codebook." not in k]
    for ours, other in zip(grouped(package_names), grouped(names), strict=True):
        for a, b in zip(ours, other, strict=True):
            target[b] = source[a]
    for i in range(32):
        target[f"quantizer.layers.{i}.codebook.embed"] = source[
            f"quantizer.vq.layers.{i}._codebook.embed"
        ]
    theirs.load_state_dict(target)
    wave = waves(1, 8_000)
    codes = package.encode(wave)
    wrapped = PretrainedCodec(theirs)
    assert (wrapped.encode(wave) == codes).float().mean() > 0.99
    torch.testing.assert_close(wrapped.decode(codes), package.decode(codes), atol=1e-4, rtol=1e-3)


def test_mistakes_name_a_remedy(
    tmp_path: Path, transformers_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no codec at"):
        load_codec(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "vinyl"}')
    with pytest.raises(UserError, match="'vinyl'"):
        load_codec(tmp_path)
    (tmp_path / "bad.th").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="no state dict"):
        load_codec(tmp_path / "bad.th")
    config = json.loads((transformers_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"kind": "encodec"}))
    with pytest.raises(UserError, match="cannot load EnCodec"):  # a config without weights
        load_codec(tmp_path)
    # Offline by its own flag, the hub's client does not try again for most of a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="facebook/encodec_24khz.*go online once"):
        PretrainedCodec.from_hub()
    with pytest.raises(UserError, match="mono"):
        PretrainedCodec(EncodecModel(EncodecConfig(audio_channels=2, num_filters=2)))
