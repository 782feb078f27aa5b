"""The agent's source: two files that it may change, one function or class at a time.

The text on the host is the agent. It is edited as text, by the places that the syntax tree gives,
and never run here.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.records import identity

FILES = ("policy", "improver")
"""What solves the task, and what changes both."""
LONGEST = 60_000
"""Characters of a file."""
START = Path(__file__).parent / "agent"


class EditError(ValueError):
    """An edit that cannot be made; the message is for the agent."""


@dataclass(frozen=True)
class Source:
    """The text of both files."""

    policy: str
    improver: str

    @classmethod
    def start(cls, policy: str | None = None) -> Source:
        """What an agent begins with; a task may bring another ``policy``."""
        given = {"policy": policy} if policy is not None else {}
        return cls(**{n: (START / f"{n}.py").read_text("utf-8") for n in FILES} | given)

    @classmethod
    def read(cls, folder: Path) -> Source:
        """What :meth:`save` wrote.

        Raises:
            UserError: a file is not there or is no text.
        """
        try:
            return cls(**{n: (folder / f"{n}.py").read_text("utf-8") for n in FILES})
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{folder} holds no agent: {error}", "name a folder of policy.py and improver.py"
            ) from error

    def save(self, folder: Path) -> None:
        """Write both files."""
        for name in FILES:
            (folder / f"{name}.py").write_text(self[name], encoding="utf-8")

    def __getitem__(self, name: str) -> str:
        return str(getattr(self, name))

    def fingerprint(self) -> str:
        """Equal sources have equal ones."""
        return identity("godel", self.policy, self.improver)

    def files(self) -> Mapping[str, str]:
        return {f"{name}.py": self[name] for name in FILES}

    def edited(self, file: str, action: str, name: str, source: str = "") -> Source:
        """The source with a function, class or constant added, modified or deleted.

        ``source`` is its definition; imports that stand before it are put at the top.

        Raises:
            EditError: the edit cannot be made, or leaves no valid Python.
        """
        if file not in FILES:
            raise EditError(f"there is no file {file!r}: {' or '.join(FILES)}")
        new = _edited(self[file], action, name, source)
        if len(new) > LONGEST:
            raise EditError(f"{file}.py would have more than {LONGEST} characters")
        _parse(new, f"{file}.py")
        return Source(**{n: new if n == file else self[n] for n in FILES})

    def diff(self, later: Source, lines: int = 3) -> str:
        """From this to ``later``, as unified diffs; "" if they are equal."""
        found: list[str] = []
        for name in FILES:
            path = f"{name}.py"
            found += difflib.unified_diff(
                self[name].splitlines(), later[name].splitlines(), path, path, lineterm="", n=lines
            )
        return "\n".join(found)


def _parse(source: str, what: str) -> ast.Module:
    try:
        source.encode()
        return ast.parse(source)
    except SyntaxError as error:
        raise EditError(f"{what} is no valid Python: {error.msg} (line {error.lineno})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise EditError(f"{what} is no valid Python: {type(error).__name__}") from None


def _edited(text: str, action: str, name: str, source: str) -> str:
    if action not in ("add", "modify", "delete"):
        raise EditError(f"there is no change {action!r}: add, modify or delete")
    place = _place(ast.parse(text), name)
    if action == "add" and place is not None:
        raise EditError(f"{name} is there already: modify it")
    if action != "add" and place is None:
        raise EditError(f"there is no {name} to {action}")
    lines = text.splitlines()
    if action == "delete":
        first, last = place or (0, 0)
        del lines[first:last]
        return _tidy(lines)
    if len(source) > LONGEST:
        raise EditError(f"the source has more than {LONGEST} characters")
    imports, body = _definition(source, name)
    first, last = place or (len(lines), len(lines))
    lines[first:last] = ["", "", *body] if place is None else body
    there = set(text.splitlines())
    at = _after_imports(ast.parse(text))
    lines[at:at] = [line for line in imports if line not in there]
    return _tidy(lines)


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {t.id for t in node.targets if isinstance(t, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def _place(tree: ast.Module, name: str) -> tuple[int, int] | None:
    """The lines of a definition at the top, decorators included, as a slice."""
    found = [node for node in tree.body if name in _names(node)]
    if not found:
        return None
    node = found[-1]
    decorated = [d.lineno for d in getattr(node, "decorator_list", [])]
    return min([node.lineno, *decorated]) - 1, node.end_lineno or node.lineno


def _definition(source: str, name: str) -> tuple[list[str], list[str]]:
    """The imports and the lines of the one definition in ``source``."""
    tree = _parse(source, "the source")
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    rest = [n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom)]
    if len(rest) != 1 or name not in _names(rest[0]):
        raise EditError(f"the source must define {name} and nothing else, imports apart")
    first, last = _place(tree, name) or (0, 0)
    lines = source.splitlines()
    return [ast.unparse(node) for node in imports], lines[first:last]


def _after_imports(tree: ast.Module) -> int:
    """Where a further import goes: after those there are, or after the docstring."""
    ends = [n.end_lineno or 0 for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    if ends:
        return max(ends)
    first = tree.body[0] if tree.body else None
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) if first is not None and said else 0


def _tidy(lines: list[str]) -> str:
    """Two blank lines at most, one line break at the end."""
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip("\n") + "\n"
