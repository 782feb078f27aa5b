"""Conversations that nobody had, with feedback that no expert gave: for tests and the demo.

Blocks of ``synthetic.json`` are put together at random: a topic, a greeting, what the seeker says,
and responses that are good or show one of eight mistakes. Train, dev and test have topics of their
own; the mistakes are the same, which makes the data far easier than people's. Of train every other
conversation comes without feedback, as what self-scoring works on.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from common.records import Split, identity
from text.counseling.conversations import Conversation, Turn
from text.counseling.schema import GOAL, Area, Feedback


@cache
def blocks() -> Any:
    """What conversations are made of."""
    return json.loads(Path(__file__).with_name("synthetic.json").read_text(encoding="utf-8"))


ABOUT: str = blocks()["about"]


def conversations(count: int, seed: int, split: Split) -> list[Conversation]:
    """``count`` different conversations of a split's topics, or as many as can be made."""
    topics, found = blocks()["topics"][split], dict[str, Conversation]()
    for number in range(20 * count):
        if len(found) == count:
            break
        draw = random.Random(identity("synthetic", seed, split, number))
        made = _conversation(
            draw, draw.choice(topics), labelled=split != "train" or number % 2 == 0
        )
        found.setdefault(made.id, made)
    return list(found.values())


def _conversation(draw: random.Random, topic: Any, labelled: bool) -> Conversation:
    greeting = Feedback(perfect=True, goodareas=(Area.STRUCTURE,))
    turns = [Turn("Helper", draw.choice(blocks()["greetings"]), greeting)]
    for said in [topic["opens"], *draw.sample(topic["more"], 2)]:
        turns += [Turn("Seeker", said), _response(draw, topic)]
    if not labelled:
        turns = [turn._replace(feedback=None) for turn in turns]
    return Conversation(identity("conversation", [t.line() for t in turns]), tuple(turns))


def _response(draw: random.Random, topic: Any) -> Turn:
    names = {name: topic[name] for name in ("situation", "feeling", "advice")}
    if draw.random() < 0.4:
        block = draw.choice(blocks()["good"])
        good = Feedback(perfect=True, goodareas=tuple(block["areas"]))
        return Turn("Helper", block["text"].format(**names), good)
    block = draw.choice(blocks()["bad"])
    feedback = Feedback(
        perfect=False,
        goodareas=tuple(block["good"]),
        feedback=f"{GOAL} {block['goal']}. It would be better {block['better']}.".format(**names),
        badareas=tuple(block["areas"]),
        alternative=block["alternative"].format(**names),
    )
    return Turn("Helper", block["text"].format(**names), feedback)
