"""A model, a codec and a corpus of a user's own through `align --recipe paper`, all of them tiny.

A Llama with LLaSA's symbols and two EnCodec codebooks, saved as transformers saves them, and a
LibriTTS folder with real speech. Two optimiser steps; nothing here is intelligible.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import EncodecConfig, EncodecModel

from common import registry
from common.cli import main
from common.errors import UserError
from common.store import Store
from speech import audio
from speech.corpora import load
from speech.text import normalise
from tests.speech.single import save_lm

pytestmark = pytest.mark.timeout(600)
COMMAND = [sys.executable, "-m", "common.cli"]
SMALL = ["texts=4", "dev_texts=2", "test_texts=2", "steps=2", "batch_size=2", "grad_accum=2",
         "max_new_tokens=120", "max_length=700", "learning_rate=0.01"]  # fmt: skip
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
          "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m",
          "common.cli"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``lm``, ``codec`` and ``LibriTTS``."""
    try:
        registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    network = EncodecModel(
        EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, num_lstm_layers=1,
                      codebook_size=64, upsampling_ratios=[8, 8, 5, 4],
                      target_bandwidths=[0.9, 3.6])
    )  # fmt: skip
    for layer in network.quantizer.layers:
        layer.codebook.embed.normal_(std=0.1)
    network.save_pretrained(folder / "codec")
    save_lm(folder / "lm", codes=128)
    found = {normalise(u.text): u for u in load("prompts").utterances}
    short = [u for text, u in found.items() if 3 <= len(text.split()) <= 6]
    for number, u in enumerate(short[:24]):
        subset = ("train-clean-100", "dev-clean", "test-clean")[number % 3]
        speaker = f"{subset}-{number // 12}"
        at = folder / "LibriTTS" / subset / speaker / "1" / f"{speaker}_1_{number:06d}.wav"
        at.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(at, audio.read(u.path, 24_000), 24_000)
        at.with_suffix(".normalized.txt").write_text(u.text)
    return folder


def environment(place: Path) -> dict[str, str]:
    prompts = str(registry.get("prompts"))
    return {**os.environ, "UPSPIRAL_HOME": str(place / "home"), "UPSPIRAL_PROMPTS": prompts,
            "HF_HUB_OFFLINE": "1"}  # fmt: skip


def words(place: Path, *more: str) -> list[str]:
    found = ["speech", "align", "--recipe", "paper", "--rounds", "1", "--seed", "3", "--json"]
    found += ["--codec", str(place / "codec"), "--lm", str(place / "lm")]
    found += ["--corpus", f"libritts:{place / 'LibriTTS'}", *more]
    return [*found, *(part for setting in SMALL for part in ("--set", setting))]


def run(place: Path, command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command, env=environment(place), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def aligned(place: Path) -> dict[str, Any]:
    return run(place, [*COMMAND, *words(place, "--name", "own")])


def test_the_paper_recipe_runs_from_proposals_to_report(
    place: Path, aligned: dict[str, Any]
) -> None:
    assert [r["round"] for r in aligned["rounds"]] == [0, 1]
    assert aligned["rounds"][1]["pairs"] == 4
    for row in [*aligned["rounds"], *aligned["test"].values()]:
        assert row["n"] == 2 and 0 <= row["wer"] <= 1 and 1 <= row["dnsmos"] <= 5
        assert 0 <= row["speaker_similarity"] <= 1
    page = Path(aligned["report"]).read_text(encoding="utf-8")
    kept = sum(row["kept"] for row in aligned["rounds"])
    assert page.count("<audio") == 2 * (kept + 1)  # every state that was kept, and the recording


def test_pairs_are_recordings_over_samples(place: Path, aligned: dict[str, Any]) -> None:
    import pyarrow.parquet as parquet

    out = place / "pairs.parquet"
    run(place, [*COMMAND, "runs", "export", "own", "--out", str(out), "--json"])
    rows = parquet.read_table(out).to_pylist()
    assert len(rows) == 4
    for row in rows:
        text = json.dumps(row)
        assert "<|TEXT_UNDERSTANDING_START|>" in text and "<|SPEECH_GENERATION_START|>" in text
        assert row["chosen"] != row["rejected"]


def test_what_was_aligned_speaks_at_the_rate_of_its_codec(
    place: Path, aligned: dict[str, Any]
) -> None:
    out = place / "said.wav"
    said = run(
        place, [*COMMAND, "speech", "say", "good morning", "--policy", "own", "--out", str(out),
                "--json"],
    )  # fmt: skip
    assert said["sample_rate"] == 24_000 and soundfile.info(str(out)).samplerate == 24_000


def learnt(name: str) -> tuple[dict[str, float], torch.Tensor]:
    """What the learner of the first round returned, and all weights that it left, in a row."""
    store = Store()
    notes: dict[str, Any] = dict(store.rounds(name)[1].notes["learn"])
    (unit,) = store.units(name, 1, "learn").values()
    return notes, weights(store.path(unit.payload["state"]))


def weights(folder: Path) -> torch.Tensor:
    loaded = load_file(folder / "model.safetensors")
    return torch.cat([loaded[name].flatten() for name in sorted(loaded)])


def test_two_processes_learn_what_one_does(
    place: Path, aligned: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under accelerate launch (gloo, no GPU): a step takes the same pairs, so losses agree."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [*LAUNCH[:3], "--main_process_port", str(port), *LAUNCH[3:]]
    shared = run(place, [*launch, *words(place, "--name", "shared")])
    assert shared["rounds"][1]["pairs"] == 4
    monkeypatch.setenv("UPSPIRAL_HOME", str(place / "home"))
    (one, alone), (two, together) = learnt("own"), learnt("shared")
    assert one["steps"] == two["steps"] == 2
    for name, value in one.items():
        assert two[name] == pytest.approx(value, abs=1e-4), name
    moved = (alone - weights(place / "lm")).abs()
    assert (moved > 1e-3).float().mean() > 0.2  # something was learnt
    # Adam moves a weight whose gradient is rounding noise by a whole step, either way.
    assert ((together - alone).abs() < 1e-4).float().mean() > 0.95


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--pairs", "self"], "samples=1"),
        (["--pairs", "self", "--set", "samples=2"], "knows the starter's voice"),
        (["--pairs", "self", "--set", "samples=2", "--set", "reward=tiny.en"], "cannot reward"),
        (["--corpus", "libritts:/nowhere"], "is not there"),
        (["--codec", "starter"], "holds 128 codes like <|s_0|>"),
        (["--codec", "vinyl"], "no codec at vinyl"),
        (["--lm", "nobody/nothing"], "nobody/nothing"),
        (["--set", "lora=-1"], "lora=-1"),
    ],
)
def test_a_mistake_is_one_line(
    place: Path,
    more: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment(place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main([*words(place)[: -2 * len(SMALL)], *more, "--json"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0], lines
