"""Texts to practise on: telephone prompts that nobody has recorded.

Recordings are few, texts are free: alignment samples speech for these and learns from the judges
what came out well. Train and dev use different sentence patterns, and no text that is in a held
out transcript is ever produced.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Literal

from common.records import identity
from speech.text import normalise

THINGS = ("extension", "password", "account number", "mailbox", "pin", "phone number",
          "conference number", "agent number", "order number", "zip code")  # fmt: skip
KEYS = ("pound", "star", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
        "zero")  # fmt: skip
PLACES = ("the main menu", "the directory", "the operator", "customer service", "the front desk",
          "the billing department", "technical support", "the conference")  # fmt: skip
OBJECTS = ("your message", "your greeting", "this recording", "the new message", "your name",
           "the last message", "your request", "this call")  # fmt: skip
DOINGS = ("saved", "deleted", "sent", "recorded", "changed", "received", "accepted",
          "cancelled")  # fmt: skip
TIMES = ("monday", "tuesday", "friday", "today", "tomorrow", "eight in the morning",
         "five o'clock", "twenty minutes")  # fmt: skip
NUMBERS = ("two", "three", "five", "seven", "eleven", "twelve", "fifteen", "twenty", "thirty",
           "forty", "sixty", "ninety")  # fmt: skip

Pattern = tuple[str, tuple[tuple[str, ...], ...]]

TRAIN: tuple[Pattern, ...] = (
    ("enter the {} now and press {}", (THINGS, KEYS)),
    ("the {} you entered is not correct", (THINGS,)),
    ("for {} press {}", (PLACES, KEYS)),
    ("to listen again press {}", (KEYS,)),
    ("{} was {}", (OBJECTS, DOINGS)),
    ("{} cannot be {} at this time", (OBJECTS, DOINGS)),
    ("you have {} new messages and {} old messages", (NUMBERS, NUMBERS)),
    ("we are closed until {}", (TIMES,)),
    ("I will transfer you to {}", (PLACES,)),
    ("hold on while we connect you to {}", (PLACES,)),
    ("there are {} callers waiting in line", (NUMBERS,)),
    ("the call was received {} at {}", (TIMES, TIMES)),
    ("after the tone say {}", (("your name", "your message", "the date", "the time"),)),
    ("press {} for yes or {} for no", (KEYS, KEYS)),
    ("thank you for calling {} goodbye", (PLACES,)),
    ("the number is {} {} {}", (NUMBERS, NUMBERS, NUMBERS)),
    ("would you like to leave {}", (("a message", "your number", "the conference"),)),
    ("{} will be {} {}", (OBJECTS, DOINGS, TIMES)),
)

DEV: tuple[Pattern, ...] = (
    ("type in the {} then hit {}", (THINGS, KEYS)),
    ("we did not find that {}", (THINGS,)),
    ("you are being sent to {}", (PLACES,)),
    ("if you need {} dial {}", (PLACES, KEYS)),
    ("do you want {} to be {}", (OBJECTS, DOINGS)),
    ("your wait is about {} minutes", (NUMBERS,)),
    ("somebody called {} and left {} messages", (TIMES, NUMBERS)),
    ("sorry nobody can answer before {}", (TIMES,)),
)


def practice(split: Literal["train", "dev"], count: int, avoid: Collection[str] = ()) -> list[str]:
    """``count`` different texts in an order that does not depend on the run.

    ``avoid`` holds normalised texts that must not be produced (held-out transcripts). Raises
    ``ValueError`` when the patterns do not give that many.
    """
    filled = (
        [pattern.format(*words) for words in itertools.product(*slots)]
        for pattern, slots in (TRAIN if split == "train" else DEV)
    )
    # Take the patterns in turn, so that the first texts already show all of them.
    shuffled = [sorted(texts, key=identity) for texts in filled]
    in_turn = [t for row in itertools.zip_longest(*shuffled) for t in row if t is not None]
    chosen = [t for t in in_turn if normalise(t) not in avoid][:count]
    if len(chosen) < count:
        raise ValueError(f"{count} texts wanted, the patterns give {len(chosen)}")
    return chosen
