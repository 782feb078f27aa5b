"""The codec protocol, chunked coding and SEANet training, on tiny codecs of two bodies."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from common.errors import UserError
from speech.codec import Codec, fingerprint, load_codec
from speech.codec.seanet import SEANetCodec, SEANetConfig
from speech.codec.spectral import SpectralCodec, SpectralConfig
from speech.codec.stream import (
    CodeFile,
    decode_blocks,
    decode_file,
    encode_blocks,
    encode_file,
    read_codes,
    write_codes,
)
from speech.codec.train_seanet import SEANetTraining, train_seanet

TINY = SEANetConfig(filters=2, latent=8, lstm=0, codebooks=3, entries=16)
RATE, HOP = 16_000, 320

Floats = NDArray[np.float32]


def seanet(config: SEANetConfig = TINY) -> SEANetCodec:
    torch.manual_seed(0)
    codec = SEANetCodec(config)
    wave = 0.3 * torch.randn(4, RATE)
    codec.standardise(wave)
    codec.seed_codebooks(wave)
    return codec.eval()


def spectral() -> SpectralCodec:
    torch.manual_seed(0)
    codec = SpectralCodec(
        SpectralConfig(
            mels=20, width=8, semantic_width=8, latent=8, discriminants=8, semantic_size=16,
            acoustic_size=16, acoustic_books=2,
        )
    )  # fmt: skip
    with torch.no_grad():  # entries where the latents of noise lie, so that codes vary
        codec.table.weight.mul_(0.01)
        mel = codec.log_mel(0.3 * torch.randn(1, 64 * HOP))
        kept = codec.projection.shape[1]
        codec.projection.copy_(torch.eye(8, kept))
        codec.centroids.copy_(codec.semantic(mel)[0].T[::4, :kept])
        codec.residual.eval()(codec.acoustic(mel))
    return codec.eval()


@pytest.fixture(params=["seanet", "non-causal", "spectral"])
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "spectral":
        return spectral()
    causal = request.param == "seanet"
    return seanet(SEANetConfig(**{**vars(TINY), "causal": causal}))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def voice(seconds: float, seed: int) -> Floats:
    """Harmonics of a gliding pitch that swell and fade: enough like speech to be learnt from."""
    random = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(random.uniform(100, 200) * (1 + 0.2 * np.sin(3 * at))) / RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.sin(np.pi * 2 * at) ** 2
    return np.asarray(0.2 * wave, np.float32)


@pytest.mark.parametrize("samples", [16_000, 16_001, 700])
def test_shapes_lengths_and_fewer_codebooks(codec: Codec, samples: int) -> None:
    assert isinstance(codec, Codec)
    assert (codec.sample_rate, codec.hop, codec.frame_rate, codec.codebooks) == (RATE, HOP, 50, 3)
    codes = codec.encode(noise(2, samples))
    frames = -(-samples // HOP)
    assert codes.shape == (2, 3, frames) and codes.dtype == torch.int64
    assert codes.min() >= 0
    assert all(codes[:, q].max() < size for q, size in enumerate(codec.codebook_sizes))
    waves = [codec.decode(codes[:, :books]) for books in (1, 2, 3)]
    assert all(wave.shape == (2, frames * HOP) for wave in waves)
    assert not torch.equal(waves[0], waves[2])


def test_batch_equals_single(codec: Codec) -> None:
    wave = noise(3, 8_000)
    codes = codec.encode(wave)
    assert len(set(codes.flatten().tolist())) > 3
    assert torch.equal(codec.encode(wave[1:2]), codes[1:2])
    torch.testing.assert_close(codec.decode(codes[1:2]), codec.decode(codes)[1:2])


def test_save_load_and_fingerprint(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    loaded = load_codec(tmp_path)
    assert type(loaded) is type(codec)
    assert fingerprint(loaded) == fingerprint(codec)
    if isinstance(codec, SEANetCodec):  # saved in full precision
        codes = codec.encode(noise(1, 8_000))
        assert torch.equal(loaded.encode(noise(1, 8_000)), codes)
        assert torch.equal(loaded.decode(codes), codec.decode(codes))
    with torch.no_grad():
        next(iter(loaded.decoder.parameters())).add_(0.1)  # type: ignore[attr-defined]
    assert fingerprint(loaded) != fingerprint(codec)


def test_nothing_reaches_further_than_the_context(codec: Codec) -> None:
    frames, at = 120, 60
    wave = noise(1, frames * HOP)
    changed = wave.clone()
    changed[:, at * HOP : (at + 1) * HOP] = 0
    codes = codec.encode(wave)
    moved = (codec.encode(changed) != codes).any(1)[0].nonzero().flatten()
    assert len(moved) and (moved - at).abs().max() <= codec.context_frames
    other = codes.clone()
    other[..., at] = (other[..., at] + 1) % 16
    far = (codec.decode(other) != codec.decode(codes))[0].nonzero().flatten() // HOP
    assert len(far) and (far - at).abs().max() <= codec.context_frames
    # The bound is not idle: it is at most a few times what is reached.
    assert codec.context_frames <= 4 * (far - at).abs().max() + 8


@pytest.mark.parametrize("length", [HOP * 400, HOP * 433 + 17, 900])
def test_chunks_equal_the_whole(codec: Codec, length: int) -> None:
    wave = noise(1, length)
    whole = codec.encode(wave)
    blocks = [block.numpy() for block in torch.split(wave[0], 5_003)]
    chunks = list(encode_blocks(codec, blocks, 1.0))
    assert len(chunks) == max(1, round(length / RATE)) or length > RATE
    codes = np.concatenate(chunks, 1)
    assert np.array_equal(codes, whole[0].numpy())
    sound = np.concatenate(list(decode_blocks(codec, codes, 1.0)))
    np.testing.assert_allclose(sound, codec.decode(whole)[0].numpy(), atol=1e-5)


def test_chunks_without_context_would_differ() -> None:
    class Careless(SEANetCodec):
        context_frames = 0

    codec = Careless(TINY)
    codec.load_state_dict(seanet().state_dict())
    wave = noise(1, 5 * RATE)
    codes = np.concatenate(list(encode_blocks(codec.eval(), [wave[0].numpy()], 1.0)), 1)
    assert not np.array_equal(codes, codec.encode(wave)[0].numpy())


def test_lstm_context_is_nearly_enough() -> None:
    codec = seanet(SEANetConfig(**{**vars(TINY), "lstm": 1}))
    assert codec.context_frames == 100
    wave = noise(1, 6 * RATE)
    codes = np.concatenate(list(encode_blocks(codec, [wave[0].numpy()], 1.0)), 1)
    assert (codes == codec.encode(wave)[0].numpy()).mean() > 0.99


def test_files_round_trip(tmp_path: Path) -> None:
    codec = seanet()
    recording, coded, out = tmp_path / "a.wav", tmp_path / "a.npz", tmp_path / "b.wav"
    wave = voice(3.3, 0)
    soundfile.write(recording, wave, RATE)
    seen: list[int] = []
    made = encode_file(codec, recording, coded, 1.0, lambda done, total, note: seen.append(done))
    assert made.length == len(wave) and seen == [*range(1, len(seen) + 1)] and len(seen) > 1
    held = read_codes(coded)
    assert np.array_equal(held.codes, made.codes) and held.codec == fingerprint(codec)
    stored, _ = soundfile.read(recording, dtype="float32")
    assert np.array_equal(held.codes, codec.encode(torch.from_numpy(stored)[None])[0].numpy())
    assert decode_file(codec, coded, out) == len(wave)
    sound, rate = soundfile.read(out, dtype="float32")
    assert rate == RATE and len(sound) == len(wave)
    expected = codec.decode(torch.from_numpy(held.codes.astype(np.int64))[None])[0, : len(wave)]
    np.testing.assert_allclose(sound, expected.clamp(-1, 1).numpy(), atol=1e-4)
    decode_file(codec, coded, tmp_path / "first.flac", codebooks=1)
    first, _ = soundfile.read(tmp_path / "first.flac", dtype="float32")
    assert len(first) == len(wave) and not np.allclose(first, sound, atol=1e-4)
    assert {p.name for p in tmp_path.iterdir()} == {"a.wav", "a.npz", "b.wav", "first.flac"}


def test_ten_minutes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    codec = seanet()

    def peak(minutes: int) -> int:
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for second in range(60 * minutes):
                file.write(noise(RATE, seed=second % 7).numpy())
        encode_file(codec, path, tmp_path / "codes.npz", 5.0)
        decode_file(codec, tmp_path / "codes.npz", tmp_path / "out.wav", chunk_seconds=5.0)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    small = peak(1)
    # Ten minutes of samples are 37 MiB; their activations, all at once, hundreds.
    assert peak(10) - small < 24
    assert soundfile.info(tmp_path / "out.wav").frames == 600 * RATE


def code_file(**changes: object) -> CodeFile:
    fields = {"codes": np.zeros((3, 10), np.uint16), "sample_rate": RATE, "hop": HOP}
    return CodeFile(**{**fields, "length": 3_100, "codec": fingerprint(seanet()), **changes})  # type: ignore[arg-type]


def test_damaged_and_foreign_codes_are_refused(tmp_path: Path) -> None:
    codec, path, out = seanet(), tmp_path / "a.npz", tmp_path / "a.wav"
    write_codes(path, code_file())
    assert decode_file(codec, path, out) == 3_100
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"PK\x03\x04nonsense", b"not codes"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="no whole file of codes"):
            decode_file(codec, path, out)
    with pytest.raises(UserError, match="no codes at"):
        decode_file(codec, tmp_path / "none.npz", out)
    np.savez(path, codes=np.zeros((3, 10), np.uint16))
    with pytest.raises(UserError, match="a field is missing: sample_rate"):
        decode_file(codec, path, out)
    for changes, complaint in (
        ({"codes": np.zeros((3, 10), np.float32)}, "shape or type"),
        ({"codes": np.zeros((3, 10), np.int64)}, "int64"),
        ({"codes": np.zeros(10, np.uint16)}, "shape"),
        ({"length": 9_999}, "10 frames do not hold 9999"),
        ({"codes": np.full((3, 10), 16, np.uint16)}, "outside"),
        ({"codes": np.zeros((4, 10), np.uint16)}, "outside"),
        ({"codec": "another"}, "made by codec another"),
    ):
        write_codes(path, code_file(**changes))
        with pytest.raises(UserError, match=complaint):
            decode_file(codec, path, out)
    write_codes(path, code_file())
    for books in (0, 4):
        with pytest.raises(UserError, match="choose 1 to 3"):
            decode_file(codec, path, out, codebooks=books)
    with pytest.raises(UserError, match="suffix"):
        decode_file(codec, path, tmp_path / "a.txt")


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, path, out = seanet(), tmp_path / "a.npz", tmp_path / "a.wav"
    write_codes(path, code_file())
    out.write_bytes(b"old")

    def stop(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_file(codec, path, out, progress=stop)
    assert out.read_bytes() == b"old" and {p.name for p in tmp_path.iterdir()} == {"a.npz", "a.wav"}


TRAINING = SEANetTraining(
    codec=SEANetConfig(**{**vars(TINY), "teacher": 4}),
    warmup_steps=75,
    steps=75,
    adversarial_steps=6,
    batch=4,
    seconds=0.2,
    learning_rate=3e-3,
    discriminator_filters=2,
)


def loudness_states(waves: list[Floats]) -> list[Floats]:
    """A teacher that a codec can hear: the loudness of each frame, and its complement."""
    states = []
    for wave in waves:
        frames = np.pad(wave, (0, -len(wave) % HOP)).reshape(-1, HOP)
        level = np.log(1e-3 + frames.std(1))
        states.append(np.stack([level, -7 - level, level**2 / 7, 0 * level + 1], 1))
    return [s.astype(np.float32) for s in states]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SEANetCodec, Path]:
    waves = [voice(1.5, seed) for seed in range(4)]
    folder = tmp_path_factory.mktemp("seanet")
    return train_seanet(TRAINING, waves, folder, loudness_states(waves)), folder


def curve(folder: Path, stage: str, name: str) -> list[float]:
    rows = (folder / f"{stage}.jsonl").read_text().splitlines()
    return [json.loads(row)[name] for row in rows]


def test_seconds_of_training_lower_every_loss(trained: tuple[SEANetCodec, Path]) -> None:
    codec, folder = trained
    warmup, quantised = (curve(folder, stage, "mel") for stage in ("warmup", "quantised"))
    assert warmup[-1] < 0.8 * warmup[0]
    assert quantised[-1] < warmup[0]
    distillation = curve(folder, "quantised", "distillation")
    assert distillation[-1] < 0.7 * distillation[0]
    assert min(curve(folder, "quantised", "entries")) >= 2  # no collapse
    assert all(np.isfinite(curve(folder, "adversarial", name)[0]) for name in ("mel", "fooling"))
    assert codec.seeded and not codec.training


def test_a_training_killed_before_its_last_stage_ends_where_a_whole_one_does(
    trained: tuple[SEANetCodec, Path], tmp_path: Path
) -> None:
    waves = [voice(1.5, seed) for seed in range(4)]
    for stage in ("warmup", "quantised"):
        shutil.copy(trained[1] / f"{stage}.pt", tmp_path)
    resumed = train_seanet(TRAINING, waves, tmp_path, loudness_states(waves))
    assert fingerprint(resumed) == fingerprint(trained[0])


def test_a_seeded_codebook_stays_where_k_means_put_it_and_dead_entries_come_back() -> None:
    torch.manual_seed(0)
    codec = SEANetCodec(SEANetConfig(**{**vars(TINY), "entries": 8}))
    layers: Any = codec.quantizer.vq.layers
    book = layers[0]._codebook.train()
    places = torch.eye(8) * 10
    data = places.repeat(20, 1) + 0.01 * torch.randn(160, 8)
    book(data)
    assert torch.cdist(places, book.embed).min(1).values.max() < 12  # near the data, not at 0
    assert book.embed.norm(dim=1).min() > 4
    with torch.no_grad():
        book.embed[3:] += 1000
        book.embed_avg[3:] += 1000 * book.cluster_size[3:, None]
    for _ in range(900):  # nothing chooses the five entries far away until they count as dead
        _, chosen = book(data)
    assert len(set(chosen.tolist())) >= 7
    assert book.embed.abs().max() < 20


def test_the_quantiser_uses_as_many_codebooks_as_asked() -> None:
    codec = seanet().train()
    made = codec(noise(2, 3_210), books=2)
    assert made.wave.shape == (2, 3_210) and made.codes.shape == (2, 2, 11)
    assert made.first.shape == (2, 8, 11) and made.commitment.item() > 0
    plain = codec(noise(2, 3_210), quantise=False)
    assert plain.codes.shape == (2, 0, 11) and plain.commitment.item() == 0


def test_training_refuses_what_does_not_fit(tmp_path: Path) -> None:
    wave = voice(1.5, 0)
    with pytest.raises(UserError, match="0.1 s of recordings"):
        train_seanet(TRAINING, [wave[:1_600]], tmp_path, loudness_states([wave[:1_600]]))
    with pytest.raises(ValueError, match="states must be given"):
        train_seanet(TRAINING, [wave], tmp_path)
    with pytest.raises(ValueError, match="states of shape"):
        train_seanet(TRAINING, [wave], tmp_path, [loudness_states([wave])[0][:-1]])
