"""Countdown: reach a target with four operations and the numbers given, each at most once.

Every target is reachable: it comes from an expression that was made first. The answer is that of
whoever reaches it too, so what is checked is the value of the expression, by walking its syntax
tree; nothing is run. Numbers come from disjoint sets in train, dev and test.
"""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from common.errors import UserError
from common.records import Split, Task, identity
from text.numbers import normal
from text.tasks.arithmetic import belongs

_EXPRESSION = re.compile(r"[\d(][\d+\-*/() ]*[\d)]")
_LONGEST = 200
"""Characters of an expression: a parser recurses, and no answer is longer."""


def evaluate(expression: str) -> tuple[Fraction, list[int]] | None:
    """The value of an expression of whole numbers, + - * / and brackets, and its numbers.

    None for anything else, for a division by zero, and for numbers above a million.
    """
    if len(expression) > _LONGEST:
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    numbers: list[int] = []

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value <= 10**6:
            numbers.append(node.value)
            return Fraction(node.value)
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Sub):
                return left - right
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.Div):
                return left / right
        raise ValueError("not arithmetic")

    try:
        return value(tree), numbers
    except (ValueError, ZeroDivisionError):
        return None


def reaches(expression: str, numbers: Sequence[int], target: int, every: bool = False) -> bool:
    """Whether ``expression`` is ``target`` and uses each of ``numbers`` at most once, no other.

    With ``every`` each has to be used.
    """
    found = evaluate(tidy(expression) or "")
    if found is None:
        return False
    value, used = found
    if every and Counter(used) != Counter(numbers):
        return False
    return value == target and not Counter(used) - Counter(numbers)


def tidy(text: str) -> str | None:
    """``text`` as an expression in one notation, without ``= 24`` at its end; else None."""
    text = _ascii(text).strip().strip("$.").split("=")[0]
    return re.sub(r"\s+", "", text) if evaluate(text) is not None else None


def find(text: str) -> str | None:
    """The last expression with an operation in ``text``."""
    for match in reversed(list(_EXPRESSION.finditer(_ascii(text)))):
        expression = tidy(match[0])
        if expression is not None and re.search(r"[+\-*/]", expression):
            return expression
    return None


def _ascii(text: str) -> str:
    """``text`` with one sign for each operation."""
    text = re.sub(r"\\times|\\cdot|[×·]|(?<=\d) ?x ?(?=\d)", "*", normal(text))
    return re.sub(r"\\div|÷", "/", text).replace("−", "-").replace("–", "-")


def load(
    seed: int, sizes: Mapping[Split, int], count: int = 4, largest: int = 30, target: int = 100
) -> list[Task]:
    """Tasks with ``count`` numbers up to ``largest`` and a target of at most ``target``.

    Raises:
        UserError: too few numbers to compute with.
    """
    if not 2 <= count <= 6 or largest < 20 or target < 20:
        raise UserError(
            f"countdown with count={count}, largest={largest}, target={target}",
            "give a count of 2 to 6, largest and target of 20 or more",
        )
    found = []
    for split, size in sizes.items():
        rng = random.Random(identity("countdown", seed, split))
        usable = [n for n in range(2, largest + 1) if belongs(n, split)]
        seen: set[str] = set()
        for _ in range(2000 * size + 1000):
            if len(seen) == size:
                break
            numbers = [rng.choice(usable) for _ in range(count)]
            value = _reach(rng, numbers)
            if value is None or not 2 <= value <= target or value in numbers:
                continue
            listed = ", ".join(map(str, sorted(numbers)))
            question = (
                f"Use the numbers {listed} with +, -, * and / to make {value}. "
                "Each number may be used at most once."
            )
            if question not in seen:
                seen.add(question)
                meta = {"kind": "expression", "numbers": sorted(numbers), "template": "countdown"}
                name = identity("countdown", question)
                found.append(Task(name, question, split, str(value), "en", meta))
        if len(seen) < size:
            raise UserError(
                f"only {len(seen)} different {split} tasks were found, not {size}",
                "ask for fewer, or larger numbers",
            )
    return found


def _reach(rng: random.Random, numbers: Sequence[int]) -> int | None:
    """What a random expression of all the numbers comes to; None unless every step is whole."""
    left = list(numbers)
    while len(left) > 1:
        a = left.pop(rng.randrange(len(left)))
        b = left.pop(rng.randrange(len(left)))
        options = [a + b, a * b, *([a - b] if a > b else []), *([a // b] if a % b == 0 else [])]
        left.append(rng.choice(options))
    return left[0] if left[0] > 0 else None
