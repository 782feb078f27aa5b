"""The registry against a real apt repository in a folder: no network, nothing faked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from common import debian, registry
from common.errors import UserError

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="apt-get is not here")


def build(repository: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Put a package into the repository; return its sha256."""
    source = repository / name
    for path, text in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text, encoding="utf-8")
    (source / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
    control += "Maintainer: tests <tests@example.org>\nDescription: for a test\n"
    (source / "DEBIAN/control").write_text(control, encoding="utf-8")
    deb = repository / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", source, deb], check=True, capture_output=True
    )
    data = deb.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    with (repository / "Packages").open("a", encoding="utf-8") as listing:
        listing.write(f"{control}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {digest}\n\n")
    return digest


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flat repository that is the only source apt knows, and a home of our own."""
    folder = tmp_path / "repository"
    folder.mkdir()
    use_source(tmp_path, monkeypatch, f"deb [trusted=yes] copy:{folder} ./")
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UPSPIRAL_PROMPTS", raising=False)
    return folder


def use_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    sources = tmp_path / "sources.list"
    sources.write_text(line + "\n", encoding="utf-8")
    (tmp_path / "no-lists/partial").mkdir(parents=True, exist_ok=True)
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::Lists "{tmp_path}/no-lists";\nAcquire::http::Timeout "2";\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("APT_CONFIG", str(config))


@pytest.fixture
def prompts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small packages under the names of the prompts, their sha256 in the registry's tables."""
    for language in ("en", "es"):
        name = f"asterisk-core-sounds-{language}"
        sound = {f"usr/share/asterisk/sounds/{language}/hello.g722": f"sound {language}"}
        text = {f"usr/share/doc/{name}/core-sounds-{language}.txt": "hello: Hello."}
        recorded = build(repository, f"{name}-g722", registry.VERSION, sound)
        written = build(repository, name, registry.VERSION, text)
        monkeypatch.setitem(registry.SOUNDS, language, recorded)
        monkeypatch.setitem(registry.TEXTS, language, written)
    return repository


def test_get_unpacks_and_the_second_get_needs_no_source(prompts: Path) -> None:
    assert registry.present("prompts") is None
    root = registry.get("prompts")
    assert (root / "usr/share/asterisk/sounds/en/hello.g722").read_text() == "sound en"
    shutil.rmtree(prompts)
    assert registry.get("prompts") == root == registry.present("prompts")
    assert not [
        p for p in root.parent.iterdir() if p.name.startswith(f"{root.name}.") and p.is_dir()
    ]


def test_another_language_joins_the_same_folder(prompts: Path) -> None:
    first = registry.get("prompts")
    second = registry.get("prompts", languages=("en", "es"))
    assert first == second
    assert sorted(p.name for p in (second / "usr/share/asterisk/sounds").iterdir()) == ["en", "es"]


def test_concurrent_gets_agree(prompts: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.get("prompts"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


def test_what_was_cut_off_is_done_again(prompts: Path) -> None:
    root = registry.get("prompts")
    (root / ".complete-en").unlink()  # as if killed before the mark
    sound = root / "usr/share/asterisk/sounds/en/hello.g722"
    sound.write_text("half")
    assert registry.get("prompts") == root
    assert sound.read_text() == "sound en"


def test_a_download_that_does_not_match_is_refused(
    prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SOUNDS, "en", "0" * 64)
    with pytest.raises(UserError, match="does not match the recorded sha256.*UPSPIRAL_PROMPTS"):
        registry.get("prompts")
    assert registry.present("prompts") is None


def test_a_corrupt_download_is_refused(prompts: Path) -> None:
    deb = prompts / "asterisk-core-sounds-en-g722.deb"
    data = bytearray(deb.read_bytes())
    data[-20] ^= 0xFF
    deb.write_bytes(data)
    with pytest.raises(UserError, match="cannot fetch asterisk-core-sounds-en-g722"):
        registry.get("prompts")


def test_no_network(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_source(tmp_path, monkeypatch, "deb http://127.0.0.1:9/debian none main")
    with pytest.raises(UserError, match="connect to the network") as caught:
        registry.get("prompts")
    assert "\n" not in str(caught.value)


def test_no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="not here — do this"):
        debian.fetch({"any": None}, tmp_path / "out", tmp_path / "lists", "do this")


def test_prompts_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSPIRAL_PROMPTS", str(tmp_path))
    with pytest.raises(UserError, match="holds no usr/share/asterisk/sounds"):
        registry.get("prompts")
    (tmp_path / "usr/share/asterisk/sounds").mkdir(parents=True)
    assert registry.get("prompts") == tmp_path


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="did you mean 'prompts'"):
        registry.get("promts")
    with pytest.raises(UserError, match="no recorded prompts in 'xx'"):
        registry.get("prompts", languages=("xx",))


def test_models_inside_packages() -> None:
    assert (registry.get("whisper-tiny.en") / "model.bin").is_file()
    assert registry.get("smollm2").suffix == ".gguf"


def test_a_starter_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "assets", lambda: tmp_path)
    (tmp_path / "codec").mkdir()
    weights = tmp_path / "codec/model.safetensors"
    weights.write_bytes(b"weights")
    registry.record("starter-codec", "codec", "a codec", "CC-BY-SA-3.0", "us")
    assert registry.get("starter-codec") == tmp_path / "codec"
    assert "starter-codec" in [entry.name for entry in registry.catalogue()]
    weights.write_bytes(b"weighty")
    with pytest.raises(UserError, match="does not match its sha256"):
        registry.get("starter-codec")
    assert registry.present("starter-codec") is None
