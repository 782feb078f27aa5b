"""Sentences with the scene that they mean, made by chance: what the small planner learns from.

Each is one to three statements about things of everyday, in one of many wordings each. The scene
is in the form of :mod:`scenes.planners.compact`. Everything derives from the seed.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from scenes.planners.lexicon import NUMBERS

SMALL = """lamp, vase, laptop, mug, book, clock, bowl, radio, telephone, candle, cup, plate, toy,
box, toaster, printer, monitor, keyboard, globe, basket, bottle, plant, picture frame, teddy bear,
coffee machine, alarm clock, flower pot, microwave, stack of books"""
TOPS = """table, desk, cabinet, nightstand, shelf, dresser, counter, sideboard, coffee table,
kitchen table, dining table, chest, tv stand, workbench, stool, piano, side table"""
SEATS = "chair, stool, armchair, dining chair, office chair, wooden chair, garden chair, person"
TABLES = "table, desk, dining table, round table, coffee table, garden table, picnic table, bar"
LARGE = """sofa, bed, wardrobe, bookcase, piano, armchair, fridge, oven, desk, bathtub, cabinet,
dresser, table, floor lamp, plant, television, washing machine, sink, toilet, crib, chest, mirror,
shelf, chair, fireplace, bunk bed, couch, cupboard, door, window"""
OUTSIDE = """tree, car, house, bench, bicycle, fountain, bush, fence, bus, horse, dog, person, tent,
truck, statue, swing, well, motorbike, shed, palm, mailbox, barrel, cat, garage, pond"""
LOOKS = (
    "small large wooden round old white red tall low black modern green blue long simple".split()
)


class Wording(NamedTuple):
    """Ways to say how subjects and hosts, drawn from these lists, lie to one another.

    ``s`` and ``h`` are the things with their numbers or articles, ``is`` and ``es`` agree with the
    subject. ``form`` is what it means, with names only.
    """

    form: str
    subjects: str
    hosts: str
    ways: tuple[str, ...]
    most: int = 1
    """So many subjects there may be."""
    least: int = 1


WORDINGS: tuple[Wording, ...] = (
    Wording("{s} on {h}", SMALL, TOPS, (
        "{s} {is} on {h}", "{s} on {h}", "{h} with {s} on it", "on {h} {is} {s}", "{s} rest{es} on {h}",
        "{s} {has} been set on {h}", "{h} supports {s}", "{h} on which {s} stand{es}",
        "{s} sit{es} on top of {h}", "put {s} on {h}", "{h} bears {s}", "{h}, and on it {s}",
        "the top of {h} holds {s}", "you can see {s} standing on {h}", "{s} lie{es} on {h}",
    ), most=4),
    Wording("{s} around {h}", SEATS, TABLES, (
        "{s} around {h}", "{h} with {s} around it", "{h} surrounded by {s}", "{s} stand{es} round {h}",
        "{h} has {s} set all round it", "{s} form{es} a circle round {h}", "{s} {is} seated at {h}",
        "{h} is enclosed by {s}", "about {h} there {is} {s}", "{s} {is} drawn up to {h}",
        "{h} in the midst of {s}",
    ), most=8, least=2),
    Wording("{s} left of {h}", LARGE, LARGE, (
        "{s} left of {h}", "{s} {is} to the left of {h}", "to the left of {h} {is} {s}",
        "{h} has {s} on its left", "{s} stand{es} on the left-hand side of {h}",
        "{h}, to the left {s}", "left of {h} you find {s}", "{h} is to the right of {s}",
        "{h} with {s} at its left side", "{s}, and to the right of that {h}",
    )),
    Wording("{s} right of {h}", LARGE, LARGE, (
        "{s} right of {h}", "{s} {is} to the right of {h}", "to the right of {h} {is} {s}",
        "{h} has {s} on its right", "{s} stand{es} on the right-hand side of {h}",
        "{h}, to the right {s}", "right of {h} you find {s}", "{h} is to the left of {s}",
        "{h} with {s} at its right side", "{s}, and to the left of that {h}",
    )),
    Wording("{s} behind {h}", OUTSIDE, OUTSIDE, (
        "{s} behind {h}", "{s} {is} behind {h}", "behind {h} {is} {s}", "{h} with {s} behind it",
        "{s} stand{es} at the back of {h}", "{h} hides {s} behind it", "past {h} one sees {s}",
        "{s} {is} farther back than {h}", "{h}, with {s} in the rear of it",
    ), most=4),
    Wording("{s} in front of {h}", OUTSIDE, OUTSIDE, (
        "{s} in front of {h}", "{s} {is} in front of {h}", "in front of {h} {is} {s}",
        "{h} with {s} before it", "{s} stand{es} before {h}", "{s} {is} closer to the viewer than {h}",
        "{h}, with {s} at the front of it", "ahead of {h} {is} {s}",
    ), most=3),
    Wording("{s} next to {h}", LARGE, LARGE, (
        "{s} next to {h}", "{s} {is} beside {h}", "{h} with {s} next to it", "{s} by {h}",
        "{s} stand{es} alongside {h}", "{h} has {s} for a neighbour", "{s} touch{ees} {h}",
        "{s} {is} adjacent to {h}", "{s} lean{es} on the side of {h}", "just beside {h} {is} {s}",
    )),
    Wording("{s} near {h}", OUTSIDE, OUTSIDE, (
        "{s} near {h}", "{s} {is} close to {h}", "{h} with {s} nearby", "{s} in the vicinity of {h}",
        "a little way off {h} {is} {s}", "{s} {is} found not far away from {h}",
    ), most=2),
    Wording("{s} under {h}", "cat, dog, box, rug, basket, carpet, ball, drawer, mat, heater", TOPS, (
        "{s} under {h}", "{s} {is} under {h}", "{h} with {s} under it", "below {h} {is} {s}",
        "{h} stands over {s}", "{h} standing on top of {s}", "{s} lie{es} below {h}",
        "the space under {h} is taken by {s}",
    )),
    Wording("{s} above {h}", "lamp, chandelier, ceiling lamp, shelf, painting, fan, clock", TABLES, (
        "{s} above {h}", "{s} hang{es} over {h}", "over {h} hang{es} {s}", "{h} below {s}",
        "{s} {is} suspended above {h}", "{h} with {s} over it", "high over {h} {is} {s}",
    )),
    Wording("{s} between {h} and {g}", LARGE, LARGE, (
        "{s} between {h} and {g}", "{s} {is} in between {h} and {g}", "between {h} and {g} {is} {s}",
        "{h} and {g} with {s} between them", "{s} stand{es} halfway from {h} to {g}",
        "{h} is parted from {g} by {s}", "{h} and {g} have {s} in the middle of them",
    )),
    Wording("{s} between {h} and {h}", SMALL, "bed, sofa, tree, armchair, bookcase, window", (
        "{s} between two {hs}", "two {hs} with {s} between them", "two {hs} parted by {s}",
        "{s} in the middle of two {hs}", "two {hs}, {s} in the gap",
    )),
    Wording("{s} facing {h}", "sofa, armchair, chair, person, bed, camera, bench", LARGE, (
        "{s} facing {h}", "{s} face{es} {h}", "{s} {is} turned to {h}", "{s} look{es} at {h}",
        "{s} {is} pointed at {h}", "{s} turned in the direction of {h}", "{h} is in view of {s}",
        "from {s} there is a view of {h}",
    )),
    Wording("{s} opposite {h}", LARGE, LARGE, (
        "{s} opposite {h}", "{s} {is} across from {h}", "{s} and {h} are opposite each other",
        "{s} and {h} look at one another", "{s} stand{es} vis-a-vis {h}",
    )),
    Wording("{s} facing {s}", "armchair, sofa, chair, bench, person", "", (
        "{s} facing each other", "{s} opposite each other", "{s} that look at one another",
        "{s}, face to face",
    ), most=2, least=2),
    Wording("{s} on both sides of {h}", SMALL + ", tree, chair, nightstand, plant, floor lamp", LARGE, (
        "{s} on both sides of {h}", "{h} flanked by {s}", "{h} between {s}", "{h} with {s}, one on each side",
        "{s} stand{es} left and right of {h}", "on either side of {h} {is} {s}", "{s} frame{es} {h}",
    ), most=2, least=2),
    Wording("{s} inside {h}", "book, toy, ball, cat, apple, towel, bottle", "box, basket, crate, bowl, cabinet", (
        "{s} inside {h}", "{s} in {h}", "{h} with {s} in it", "{h} contains {s}", "{h} is filled with {s}",
        "inside {h} {is} {s}", "{s} {has} been put into {h}",
    ), most=3),
    Wording("{s} far from {h}", OUTSIDE, OUTSIDE, (
        "{s} far from {h}", "{s} {is} a long way from {h}", "{h}, and far away {s}", "{s} at a distance from {h}",
    )),
    Wording("{s} against the wall", LARGE, "", (
        "{s} against the wall", "{s} {is} placed along a wall", "{s} with the back to the wall",
        "along the wall {is} {s}", "{s} pushed to the wall",
    )),
    Wording("{s} against the back wall", LARGE, "", (
        "{s} against the back wall", "{s} along the back wall", "by the wall at the back {is} {s}",
    )),
    Wording("{s} against the left wall", LARGE, "", (
        "{s} against the left wall", "{s} along the left wall", "by the wall on the left {is} {s}",
    )),
    Wording("{s} on the wall", "painting, mirror, clock, picture, poster, shelf", "", (
        "{s} on the wall", "{s} hang{es} on the wall", "the wall is decorated with {s}", "{s} mounted on a wall",
    ), most=3),
    Wording("{s} in the corner", LARGE, "", (
        "{s} in the corner", "{s} {is} in a corner", "the corner is occupied by {s}", "in the corner stand{es} {s}",
    )),
    Wording("{s} in the left corner", LARGE, "", (
        "{s} in the left corner", "the corner on the left holds {s}",
    )),
    Wording("{s} in the middle", LARGE, "", (
        "{s} in the middle of the room", "{s} in the centre", "the room has {s} at its centre", "{s} {is} right in the middle",
    )),
    Wording("{s} in a row", LARGE + ", " + OUTSIDE, "", (
        "{s} in a row", "a row of {n}", "{s} lined up", "{s} one beside the other", "{s}, side by side", "{s} in a line",
    ), most=9, least=2),
    Wording("{s} in a grid", "desk, chair, table, tree, box, bed", "", (
        "{s} in a grid", "a grid of {n}", "{s} in rows and columns",
    ), most=12, least=4),
    Wording("{s} in a stack", "box, book, plate, crate, tyre, chair", "", (
        "a stack of {n}", "{s} on top of one another", "{s} stacked up", "a pile made of {n}",
    ), most=6, least=2),
)  # fmt: skip
OPENINGS = (
    "",
    "",
    "",
    "",
    "a room with ",
    "there is ",
    "I want ",
    "show ",
    "please make ",
    "a scene of ",
)
WORDS = {
    value: word for word, value in NUMBERS.items() if word not in ("a", "an", "single", "another")
}


class Example(NamedTuple):
    text: str
    form: str


@dataclass(frozen=True)
class _Thing:
    noun: str
    look: str
    count: int

    @property
    def what(self) -> str:
        return f"{self.look} {self.noun}".strip()


def examples(count: int, seed: int) -> list[Example]:
    """So many different sentences with their scenes."""
    rng = random.Random(seed)
    found: dict[str, Example] = {}
    while len(found) < count:
        made = _example(rng)
        found.setdefault(made.text, made)
    return list(found.values())


def _example(rng: random.Random) -> Example:
    things: dict[str, _Thing] = {}
    told: set[str] = set()
    sentences: list[str] = []
    clauses: list[str] = []
    last: _Thing | None = None
    for _ in range(rng.choices((1, 2, 3), (4, 4, 2))[0]):
        wording = rng.choice(WORDINGS)
        # What was named last may be what the next statement is about.
        host = last if last and last.count == 1 and rng.random() < 0.6 else None
        if host is not None and host.noun not in _nouns(wording.hosts):
            host = None
        used = set(things)
        subject = _thing(rng, wording.subjects, used | {host.noun if host else ""}, wording)
        used |= {subject.noun}
        host = host or (_thing(rng, wording.hosts, used) if wording.hosts else None)
        used |= {host.noun} if host else set()
        other = _thing(rng, wording.hosts, used) if "{g}" in wording.form else None
        if "{h} and {h}" in wording.form and host is not None:
            if host.noun in things:
                continue
            host = replace(host, count=2, look="")
        mentioned = [t for t in (subject, host, other) if t is not None]
        way = rng.choice(wording.ways)
        sentences.append(_said(rng, way, subject, host, other, told))
        things |= {t.noun: t for t in mentioned}
        names = {key: t.noun for key, t in zip("shg", (subject, host, other), strict=True) if t}
        clauses.append(wording.form.format(**names))
        told |= {t.noun for t in mentioned}
        last = rng.choice(mentioned)
    if not sentences:
        return _example(rng)
    order = sorted(things.values(), key=lambda t: _first(" ".join(sentences), t.noun))
    form = ", ".join(f"{t.count} {t.what}" for t in order)
    return Example(_joined(rng, sentences), "; ".join([form, *clauses]))


def _nouns(names: str) -> list[str]:
    return [" ".join(n.split()) for n in names.split(",") if n.strip()]


def _thing(
    rng: random.Random, names: str, used: set[str], wording: Wording | None = None
) -> _Thing:
    """A thing that is not ``used``, nor shares its last word with one that is."""
    heads = {u.split()[-1] for u in used if u}
    noun = rng.choice([n for n in _nouns(names) if n.split()[-1] not in heads])
    most, least = (wording.most, wording.least) if wording else (1, 1)
    look = rng.choice(LOOKS) if rng.random() < 0.25 and " " not in noun else ""
    return _Thing(noun, look, rng.randint(least, most))


def _said(
    rng: random.Random,
    way: str,
    subject: _Thing,
    host: _Thing | None,
    other: _Thing | None,
    told: set[str],
) -> str:
    many = subject.count > 1
    fields = {
        "s": _phrase(rng, subject, told), "is": "are" if many else "is",
        "has": "have" if many else "has", "es": "" if many else "s", "ees": "" if many else "es",
        "n": _phrase(rng, subject, told),
    }  # fmt: skip
    if host is not None:
        fields |= {"h": _phrase(rng, host, told), "hs": _plural(host.noun)}
    if other is not None:
        fields["g"] = _phrase(rng, other, told)
    return way.format(**fields)


def _phrase(rng: random.Random, thing: _Thing, told: set[str]) -> str:
    if thing.noun in told:
        return f"the {thing.noun}"
    if thing.count == 1:
        what = thing.what
        article = "an" if what[0] in "aeiou" else "a"
        return f"{article if rng.random() < 0.85 else 'the'} {what}"
    number = WORDS[thing.count] if rng.random() < 0.8 else str(thing.count)
    number = "a pair of" if thing.count == 2 and rng.random() < 0.15 else number
    return f"{number} {_plural(thing.what)}"


@functools.lru_cache(maxsize=4096)
def _plural(what: str) -> str:
    import inflect

    return str(inflect.engine().plural_noun(what) or what)


def _first(text: str, noun: str) -> int:
    at = text.find(noun)
    return at if at >= 0 else text.find(noun[:-1])


def _joined(rng: random.Random, sentences: list[str]) -> str:
    opening = rng.choice(OPENINGS)
    if rng.random() < 0.5 or len(sentences) == 1:
        text = rng.choice((", ", ", and ", "; ")).join(sentences)
        return opening + text if rng.random() < 0.5 else _capital(opening + text) + "."
    return " ".join(_capital(s) + "." for s in sentences)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def parsed(lines: Iterable[str]) -> list[Example]:
    """Examples of a file: ``text => form`` a line, after comments that begin with ``#``."""
    pairs = [line.split("=>") for line in lines if "=>" in line and not line.startswith("#")]
    return [Example(text.strip(), form.strip()) for text, form in pairs]
