"""A skill: the source of one function, what it must pass, and where it comes from.

Nothing here runs a source in this process; its examples run in :mod:`common.sandbox`, since a model
may have written it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import sandbox
from common.records import identity

SECONDS = 60.0
"""What the examples of one skill may take."""
_DRIVER = """
import json, sys, traceback
sys.path.insert(0, "../in")
prelude, source, examples = json.load(open("../in/job.json"))
space = {"__name__": "skill"}
exec(compile(prelude, "prelude", "exec"), space)
exec(compile(source, "skill", "exec"), space)
for n, example in enumerate(examples, 1):
    try:
        exec(compile(example, f"example {n}", "exec"), dict(space))
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        print(f"example {n} ({example.splitlines()[-1].strip()}): {last}", file=sys.stderr)
        sys.exit(1)
print("passed")
"""


@dataclass(frozen=True)
class Skill:
    """One version of a skill. ``name`` is the function that ``source`` defines.

    ``examples`` are statements that run after the source and raise where it is wrong, as in
    ``assert twice(2) == 4``. ``provenance`` says where the version comes from.
    """

    name: str
    source: str
    examples: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    score: float | None = None
    """Held out, with this version in use; comparable within one measure only."""
    uses: int = 0
    version: int = 0
    """Counted from 1 by the library; 0: not in one yet."""

    @property
    def signature(self) -> str:
        """As in ``near(p, distance=1.0)``, read from the source and not by running it."""
        function = _function(self.name, ast.parse(self.source))
        assert function is not None  # sources are checked before they are taken
        returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
        return f"{self.name}({ast.unparse(function.args)}){returns}"

    @property
    def about(self) -> str:
        """The docstring of the function."""
        function = _function(self.name, ast.parse(self.source))
        return (ast.get_docstring(function) or "") if function is not None else ""

    @property
    def digest(self) -> str:
        """Of what it does and of what it must pass; two versions of one digest are one."""
        return identity(self.source, list(self.examples))


def problem(skill: Skill) -> str:
    """Why a source is no skill, found without running it; "" if it is one."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", skill.name):
        return f"{skill.name!r} is no name of a skill: lower case letters, digits and _"
    findings = sandbox.lint(skill.source)
    if findings:
        return f"line {findings[0].line}: {findings[0].message}"
    tree = ast.parse(skill.source)
    function = _function(skill.name, tree)
    if function is None:
        return f"it defines no function {skill.name}"
    if not ast.get_docstring(function):
        return f"{skill.name} has no docstring to be found by"
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.Assign | ast.AnnAssign):
            return f"line {node.lineno}: only functions and constants at the top"
    return ""


def _function(name: str, tree: ast.Module) -> ast.FunctionDef | None:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return None


def failure(
    skill: Skill, prelude: str = "", files: Mapping[str, bytes | Path] | None = None
) -> str:
    """Why a version may not be taken: no skill, or an example that fails; "" if it may.

    ``prelude`` is run before the source; ``files`` are what it reads, on the path, as in
    :func:`common.sandbox.run`.

    Raises:
        UserError: as :func:`common.sandbox.run`.
    """
    wrong = problem(skill)
    if wrong or not skill.examples:
        return wrong
    job = json.dumps([prelude, skill.source, skill.examples]).encode()
    ran = sandbox.run(
        _DRIVER,
        files={**(files or {}), "job.json": job},
        limits=sandbox.Limits(seconds=SECONDS, memory=3072 * sandbox.MIB),
        check=False,  # of the driver; the source was checked above
    )
    # A source could end the job itself; without the word at the end nothing has passed.
    if ran.status == "ok" and ran.stdout.endswith("passed\n"):
        return ""
    return ran.why or "it ended before its examples did"
