"""The check of a script's source: what would not work in a job, found before it runs.

It reads the syntax tree and answers in milliseconds with line numbers, so that a model can mend
what it wrote. It is feedback and no wall: Python is too dynamic for that, and every way around it
ends at the wall. What it wants is that code says plainly what it does: modules from a list, no
names that begin with an underscore, nothing found by name at run time; of Blender, operators from a
list.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Profile = Literal["python", "blender"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PURE = _words(
    "__future__ abc array bisect calendar cmath collections contextlib copy dataclasses "
    "datetime decimal enum fractions functools heapq itertools json math numbers operator "
    "random re statistics string struct textwrap time typing unicodedata"
)
MODULES: dict[Profile, frozenset[str]] = {
    "python": PURE | {"hashlib", "numpy", "scipy"},
    "blender": PURE | {"bpy", "bmesh", "mathutils", "numpy"},
}
SUBMODULES_BARRED = frozenset({"ctypeslib", "distutils", "f2py", "testing", "_core"})
"""Of numpy and scipy: they load libraries, run compilers or reach into the interpreter."""
BARRED_NAMES = _words(
    "__import__ breakpoint compile delattr dir eval exec globals help input locals setattr vars"
)
BY_NAME = frozenset({"getattr", "hasattr", "attrgetter", "methodcaller"})
"""They look up an attribute: its name has to be written out."""
DUNDERS = frozenset({"__init__", "__name__", "__file__", "__doc__", "__class__", "__post_init__"})

OPERATORS = _words("armature collection curve material mesh node object pose surface transform uv")
BARRED_BLENDER = _words(
    "app as_module driver_add handlers libraries msgbus path_resolve preferences register_class "
    "texts use_scripts_auto_execute utils"
)
"""Attributes that lead out of the scene: to Python, to files, to what runs later."""
FILES_OF_BLENDER = frozenset({"load", "save", "save_render", "write"})


@dataclass(frozen=True)
class Finding:
    """One thing that a script must not say, and the line that says it."""

    line: int
    message: str


def lint(source: str, profile: Profile = "python") -> list[Finding]:
    """What is wrong with a script, in the order of its lines; empty if nothing is."""
    try:
        tree = ast.parse(source, type_comments=False)
    except SyntaxError as error:
        return [Finding(error.lineno or 1, f"no valid Python: {error.msg}")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Finding(1, f"no valid Python: {error}")]
    found = {Finding(getattr(node, "lineno", 1), text) for node, text in _findings(tree, profile)}
    return sorted(found, key=lambda finding: (finding.line, finding.message))


def _findings(tree: ast.AST, profile: Profile) -> Iterator[tuple[ast.AST, str]]:
    bases = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    called = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    blender = _aliases(tree) if profile == "blender" else frozenset()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(node, alias.name, profile)
        elif isinstance(node, ast.ImportFrom):
            yield from _import_from(node, profile)
        elif isinstance(node, ast.Name):
            yield from _name(node, called.get(id(node)))
            if node.id in blender and id(node) not in bases:
                yield node, "the module bpy may not be handed on under another name"
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node)
            if profile == "blender":
                yield from _blender(node, bases, blender)


def _module(node: ast.AST, name: str, profile: Profile) -> Iterator[tuple[ast.AST, str]]:
    parts = name.split(".")
    known = MODULES[profile]
    if parts[0] not in known:
        yield node, f"import of {name}: only {', '.join(sorted(known - {'__future__'}))}"
        return
    barred = SUBMODULES_BARRED | (BARRED_BLENDER | {"ops"} if parts[0] == "bpy" else set())
    if any(part in barred or part.startswith("_") for part in parts[1:]):
        yield node, f"import of {name} is not allowed"


def _import_from(node: ast.ImportFrom, profile: Profile) -> Iterator[tuple[ast.AST, str]]:
    module = node.module or ""
    if node.level:
        yield node, "a script has no package to import from"
    elif module == "__future__":
        return
    else:
        yield from _module(node, module, profile)
        for alias in node.names:
            if alias.name.startswith("_"):
                yield node, f"import of {alias.name} from {module}"
            elif alias.name == "*":
                yield node, f"import of everything from {module}: name what is wanted"
            elif module.split(".")[0] in ("bpy", "numpy", "scipy"):
                yield from _module(node, f"{module}.{alias.name}", profile)


def _name(node: ast.Name, call: ast.Call | None) -> Iterator[tuple[ast.AST, str]]:
    name = node.id
    if name in BARRED_NAMES or (name.startswith("__") and name not in DUNDERS):
        yield node, f"{name} is not allowed"
    elif name in BY_NAME and not _names_written_out(call):
        yield node, f"{name} needs the attribute's name written out, without an underscore first"
    elif name == "open" and not _plain_path(call):
        yield node, "open needs a path written out, in this folder or in ../in"


def _names_written_out(call: ast.Call | None) -> bool:
    if call is None or len(call.args) < 2:
        return False
    name = call.args[1]
    return (
        isinstance(name, ast.Constant)
        and isinstance(name.value, str)
        and not name.value.startswith("_")
        and name.value not in BARRED_BLENDER
    )


def _plain_path(call: ast.Call | None) -> bool:
    if call is None or not call.args or not isinstance(call.args[0], ast.Constant):
        return False
    path = call.args[0].value
    if not isinstance(path, str):
        return False
    parts = path.removeprefix("../in/").split("/")
    return not path.startswith(("/", "~")) and ".." not in parts


def _attribute(node: ast.Attribute) -> Iterator[tuple[ast.AST, str]]:
    name = node.attr
    if not name.startswith("_") or name in DUNDERS - {"__class__"}:
        return
    own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    if not own or name.startswith("__"):
        yield node, f"the attribute {name} is not allowed"


def _aliases(tree: ast.AST) -> frozenset[str]:
    """The names that a script gives the module bpy."""
    return frozenset(
        alias.asname or "bpy"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] == "bpy"
    )


def _blender(
    node: ast.Attribute, bases: set[int], blender: frozenset[str]
) -> Iterator[tuple[ast.AST, str]]:
    name = node.attr
    chain = _chain(node)
    if name in BARRED_BLENDER:
        yield node, f"the attribute {name} is not allowed in Blender"
    elif name in FILES_OF_BLENDER and chain and chain[0] in blender:
        yield node, f"{'.'.join(chain)} is not allowed: the host loads, renders and saves"
    elif name == "ops" and id(node) not in bases:
        yield node, "bpy.ops may not be handed on under another name"
    elif len(chain) > 2 and chain[-2] == "ops" and name not in OPERATORS:
        allowed = ", ".join(sorted(OPERATORS))
        yield node, f"operators of {name} are not allowed: only {allowed}"
    elif len(chain) > 2 and chain[-2] == "ops" and id(node) not in bases:
        yield node, f"bpy.ops.{name} may not be handed on under another name"


def _chain(node: ast.expr) -> list[str]:
    """``["bpy", "ops", "mesh"]`` of ``bpy.ops.mesh``; empty if it does not begin with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []
