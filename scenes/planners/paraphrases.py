"""Ways to say what is read in another way: rewritten before a text becomes tokens.

Each is a pattern over the lower-case text and what stands for it, in ``paraphrases.toml``; the
rules (:mod:`scenes.planners.rules`) then need to know one way only.
"""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path

from scenes.planners.lexicon import FRAME, OUTDOORS, ROOMS

_WORD = r"(?!(?:and|with|that|an?|the|is|are|on|of|has|have|to|facing|in)\b)[\w-]+"
_NP = (
    r"((?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d+) "
    + f"{_WORD}(?: {_WORD}){{0,3}}?)"
)
"""A noun phrase, as short as it may be."""
_ONE = rf"((?:an?|the|one) {_WORD}(?: {_WORD}){{0,3}}?)"
"""The same of one thing."""
_SPACE = r"(\S+ (?:m|metres?|meters?)\b)"
_END = r"(?=[.,;:]| and\b| with\b| that\b| which\b|$)"
_FORM = r"(row|line|stack|pile|tower|circle|ring|grid)"
_WALL = r"(the (?:\w+ )?wall)"
_CORNER = r"(the (?:\w+ ){0,2}corner)(?: of the room)?"
_MIDDLE = r"(the (?:very |exact )?(?:middle|centre|center) of the (?:room|floor))"
_STANDS = r"(?:is|are|stands?|sits?|lies|lie|rests?|hangs?)"
_AT = r"(?:standing |placed |sitting |lying |put |positioned |right |just |set |located )*"

_PARTS = {
    "np": _NP, "one": _ONE, "word": _WORD, "space": _SPACE, "end": _END, "form": _FORM,
    "wall": _WALL, "corner": _CORNER, "middle": _MIDDLE, "stands": _STANDS, "at": _AT,
}  # fmt: skip
"""What braces stand for in ``paraphrases.toml``."""


@functools.lru_cache(maxsize=1)
def _ways() -> list[tuple[re.Pattern[str], str]]:
    """The patterns of ``paraphrases.toml`` in turn, each with what stands for it."""
    text = (Path(__file__).parent / "paraphrases.toml").read_text(encoding="utf-8")
    found = []
    for section in tomllib.loads(text)["section"]:
        for said, same in section["ways"]:
            for name, part in _PARTS.items():
                said = said.replace("{" + name + "}", part)
            found.append((re.compile(said), same))
    return found


_SCENE = re.compile(
    r"(?:please )?(?:(?:create|make|show|draw|render|build|generate|imagine)(?: me)? )?"
    r"(?:a|an|the) (?:3d )?(?:scene|picture|image|photo|photograph|view|render(?:ing)?) "
    r"(?:of|with|containing|showing|where|in which) ",
    re.IGNORECASE,
)
_PLACE = re.compile(
    rf"\b(?:a|an|the|one) (?:[\w-]+ ){{0,2}}?(?:{'|'.join(sorted(ROOMS | OUTDOORS))})\b",
    re.IGNORECASE,
)

_IN_IT = re.compile(
    r"^,? (?:and )?in (?:it|there),? (?:(?:you|we|i)(?: can| will)? see|there (?:is|are)) ",
    re.IGNORECASE,
)


def opened(text: str) -> str:
    """``text`` without what it begins with to say no more than that there is to be a scene."""
    text = _SCENE.sub("", text, count=1) if _SCENE.match(text) else text
    place = _PLACE.search(text)
    before = re.findall(r"[\w'’-]+|[^\w\s]", text[: place.start()].lower()) if place else []
    if place and all(word.replace("’", "'") in FRAME | {",", ":"} for word in before):
        return text[place.start() : place.end()] + _IN_IT.sub(" with ", text[place.end() :])
    return text


def plain(text: str) -> str:
    """``text`` in lower case, in the words that the rules know."""
    text = text.lower().replace("’", "'")
    for said, same in _ways():
        text = said.sub(same, text)
    return text
