"""Assets out of a model's list: names, counts and sizes, mended where it can be told what is meant.

Models give sizes in centimetres, counts as words, one name to two things, and lose count of what
the text asked for. Each mend is noted in a sentence. What cannot be mended is a ValueError, whose
message goes back to the model.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from scenes.assets.words import singular
from scenes.graph import MAX_ASSETS, Asset, Room
from scenes.planners import phrases
from scenes.planners import tokens as lexer
from scenes.planners.cast import numbered
from scenes.planners.lexicon import NUMBERS, OUTDOORS, ROOMS

DIMENSIONS = ("width", "depth", "height")
ROOMY, VAST = 12.0, 100.0
"""Metres: half of the things indoors, or out of doors, are not larger; else they are in cm."""


class Wanted(BaseModel):
    """A row of the list that is asked for: ``count`` things alike, lengths in metres."""

    name: str
    what: str
    count: int = 1
    width: float | None = None
    depth: float | None = None
    height: float | None = None


class RoomSize(BaseModel):
    width: float
    depth: float


class AssetList(BaseModel):
    """What a model is asked for first."""

    assets: list[Wanted]
    outdoors: bool = False
    room: RoomSize | None = None


@dataclass(frozen=True)
class Listed:
    """Assets, and the ids that each name of the list stands for."""

    assets: tuple[Asset, ...]
    groups: Mapping[str, tuple[str, ...]]
    outdoors: bool = False
    room: Room | None = None


def listed(value: Any, notes: list[str]) -> Listed:
    """The assets of a list.

    Raises:
        ValueError: it is no list of things, or of more than a scene may hold.
    """
    head: Mapping[str, Any] = value if isinstance(value, dict) else {}
    given = value if isinstance(value, list) else _list(head)
    rows = [row for row in map(_row, given) if row is not None]
    if not rows:
        raise ValueError("assets: there is no thing in the list")
    total = sum(row.count for row in rows)
    if total > MAX_ASSETS:
        raise ValueError(f"assets: {total} things are more than {MAX_ASSETS}")
    outdoors = head.get("outdoors") is True
    sizes = _metres([row.bare for row in rows], outdoors, notes)
    assets: list[Asset] = []
    groups: dict[str, tuple[str, ...]] = {}
    for row, size in zip(rows, sizes, strict=True):
        name = row.name
        ids = numbered(name, row.count, {a.id for a in assets})
        assets += [Asset(id=i, what=row.what).model_copy(update={**size, **row.told}) for i in ids]
        if name in groups:
            notes.append(f"two rows are called {name}; told apart as {', '.join(ids)}")
        groups[name] = (*groups.get(name, ()), *ids)
    return Listed(tuple(assets), groups, outdoors, _room(head.get("room"), notes))


def recounted(lists: Sequence[Listed], text: str, notes: list[str]) -> list[Listed]:
    """More of what the text asks for by number and the lists have too few of.

    Too many are left: "a lamp on each nightstand" is more than the one lamp that is named.
    """
    made = list(lists)
    for head, count in said(text).items():
        alike = [(n, a) for n, found in enumerate(made) for a in found.assets if noun(a) == head]
        missing = count - len(alike)
        if not alike or missing <= 0:
            continue
        at, model = alike[-1]
        found = made[at]
        taken = {a.id for each in made for a in each.assets}
        ids = numbered(head, missing + 1, taken)[:missing]  # numbered even if it is only one
        notes.append(f"{count} of {head} are asked for and {len(alike)} were listed; added")
        group = next(n for n, members in found.groups.items() if model.id in members)
        more = tuple(model.model_copy(update={"id": i}) for i in ids)
        groups = {**found.groups, group: (*found.groups[group], *ids)}
        made[at] = Listed((*found.assets, *more), groups, found.outdoors, found.room)
    return made


def noun(asset: Asset) -> str:
    """What an asset is, in one word."""
    return singular(asset.what.lower().split()[-1])


def said(text: str) -> dict[str, int]:
    """How many of each noun a text asks for, where it says so in numbers, two or more."""
    tokens = lexer.read(text)
    counts: dict[str, int] = {}
    vague: set[str] = set()
    at = 0
    while at < len(tokens):
        found = phrases.read(tokens, at)
        if found is None:
            at += 1
            continue
        phrase, after = found
        numbered_ = any(t.text in NUMBERS or t.text.isdecimal() for t in tokens[at:after])
        at = after
        if phrase.count == 0 or phrase.each:
            vague.add(phrase.head)
        elif numbered_ and not phrase.definite and phrase.head not in ROOMS | OUTDOORS:
            times = phrase.rows or 1
            counts[phrase.head] = counts.get(phrase.head, 0) + phrase.count * times
    return {head: n for head, n in counts.items() if n > 1 and head not in vague}


def slug(name: object) -> str:
    """A name as ids are spelt."""
    text = "".join(ch if ch.isascii() and ch.isalnum() else "-" for ch in str(name).lower())
    return "-".join(part for part in text.split("-") if part)[:40]


def metres(value: Any) -> float | None:
    """A length, be it a number or "80 cm"; None for anything else, zero and below."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            read = [t for t in lexer.read(value) if t.kind == "measure"]
            value = read[0].lengths[0][1] if read else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        return None
    return float(value)


def _list(head: Mapping[str, Any]) -> Sequence[Any]:
    """The first list in an object, whatever it is called; assets by name as rows of theirs."""
    for value in (head.get("assets"), *head.values()):
        if isinstance(value, list):
            return value
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            return [{"name": name, **row} for name, row in value.items()]
    raise ValueError("assets: a list of things is missing")


@dataclass(frozen=True)
class _Row:
    """What a row says; ``bare`` lengths are in whatever unit, ``told`` ones in metres."""

    name: str
    what: str
    count: int
    bare: dict[str, float]
    told: dict[str, float]


def _row(row: Any) -> _Row | None:
    """A row as it was given; None for what names nothing or none of it."""
    if isinstance(row, str):
        row = {"name": row}
    if not isinstance(row, dict):
        return None
    what = _first(row, "what", "description", "name", "id", "label")
    name = slug(_first(row, "name", "id", "label") or what)
    if not name or not what:
        return None
    number = _first(row, "count", "quantity", "number") or "1"
    count = NUMBERS.get(number.lower()) or (int(float(number)) if _numeric(number) else 1)
    size = row.get("size") or row.get("dimensions") or {}
    if isinstance(size, list):
        size = dict(zip(DIMENSIONS, size, strict=False))
    size = {**(size if isinstance(size, dict) else {}), **row}
    lengths = {d: m for d in DIMENSIONS if (m := metres(size.get(d))) is not None}
    told = {d: round(m, 4) for d, m in lengths.items() if not _numeric(str(size[d]))}
    bare = {d: m for d, m in lengths.items() if d not in told}
    return _Row(name, what[:300], count, bare, told) if count > 0 else None


def _first(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that says something, as words."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str | int | float) and str(value).strip():
            return " ".join(str(value).split())
    return ""


def _numeric(text: str) -> bool:
    try:
        return abs(float(text)) < 1e6
    except ValueError:
        return False


def _metres(
    sizes: Sequence[Mapping[str, float]], outdoors: bool, notes: list[str]
) -> list[dict[str, float]]:
    """Sizes in metres, where all of them or one seem to be in centimetres or millimetres."""
    limit = VAST if outdoors else ROOMY
    longest = [max(size.values()) for size in sizes if size]
    unit, name = 1.0, ""
    if longest and statistics.median(longest) > limit:
        unit, name = 0.01, "centimetres"
        if statistics.median(longest) > 100 * limit:
            unit, name = 0.001, "millimetres"
        notes.append(f"the sizes seem to be in {name}")
    found = []
    for size in sizes:
        own = unit
        while size and max(size.values()) * own > 4 * limit:
            own /= 100
            notes.append(f"{max(size.values()):g} m is too large for a thing; taken as centimetres")
        found.append({d: round(max(length * own, 0.005), 4) for d, length in size.items()})
    return found


def _room(value: Any, notes: list[str]) -> Room | None:
    """Walls, if both lengths are there and a room's."""
    if not isinstance(value, dict):
        return None
    width, depth = metres(value.get("width")), metres(value.get("depth"))
    if width is None or depth is None:
        return None
    if min(width, depth) > 50:
        width, depth = width / 100, depth / 100
        notes.append("the room's size seems to be in centimetres")
    if not (1 <= width <= 100 and 1 <= depth <= 100):
        notes.append(f"a room of {width:g} by {depth:g} m is left out")
        return None
    return Room(width=width, depth=depth)
