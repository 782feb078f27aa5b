"""The agent's source: edits by name, refused where they leave no Python, compared."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from text.godel.source import EditError, Source

START = Source.start()


def test_functions_classes_and_constants_are_added_modified_deleted() -> None:
    one = START.edited("policy", "add", "Memory", "import re\n\n\nclass Memory:\n    kept = ()")
    two = one.edited("policy", "add", "LIMIT", "LIMIT = 3")
    three = two.edited("policy", "modify", "LIMIT", "LIMIT: int = 4")
    four = three.edited(
        "policy", "modify", "solve", "@print\ndef solve(question, ask):\n    return 'x'"
    )
    names = {
        n.name for n in ast.parse(four.policy).body if isinstance(n, ast.FunctionDef | ast.ClassDef)
    }
    assert names == {"Memory", "solve"}
    assert "import re\n" in four.policy and "LIMIT: int = 4" in four.policy
    assert "LIMIT = 3" not in four.policy and "Think step" not in four.policy
    five = four.edited("policy", "delete", "solve").edited("policy", "delete", "Memory")
    assert "class" not in five.policy and "@print" not in five.policy
    assert four.improver == START.improver  # the other file stays
    compile(four.policy, "policy.py", "exec")
    # Again the same import: it is not put there twice.
    again = one.edited("policy", "modify", "Memory", "import re\nclass Memory:\n    kept = (1,)")
    assert again.policy.count("import re\n") == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("memory", "add", "f", "def f(): pass"), "no file 'memory'"),
        (("policy", "replace", "f", "def f(): pass"), "no change 'replace'"),
        (("policy", "add", "solve", "def solve(): pass"), "solve is there already"),
        (("policy", "modify", "f", "def f(): pass"), "there is no f to modify"),
        (("policy", "delete", "f"), "there is no f to delete"),
        (("policy", "add", "f", "def g(): pass"), "must define f and nothing else"),
        (("policy", "add", "f", "def f(): pass\nprint(1)"), "must define f and nothing else"),
        (("policy", "add", "f", "def f( pass"), "no valid Python"),
        (("policy", "add", "f", "def f(): pass\0"), "no valid Python"),
        (("policy", "add", "f", "def f(): return '\ud800'"), "no valid Python"),
        (("policy", "add", "f", "f = " + "(" * 5000), "no valid Python"),
        (("policy", "add", "f", "f = " + "-" * 50_000 + "1"), "no valid Python"),
        (("policy", "add", "f", f"f = '{'x' * 70_000}'"), "characters"),
    ],
)  # fmt: skip
def test_edits_that_cannot_be_made(arguments: tuple[str, ...], why: str) -> None:
    with pytest.raises(EditError, match=why):
        START.edited(*arguments)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.text(max_size=20), st.sampled_from(["add", "modify", "delete"]))
def test_no_text_breaks_the_editor(source: str, name: str, action: str) -> None:
    try:
        new = START.edited("policy", action, name, source)
    except EditError:
        return
    ast.parse(new.policy)


def test_diffs_and_folders(tmp_path: Path) -> None:
    later = START.edited("improver", "modify", "HISTORY", "HISTORY = 3")
    assert START.diff(START) == ""
    changed = [
        line for line in START.diff(later).splitlines() if line[0] in "+-" and line[1] != line[0]
    ]
    assert changed == ["-HISTORY = 12", "+HISTORY = 3"]
    later.save(tmp_path)
    assert Source.read(tmp_path) == later and later.fingerprint() != START.fingerprint()
    with pytest.raises(UserError, match="holds no agent"):
        Source.read(tmp_path / "nowhere")
