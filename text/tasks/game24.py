"""Game of 24: four numbers from 1 to 13, each used exactly once, with + - * / and brackets make 24.

1,362 of the 1,820 sets of four such numbers can be solved, fractions on the way allowed; which of
them are train, dev and test is told by a hash, so that no set is in two splits. As in countdown an
answer is right if its value is, whatever the expression; nothing is run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations_with_replacement

from common.errors import UserError
from common.records import Split, Task, identity

TARGET, LARGEST = 24, 13


def solvable(numbers: Sequence[float]) -> bool:
    """Whether some expression of all the numbers is 24.

    Floating point is exact enough: what four numbers up to 13 make is 24 or off by over 1e-4.
    """
    if len(numbers) == 1:
        return abs(numbers[0] - TARGET) < 1e-6
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
            # Sums and products are the same either way round.
            found = [a + b, a * b] if i < j else []
            found += [a - b, *([a / b] if b else [])]
            if any(solvable([*rest, value]) for value in found):
                return True
    return False


@cache
def sets(split: Split) -> tuple[tuple[int, ...], ...]:
    """The sets of a split that can be solved: half are train's, a quarter dev's, a quarter test's.

    About a second the first time, for all splits together.
    """
    return tuple(numbers for numbers in _all() if _split(numbers) == split)


@cache
def _all() -> tuple[tuple[int, ...], ...]:
    every = combinations_with_replacement(range(1, LARGEST + 1), 4)
    return tuple(numbers for numbers in every if solvable(numbers))


def _split(numbers: Sequence[int]) -> Split:
    share = int(identity("game24", list(numbers))[:8], 16) % 4
    return "dev" if share == 2 else "test" if share == 3 else "train"


def load(seed: int, sizes: Mapping[Split, int]) -> list[Task]:
    """``sizes`` tasks of each split, drawn with ``seed``.

    Raises:
        UserError: more than there are.
    """
    found = []
    for split, size in sizes.items():
        mine = sets(split) if size else ()
        if size > len(mine):
            raise UserError(f"there are {len(mine)} {split} games, not {size}", "ask for fewer")
        for numbers in random.Random(identity("game24", seed, split)).sample(mine, size):
            listed = " ".join(map(str, numbers))
            question = (
                f"Use the numbers {listed}, each exactly once, with +, -, * and / and brackets "
                "to make 24."
            )
            meta = {"kind": "expression", "numbers": list(numbers), "every": True}
            name = identity("game24", question)
            found.append(Task(name, question, split, str(TARGET), "en", {**meta, "template": "24"}))
    return found
