"""Speech commands refuse bad input in one line with a remedy, and leave no half-written file."""

from __future__ import annotations

import os
import resource
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.cli import load_domain, main, parse
from common.commands import Command, Output
from speech.codec import load_codec
from speech.codec.stream import CodeFile, read_codes, write_codes
from speech.commands.say import BREATH, phrases

DOMAIN = load_domain("speech")
MINE = ("encode", "decode", "say", "evaluate", "listen", "train")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in with every kind of bad input, and a home of its own beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(folder)
    tone = (0.3 * np.sin(np.arange(16_000) / 20)).astype(np.float32)
    soundfile.write("tone.wav", tone, 16_000)
    soundfile.write("silent.wav", 0 * tone, 16_000)
    soundfile.write("click.wav", tone[:3_200], 16_000)
    soundfile.write("header.wav", tone[:0], 16_000)
    Path("empty").touch()
    Path("noise.bin").write_bytes(np.random.default_rng(0).bytes(5_000))
    Path("torn.wav").write_bytes(Path("tone.wav").read_bytes()[:20])
    Path("blank.txt").write_text("\n  \n\n")
    Path("signs.txt").write_text("hello\n?!\n")
    Path("latin.txt").write_bytes("Grüße\n".encode("latin-1"))
    Path("one.txt").write_text("hello\n")
    Path("folder").mkdir()
    return folder


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> CodeFile:
    """Codes of a second of sound by the starter codec."""
    folder = tmp_path_factory.mktemp("coded")
    soundfile.write(folder / "a.wav", np.full(16_000, 0.1, np.float32), 16_000)
    assert main(["speech", "encode", str(folder / "a.wav"), "--out", str(folder / "a.npz")]) == 0
    return read_codes(folder / "a.npz")


def refused(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 2, one line that says what and what to do, and no new file."""
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir() if path.is_file()}
    capsys.readouterr()
    assert main(["speech", *shlex.split(words)]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("upspiral: ") and said in lines[0], lines[0]
    assert captured.out == ""
    assert " — " in lines[0] and lines[0].split(" — ")[-1].strip()
    after = {path: path.stat().st_mtime_ns for path in Path().iterdir() if path.is_file()}
    assert after == before


SOUNDS = [
    ("missing.wav", "is not there"),
    ("folder", "is a folder"),
    ("empty", "is empty"),
    ("header.wav", "holds no samples"),
    ("noise.bin", "is corrupt or not audio"),
    ("torn.wav", "is corrupt or not audio"),
    ("one.txt", "is corrupt or not audio"),
]
PLACES = [
    ("no/such/folder/out", "is not there"),
    ("folder", "is a folder"),
    ("out.xyz", "end its name in"),
    ("/dev/null", "end its name in"),
]


@pytest.mark.parametrize(("sound", "said"), SOUNDS)
def test_encode_refuses_what_is_no_sound(
    sound: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(f"encode {sound} --out codes.npz", said, capsys)


@pytest.mark.parametrize(
    ("sound", "said"),
    [*SOUNDS, ("silent.wav", "is silent"), ("click.wav", "holds 0.2 s of sound, too little")],
)
@pytest.mark.parametrize("command", ["say hello --out s.wav", "evaluate --texts one.txt"])
def test_a_voice_must_be_sound(
    command: str, sound: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(f"{command} --voice {sound}", said, capsys)


@pytest.mark.parametrize(("where", "said"), PLACES)
@pytest.mark.parametrize(
    ("command", "suffix"),
    [("encode tone.wav", ".npz"), ("decode codes.npz", ".wav"), ("say hello", ".flac")],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    command: str, suffix: str, where: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(f"{command} --out {where}{suffix if where.startswith('no/') else ''}", said, capsys)


@pytest.mark.skipif(sys.platform != "linux", reason="/sys refuses files even from root on Linux")
@pytest.mark.parametrize(
    "command", ["encode tone.wav --out /sys/a.npz", "train codec --recipe tiny --folder /sys/a"]
)
def test_a_folder_of_somebody_else(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(command, "/sys/a", capsys)


def test_a_device_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.wav")
    refused("say hello --out pipe.wav", "is no ordinary file", capsys)
    assert not Path("pipe.wav").is_file() and Path("pipe.wav").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codes": np.full((2, 50), 65_535, np.uint16)}, "codes lie outside the codebooks"),
        ({"codec": "0123456789abcdef"}, "decode it with the codec that made it"),
        ({"length": 99}, "frames do not hold 99 samples"),
    ],
)
def test_decode_refuses_codes_that_are_not_its_own(
    coded: CodeFile, change: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_codes(Path("codes.npz"), CodeFile(**{**vars(coded), **change}))
    refused("decode codes.npz --out out.wav", said, capsys)


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "noise", "half", "keys", "array"])
def test_decode_refuses_what_is_no_file_of_codes(
    coded: CodeFile, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("codes.npz")
    if kind == "folder":
        path.mkdir()
    elif kind in ("empty", "noise"):
        path.write_bytes(Path({"empty": "empty", "noise": "noise.bin"}[kind]).read_bytes())
    elif kind == "half":
        write_codes(path, coded)
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "keys":
        np.savez(path, wrong=coded.codes)
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, coded.codes)
    refused("decode codes.npz --out out.wav", "codes.npz", capsys)


@pytest.mark.parametrize("books", [0, -1, 99])
def test_decode_refuses_codebooks_that_are_not_there(
    coded: CodeFile, books: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_codes(Path("codes.npz"), coded)
    refused(f"decode codes.npz --codebooks {books}", f"choose 1 to {len(coded.codes)}", capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("encode tone.wav --codec strter", "no codec at strter"),
        ("encode tone.wav --codec folder", "no codec at folder"),
        ("encode tone.wav --codec noise.bin", "noise.bin"),
        ("decode one.txt --codec nobody", "no codec at nobody"),
        ("say '' --out s.wav", "nothing to say"),
        ("say '?! ...' --out s.wav", "nothing to say"),
        ("say hello --temperature -1", "a temperature of -1"),
        ("say hello --temperature nan", "a temperature of nan"),
        ("say hello --seed x", "--seed"),
        ("say hello --policy last", "there is no run yet"),
        ("say hello --policy strter", "did you mean 'starter'?"),
        ("say hello --policy nobody/nothing", "nobody/nothing"),
        ("say hello --policy folder", "folder"),
        ("evaluate --texts missing.txt", "No such file"),
        ("evaluate --texts folder", "Is a directory"),
        ("evaluate --texts empty", "holds no text"),
        ("evaluate --texts blank.txt", "holds no text"),
        ("evaluate --texts signs.txt", "nothing to say in the line '?!'"),
        ("evaluate --texts latin.txt", "is not UTF-8"),
        ("evaluate --texts tone.wav", "is not UTF-8"),
        ("evaluate --texts one.txt --count 0", "0 texts"),
        ("evaluate --texts one.txt --policy last", "there is no run yet"),
        ("evaluate --texts one.txt --policy nobody/nothing", "nobody/nothing"),
        ("train codex", "invalid choice 'codex'"),
        ("train codec --recipe strter", "unknown recipe 'strter'"),
        ("train codec --folder empty", "'empty' is a file"),
        ("train codec --recipe tiny --threads 0", "0 threads"),
    ],
)
def test_a_mistake_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(words, said, capsys)


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes, which a program meets as it meets a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.ogg"])
def test_no_space_for_sound_keeps_what_was_there(
    coded: CodeFile, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_codes(Path("codes.npz"), coded)
    Path(name).write_text("what was there")
    with disk_full_after(2_000):
        refused(f"decode codes.npz --out {name}", "free some space or write elsewhere", capsys)
    assert Path(name).read_text() == "what was there"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_space_for_codes_keeps_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("codes.npz").write_text("what was there")
    with disk_full_after(300):
        refused("encode tone.wav --out codes.npz", "no space left", capsys)
    assert Path("codes.npz").read_text() == "what was there"


def test_silence_stereo_and_a_single_sample_are_coded(capsys: pytest.CaptureFixture[str]) -> None:
    hop = load_codec("starter").hop
    soundfile.write("click.wav", np.ones(1, np.float32), 16_000)
    soundfile.write("stereo.wav", np.full((44_100, 2), 0.1), 44_100)
    for name, samples in (("silent", 16_000), ("click", 1), ("stereo", 16_000)):
        assert main(["speech", "encode", f"{name}.wav", "--out", f"{name}.npz"]) == 0
        held = read_codes(Path(f"{name}.npz"))
        assert abs(held.length - samples) <= 1
        assert held.codes.shape[1] == -(-held.length // hop)
        assert main(["speech", "decode", f"{name}.npz", "--out", f"{name}.wav"]) == 0
        assert soundfile.info(f"{name}.wav").frames == held.length
    assert capsys.readouterr().err == ""


def test_a_long_recording_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("long.wav", np.full(35 * 8_000, 0.1, np.float32), 8_000)
    assert main(["speech", "encode", "long.wav", "--out", "long.npz"]) == 0
    assert main(["speech", "decode", "long.npz", "--out", "back.wav"]) == 0
    lines = capsys.readouterr().err.splitlines()
    for what in ("coding", "decoding"):
        mine = [line for line in lines if line.startswith(f"{what}: ")]
        assert mine[0].startswith(f"{what}: 1/4") and mine[-1].startswith(f"{what}: 4/4")
        assert sum("4/4" in line for line in mine) == 1
    assert all("coding: " in line for line in lines)
    assert soundfile.info("back.wav").frames == 35 * 16_000


def test_phrases_are_short_and_lose_no_word() -> None:
    assert phrases("Press one.") == ["Press one."]
    assert phrases("Press one. Then wait!\nGood bye ... ") == [
        "Press one.", "Then wait!", "Good bye ...",
    ]  # fmt: skip
    comma = "one two three four five six, seven eight nine ten eleven twelve thirteen"
    assert phrases(comma)[0] == "one two three four five six,"
    for count in (BREATH, BREATH + 1, 5 * BREATH + 3):
        words = ["word"] * count
        found = phrases(" ".join(words))
        assert " ".join(found).split() == words
        assert max(len(p.split()) for p in found) <= BREATH
        assert min(len(p.split()) for p in found) > BREATH // 3


@pytest.mark.parametrize("name", MINE)
def test_the_example_of_the_help_parses(name: str) -> None:
    command: Command = DOMAIN.commands[name]
    program, domain, *words = shlex.split(command.example)
    assert (program, domain) == ("upspiral", "speech")
    assert words[: len(name.split())] == name.split()
    out = Output(sys.stdout)
    config = parse(f"speech {name}", command, words[len(name.split()) :], out)
    assert callable(config.run)


@pytest.mark.parametrize("name", MINE)
def test_help_shows_the_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speech", name, "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert DOMAIN.commands[name].example in captured.out


def test_examples_follow_on_one_another() -> None:
    """say writes what encode reads, and encode writes what decode reads."""
    words = {name: shlex.split(DOMAIN.commands[name].example) for name in MINE}
    out = {name: line[line.index("--out") + 1] for name, line in words.items() if "--out" in line}
    assert out["say"] == words["encode"][3] and out["encode"] == words["decode"][3]
