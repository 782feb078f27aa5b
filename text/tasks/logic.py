"""True or false by a chain of rules over made-up nouns, in the manner of ProntoQA (2210.01240).

    Every wumpus is a yumpus. Every yumpus is not large. Rex is a wumpus.
    True or false: Rex is large.

The nouns mean nothing, so nothing but the rules tells. Half of the statements are true. Rules that
lead elsewhere stand between those that matter. Train, dev and test have nouns of their own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

from common.errors import UserError
from common.records import Split, Task, identity

NOUNS: Mapping[Split, tuple[str, ...]] = {
    "train": ("wumpus", "yumpus", "zumpus", "dumpus", "rompus", "numpus", "tumpus", "vumpus",
              "brimpus", "grimpus", "lorpus", "shumpus", "quimpus", "fempus"),
    "dev": ("blicket", "dax", "toma", "wug", "fep", "zav", "gorp", "lerd", "mip", "tave"),
    "test": ("brenk", "snill", "plorf", "kest", "drine", "vool", "chask", "jilt", "prund", "skeb"),
}  # fmt: skip
"""Singular nouns that exist in no language; "a" fits before each."""
NAMES = ("Max", "Rex", "Sam", "Wren", "Fae", "Polly", "Stella", "Alex")
TRAITS = ("large", "red", "kind", "loud", "cold", "shy", "bright", "sour", "heavy", "fast")


def load(
    seed: int, sizes: Mapping[Split, int], hops: Sequence[int] = (1, 2, 3), distractors: int = 2
) -> list[Task]:
    """Tasks whose statement is ``hops`` rules away, with ``distractors`` rules that lead nowhere.

    Raises:
        UserError: chains that the nouns do not suffice for.
    """
    if not hops or not all(1 <= h <= 5 for h in hops) or not 0 <= distractors <= 3:
        raise UserError(
            f"logic with {', '.join(map(str, hops))} hops and {distractors} distractors",
            "give 1 to 5 hops and at most 3 distractors",
        )
    found = []
    for split, size in sizes.items():
        rng = random.Random(identity("logic", seed, split))
        seen: set[str] = set()
        while len(seen) < size:
            count = hops[len(seen) % len(hops)]
            truth = len(seen) // len(hops) % 2 == 0
            question = _question(rng, NOUNS[split], count, distractors, truth)
            if question in seen:
                continue
            seen.add(question)
            name = identity("logic", split, question)
            meta = {"kind": "boolean", "steps": count, "template": f"hops{count}"}
            found.append(Task(name, question, split, str(truth), "en", meta))
    return found


def _question(
    rng: random.Random, nouns: Sequence[str], hops: int, distractors: int, truth: bool
) -> str:
    """A question whose answer is ``truth``; whether the traits are denied is a coin of its own."""
    chosen = rng.sample(nouns, hops + distractors)
    chain, others = chosen[:hops], chosen[hops:]
    name, (trait, other) = rng.choice(NAMES), rng.sample(TRAITS, 2)
    holds = rng.random() < 0.5
    rules = [f"Every {a} is a {b}." for a, b in pairwise(chain)]
    rules.append(f"Every {chain[-1]} is {'' if holds else 'not '}{trait}.")
    for noun in others:  # nobody in the story is one
        end = rng.choice([f"a {rng.choice(chain)}", f"{rng.choice(['', 'not '])}{other}",
                          f"{'not ' if holds else ''}{trait}"])  # fmt: skip
        rules.append(f"Every {noun} is {end}.")
    rng.shuffle(rules)
    said = holds if truth else not holds
    claim = f"{name} is {'' if said else 'not '}{trait}."
    return f"{' '.join(rules)} {name} is a {chain[0]}. True or false: {claim}"
