"""The skills of SceneCraft: relations and arrangements whose source a library may hold.

A :class:`common.skills.SkillLibrary` of scenes holds the score of each relation in
:data:`RELATIONS`, and what each phrase of :mod:`scenes.planners.sayings` means. It starts from the
paper's published forms (:mod:`scenes.published`) or from this project's own, and
:mod:`scenes.learn` changes it. ::

    with using(library):
        craft("a chair next to a table", index)

A source runs in this process only if it is one of ours but for its numbers, for parts that may
stand for one another, and for a factor from a list (:func:`known`): then what it does is known.
Any other source may have been written by a model: arrangements then run in the sandbox each time,
and whole layouts are solved there (:mod:`scenes.layout.elsewhere`).
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from common import sandbox
from common.errors import UserError
from common.skills import Encoder, Skill, SkillLibrary
from scenes import published
from scenes.graph import Relation, SceneGraph
from scenes.layout.elsewhere import FILES, Walled, walled
from scenes.planners.sayings import HABITS
from scenes.relations import KINDS
from scenes.relations.skills import FALLS, METRES, SHARES, TERMS

Start = Literal["published", "own"]
RELATIONS = (
    "proximity", "direction", "alignment", "symmetry", "parallelism", "perpendicularity",
    "rotation", "repetition", "facing", "around", "distance", "apart", "between",
)  # fmt: skip
"""Relations whose score a library holds."""
PRELUDE = """from __future__ import annotations
import math
from collections.abc import Sequence
import torch
from torch import Tensor
from scenes.graph import Relation
from scenes.planners.sayings import say
from scenes.relations import Poses
from scenes.relations.boxes import gap, gap_3d, length, overlap_area, overlap_volume, unit
from scenes.relations.paper import AXES, SIDES, near, rotation
from scenes.relations.places import looks_at
from scenes.relations.skills import alike, centres, falling, looking, stand
"""
SAMPLES: Mapping[str, tuple[str, str, str]] = {
    "proximity": ("(0, 1.2), (0, 0)", "(0, 9), (0, 0)", "1.0"),
    "direction": ("(0, -2), (0, 0)", "(0, 2), (0, 0)", "'front'"),
    "alignment": ("(0, 0), (0, 2)", "(0, 0), (3, 2)", "'x', 0.25"),
    "symmetry": ("(-1, 0), (1, 0), (0, 0)", "(-1, 0), (4, 0), (0, 0)", "'x', True, 0.5"),
    "parallelism": ("(0, 0), (1, 0), (2, 0)", "(0, 0), (1, 0), (0.1, 0.1, 3)", ""),
    "perpendicularity": ("(0, 0), (2, 0, 1.5708)", "(0, 0), (2, 0)", ""),
    "rotation": ("(2, 0), (-1, 2), (-1, -2), (0, 0)", "(2, 0), (2, .5), (2, 1), (0, 0)", "0.35"),
    "repetition": ("(0, 0), (2, 0), (4, 0)", "(0, 0), (2, 1), (7, 0)", "'any', 0.0, 0.25"),
    "facing": ("(0, 2), (0, 0)", "(0, 2, 3.1416), (0, 0)", ""),
    "around": ("(0, 1.4), (0, -1.4, 3.1416), (0, 0)", "(0, 9, 3), (0, 8, 3), (0, 0)", "0.3"),
    "distance": ("(0, 3), (0, 0)", "(0, 30), (0, 0)", "2.0"),
    "apart": ("(0, 0), (9, 0)", "(0, 0), (1.1, 0)", "1.0"),
    "between": ("(0, 0), (-2, 0), (2, 0)", "(6, 0), (-2, 0), (2, 0)", ""),
}  # fmt: skip
"""Places where a relation holds, where it does not, and its options: what an example is made of."""
_RELATIONS = TypeAdapter(list[Relation])


def library(folder: Path, encoder: Encoder | None = None) -> SkillLibrary:
    """The library of scenes in ``folder``; it may be empty."""
    return SkillLibrary(folder, PRELUDE, FILES, encoder)


def opened(folder: Path) -> SkillLibrary:
    """The library in ``folder``.

    Raises:
        UserError: there is none.
    """
    if not (folder / "skills.db").is_file():
        raise UserError(f"there is no library in {folder}", "make one: upspiral scenes learn")
    return library(folder)


def starting(start: Start) -> list[Skill]:
    """The skills that a library starts with."""
    return [
        Skill(name, sources(name)[0 if start == "own" else -1], _examples(name), {"origin": start})
        for name in (*(n.replace("-", "_") for n in RELATIONS), *HABITS)
    ]


@functools.cache
def sources(name: str) -> tuple[str, ...]:
    """The sources of a skill that are ours: the project's own, and the published one if any."""
    own = _OWN[name]
    there = vars(published).get(name)
    functions = [own] if there is None else [own, there]
    return tuple(plain(inspect.getsource(function)) for function in functions)


_OWN: Mapping[str, Callable[..., Any]] = {
    **{n.replace("-", "_"): KINDS[n].score for n in RELATIONS},
    **HABITS,
}
"""Before any library was in use."""


def plain(source: str) -> str:
    """The source of one function as Python writes it, without decorators and comments."""
    tree = ast.parse(textwrap.dedent(source))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list = []
    return ast.unparse(tree) + "\n"


def known(skill: Skill) -> bool:
    """Whether the source is ours but for numbers, parts that may stand for others, and factors."""
    if skill.name not in _OWN:
        return False
    form = _form(skill.source)
    return form is not None and form in {_form(s) for s in sources(skill.name)}


@functools.cache
def _form(source: str) -> str | None:
    """What two sources have in common if one is the other with other numbers and parts."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return ast.dump(_Form().visit(tree))


class _Form(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(0.0) if isinstance(node.value, float) else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        for group in (METRES, FALLS):
            if node.id in group:
                return ast.Name(group[0], node.ctx)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        return ast.Attribute(node.value, SHARES[0], node.ctx) if node.attr in SHARES else node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        while (inner := factored(node)) is not None:
            node = ast.Return(inner)
        self.generic_visit(node)
        return node


def factored(node: ast.Return) -> ast.expr | None:
    """What is returned but for a factor of :data:`TERMS`, as in ``return (...) * alike(p)``."""
    value = node.value
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Mult):
        return None
    last = value.right
    if isinstance(last, ast.Call) and ast.unparse(last) in {f"{term}(p)" for term in TERMS}:
        return value.left
    return None


@contextmanager
def using(skills: SkillLibrary | Sequence[Skill] | None) -> Iterator[dict[str, int]]:
    """Relations and arrangements are those of a library while this lasts; None changes nothing.

    It is for the whole process, and not for threads beside each other. What is yielded counts how
    often each arrangement was asked.

    Raises:
        UserError: a skill is not one that scenes know.
    """
    kinds, habits = dict(KINDS), dict(HABITS)
    used: dict[str, int] = {}
    sources: dict[str, str] = {}
    token = None
    try:
        for skill in skills or ():
            if skill.name in habits:
                HABITS[skill.name] = _counted(used, skill.name, _habit(skill))
                continue
            kind = next((n for n in RELATIONS if n.replace("-", "_") == skill.name), None)
            if kind is None:
                raise UserError(f"scenes have no skill {skill.name!r}", "use a library of scenes")
            if known(skill):
                KINDS[kind] = replace(KINDS[kind], score=_function(skill))
            else:
                sources[kind] = skill.source
                KINDS[kind] = replace(KINDS[kind], score=_barred)
        token = walled.set(Walled(_all(skills, sources), PRELUDE) if sources else None)
        yield used
    finally:
        KINDS.update(kinds)
        HABITS.update(habits)
        if token is not None:
            walled.reset(token)


def tally(graph: SceneGraph, used: Mapping[str, int]) -> dict[str, int]:
    """How often a scene used each skill: what :func:`using` counted, and its relations."""
    names = [r.kind.replace("-", "_") for r in graph.relations if r.kind in RELATIONS]
    return {**used, **{name: names.count(name) for name in names}}


def _all(
    skills: SkillLibrary | Sequence[Skill] | None, sources: Mapping[str, str]
) -> Mapping[str, str]:
    """The sources of every relation: in the sandbox all of them are the library's."""
    relations = {n.replace("-", "_"): n for n in RELATIONS}
    return {
        **{relations[s.name]: s.source for s in skills or () if s.name in relations},
        **sources,
    }


def _counted(
    used: dict[str, int], name: str, habit: Callable[..., list[Relation]]
) -> Callable[..., list[Relation]]:
    def asked(*arguments: Any) -> list[Relation]:
        used[name] = used.get(name, 0) + 1
        return habit(*(tuple(a) if isinstance(a, list) else a for a in arguments))

    return asked


def _function(skill: Skill) -> Callable[..., Any]:
    """The function of a source that is :func:`known`."""
    assert known(skill)
    space: dict[str, Any] = {"__name__": f"skill_{skill.name}"}
    exec(compile(PRELUDE, "prelude", "exec"), space)
    exec(compile(skill.source, skill.name, "exec"), space)
    function: Callable[..., Any] = space[skill.name]
    return function


def _habit(skill: Skill) -> Callable[..., list[Relation]]:
    if known(skill):
        return _function(skill)

    @functools.cache
    def walled_in(*arguments: Any) -> list[Relation]:
        script = f"""
import json, sys
sys.path.insert(0, "../in")
prelude, source, arguments = json.load(open("../in/job.json"))
space = {{"__name__": "skill"}}
exec(compile(prelude, "prelude", "exec"), space)
exec(compile(source, "skill", "exec"), space)
found = space[{skill.name!r}](*arguments)
json.dump([r.model_dump(mode="json") for r in found], open("found.json", "w"))
"""
        job = json.dumps([PRELUDE, skill.source, arguments]).encode()
        ran = sandbox.run(
            script,
            files={**FILES, "job.json": job},
            limits=sandbox.Limits(memory=3072 * sandbox.MIB),
            check=False,  # of the script; the source was checked when the library took it
        )
        try:
            return _RELATIONS.validate_json(ran.files.get("found.json", b"none"))
        except ValidationError as error:
            why = ran.why or "it gives no relations"
            raise UserError(f"the skill {skill.name} failed: {why}", "roll it back") from error

    return walled_in


def _barred(*_: Any, **__: Any) -> Any:
    raise RuntimeError("this score was not written here: it runs in the sandbox only")


def _examples(name: str) -> tuple[str, ...]:
    if name not in SAMPLES:
        return ()
    good, bad, options = SAMPLES[name]
    options = f", {options}" if options else ""
    low, high = (f"float({name}(stand({at}){options}))" for at in (bad, good))
    return (f"assert 0 <= {low} <= {high} <= 1", f"assert {high} > 0.3")
