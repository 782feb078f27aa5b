"""Speech as a user drives it: say, encode, decode and evaluate in one go; a training stopped."""

from __future__ import annotations

import gzip
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import registry
from common.cli import main
from common.errors import UserError
from speech import audio, corpora
from speech.codec import load_codec
from speech.codec.seanet import SEANetCodec
from speech.codec.stream import read_codes
from speech.codec.train_seanet import SEANetTraining
from speech.train import RECIPES, TEACHER, train

TEXT = "please enter your password again"
TEXTS = "\ufeffplease enter your password again\n\n  \nyou have three new messages\n"
# One real process: the libraries that all the commands need take seconds to import.
DRIVER = """
import json, sys
from common.cli import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        print("\\0", code, file=stream, flush=True)
"""

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def prompts() -> Path:
    try:
        return registry.get("prompts")
    except UserError as error:
        pytest.skip(f"the recorded prompts are not installed: {error}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prompts: Path) -> Iterator[Path]:
    """An empty folder to be in, with a home of its own."""
    folder = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSPIRAL_HOME", str(folder / "home"))
        patch.setenv("UPSPIRAL_PROMPTS", str(prompts))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def session(place: Path) -> dict[str, Done]:
    """What a user would type first, one after the other, in a real process."""
    (place / "my.txt").write_text(TEXTS, encoding="utf-8")
    say = ["speech", "say", TEXT, "--out"]
    commands = {
        "say": [*say, "hello.wav", "--json"],
        "again": [*say, "again.wav"],
        "other": [*say, "other.wav", "--seed", "1"],
        "long": ["speech", "say", f"{TEXT}. " * 6, "--out", "long.wav"],
        "encode": ["speech", "encode", "hello.wav", "--out", "codes.npz", "--json"],
        "decode": ["speech", "decode", "codes.npz", "--out", "out.wav", "--json"],
        "evaluate": ["speech", "evaluate", "--texts", "my.txt", "--json"],
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([*commands.values()])],
        capture_output=True,
        text=True,
        check=True,
    )
    parts = [stream.split("\0") for stream in (done.stdout, done.stderr)]
    codes = [int(part.split("\n")[0]) for part in parts[0][1:]]
    said = [[p if i == 0 else p.partition("\n")[2] for i, p in enumerate(s)] for s in parts]
    return {
        name: Done(code, out, err)
        for name, code, out, err in zip(commands, codes, said[0], said[1], strict=False)
    }


def result(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return found


def test_nothing_but_what_they_say_reaches_the_terminal(session: dict[str, Done]) -> None:
    """No bars, no warnings of libraries."""
    for name, done in session.items():
        assert done.code == 0, done.err
        lines = done.err.splitlines()
        if name == "evaluate":
            progress = [line for line in lines if "/" in line]
            assert any(line.startswith("judging wer: ") for line in progress)
            table = lines[len(progress) :]
            assert table[0].split() == ["score", "mean", "standard", "error", "n"]
            assert len(table) == 2 + len(result(done)["scores"])
            assert table[-1].endswith(" seconds of work a second of sound")
        else:  # with --json what is for people goes to stderr
            assert len(lines) == (name in ("say", "encode", "decode")), done.err


def test_say_makes_sound_of_the_text(place: Path, session: dict[str, Done]) -> None:
    facts = result(session["say"])
    assert set(facts) == {"out", "seconds", "sample_rate"} and facts["out"] == "hello.wav"
    assert facts["sample_rate"] == 16_000
    wave = audio.read("hello.wav", allow_silence=False)
    assert len(wave) / 16_000 == pytest.approx(facts["seconds"])
    # Between 1.5 words a second, which is a crawl, and 8, which nobody says.
    assert len(TEXT.split()) / 8 < facts["seconds"] < len(TEXT.split()) / 1.5


def test_the_same_seed_says_the_same_and_another_does_not(
    place: Path, session: dict[str, Done]
) -> None:
    first, again, other = (Path(f"{n}.wav").read_bytes() for n in ("hello", "again", "other"))
    assert first == again
    assert first != other


def test_a_long_text_is_said_to_its_end(place: Path, session: dict[str, Done]) -> None:
    short, long = (audio.duration(f"{name}.wav") for name in ("hello", "long"))
    assert 3 * short < long < 12 * short


def test_decode_gives_what_the_codec_gives(place: Path, session: dict[str, Done]) -> None:
    codec = load_codec("starter")
    coded, decoded = result(session["encode"]), result(session["decode"])
    spoken = audio.read("hello.wav")
    assert coded["seconds"] == decoded["seconds"] == pytest.approx(len(spoken) / 16_000)
    assert coded["codebooks"] == codec.codebooks
    assert coded["frames"] == math.ceil(len(spoken) / codec.hop)
    codes = torch.from_numpy(read_codes(Path("codes.npz")).codes.astype(np.int64))
    assert torch.equal(codes, codec.encode(torch.from_numpy(spoken)[None])[0])
    wave, wanted = audio.read("out.wav"), codec.decode(codes[None])[0].numpy()
    assert len(wave) == len(spoken)
    assert np.corrcoef(wave, wanted[: len(wave)].clip(-1, 1))[0, 1] > 0.999


def test_evaluate_gives_each_score_with_its_error(session: dict[str, Done]) -> None:
    facts = result(session["evaluate"])
    assert set(facts) == {"policy", "scores", "real_time_factor", "texts"}
    assert facts["policy"] == "starter" and 0 < facts["real_time_factor"] < 100
    assert facts["texts"] == ["please enter your password again", "you have three new messages"]
    assert facts["scores"].keys() == {
        "wer", "cer", "repetition", "early_stop", "similarity", "dnsmos", "dnsmos_signal",
        "dnsmos_background", "p808", "duration_ratio", "duration_error", "ctc",
        "phone_error"}  # fmt: skip
    for score in facts["scores"].values():
        assert score["n"] == 2
        assert all(math.isfinite(score[key]) for key in ("mean", "se"))
    means = {name: score["mean"] for name, score in facts["scores"].items()}
    assert 0 <= means["wer"] <= 1 and 0 <= means["cer"] <= 1 and 1 <= means["dnsmos"] <= 5
    assert len(session["evaluate"].out.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".g722", ".flac", ".ogg", "-8k.wav", "-stereo.wav"])
def test_a_recording_of_any_kind_through_the_codec_and_back(
    place: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    recording = next(u for u in corpora.load("prompts").utterances if u.id == "en/vm-review")
    wave = audio.read(recording.path)[: 4 * 16_000]
    source = recording.path
    if suffix != ".g722":
        source = place / f"recording{suffix}"
        written = np.stack([wave, wave], 1) if "stereo" in suffix else wave
        if "8k" in suffix:
            written = wave[::2]
        import soundfile

        soundfile.write(source, written, 8_000 if "8k" in suffix else 16_000)
    assert main(["speech", "encode", str(source), "--out", "r.npz"]) == 0
    assert main(["speech", "decode", "r.npz", "--out", "r.wav"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "wrote r.wav" in captured.out
    given, made = audio.read(source), audio.read("r.wav")
    assert abs(len(made) - len(given)) <= 2
    level = [np.sqrt(np.convolve(w**2, np.ones(800) / 800)[::800]) for w in (given, made)]
    assert np.corrcoef(level[0], level[1][: len(level[0])])[0, 1] > 0.5  # loud where it was loud


@pytest.fixture
def few(tmp_path: Path, prompts: Path) -> Path:
    """Forty recordings in the layout of the whole corpus, short ones, which stay in train."""
    root = tmp_path / "prompts"
    sounds, about = (root / "usr/share" / part for part in ("asterisk/sounds", "doc"))
    folder = sounds / corpora.VOICES["en"][0]
    listing = about / "asterisk-core-sounds-en/core-sounds-en.txt.gz"
    listing.parent.mkdir(parents=True)
    lines = []
    found = [u for u in corpora.load("prompts").utterances if len(u.text.split()) <= 2]
    for number, utterance in enumerate(found[:40]):
        name = f"{number}-{utterance.path.name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(utterance.path)
        lines.append(f"{Path(name).stem}: {utterance.text}\n")
    listing.write_bytes(gzip.compress("".join(lines).encode()))
    return root


def leave_states(folder: Path) -> None:
    """Stands for the recogniser's states, which take most of a minute and are kept here."""
    folder.mkdir()
    random = np.random.default_rng(0)
    states = {
        u.id: random.normal(size=(math.ceil(len(audio.read(u.path)) / 320), TEACHER))
        for u in corpora.load("prompts").utterances
    }
    np.savez(folder / "states.npz", **{k: v.astype(np.float16) for k, v in states.items()})


def test_the_seanet_recipe_trains_encodecs_architecture(
    place: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSPIRAL_PROMPTS", str(few))
    recipe = RECIPES["seanet"]()
    assert isinstance(recipe.codec, SEANetTraining) and recipe.codec.codec.teacher == TEACHER
    small = replace(recipe.codec.codec, filters=4, latent=8, entries=16, codebooks=2, lstm=0)
    steps = replace(
        recipe.codec, codec=small, warmup_steps=2, steps=2, adversarial_steps=2, batch=2,
        seconds=0.2, discriminator_filters=2,
    )  # fmt: skip
    folder = few.parent / "seanet"
    leave_states(folder)
    codec = load_codec(train("codec", replace(recipe, codec=steps), folder, lambda *_: None))
    assert isinstance(codec, SEANetCodec)
    wave = torch.from_numpy(audio.read(corpora.load("prompts").utterances[0].path))[None]
    codes = codec.encode(wave)
    assert codes.shape == (1, 2, math.ceil(wave.shape[1] / 320))
    assert codec.decode(codes).isfinite().all()


def test_ctrl_c_during_training_loses_nothing(
    place: Path, few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPSPIRAL_PROMPTS", str(few))
    folder = few.parent / "my training"
    leave_states(folder)
    words = ["speech", "train", "codec", "--recipe", "tiny", "--folder", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "common.cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and process.stdout is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("acoustic:") and "60/60" in line:
            break
    while not (folder / "work/acoustic.pt").is_file():
        assert process.poll() is None, lines
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read().splitlines()
    assert process.wait() == 130, lines + rest
    assert rest[-1] == (
        "upspiral: stopped; resume with: upspiral speech train codec --recipe tiny "
        f"--folder '{folder}'"
    )
    assert "Traceback" not in "".join([*lines, *rest]) and process.stdout.read() == ""
    assert any(line.startswith("semantic:") for line in lines)
    assert not any(line.startswith("adversarial:") for line in lines + rest)

    assert main(words) == 0
    captured = capsys.readouterr()
    assert {line.partition(":")[0] for line in captured.err.splitlines()} == {
        "decoder",
        "adversarial",
    }
    assert captured.out == f"codec is in {folder / 'codec'}\n"
    assert load_codec(folder / "codec").codebooks == 4


def test_no_space_for_a_checkpoint_is_a_failure_that_can_be_resumed(
    place: Path, few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPSPIRAL_PROMPTS", str(few))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, hard))
    try:
        assert main(["speech", "train", "ctc", "--recipe", "tiny", "--threads", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    captured = capsys.readouterr()
    *progress, last = captured.err.splitlines()
    assert all(line.startswith("ctc: ") for line in progress) and captured.out == ""
    assert "no space left" in last
    command = "upspiral speech train ctc --recipe tiny --threads 1"
    assert last.endswith(f"; resume with: {command}")
