"""What is here and what is missing: devices, memory, disk, models, data, sandbox, servers.

Each check is tried, not looked up: the sandbox runs a program, the server is asked for its models.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from common import registry
from common.home import home

PACKAGES = {
    "ray": "many machines",
    "gradio": "listening and viewing tests",
    "trackio": "the tracker of that name",
    "wandb": "the tracker of that name",
    "mlflow": "the tracker of that name",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``missing`` hinders a command, ``optional`` only widens the choice."""

    part: str
    name: str
    state: Literal["ok", "missing", "optional"]
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    yield from _machine()
    yield from _disk()
    yield from _registry()
    yield from _sandbox()
    yield _server()
    for name, use in PACKAGES.items():
        here = importlib.util.find_spec(name) is not None
        yield Finding("package", name, "ok" if here else "optional", use, f"pip install {name}")
    yield from _devices()


def _machine() -> Iterator[Finding]:
    import psutil

    version = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("machine", "system", "ok", version)
    memory = psutil.virtual_memory()
    detail = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    enough = memory.available > 3 * 2**30
    yield Finding(
        "machine", "memory", "ok" if enough else "missing", detail, "close programs: 3 GiB needed"
    )
    yield Finding("device", "cpu", "ok", f"{os.cpu_count()} cores")


def _disk() -> Iterator[Finding]:
    folder = home()
    free = shutil.disk_usage(folder).free / 2**30
    detail = f"{folder}: {free:.1f} GiB free"
    state: Literal["ok", "missing"] = "ok" if free > 2 else "missing"
    yield Finding("machine", "home", state, detail, "make room, or set UPSPIRAL_HOME elsewhere")


def _registry() -> Iterator[Finding]:
    for entry in registry.catalogue():
        if entry.kind == "tool":
            continue
        path = registry.present(entry.name)
        remedy = (
            f"pip install 'upspiral[{entry.extra}]'"
            if entry.extra
            else f"upspiral data get {entry.name}"
        )
        yield Finding(
            entry.kind, entry.name, "ok" if path else "missing", entry.about, "" if path else remedy
        )


def _sandbox() -> Iterator[Finding]:
    """Each wall, tried with a job behind it; one that works is enough."""
    from common import sandbox

    problems = {layer: sandbox.problem(layer) for layer in sandbox.WALLS}
    works = [layer for layer, problem in problems.items() if not problem]
    state: Literal["missing", "optional"] = "optional" if works else "missing"
    for layer, problem in problems.items():
        if problem:
            yield Finding("sandbox", layer, state, problem, sandbox.REMEDIES[layer])
        elif layer == works[0]:
            yield Finding("sandbox", layer, "ok", "active: code of models runs behind it")
        else:
            yield Finding("sandbox", layer, "ok", f"works too, where {works[0]} does not")


def _server() -> Finding:
    """Whether an OpenAI-compatible server answers ``GET /models``."""
    base = os.environ.get("OPENAI_BASE_URL")
    if not base:
        remedy = "set OPENAI_BASE_URL to use a served model"
        return Finding("server", "OPENAI_BASE_URL", "optional", "not set", remedy)
    key = os.environ.get("OPENAI_API_KEY", "none")
    try:
        request = urllib.request.Request(
            f"{base.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return Finding("server", base, "ok", f"answers with status {answer.status}")
    except (OSError, ValueError) as error:  # URLError is an OSError
        refused = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403)
        remedy = "check OPENAI_API_KEY" if refused else "start the server or mend OPENAI_BASE_URL"
        return Finding("server", base, "missing", str(error), remedy)


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken install raises more than ImportError
        yield Finding("device", "torch", "missing", str(error), "make setup")
        return
    count = torch.cuda.device_count()
    for i in range(count):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        yield Finding(
            "device", f"cuda:{i}", "ok", f"{torch.cuda.get_device_name(i)}, {memory:.0f} GiB"
        )
    if torch.backends.mps.is_available():
        yield Finding("device", "mps", "ok", "Apple GPU")
    elif not count:
        yield Finding("device", "gpu", "optional", "none", "starters and recipes run without one")
