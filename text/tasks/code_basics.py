"""Tiny functions to write, made from templates, with exact tests.

    def keep_even_sum_of_numbers(numbers):
        \"\"\"Take the even numbers of the list. Return the sum of the result.

        >>> keep_even_sum_of_numbers([3, 8, 2])
        10
        ...

A function is a chain of one to three steps on a number, a text or a list of numbers. A hash of the
steps' names says whose a chain is, so none is in two splits, and neither is a constant that it uses
(as in :mod:`text.tasks.arithmetic`): a function that was learnt by heart is of no use on dev or
test. Two calls with their results stand in the docstring and are *public*; eight others are the
hidden tests (``Task.reference``).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from common.errors import UserError
from common.records import Split, Task, identity
from text.tasks.arithmetic import belongs

Type = Literal["number", "text", "list", "truth"]
PUBLIC, HIDDEN = 2, 8
"""Calls in the docstring, and calls that nobody but judges sees."""
ARGUMENTS = 30
"""Values that are drawn to choose calls from."""


class Step(NamedTuple):
    """What takes a value ``of`` one type ``into`` another: in words with ``{it}``, in code with
    ``{v}``; ``{k}`` is a number, ``{c}`` and ``{d}`` are letters."""

    name: str
    of: Type
    into: Type
    words: str
    code: str


STEPS: tuple[Step, ...] = (
    Step("add", "number", "number", "{it} plus {k}", "{v} + {k}"),
    Step("subtract", "number", "number", "{it} minus {k}", "{v} - {k}"),
    Step("times", "number", "number", "{it} times {k}", "{v} * {k}"),
    Step("square", "number", "number", "the square of {it}", "{v} ** 2"),
    Step("absolute", "number", "number", "the absolute value of {it}", "abs({v})"),
    Step("remainder", "number", "number", "the remainder of {it} divided by {k}", "{v} % {k}"),
    Step("is_even", "number", "truth", "True if {it} is even, else False", "{v} % 2 == 0"),
    Step("is_larger", "number", "truth", "True if {it} is larger than {k}, else False",
         "{v} > {k}"),
    Step("is_divisible", "number", "truth", "True if {it} is divisible by {k}, else False",
         "{v} % {k} == 0"),
    Step("written", "number", "text", "{it} as a text", "str({v})"),
    Step("upper", "text", "text", "{it} in upper case", "{v}.upper()"),
    Step("lower", "text", "text", "{it} in lower case", "{v}.lower()"),
    Step("reverse", "text", "text", "{it} reversed", "{v}[::-1]"),
    Step("first", "text", "text", "the first {k} characters of {it}", "{v}[:{k}]"),
    Step("drop", "text", "text", "{it} without its first {k} characters", "{v}[{k}:]"),
    Step("repeat", "text", "text", "{it} repeated {k} times", "{v} * {k}"),
    Step("replace", "text", "text", "{it} with every '{c}' replaced by '{d}'",
         "{v}.replace('{c}', '{d}')"),
    Step("append", "text", "text", "{it} with '{c}' added at the end", "{v} + '{c}'"),
    Step("length", "text", "number", "the length of {it}", "len({v})"),
    Step("count_letter", "text", "number", "how often '{c}' appears in {it}", "{v}.count('{c}')"),
    Step("starts", "text", "truth", "True if {it} starts with '{c}', else False",
         "{v}.startswith('{c}')"),
    Step("contains", "text", "truth", "True if {it} contains '{c}', else False", "'{c}' in {v}"),
    Step("keep_even", "list", "list", "the even numbers of {it}",
         "[x for x in {v} if x % 2 == 0]"),
    Step("keep_odd", "list", "list", "the odd numbers of {it}", "[x for x in {v} if x % 2 == 1]"),
    Step("keep_larger", "list", "list", "the numbers of {it} that are larger than {k}",
         "[x for x in {v} if x > {k}]"),
    Step("keep_smaller", "list", "list", "the numbers of {it} that are smaller than {k}",
         "[x for x in {v} if x < {k}]"),
    Step("keep_divisible", "list", "list", "the numbers of {it} that are divisible by {k}",
         "[x for x in {v} if x % {k} == 0]"),
    Step("add_each", "list", "list", "each number of {it} plus {k}", "[x + {k} for x in {v}]"),
    Step("times_each", "list", "list", "each number of {it} times {k}", "[x * {k} for x in {v}]"),
    Step("square_each", "list", "list", "the square of each number of {it}",
         "[x * x for x in {v}]"),
    Step("sort", "list", "list", "{it} sorted from small to large", "sorted({v})"),
    Step("backwards", "list", "list", "{it} in reverse order", "{v}[::-1]"),
    Step("take", "list", "list", "the first {k} numbers of {it}", "{v}[:{k}]"),
    Step("sum", "list", "number", "the sum of {it}", "sum({v})"),
    Step("count", "list", "number", "how many numbers are in {it}", "len({v})"),
    Step("largest", "list", "number", "the largest number of {it}, or 0 if there is none",
         "max({v}, default=0)"),
    Step("smallest", "list", "number", "the smallest number of {it}, or 0 if there is none",
         "min({v}, default=0)"),
)  # fmt: skip
PARAMETERS: Mapping[str, tuple[str, str]] = {
    "number": ("n", "n"),
    "text": ("text", "the text"),
    "list": ("numbers", "the list"),
}
"""By type the name of the parameter, and what words call it."""
LETTERS: Mapping[Split, str] = {"train": "aeilt", "dev": "osn", "test": "urd"}
WORDS = ("tea", "Stone", "window", "Paul", "letters", "sun", "Old road", "under", "Iris", "salad",
         "north wind", "a", "Tuesday", "little house", "dust", "Eel", "noodle soup", "arise",
         "Too many cooks", "lantern")  # fmt: skip


class Function(NamedTuple):
    """A function: its head with the docstring, a body that solves it, and calls that are tests."""

    name: str
    head: str
    body: str
    public: tuple[str, ...]
    hidden: tuple[str, ...]


def split_of(chain: Sequence[Step]) -> Split:
    """Whose a chain is: three fifths are train's, a fifth each dev's and test's."""
    share = int(identity("code-basics", [step.name for step in chain])[:8], 16) % 5
    return "dev" if share == 3 else "test" if share == 4 else "train"


@cache
def chains(length: int) -> Mapping[Split, Sequence[tuple[Step, ...]]]:
    """Every chain of ``length`` steps by its split; no step comes twice in one."""
    found: list[tuple[Step, ...]] = [(step,) for step in STEPS]
    for _ in range(length - 1):
        found = [
            (*chain, step)
            for chain in found
            for step in STEPS
            if step not in chain and step.of == chain[-1].into
        ]
    splits: tuple[Split, ...] = ("train", "dev", "test")
    return {split: [chain for chain in found if split_of(chain) == split] for split in splits}


def function(rng: random.Random, chain: Sequence[Step], split: Split) -> Function | None:
    """One function of a chain, with constants and calls drawn by ``rng``.

    None if it returns the same for all of the calls.
    """
    parameter, it = PARAMETERS[chain[0].of]
    name = f"{'_'.join(step.name for step in chain)}_of_{parameter}"
    constants = [k for k in range(2, 10) if belongs(k, split)]
    sentences, code = [], parameter
    for number, step in enumerate(chain, 1):
        c, d = rng.sample(LETTERS[split], 2)
        drawn = {"k": str(rng.choice(constants)), "c": c, "d": d}
        verb = "Return" if number == len(chain) else "Take"
        sentences.append(f"{verb} {step.words.format(it=it, **drawn)}.")
        value = f"({code})" if number > 1 else code
        code, it = step.code.format(v=value, **drawn), "the result"
    # An expression of the templates above: nobody else wrote any of it.
    compute: Callable[[Any], Any] = eval(f"lambda {parameter}: {code}")
    calls: dict[str, list[str]] = {}  # by result
    for value in {repr(value): value for value in _arguments(rng, chain[0].of)}.values():
        calls.setdefault(repr(compute(value)), []).append(f"{name}({value!r})")
    if len(calls) < 2:  # no test could tell it from a constant
        return None
    # Results in turn, so that the tests hold as many different ones as there are.
    turns = itertools.zip_longest(*([(c, r) for c in own] for r, own in calls.items()))
    shown = [call for turn in turns for call in turn if call][: PUBLIC + HIDDEN]
    examples = "\n".join(f"    >>> {call}\n    {result}" for call, result in shown[:PUBLIC])
    head = f'def {name}({parameter}):\n    """{" ".join(sentences)}\n\n{examples}\n    """'
    tests = [f"assert {call} == {result}" for call, result in shown]
    body = f"\n    return {code}"
    return Function(name, head, body, tuple(tests[:PUBLIC]), tuple(tests[PUBLIC:]))


def load(seed: int, sizes: Mapping[Split, int], steps: Sequence[int] = (1, 2)) -> list[Task]:
    """``sizes`` functions of each split, by lengths in turn, no description twice.

    Raises:
        UserError: chains of other lengths than 1 to 3, or more functions than there are.
    """
    if not steps or not all(1 <= s <= 3 for s in steps):
        raise UserError(f"functions of {', '.join(map(str, steps))} steps", "give 1 to 3 steps")
    found = []
    for split, size in sizes.items():
        rng = random.Random(identity("code-basics", seed, split))
        seen: set[str] = set()
        tries = 0
        while len(seen) < size:
            length = steps[tries % len(steps)]
            made = function(rng, rng.choice(chains(length)[split]), split)
            tries += 1
            if tries > 20 * size + 500:
                raise UserError(
                    f"only {len(seen)} different {split} functions were found, not {size}",
                    "ask for fewer, or for more steps, as in code-basics:steps=1-3",
                )
            described = made.head.partition("\n\n")[0] if made else ""
            if made is None or described in seen:
                continue
            seen.add(described)
            meta = {"kind": "code", "entry": made.name, "public": list(made.public),
                    "steps": length, "template": made.name}  # fmt: skip
            name, hidden = identity("code-basics", split, made.head), json.dumps(made.hidden)
            found.append(Task(name, made.head, split, hidden, "en", meta))
    return found


def _arguments(rng: random.Random, of: Type) -> list[Any]:
    """Values to call a function with; lists with and without repetitions, some of them empty."""
    if of == "number":
        return rng.sample(range(-30, 61), ARGUMENTS)
    if of == "text":
        return ["", *(" ".join(rng.sample(WORDS, rng.randint(1, 2))) for _ in range(ARGUMENTS))]
    lists = [[rng.randint(-12, 30) for _ in range(rng.randint(1, 5))] for _ in range(ARGUMENTS)]
    return [[], *(own + rng.choices(own, k=rng.randint(0, 2)) for own in lists)]
