"""The coder: a scene as a Blender script that people can read, change and run on their own.

SceneCraft's coder turns the scene graph into a script of calls to skills (arXiv 2403.01248, section
3). So does this one: the skills that the scene needs as small functions, then the scene sentence by
sentence, every model with the relations that placed it and what they score. Deviations: places are
the numbers that our solver found and not a search inside the script, so that it gives the same
scene without us; and the built-in skills are no copies but the very functions that the render
worker builds with (:mod:`scenes.render.build`, ``meshes`` and ``materials``), read as text.

    blender --python scene.py                                  # build it and look around
    blender --background --python scene.py -- out.png out.blend
    python scene.py out.png out.blend                          # with the module bpy
"""

from __future__ import annotations

import ast
import functools
import math
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from scenes.assets.words import head, tokens
from scenes.dress import Dressed
from scenes.graph import Asset, Relation, SceneGraph
from scenes.layout import Solution
from scenes.relations import HOLDS, KINDS
from scenes.render.jobs import Camera, Scene, Thing
from scenes.render.views import ball

WIDTH = 96
"""Columns of a comment."""
SOURCES = ("meshes", "materials", "build")
"""The modules of :mod:`scenes.render` that skills are read from. They cannot be imported here:
they import bpy."""
_NUMBERED = re.compile(r"^(.*?)-?(\d+)$")


class Skills(NamedTuple):
    """Functions and constants by name, in reading order, and the imports that they may need."""

    sources: Mapping[str, str]
    imports: Mapping[str, str]


def script(
    graph: SceneGraph,
    solution: Solution,
    dressed: Dressed,
    scene: Scene,
    camera: Camera,
    skills: Mapping[str, str] | None = None,
    size: tuple[int, int] = (960, 720),
    samples: int = 24,
) -> str:
    """The source of ``scene.py``: ``scene`` as ``camera`` sees it, ``size`` pixels large.

    ``skills`` are sources of functions by name, of a library that learned them; they come before
    the built-in ones of the same name. Only what the scene uses is written. Nothing is run here.

    Raises:
        UserError: a skill is no Python, or does not define what it is called.
    """
    folder = _folder(scene.things)
    body = [*_scene(graph, solution, dressed, scene, folder), *_around(scene, camera)]
    body += [f"pixels({size[0]}, {size[1]})", f"quality(samples={samples})"]
    main = "empty()\nbuild_scene()\nfor path in wanted_files():\n    write(path)"
    built = "def build_scene() -> None:\n" + textwrap.indent("\n".join(body), "    ")
    available = _with(builtin(), skills or {})
    used = _needed(f"{built}\n{main}", available.sources)
    needed = {name: available.sources[name] for name in available.sources if name in used}
    everything = "\n".join([*needed.values(), built])
    parts = [_head(graph, scene), _imports(everything, available.imports)]
    if folder is not None:
        parts.append(f"MODELS = Path({_quoted(folder)})")
    if scene.notes:
        lines = "\n".join(f"    {_quoted(line + chr(10))}" for line in scene.notes.splitlines())
        parts.append(f"ATTRIBUTION = (\n{lines}\n)")
    parts.append(_rule("What the scene is made with"))
    constants = [s for s in needed.values() if not s.startswith(("def ", "@", "class "))]
    functions = [s for s in needed.values() if s not in constants]
    parts += ["\n".join(constants)] * bool(constants)
    text = "\n".join(parts) + "\n\n\n" + "\n\n\n".join(functions)
    text += f"\n\n{_rule('The scene')}\n\n\n{built}\n\n\n"
    return text + 'if __name__ == "__main__":\n' + textwrap.indent(main, "    ") + "\n"


@functools.lru_cache(maxsize=1)
def builtin() -> Skills:
    """The skills that come along."""
    sources: dict[str, str] = {}
    imports: dict[str, str] = {}
    for module in SOURCES:
        text = (Path(__file__).parent / "render" / f"{module}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= _named(node)
            elif isinstance(node, ast.FunctionDef):
                sources[node.name] = ast.get_source_segment(text, node) or ""
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                sources[node.targets[0].id] = ast.get_source_segment(text, node) or ""
    return Skills(sources, imports)


def _named(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Import lines by the name that they bind; ours and the future are left out."""
    module = getattr(node, "module", None)
    if module is not None and module.split(".")[0] in ("__future__", "scenes"):
        return {}
    start = f"from {module} import" if module else "import"
    return {
        alias.asname or alias.name: f"{start} {alias.name}"
        + (f" as {alias.asname}" if alias.asname else "")
        for alias in node.names
    }


def _with(base: Skills, learned: Mapping[str, str]) -> Skills:
    """``base`` with learned skills in the place of its own, new ones after them."""
    sources, imports = dict(base.sources), dict(base.imports)
    for name, source in learned.items():
        try:
            nodes = ast.parse(source).body
        except (SyntaxError, ValueError) as error:
            raise UserError(f"the skill {name} is no Python: {error}", "roll it back") from error
        found = [n for n in nodes if isinstance(n, ast.FunctionDef)]
        if name not in {n.name for n in found}:
            raise UserError(f"the skill {name} defines no function {name}", "roll it back")
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports |= _named(node)
        # One after the other, so that helpers of the same name in two skills are seen as such.
        sources[name] = "\n\n\n".join(ast.get_source_segment(source, n) or "" for n in found)
    return Skills(sources, imports)


def _needed(code: str, sources: Mapping[str, str]) -> set[str]:
    """The names that ``code`` uses, and those that they use in turn."""
    found: set[str] = set()
    left = [code]
    while left:
        new = (_names(left.pop()) & sources.keys()) - found
        found |= new
        left += [sources[name] for name in new]
    return found


def _names(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def _imports(code: str, imports: Mapping[str, str]) -> str:
    """The imports that ``code`` needs, Python's own first, then Blender's."""
    names = _names(code)
    whole = [line for name, line in imports.items() if name in names and line[:4] != "from"]
    parts: dict[str, set[str]] = {}
    for name, line in imports.items():
        if name in names and line not in whole:
            module, _, what = line.removeprefix("from ").partition(" import ")
            parts.setdefault(module, set()).add(what)
    lines = sorted(whole)
    lines += [f"from {m} import {', '.join(sorted(what))}" for m, what in sorted(parts.items())]
    own = [x for x in lines if x.split()[1].split(".")[0] in sys.stdlib_module_names]
    other = [x for x in lines if x not in own]
    return "from __future__ import annotations\n\n" + "\n".join([*own, "", *other]) + "\n"


def _head(graph: SceneGraph, scene: Scene) -> str:
    """What this is, how to run it, and whose models it shows."""
    lines = textwrap.wrap(_plain(graph.text), WIDTH) or ["A Blender scene."]
    lines += [
        "",
        "It runs on its own in Blender 5, or with the module bpy (pip install bpy):",
        "    blender --python scene.py                                   # build it and look",
        "    blender --background --python scene.py -- out.png out.blend",
        "    python scene.py out.png out.blend",
        "Metres and degrees; z is up, the floor is at 0. A thing stands at the middle of its",
        "underside, looks along -y at 0 degrees, and turns counterclockwise seen from above.",
    ]
    if scene.notes:
        lines += ["", *(part for line in scene.notes.splitlines() for part in _wrapped(line))]
    return "\n".join(f"# {line}".rstrip() for line in lines) + "\n"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(_plain(line), WIDTH, subsequent_indent="  ")


def _folder(things: Sequence[Thing]) -> str | None:
    """The folder that all models lie in."""
    found = [str(thing.model.absolute().parent) for thing in things if thing.model is not None]
    return os.path.commonpath(found) if found else None


def _scene(
    graph: SceneGraph, solution: Solution, dressed: Dressed, scene: Scene, folder: str | None
) -> Iterator[str]:
    """The things, sentence by sentence."""
    things = {thing.id: thing for thing in scene.things}
    told: set[int] = set()
    taken: set[str] = set()
    for title, assets in _parts(graph):
        yield from (f"# {line}" for line in textwrap.wrap(f"== {title} ==", WIDTH))
        shown = [a for a in assets if a.id in things]
        for _, group in groupby(shown, key=lambda a: (a.what, things[a.id].model)):
            alike = list(group)
            yield from _about(alike, solution, dressed, told)
            yield from _placed([things[a.id] for a in alike], folder, taken)
            yield ""


def _parts(graph: SceneGraph) -> list[tuple[str, list[Asset]]]:
    """Assets by sub-scene, else by the clause of the text that names them first."""
    if graph.scenes:
        parts = [(_plain(s.title), [graph[a] for a in s.assets]) for s in graph.scenes]
        seen = {a for scene in graph.scenes for a in scene.assets}
    else:
        clauses = [_plain(c) for c in re.split(r"[.,;!?\n]+", graph.text) if _plain(c)]
        by_clause: dict[str, list[Asset]] = {clause: [] for clause in clauses}
        words = {clause: set(tokens(clause)) for clause in by_clause}
        for asset in graph.assets:
            noun = (head(asset.what) or ("",))[-1]
            where = next((c for c in by_clause if noun in words[c]), None)
            if where is not None:
                by_clause[where].append(asset)
        parts = list(by_clause.items())
        seen = {a.id for _, assets in parts for a in assets}
    rest = [a for a in graph.assets if a.id not in seen]
    return [(t, a) for t, a in [*parts, ("besides" if seen else "all of it", rest)] if a]


def _about(
    alike: Sequence[Asset], solution: Solution, dressed: Dressed, told: set[int]
) -> Iterator[str]:
    """Comments: what these are, and the relations that place them, each told once."""
    model = dressed.models.get(alike[0].id)
    what = f"the model {model.name!r}" if model else "plain blocks: no model fits"
    yield from _comment(f"{_list([a.id for a in alike])} ({_plain(alike[0].what)}): {what}")
    ids = {a.id for a in alike}
    for n, (said, score) in enumerate(
        zip(solution.scores.relations, solution.scores.values, strict=True)
    ):
        placed = said.assets[:-1] if KINDS[said.kind].host == "last" else said.assets
        if n not in told and ids & set(placed):
            told.add(n)
            fails = "" if score >= HOLDS else ", does not hold"
            yield from _comment(f"  {_sentence(said)}: {score:.2f}{fails}")


def _comment(text: str) -> Iterator[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return (f"# {x}" for x in textwrap.wrap(text, WIDTH - 6, subsequent_indent=indent + "  "))


def _sentence(said: Relation) -> str:
    """``lamp on cabinet``, ``chair-1 to chair-4 around table``, ``a, b: alignment (axis=x)``."""
    kind = said.kind.replace("-", " ")
    options = ", ".join(f"{name}={value}" for name, value in sorted(said.options.items()))
    brackets = f" ({options})" if options else ""
    if KINDS[said.kind].host == "last" and len(said.assets) > 1:
        return f"{_list(said.assets[:-1])} {kind} {said.assets[-1]}{brackets}"
    return f"{_list(said.assets)}: {kind}{brackets}"


def _list(names: Sequence[str]) -> str:
    """``chair-1 to chair-4`` where numbers follow one another, else names with commas."""
    found = [_NUMBERED.match(name) for name in names]
    if len(names) > 2 and all(found):
        bases = {m[1] for m in found if m}
        numbers = [int(m[2]) for m in found if m]
        if len(bases) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return f"{names[0]} to {names[-1]}"
    return ", ".join(names)


def _placed(alike: Sequence[Thing], folder: str | None, taken: set[str]) -> Iterator[str]:
    """The calls that import a model once and place every thing that shows it."""
    first = alike[0]
    name = ""
    if first.model is not None:
        assert folder is not None
        name = _variable(first.id, taken)
        inside = first.model.absolute().relative_to(folder).as_posix()
        given = [f"MODELS / {_quoted(inside)}"]
        if first.rotation is not None:
            rows = [first.rotation[row : row + 3] for row in (0, 3, 6)]
            given.append(f"[{', '.join(f'[{_row(row)}]' for row in rows)}]")
        yield _call(f"{name} = import_model", given)
    for thing in alike:
        given = [f'"{thing.id}"', name or _tuple(thing.colour)]
        given += [f"size={_tuple(thing.size)}", f"at={_tuple(thing.location)}"]
        given.append(f"degrees={_number(math.degrees(thing.yaw), 1)}")
        yield _call("place" if name else "place_block", given)


def _call(function: str, given: Sequence[str]) -> str:
    """A call on one line, or on a line for each argument where one is too short."""
    line = f"{function}({', '.join(given)})"
    if len(line) <= WIDTH:
        return line
    return f"{function}(\n" + "".join(f"    {each},\n" for each in given) + ")"


def _row(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)


def _variable(asset: str, taken: set[str]) -> str:
    """A name for the model of an asset that no other model has."""
    numbered = _NUMBERED.match(asset)
    base = re.sub(r"\W", "_", (numbered[1] if numbered else "") or asset)
    base = f"a_{base}" if base[0].isdigit() else base
    name, number = f"{base}_model", 2
    while name in taken:
        name, number = f"{base}_{number}_model", number + 1
    taken.add(name)
    return name


def _around(scene: Scene, camera: Camera) -> Iterator[str]:
    """Room or ground, lights, camera, and whose models these are."""
    yield "# == Around it =="
    if scene.room is not None:
        sides = (scene.room.width, scene.room.depth, scene.room.height)
        width, depth, height = (_number(side) for side in sides)
        yield f"room(width={width}, depth={depth}, height={height})"
    else:
        yield "lawn()" if scene.outdoors else "studio()"
    middle, radius = ball(scene)
    sun = scene.outdoors and scene.room is None
    light = "daylight" if sun else "soft_light"
    yield f"{light}(middle={_tuple(middle)}, radius={_number(radius)})"
    where = [f"at={_tuple(camera.location)}", f"target={_tuple(camera.target)}"]
    yield _call("look_from", [*where, f"degrees={_number(math.degrees(camera.fov), 2)}"])
    if scene.notes:
        yield "credit(ATTRIBUTION)"


def _tuple(values: Sequence[float]) -> str:
    return f"({', '.join(_number(value) for value in values)})"


def _number(value: float, digits: int = 3) -> str:
    """Millimetres are enough for people; what is smaller than five of them keeps two digits."""
    if 0 < abs(value) < 5 * 10**-digits:
        return f"{value:.2g}"
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    """A literal in double quotes where that needs no escape."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in literal else literal


def _plain(text: str) -> str:
    """One line without anything that could end a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _rule(title: str) -> str:
    return f"\n# {f' {title} '.center(WIDTH, '-')}"
