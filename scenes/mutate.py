"""Small edits of a skill's source: another number, another part, a factor more.

This is what stands in for a language model where none is served: every edit keeps a source
:func:`scenes.skills.known`. Numbers are the floats of a source (whole numbers are indices), which
are tried at less and at more; parts are those that may stand for one another
(:mod:`scenes.relations.skills`); factors are the terms from there, as SceneCraft's own example has
it, where parallelism gained a term for orientation.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

from scenes.graph import Strict
from scenes.relations.skills import FALLS, METRES, SHARES, TERMS
from scenes.skills import factored

FACTORS = (0.25, 0.5, 2.0)
"""By how much a number is tried."""
LEAST = 1e-3
"""Numbers below it keep a division from failing, and stay."""


class Change(Strict):
    """One edit of the skill ``skill``: the ``at``-th place of its kind becomes ``to``."""

    skill: str
    kind: str
    """``number`` (``to`` is a factor), ``part`` or ``factor``."""
    at: int = 0
    to: str

    def __str__(self) -> str:
        by = "x" if self.kind == "number" else "->"
        return f"{self.skill}: {self.kind} {self.at} {by} {self.to}"


def changes(skill: str, source: str, relation: bool) -> list[Change]:
    """Every edit of a source; factors only of relations, whose poses are called p."""
    tree = ast.parse(source)
    found = [
        Change(skill=skill, kind="number", at=n, to=str(factor))
        for n, _ in enumerate(_numbers(tree))
        for factor in FACTORS
    ]
    for n, (_, _, now, group) in enumerate(_parts(tree)):
        found += [Change(skill=skill, kind="part", at=n, to=o) for o in group if o != now]
    if relation:
        returned = _returned(tree)
        there = {ast.unparse(value.right) for value in _products(returned)}
        found += [
            Change(skill=skill, kind="factor", to=term)
            for term in TERMS
            if f"{term}(p)" not in there
        ]
    return found


def changed(source: str, change: Change) -> str:
    """The source with an edit made.

    Raises:
        ValueError: there is no such place in it.
    """
    tree = ast.parse(source)
    places: list[Any]
    if change.kind == "number":
        places = list(_numbers(tree))
        if change.at >= len(places):
            raise ValueError(f"no {change} in the source")
        number = places[change.at]
        number.value = float(f"{number.value * float(change.to):.3g}")
    elif change.kind == "part":
        places = list(_parts(tree))
        if change.at >= len(places) or change.to not in places[change.at][3]:
            raise ValueError(f"no {change} in the source")
        node, attribute, _, _ = places[change.at]
        setattr(node, attribute, change.to)
    elif change.kind == "factor" and change.to in TERMS:
        last = _returned(tree)
        factor = ast.parse(f"{change.to}(p)", mode="eval").body
        assert last.value is not None
        last.value = ast.BinOp(copy.deepcopy(last.value), ast.Mult(), factor)
    else:
        raise ValueError(f"no {change}")
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _numbers(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, float)
            and abs(node.value) >= LEAST
        ):
            yield node


def _parts(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str, tuple[str, ...]]]:
    """Nodes that name a part, the attribute that holds the name, the name, and its group."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for group in (METRES, FALLS):
                if node.func.id in group:
                    yield node.func, "id", node.func.id, group
        elif isinstance(node, ast.Attribute) and node.attr in SHARES:
            yield node, "attr", node.attr, SHARES


def _returned(tree: ast.Module) -> ast.Return:
    """The last return of the function."""
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef) and isinstance(function.body[-1], ast.Return)
    return function.body[-1]


def _products(returned: ast.Return) -> Iterator[ast.BinOp]:
    while (inner := factored(returned)) is not None:
        assert isinstance(returned.value, ast.BinOp)
        yield returned.value
        returned = ast.Return(inner)
