"""What words for things mean: which noun a phrase is about, and what else a thing is called."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

STOP = frozenset({"a", "an", "the", "some", "of", "and", "or", "its", "his", "her", "their"})
AFTER = frozenset(["with", "of", "for", "on", "in", "at", "by", "from", "made", "without", "under"])
"""The noun that a phrase is about stands before these: a bowl with fruits is a bowl."""
SAME = (
    ("sofa", "couch", "settee", "loveseat"),
    ("rug", "carpet", "mat"),
    ("wardrobe", "closet", "armoire"),
    ("fridge", "refrigerator"),
    ("tv", "television", "telly"),
    ("bookcase", "bookshelf", "bookshelves"),
    ("shelf", "shelves", "shelving", "shelve"),
    ("nightstand", "bedside-table", "night-table"),
    ("bathtub", "bath", "tub"),
    ("bicycle", "bike"),
    ("motorbike", "motorcycle"),
    ("stove", "cooker", "hob"),
    ("bin", "dustbin", "trashcan", "wastebasket", "trash-can", "garbage-can"),
    ("toilet", "toilet-unit"),
    ("sink", "washbasin"),
    ("dresser", "drawers-cabinet", "dresser-with-drawers", "chest-of-drawers"),
    ("cupboard", "sideboard"),
    ("cabinet", "cupboard", "drawers-cabinet"),
    ("lamp", "light"),
    ("streetlight", "street-lamp", "street-light", "lamppost"),
    ("footstool", "ottoman", "pouf", "puff"),
    ("lorry", "truck"),
    ("plant", "houseplant", "potted-plant", "indoor-plant"),
    ("flowers", "tulips", "orchids", "flower", "bouquet"),
    ("phone", "telephone"),
    ("speaker", "loudspeaker"),
    ("piano", "upright-piano", "grand-piano"),
    ("painting", "picture", "frame", "frame-chambord"),
    ("mug", "coffee-mug", "cup"),
    ("mailbox", "letterbox", "letters-box"),
    ("crib", "cot", "baby-bed"),
    ("dishes", "plate"),
    ("pool", "swimming-pool"),
    ("hut", "shed", "garden-hut"),
    ("box", "crate"),
    ("books", "book"),
    ("washer", "washing-machine", "clothes-washing-machine"),
    ("armchair", "easy-chair", "lounge-chair"),
    ("desk", "writing-table", "workbench"),
)
"""Words that may stand for one another as what a thing is; hyphens join compounds."""
KINDS: dict[str, tuple[str, ...]] = {
    "person": ("male", "female", "boy", "girl", "man", "woman"),
    "people": ("male", "female"),
    "man": ("male",),
    "woman": ("female",),
    "child": ("boy", "girl"),
    "kid": ("boy", "girl"),
    "car": ("suv", "sedan", "chevrolet", "renault-scenic", "ford-focus", "seat-leon", "smart-car"),
    "tree": ("pine", "poplar", "acacia", "maple", "cypress", "palm-tree", "copper-beech"),
    "plant": ("ficus", "yucca", "bamboo", "cactus", "orchid", "bonsai-tree"),
    "ball": ("basketball", "soccer-ball"),
    "computer": ("imac", "laptop", "ibook"),
    "animal": ("dog", "cat", "horse", "deer", "rabbit", "chicken"),
    "fruit": ("apple", "bowl-with-fruit"),
    "seat": ("chair", "sofa", "armchair", "stool", "bench"),
    "boat": ("rowboat",),
    "plane": ("biplane",),
    "airplane": ("biplane",),
}
"""What is a kind of something, and not the other way round."""
HEIGHTS = {
    "floor-lamp": 1.6,
    "standing-lamp": 1.6,
    "table-lamp": 0.5,
    "desk-lamp": 0.5,
    "bedside-lamp": 0.4,
    "reading-lamp": 0.5,
    "houseplant": 0.6,
    "potted-plant": 0.6,
    "tree": 7.0,
    "table": 0.75,
    "coffee-table": 0.45,
    "side-table": 0.55,
    "bedside-table": 0.55,
    "stool": 0.45,
    "bar-stool": 0.75,
}
"""Usual heights in metres of what is told apart by nothing else."""
_ODD = """electric wheel baby child children kid kids propane dog hospital lifeguard toilet potty
car model camping doll toy snow concept rigged holding lying sitting sleeping wall corner under
exterior garden park emergency bended parking open opened cardboard convertible hanging technical
bar beach deck upper island rail swing high low pool fire outdoor street"""
ODD = frozenset(_ODD.split())
"""Words that make a thing unusual: nobody who asks for a chair means the child's one."""


@functools.lru_cache(maxsize=8192)
def singular(word: str) -> str:
    """The singular of a noun, itself if it is one."""
    found = _engine().singular_noun(word)
    keep = ("ss", "us", "is")
    return word if not found or word.endswith(keep) else str(found)


def plural(phrase: str) -> str:
    """The plural of a noun phrase: its noun's, as in "bowls with fruit"."""
    noun = _noun(phrase)
    first, _, last = noun.rpartition(" ")
    if singular(last) == last:
        last = str(_engine().plural_noun(last) or last)
    return f"{first} {last}".strip() + phrase[len(noun) :]


def article(phrase: str) -> str:
    """``a chair``, ``an oven``; none before a plural."""
    last = _noun(phrase).split()[-1]
    return phrase if singular(last) != last else str(_engine().a(phrase))


@functools.lru_cache(maxsize=8192)
def _noun(phrase: str) -> str:
    """What stands before "with" and its like."""
    words = phrase.split()
    ends = (n for n, word in enumerate(words) if n and word.lower() in AFTER)
    return " ".join(words[: next(ends, len(words))])


@functools.lru_cache(maxsize=1)
def _engine():  # type: ignore[no-untyped-def]
    import inflect

    return inflect.engine()


@functools.lru_cache(maxsize=8192)
def tokens(text: str) -> tuple[str, ...]:
    """The words of a phrase in lower case and in the singular, without articles."""
    found = re.findall(r"[a-z0-9']+", text.lower())
    return tuple(singular(w) for w in found if w not in STOP)


@functools.lru_cache(maxsize=8192)
def head(text: str) -> tuple[str, ...]:
    """The noun that a phrase is about with what is before it: its last word is the head."""
    found = re.findall(r"[a-z0-9']+", text.lower())
    for n, word in enumerate(found):
        if word in AFTER and n:
            found = found[:n]
            break
    while len(found) > 1 and found[-1].isdecimal():
        found.pop()
    return tuple(singular(w) for w in found if w not in STOP)


@functools.lru_cache(maxsize=1)
def _kinds() -> dict[str, frozenset[str]]:
    kinds: dict[str, set[str]] = {}
    for group in SAME:
        for word in group:
            kinds.setdefault(word, set()).update(group)
    for word, members in KINDS.items():
        kinds.setdefault(word, set()).update(*(kinds.get(w, set()) | {w} for w in members))
    return {word: frozenset(found) for word, found in kinds.items()}


def compounds(words: Sequence[str]) -> list[str]:
    """The names that end a thing's words: of three words, of two, of one."""
    return ["-".join(words[-count:]) for count in (3, 2, 1) if len(words) >= count]


def called(words: Sequence[str]) -> list[frozenset[str]]:
    """What a thing of these words may be called, for each of :func:`compounds`.

    A compound may be written as one word: a chess board is a chessboard.
    """
    written = [(name, name.replace("-", "")) for name in compounds(words)]
    return [frozenset().union(both, *(_kinds().get(n, ()) for n in both)) for both in written]


def usual_height(words: Sequence[str]) -> float | None:
    """Metres, of what :data:`HEIGHTS` knows."""
    names = ["-".join(words[-count:]) for count in (2, 1) if len(words) >= count]
    return next((HEIGHTS[name] for name in names if name in HEIGHTS), None)
