"""Tasks by name: generated ones, and data sets from a hub or a file, with train, dev and test.

    load("arithmetic:steps=1-2,level=2", seed=0, train=200, dev=100, test=200)
    load("gsm8k", ...)    load("gsm8k:/data/gsm8k", ...)    load("jsonl:my.jsonl", ...)

A task's prompt is its bare question; :mod:`text.prompts` puts examples around it. ``meta`` says the
``kind`` of the answer and the ``family`` that examples are taken from, and never the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from common.cli import unknown
from common.errors import UserError
from common.records import Split, Task
from text.tasks import arithmetic, code, code_basics, countdown, game24, logic, published
from text.tasks.published import SOURCES

GENERATED: Mapping[str, str] = {
    "arithmetic": "words",
    "arithmetic-multilingual": "words",
    "code-basics": "code",
    "countdown": "countdown",
    "game24": "game24",
    "logic": "logic",
}
"""Generated tasks and the family of their prompts."""
NAMES = (*GENERATED, *SOURCES, *code.NAMES, "jsonl", "counseling")


def load(name: str, seed: int = 0, train: int = 200, dev: int = 100, test: int = 200) -> list[Task]:
    """The tasks called ``name``, ``train``, ``dev`` and ``test`` of them, disjoint.

    After a colon generated tasks take settings (``steps=1-2,level=1``; ``languages=en+de``;
    ``count=4,largest=30,target=100``; ``hops=1-3,distractors=2``), data sets a file or a folder.
    Of code nobody practises on HumanEval and the "+" sets, which have test problems only.
    ``counseling`` are synthetic conversations, with a file or folder those in it.
    ``seed`` draws them; of a data set that has fewer all are taken.

    Raises:
        UserError: no such task, setting, file or hub; a row that lacks its fields.
    """
    kind, _, rest = name.partition(":")
    sizes: dict[Split, int] = {"train": train, "dev": dev, "test": test}
    if kind not in NAMES:
        raise unknown("task", kind, NAMES)
    if kind in GENERATED:
        return _generated(kind, _settings(kind, rest), seed, sizes)
    if kind in code.NAMES:
        return code.load(kind, rest, seed, sizes)
    if kind == "counseling":
        from text.counseling.tasks import tasks

        return tasks(rest, seed, sizes)
    return published.load(kind, rest, seed, sizes)


def about(name: str) -> dict[str, str]:
    """The ``kind`` of answer and ``family`` of prompts that tasks called ``name`` have.

    Raises:
        UserError: no such task.
    """
    kind = name.partition(":")[0]
    if kind not in NAMES:
        raise unknown("task", kind, NAMES)
    if kind in GENERATED:
        kinds = {"code-basics": "code", "countdown": "expression", "game24": "expression",
                 "logic": "boolean"}  # fmt: skip
        return {"kind": kinds.get(kind, "number"), "family": GENERATED[kind]}
    if kind in code.NAMES:
        return {"kind": "code", "family": "code"}
    if kind == "counseling":
        return {"kind": "text", "family": "feedback"}
    source = SOURCES.get(kind, published.OWN)
    return {"kind": source.kind, "family": source.family}


def _generated(
    kind: str, settings: Mapping[str, Any], seed: int, sizes: Mapping[Split, int]
) -> list[Task]:
    if kind == "countdown":
        found = countdown.load(seed, sizes, **settings)
    elif kind == "game24":
        found = game24.load(seed, sizes)
    elif kind == "logic":
        found = logic.load(seed, sizes, **settings)
    elif kind == "code-basics":
        found = code_basics.load(seed, sizes, **settings)
    else:
        several = {"languages": arithmetic.LANGUAGES} if kind != "arithmetic" else {}
        found = arithmetic.load(seed, sizes, **{**several, **settings})
    family = GENERATED[kind]
    return [replace(task, meta={**task.meta, "family": family}) for task in found]


_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "arithmetic": ("steps", "level", "languages"),
    "arithmetic-multilingual": ("steps", "level", "languages"),
    "code-basics": ("steps",),
    "countdown": ("count", "largest", "target"),
    "game24": (),
    "logic": ("hops", "distractors"),
}
_RANGES = ("steps", "hops")


def _settings(kind: str, text: str) -> dict[str, Any]:
    """``steps=1-2,level=1`` as arguments."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name not in _SETTINGS[kind]:
            raise unknown(f"setting of {kind}", name, _SETTINGS[kind])
        try:
            if name == "languages":
                found[name] = tuple(value.split("+"))
            elif name in _RANGES:
                first, _, last = value.partition("-")
                found[name] = tuple(range(int(first), int(last or first) + 1))
            else:
                found[name] = int(value)
        except ValueError:
            raise UserError(f"{part!r} is no setting", f"write {name}=1, or {name}=1-2") from None
    return found
