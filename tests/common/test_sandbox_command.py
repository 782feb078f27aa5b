"""``upspiral sandbox run`` and what the doctor says of the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common import doctor, sandbox
from common.cli import main
from common.sandbox import landlock, layers


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if sandbox.problem("bubblewrap") and sandbox.problem("landlock"):
        pytest.skip("no wall works here")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "script.py"
    path.write_text("print(open('../in/data.txt').read())\nopen('made.txt', 'w').write('made')\n")
    (tmp_path / "data.txt").write_text("data")
    return path


def test_a_script_runs_and_its_files_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "out/made.txt").symlink_to(tmp_path / "elsewhere")
    assert main(["sandbox", "run", "script.py", "--files", "data.txt", "--out", "out"]) == 0
    heard = capsys.readouterr()
    assert heard.out == "data\n"
    assert "ok after" in heard.err and "behind" in heard.err
    assert (tmp_path / "out/made.txt").read_text() == "made"
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_json_says_what_stopped_it(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text("print('begun')\nwhile True: pass\n")
    words = ["sandbox", "run", "script.py", "--seconds", "1", "--json"]
    assert main(words) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["status"] in ("timeout", "limit") and "1 s" in said["why"]
    assert said["stdout"] == "begun\n" and said["files"] == {}
    assert said["layer"] in ("bubblewrap", "landlock")


def test_what_the_check_refuses_is_not_run(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text("print(1)\nimport os\nprint(os.getpid())\n")
    assert main(["sandbox", "run", "script.py"]) == 1
    heard = capsys.readouterr()
    assert heard.out == "" and "script.py:2: import of os" in heard.err
    assert main(["sandbox", "run", "script.py", "--no-check"]) == 0


def test_a_terminal_is_not_commanded(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text("print('\\x1b]52;c;ZXZpbA==\\x07 é\\tb')\n")
    assert main(["sandbox", "run", "script.py"]) == 0
    assert capsys.readouterr().out == "\\x1b]52;c;ZXZpbA==\\x07 é\tb\n"


def test_mistakes_are_named(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, named in {
        ("nothing.py",): "nothing.py",
        ("script.py", "--files", "nothing.txt"): "nothing.txt",
        ("script.py", "--seconds", "0"): "--seconds 0",
        ("script.py", "--memory-mib", "1"): "--memory-mib 1",
        ("script.py", "--out", "data.txt", "--files", "data.txt"): "data.txt",
    }.items():
        assert main(["sandbox", "run", *words]) == 2
        assert named in capsys.readouterr().err


def test_the_doctor_names_the_active_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    active = [f for f in doctor._sandbox() if f.detail.startswith("active")]
    assert [f.name for f in active] == [sandbox.best()]

    monkeypatch.setattr(layers, "bubblewrap", lambda: None)
    found = {f.name: f for f in doctor._sandbox()}
    assert "upspiral data get bubblewrap" in found["bubblewrap"].remedy
    if not sandbox.problem("landlock"):
        assert found["bubblewrap"].state == "optional"
        assert found["landlock"].detail.startswith("active")

    sandbox._tried.cache_clear()
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert {f.state for f in doctor._sandbox()} == {"missing"}
    sandbox._tried.cache_clear()
