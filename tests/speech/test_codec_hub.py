"""Published codecs of every kind, here as small checkpoints of the same formats, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
import transformers
from torch import nn

from common.errors import UserError
from speech.codec import Codec, fingerprint, load_codec
from speech.codec.hub import TransformersCodec
from speech.codec.speechtokenizer import SpeechTokenizerCodec
from speech.codec.stream import decode_blocks, decode_file, encode_blocks, encode_file

SPEECHTOKENIZER = {
    "n_filters": 4, "strides": [8, 5, 4, 2], "dimension": 32, "semantic_dimension": 24,
    "bidirectional": True, "dilation_base": 2, "residual_kernel_size": 3, "n_residual_layers": 1,
    "lstm_layers": 2, "activation": "ELU", "codebook_size": 64, "n_q": 4, "sample_rate": 16_000,
}  # fmt: skip
HUBERT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
# Kind → rate, samples a frame, codebook sizes.
FACTS = {
    "dac": (24_000, 320, (64,) * 5),
    "mimi": (24_000, 1_920, (64,) * 4),
    "xcodec": (16_000, 320, (64,) * 4),
    "xcodec2": (16_000, 320, (65_536,)),
    "speechtokenizer": (16_000, 320, (64,) * 4),
}


def network(kind: str) -> nn.Module:
    """A small model of transformers whose codebooks hold different entries."""
    made: Any
    if kind == "dac":
        config = transformers.DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=32, downsampling_ratios=[2, 4, 5, 8],
            n_codebooks=5, codebook_size=64, codebook_dim=4, sampling_rate=24_000,
        )  # fmt: skip
        made = transformers.DacModel(config)
        for module in made.modules():  # its initialisation leaves a silent decoder
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                nn.init.xavier_normal_(module.weight)
        return cast(nn.Module, made)
    if kind == "mimi":
        made = transformers.MimiModel(
            transformers.MimiConfig(
                hidden_size=16, num_filters=4, codebook_size=64, codebook_dim=8,
                vector_quantization_hidden_dimension=8, num_quantizers=4, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, intermediate_size=32,
                upsample_groups=16,
            )
        )  # fmt: skip
    elif kind == "xcodec":
        acoustic = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "hidden_size": 64,
                    "model_type": "dac"}  # fmt: skip
        made = transformers.XcodecModel(
            transformers.XcodecConfig(
                target_bandwidths=[0.3, 1.2], codebook_size=64, acoustic_model_config=acoustic,
                semantic_model_config={"model_type": "hubert", **HUBERT},
            )
        )  # fmt: skip
    else:
        semantic = {"model_type": "wav2vec2-bert", "hidden_size": 16, "num_hidden_layers": 2,
                    "num_attention_heads": 2, "intermediate_size": 32}  # fmt: skip
        made = transformers.Xcodec2Model(
            transformers.Xcodec2Config(
                hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, head_dim=16, encoder_hidden_size=4, quantization_dim=48,
                semantic_model_config=semantic,
            )
        )  # fmt: skip
        made.quantizer.project_in.weight.data.mul_(1_000)  # or every frame rounds to one level
    for name, buffer in made.named_buffers():
        if name.endswith(("embed", "embed_sum")):
            buffer.normal_()
        if name.endswith("cluster_usage"):
            buffer.fill_(1)
    return cast(nn.Module, made)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind as its authors publish it."""
    made = {}
    for kind in FACTS:
        torch.manual_seed(0)
        folder = made[kind] = tmp_path_factory.mktemp(kind)
        if kind != "speechtokenizer":
            cast(Any, network(kind)).save_pretrained(folder)
            continue
        codec = SpeechTokenizerCodec(SPEECHTOKENIZER)
        left = codec.encoder(waves(1, 20 * 320)[:, None])[0].T.detach()
        for layer in cast(Any, codec.quantizer.vq.layers):  # entries where the latents are
            entries = left.mean(0) + left.std(0) * torch.randn(64, 32)
            layer._codebook.embed.copy_(entries)
            left = left - entries[layer.encode(left.T[None])[0]]
        (folder / "config.json").write_text(json.dumps(SPEECHTOKENIZER))
        torch.save(codec.state_dict(), folder / "SpeechTokenizer.pt")
    return made


@pytest.fixture(params=[*FACTS])
def codec(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Codec:
    return load_codec(folders[request.param])


def kind_of(codec: Codec) -> str:
    return str(cast(Any, codec).kind)


def waves(batch: int, samples: int) -> torch.Tensor:
    """Noise whose loudness and colour change, so that frames differ."""
    noise = torch.randn(batch, samples, generator=torch.Generator().manual_seed(1))
    return 0.2 * noise * torch.sin(torch.arange(samples) / 900).abs()


def test_facts(codec: Codec) -> None:
    rate, hop, sizes = FACTS[kind_of(codec)]
    assert isinstance(codec, Codec)
    assert (codec.sample_rate, codec.hop, codec.codebook_sizes) == (rate, hop, sizes)
    assert codec.codebooks == len(sizes) and abs(codec.frame_rate - rate / hop) <= 0.5


@pytest.mark.parametrize("samples", [3_841, 700])
def test_shapes_and_lengths(codec: Codec, samples: int) -> None:
    codes = codec.encode(waves(2, samples))
    frames = -(-samples // codec.hop)
    assert codes.shape == (2, codec.codebooks, frames) and codes.dtype == torch.int64
    assert codes.min() >= 0
    assert all(codes[:, q].max() < size for q, size in enumerate(codec.codebook_sizes))
    assert codec.decode(codes).shape == (2, frames * codec.hop)
    assert codec.decode(codes[:, :1]).shape == (2, frames * codec.hop)


def test_codes_follow_the_sound_and_sound_the_codes(codec: Codec) -> None:
    """No dead path: clips get different codes, codes different sound, and never another twice."""
    codes = codec.encode(waves(2, 5_760))
    assert not torch.equal(codes[0], codes[1])
    assert len(codes[0, 0].unique()) > 1
    made = codec.decode(codes)
    assert made.isfinite().all() and made.std() > 0 and not torch.equal(made[0], made[1])
    assert torch.equal(codec.encode(waves(2, 5_760)), codes)
    assert torch.equal(codec.decode(codes), made)
    if codec.codebooks > 1:
        assert not torch.equal(codec.decode(codes[:, :1]), made)


def test_batch_equals_single(codec: Codec) -> None:
    wave = waves(3, 3_840)
    codes = codec.encode(wave)
    alone = codec.encode(wave[1:2])
    # Sums of a batch round otherwise; X-codec 2 puts two halves of a level an ulp apart.
    assert (alone == codes[1:2]).float().mean() > 0.99
    torch.testing.assert_close(
        codec.decode(codes[1:2]), codec.decode(codes)[1:2], atol=1e-4, rtol=0
    )


def test_save_and_load_are_bit_equal(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    loaded = load_codec(tmp_path)
    wave = waves(1, 3_840)
    codes = codec.encode(wave)
    assert torch.equal(loaded.encode(wave), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))
    assert fingerprint(loaded) == fingerprint(codec)


def test_chunks_of_dac_equal_the_whole(folders: dict[str, Path]) -> None:
    """Its context is finite, so what chunks overlap by must be enough; and not absurdly much."""
    codec = load_codec(folders["dac"])
    assert codec.context_frames < 60
    wave = waves(1, 14_400)
    whole = codec.encode(wave)
    chunked = np.concatenate([*encode_blocks(codec, [wave[0].numpy()], 0.2)], 1)
    assert (chunked == whole[0].numpy()).mean() > 0.999  # a tie may fall either way
    made = codec.decode(torch.from_numpy(chunked.astype(np.int64))[None])[0].numpy()
    np.testing.assert_allclose(
        np.concatenate([*decode_blocks(codec, chunked, 0.2)]), made, atol=1e-4
    )


def test_a_recording_of_another_rate_through_files(codec: Codec, tmp_path: Path) -> None:
    tone = (0.3 * np.sin(np.arange(44_100) / 30)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, tone], 1), 44_100)
    held = encode_file(codec, tmp_path / "a.wav", tmp_path / "a.npz", chunk_seconds=0.5)
    assert abs(held.length - codec.sample_rate) <= 1
    assert held.codes.shape == (codec.codebooks, -(-held.length // codec.hop))
    decode_file(codec, tmp_path / "a.npz", tmp_path / "b.wav", chunk_seconds=0.5)
    about = soundfile.info(tmp_path / "b.wav")
    assert (about.samplerate, about.frames) == (codec.sample_rate, held.length)


def test_mistakes_name_a_remedy(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("dac", "speechtokenizer"):  # a config without weights
        (tmp_path / "config.json").write_text((folders[kind] / "config.json").read_text())
        with pytest.raises(UserError, match=f"{tmp_path}.*(download|keep)"):
            load_codec(tmp_path)
    (tmp_path / "SpeechTokenizer.pt").write_bytes(b"not a state dict")
    with pytest.raises(UserError, match="does not hold the SpeechTokenizer"):
        load_codec(tmp_path)
    other = SPEECHTOKENIZER | {"n_q": 8}
    (tmp_path / "config.json").write_text(json.dumps(other))
    (tmp_path / "SpeechTokenizer.pt").write_bytes(
        (folders["speechtokenizer"] / "SpeechTokenizer.pt").read_bytes()
    )
    with pytest.raises(UserError, match="does not hold the SpeechTokenizer"):
        load_codec(tmp_path)
    with pytest.raises(UserError, match="Snake.*hubert_avg"):
        SpeechTokenizerCodec(SPEECHTOKENIZER | {"activation": "Snake"})
    with pytest.raises(UserError, match="cannot load a mimi codec"):
        TransformersCodec.from_hub("mimi", tmp_path / "nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("dac-24khz", "nobody/nothing"):
        with pytest.raises(UserError, match="go online once"):
            load_codec(name)


def test_a_checkpoint_that_lacks_weights_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folders["dac"] / "model.safetensors")
    weights.pop("decoder.conv1.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folders["dac"] / "config.json").read_text())
    with pytest.raises(UserError, match=r"lacks 1 weights, decoder\.conv1\.weight"):
        load_codec(tmp_path)
