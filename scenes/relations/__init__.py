"""Relations: what a graph may say about its assets, as differentiable scores in [0, 1].

A relation registers itself under a name::

    @relation("beside", assets=(2, 2), options={"distance": 0.3}, host="last")
    def beside(p: Poses, distance: float) -> Tensor: ...

The function gets the poses of its assets, subjects first and host last, with any leading
dimensions, and returns a score for each. 1 is "as the words say", 0 is "not at all"; a relation
*holds* from :data:`HOLDS` on. Of a relation over a group (``group``) a part can be scored too,
which lets the solver place assets one by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor

from common.errors import UserError
from scenes.graph import Option, Relation, SceneGraph
from scenes.relations.boxes import Poses

HOLDS = 0.9
MANY = 100
Score = Callable[..., Tensor]


@dataclass(frozen=True)
class Kind:
    """A registered relation. ``least`` and ``most`` bound how many assets it is about."""

    name: str
    score: Score
    least: int
    most: int
    options: Mapping[str, Option]
    """Their defaults; the type of a default is the type of the option."""
    choices: Mapping[str, tuple[str, ...]]
    """What an option of words may say."""
    host: Literal["last", "none"]
    """Whether the last asset is what the others are placed by."""
    group: bool
    about: str
    """A line for people and for prompts."""

    def signature(self) -> str:
        """As a prompt shows it: ``on(a, host)``, ``alignment(a, b, ...; axis=x|y|z)``."""
        names = [chr(ord("a") + i) for i in range(self.least)]
        if self.host == "last":
            names[-1] = "host"
        if self.most > self.least:
            names.insert(len(names) - (self.host == "last"), "...")
        options = [
            f"{name}={'|'.join(self.choices[name]) if name in self.choices else default}"
            for name, default in self.options.items()
        ]
        return f"{self.name}({', '.join(names)}{'; ' if options else ''}{', '.join(options)})"


KINDS: dict[str, Kind] = {}


def relation(
    name: str,
    *,
    assets: tuple[int, int],
    options: Mapping[str, Option] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    host: Literal["last", "none"] = "none",
    group: bool = False,
) -> Callable[[Score], Score]:
    """Register a score under ``name``; the first line of its docstring says what it is.

    Raises:
        ValueError: the name is taken, or the options are not the function's arguments.
    """

    def add(score: Score) -> Score:
        if name in KINDS:
            raise ValueError(f"there is a relation {name!r} already")
        wanted = set(list(inspect.signature(score).parameters)[1:])
        if wanted != set(options or {}):
            raise ValueError(f"{name}: options {sorted(options or {})}, arguments {sorted(wanted)}")
        about = (inspect.getdoc(score) or "").partition("\n")[0]
        KINDS[name] = Kind(
            name, score, *assets, dict(options or {}), dict(choices or {}), host, group, about
        )
        return score

    return add


def check(graph: SceneGraph) -> None:
    """That every relation is registered, is about as many assets as it may be, and is asked right.

    Raises:
        UserError: the first that is not so.
    """
    for found in graph.relations:
        wrong = problem(found)
        if wrong:
            raise UserError(f"{found}: {wrong}", "see upspiral scenes relations")


def problem(found: Relation) -> str | None:
    """What is wrong with a relation, if anything."""
    kind = KINDS.get(found.kind)
    if kind is None:
        near = get_close_matches(found.kind, KINDS, 1)
        return "no such relation" + (f"; did you mean {near[0]}?" if near else "")
    if not kind.least <= len(found.assets) <= kind.most:
        wanted = f"{kind.least}" if kind.least == kind.most else f"{kind.least} or more"
        return f"is about {len(found.assets)} assets, not {wanted}"
    for name, value in found.options.items():
        if name not in kind.options:
            return f"knows no option {name!r}; it has {', '.join(kind.options) or 'none'}"
        default = kind.options[name]
        number = isinstance(default, float)
        if number != (isinstance(value, float | int) and not isinstance(value, bool)) or (
            isinstance(default, bool) != isinstance(value, bool)
        ):
            return f"{name}={value!r} should be {'a number' if number else f'like {default!r}'}"
        if name in kind.choices and value not in kind.choices[name]:
            return f"{name}={value!r} should be {' or '.join(kind.choices[name])}"
    return None


def settings(found: Relation) -> dict[str, Any]:
    """The options of a relation with the defaults filled in."""
    return {**KINDS[found.kind].options, **found.options}


def signatures(names: Iterable[str] | None = None) -> str:
    """A line for each relation, for prompts and for people."""
    chosen = [KINDS[n] for n in names] if names is not None else list(KINDS.values())
    return "\n".join(f"{kind.signature()}: {kind.about}" for kind in chosen)


@dataclass(frozen=True)
class Scores:
    """What a layout makes of its graph: a score for each relation, in order."""

    relations: tuple[Relation, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Weighted mean; 1 of a graph that asks for nothing."""
        total = sum(r.weight for r in self.relations)
        if not total:
            return 1.0
        return sum(r.weight * v for r, v in zip(self.relations, self.values, strict=True)) / total

    @property
    def failing(self) -> list[tuple[Relation, float]]:
        """Those that do not hold, worst first."""
        pairs = zip(self.relations, self.values, strict=True)
        return sorted(((r, v) for r, v in pairs if v < HOLDS), key=lambda pair: pair[1])


# The relations that come along register themselves.
from scenes.relations import paper, places, rooms  # noqa: E402, F401

__all__ = ["HOLDS", "KINDS", "Kind", "Poses", "Scores", "check", "problem", "relation",
           "settings", "signatures"]  # fmt: skip
