"""Relations out of a model's list, mended where it can be told what is meant.

Models invent relations, name a group where its members are wanted, call a wall an asset, hand
three things to a relation of two. Words that the rules know ("next to") mean what they mean there.
What cannot be mended is left out; either is noted in a sentence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from scenes.assets.words import singular
from scenes.graph import Asset, Option, Relation
from scenes.planners.arrange import place, relate
from scenes.planners.lexicon import CONNECTORS, PLACES
from scenes.planners.mend_assets import metres, noun, slug
from scenes.planners.sayings import say
from scenes.relations import KINDS, Kind, problem

FLOORS = frozenset("floor ground room scene grass carpeted-floor".split())
WALLS = frozenset("back-wall left-wall right-wall front-wall wall walls any-wall".split())
CORNERS = frozenset("corner left-corner right-corner back-corner".split())
HANGING = frozenset({"on", "on-wall", "hangs-on", "hung-on", "above"})
RESTING = frozenset({"on", "inside"})
FAR = 20.0
"""Metres that nobody means between two things."""
_CALL = re.compile(r"\s*([A-Za-z][\w -]*?)\s*\((.*)\)\s*$", re.DOTALL)


class Said(BaseModel):
    """A row of the list that is asked for."""

    kind: str
    assets: list[str]
    options: dict[str, float | bool | str] = Field(default_factory=dict)


class RelationList(BaseModel):
    """What a model is asked for second."""

    relations: list[Said]


class Names(NamedTuple):
    """The assets by id, and the ids that a name stands for."""

    assets: Mapping[str, Asset]
    groups: Mapping[str, tuple[str, ...]]


Note = Callable[[str], None]


def related(value: Any, names: Names, notes: list[str]) -> list[Relation]:
    """The relations of a list, each of them valid; the list may be empty.

    Raises:
        ValueError: it is no list of relations, or none of its relations can be used.
    """
    rows = value.get("relations", value) if isinstance(value, dict) else value
    if isinstance(rows, dict):  # one relation alone, or lists by kind
        rows = [rows] if "kind" in rows else [{"kind": k, "assets": v} for k, v in rows.items()]
    if not isinstance(rows, list):
        raise ValueError("relations: a list of relations is missing")
    found: dict[str, Relation] = {}
    for row in rows:
        for relation in _row(row, names, notes.append):
            wrong = problem(relation)
            if wrong or len(set(relation.assets)) < len(relation.assets):
                notes.append(f"{relation} left out: {wrong or 'names an asset twice'}")
            elif _circular(relation, found.values()):
                notes.append(f"{relation} left out: it would rest on itself")
            else:
                found.setdefault(str(relation), relation)
    if rows and not found:
        raise ValueError(f"relations: none can be used; {'; '.join(notes[-3:])}")
    return list(found.values())


def _row(row: Any, names: Names, note: Note) -> Iterator[Relation]:
    """The relations that one row means: none, one, or one for each of several things."""
    if isinstance(row, str):
        row = _called(row)
    if not isinstance(row, dict):
        return
    kind = next((str(row[k]) for k in ("kind", "relation", "type", "name") if row.get(k)), "")
    given = _names_in(row)
    if not kind or not given:
        note(f"{str(row)[:80]} left out: it names no relation and assets")
        return
    where = next((n for n in map(slug, given) if n in FLOORS | WALLS | CORNERS), "")
    if where and where not in names.assets and where not in names.groups:
        ids = [i for n in given if slug(n) != where for i in ids_of(n, names, note)]
        yield from _surroundings(slug(kind), where, ids)
        return
    by_name = [found for n in given if (found := ids_of(n, names, note))]
    if by_name:
        yield from _meant(kind, by_name, _options(row), names, note)


def _meant(
    said: str, given: list[tuple[str, ...]], options: dict[str, Any], names: Names, note: Note
) -> Iterator[Relation]:
    """Relations of a kind that is registered, or said in other words."""
    name = slug(said)
    words = " ".join(slug(said).split("-"))
    if name not in KINDS and words not in CONNECTORS and words not in PLACES:
        near = get_close_matches(name, KINDS, 1) or get_close_matches(words, CONNECTORS, 1)
        if not near:
            note(f"{said} left out: there is no such relation, nor one like it")
            return
        note(f"there is no relation {said}; taken as {near[0]}")
        name = words = near[0]
    if name in KINDS:
        kind = KINDS[name]
        mended = _mended(kind, options, note)
        for assets in _arranged(kind, given):
            yield Relation(kind=name, assets=assets, options=mended)
    elif words in PLACES:
        yield from place(words, [i for ids in given for i in ids])
    else:
        connector = CONNECTORS[words]
        hosts, guests = given[-1], [i for ids in given[:-1] for i in ids]
        if connector in ("surrounded-by", "flanked-by"):
            connector = "around" if connector == "surrounded-by" else "flanking"
            hosts, guests = given[0], [i for ids in given[1:] for i in ids]
        if guests:
            heads = (noun(names.assets[guests[0]]), noun(names.assets[hosts[0]]))
            yield from relate(connector, guests, hosts, heads, metres(options.get("distance")))


def _arranged(kind: Kind, given: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The assets of each relation that a name with too many or too few of them stands for."""
    flat = tuple(dict.fromkeys(i for ids in given for i in ids))
    hosts = given[-1]
    guests = tuple(i for i in flat if i not in hosts)
    if kind.most == 1:
        yield from ((i,) for i in flat)
    elif kind.host == "last" and guests and (len(hosts) > 1 or len(flat) > kind.most):
        if kind.most == 2:  # to the one host, or by turns to each
            yield from ((g, hosts[n % len(hosts)]) for n, g in enumerate(guests))
        else:
            share = -(-len(guests) // len(hosts))
            parts = [guests[n * share : (n + 1) * share] for n in range(len(hosts))]
            yield from ((*part, h) for part, h in zip(parts, hosts, strict=True) if part)
    elif kind.most == 3 and len(flat) > 3 and len(flat) - len(given[0]) == 2:
        yield from ((first, *flat[-2:]) for first in given[0])
    elif kind.most == 2 and len(flat) > 2:
        yield from itertools.pairwise(flat)
    else:
        yield flat


def _surroundings(kind: str, where: str, ids: Sequence[str]) -> Iterator[Relation]:
    """What being at a wall, in a corner or on the floor means; floors need no relation."""
    if where in FLOORS:
        return
    side = next((s for s in ("back", "left", "right", "front") if where.startswith(s)), "any")
    for i in ids:
        if where in CORNERS:
            yield say("in-corner", i, corner=side if side in ("left", "right") else "any")
        else:
            yield say("on-wall" if kind in HANGING else "against-wall", i, wall=side)


def ids_of(name: object, names: Names, note: Note) -> tuple[str, ...]:
    """The assets that a name stands for; none, and a note, if there is nothing like it."""
    wanted = slug(name).removeprefix("the-")
    if not wanted:
        return ()
    one = slug(singular(wanted))
    for found in (wanted, one):
        if found in names.assets:
            return (found,)
        if found in names.groups:
            return names.groups[found]
    stem, _, number = wanted.rpartition("-")
    if number.isdecimal() and (stem in names.groups or f"{stem}-1" in names.assets):
        group = names.groups.get(stem, ())
        if 0 < int(number) <= len(group):
            return (group[int(number) - 1],)
        note(f"there is no {wanted}")
        return ()
    by_words = {slug(a.what): i for i, a in names.assets.items()}
    by_head = {noun(a): i for i, a in names.assets.items()}
    for others in (by_words, by_head):
        if one in others:
            return _together(others[one], names)
    near = get_close_matches(wanted, [*names.groups, *names.assets, *by_words], 1, 0.7)
    if not near:
        note(f"{name} is no asset; left out of its relation")
        return ()
    note(f"there is no {name}; taken as {near[0]}")
    if near[0] in names.groups:
        return names.groups[near[0]]
    return (near[0],) if near[0] in names.assets else _together(by_words[near[0]], names)


def _together(asset: str, names: Names) -> tuple[str, ...]:
    """The group that an asset was listed in."""
    return next((ids for ids in names.groups.values() if asset in ids), (asset,))


def _called(text: str) -> dict[str, Any] | None:
    """``around(chair-1, chair-2, table; distance=0.3)`` as a row."""
    found = _CALL.match(text)
    if found is None:
        return None
    parts = [p.strip(" '\"[]") for p in re.split("[,;]", found[2])]
    pairs = [p.split("=", 1) for p in parts if "=" in p]
    return {
        "kind": found[1],
        "assets": [p for p in parts if p and "=" not in p],
        "options": {k.strip(): v.strip() for k, v in pairs},
    }


def _names_in(row: Mapping[str, Any]) -> list[Any]:
    """The names of a row's assets, guests before hosts."""
    fields = ("assets", "subjects", "subject", "objects", "object", "hosts", "host", "target")
    found: list[Any] = []
    for field in fields:
        value = row.get(field)
        found += value if isinstance(value, list) else [value] if isinstance(value, str) else []
    return [n for n in found if isinstance(n, str | int)]


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says besides its assets, be it in ``options`` or beside them."""
    inner = row.get("options")
    known = {name for kind in KINDS.values() for name in kind.options}
    beside = {k: v for k, v in row.items() if k in known and k != "host"}
    return {**beside, **(inner if isinstance(inner, dict) else {})}


def _mended(kind: Kind, given: Mapping[str, Any], note: Note) -> dict[str, Option]:
    """Options that the kind has, of the types it wants; the rest is left to the defaults."""
    found: dict[str, Option] = {}
    for name, value in given.items():
        default = kind.options.get(name)
        if default is None or value is None or value == default:
            if default is None:
                note(f"{kind.name} has no option {name}")
            continue
        right: Option | None
        if isinstance(default, bool):
            right = str(value).lower() in ("true", "1", "yes")
        elif isinstance(default, str):
            wanted, choices = slug(value), kind.choices.get(name, ())
            near = get_close_matches(wanted, choices, 1, 0.5)
            right = next((c for c in choices if c in wanted.split("-")), near[0] if near else None)
        else:
            right = metres(value)
            if right is not None and right > FAR and name not in ("columns", "ratio"):
                note(f"{kind.name}: {name}={value} is taken as centimetres")
                right /= 100
        if right is None:
            note(f"{kind.name}: {name}={value} means nothing; left at {default}")
        else:
            found[name] = right
    return found


def _circular(new: Relation, others: Any) -> bool:
    """Whether the guest of ``new`` already carries its host."""
    if new.kind not in RESTING:
        return False
    below = {r.assets[0]: r.assets[1] for r in others if r.kind in RESTING}
    at = new.assets[1]
    while at in below and at != new.assets[0]:
        at = below.pop(at)
    return at == new.assets[0]
