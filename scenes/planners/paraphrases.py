"""Ways to say what is read in another way: rewritten before a text becomes tokens.

Each is a pattern over the lower-case text and what stands for it; the rules
(:mod:`scenes.planners.rules`) then need to know one way only.
"""

from __future__ import annotations

import re

_WORD = r"(?!(?:and|with|that|an?|the|is|are|on|of|has|have|to|facing|in)\b)[\w-]+"
_NP = (
    r"((?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d+) "
    + f"{_WORD}(?: {_WORD}){{0,3}}?)"
)
"""A noun phrase, as short as it may be."""
_SPACE = r"(\S+ (?:m|metres?|meters?))"

_SAID: tuple[tuple[str, str], ...] = (
    # Wishes and sights say that there is something.
    (r"^(?:please )?(?:build|make|give)(?: me| us)? (?=an? )", ""),
    (r"^let(?:'s| us) (?:make|build|have) (?=an? )", ""),
    (r"^you are looking at (?=an? )", ""),
    (r"\bi(?:'d| would) (?:also )?like(?: to have)? ", "there is "),
    (r"\byou(?:'ll| will| can| could)?(?: also)? (?:see|find|have|notice) ", "there is "),
    (r"\bthere should be\b", "there is"),
    (r"\bshould have\b", "has"),
    (r"\b(?:should|to) (?:be|stand|lie|go|sit|hang)\b", "is"),
    (r"\bcan be (?:seen|found)\b", "is"),
    (r"\bin there too\b", ""),
    # Rows, lines and heaps.
    (r"\bforms? (?=an? (?:row|line|stack|pile|tower|ring|circle)\b)", "in "),
    (r"\b(\w+) rows(?:,| and)? (?:with )?" + _NP + r" in (?:each|every)(?: row| one)?\b",
     r"\1 rows of \2"),
    (r"\b(\w+) rows,? (?:and )?each(?: of them| one| row)? (?:has|with|holds|of) (?=\w)",
     r"\1 rows of "),
    (r"\b" + _NP + r" in each of (\w+) rows\b", r"\2 rows of \1"),
    # Each of several.
    (r"\bthat each have " + _NP + r" (around|on)(?: them| top)(?= of| and|[,.]|$)",
     r", each with \1 \2 it"),
    (r"\b(?:each|every) one of them\b", "each"),
    (r", every one of them (?=surrounded|with)", ", each "),
    (r", and (?=(?:on|around|beside|under|behind|in front of|next to) (?:each|every)\b)", ". "),
    (r", and (?=each [\w ]+? has\b)", ". "),
    (r", and there is " + _NP + r" on(?: top of)? ((?:each|every) [\w-]+)", r". on \2 is \1"),
    (r", and " + _NP + r" (?:stands?|is|are|lies?|sits?|rests?) on each\b", r" with \1 on each"),
    (r"\b(each|every one) of (?:the|those|these|them) ", r"\1 "),
    # Sides and distances.
    (r"\b(?:to|on|at) (?:its|their) (left|right)(?: side)?\b", r"to the \1 of it"),
    (r"\b(left|right)-hand\b", r"\1"),
    (r"\bat a distance of (\S+ \w+) from\b", r"\1 from"),
    (r"\bwith " + _NP + r" nearby\b", r"with \1 near it"),
    (r"\b" + _SPACE + r" away(?! from)", r"\1 from it"),
    (r"\bleave " + _SPACE + r" (?:of space )?between (.+?) and (.+?)(?=[.,;]|$)", r"\2 \1 from \3"),
    (r"\bat a (?:great|large|good) distance from\b", "far from"),
    (r"\b" + _NP + r" with " + _NP + r" on one side and " + _NP + r" on the other(?: side)?",
     r"\1 between \2 and \3"),
    (r"\bis surrounded by (?=an? )", "surrounded by "),
    # Walls, corners and the middle.
    (r"\bwith (?:its|their) backs? (?:against|to) ", "against "),
    (r"\b(?:right )?up (?=against\b)", ""),
    (r"\battached to (?=(?:the|a) (?:\w+ )?wall)", "on "),
    (r"\b(the (?:\w+ )?wall) has (.+?)(?:(?: hanging| mounted)? on it)?(?=[.,;]|$)",
     r"on \1 is \2"),
    (r"\b(the (?:\w+ ){0,2}corner)(?: of the room)? has (.+?)(?: in it)?(?=[.,;]|$)",
     r"in \1 is \2"),
    (r"\b(the (?:middle|centre|center) of the room) is (?:taken up|occupied|filled) by\b",
     r"in \1 is"),
    (r"\bcentrally in\b", "in the centre of"),
    (r"\bvery (?=middle|centre|center)", ""),
    (r"\bat (?:its|their) (?:centre|center)\b", "in the centre of it"),
    # Directions and sizes.
    (r"\bto face\b", "facing"),
    (r"\bfaces? in the direction of\b", "facing"),
    (r"\bat (?:90|ninety) degrees to\b", "perpendicular to"),
    (r"\b" + _NP + r" and " + _NP + r" are at right angles to each other",
     r"\1 is perpendicular to \2"),
    (r"\bparallel with\b", "parallel to"),
    (r", and (?:it|they) (?:is|are) (?=\S+ (?:m|cm|metres?|meters?)\b)", ", "),
    (r"\bdouble the height of\b", "twice as tall as"),
    (r"\btwice as (tall|high)(?! as)\b", r"twice as \1 as it"),
    (r"\b(?:about|around|roughly|approximately|nearly|almost) "
     r"(?=\d[\d.,]* ?(?:c?m|metres?|meters?)\b)", ""),
    (r"\bas well as\b", "and"),
)  # fmt: skip
_SAME = tuple((re.compile(said), same) for said, same in _SAID)


def plain(text: str) -> str:
    """``text`` in lower case, in the words that the rules know."""
    text = text.lower().replace("’", "'")
    for said, same in _SAME:
        text = said.sub(same, text)
    return text
