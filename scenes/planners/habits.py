"""What anybody means who says nothing: chairs go to the table, pictures to the wall."""

from __future__ import annotations

from collections.abc import Sequence

from scenes.graph import Relation
from scenes.planners.cast import Cast
from scenes.planners.lexicon import (
    AT_WALLS,
    HANGING,
    IN_WALLS,
    ON_WALLS,
    OUTDOORS,
    OUTSIDE,
    ROOMS,
    SCREENS,
)
from scenes.planners.sayings import say

CARRIED = frozenset({"on", "inside", "stack", "on-wall", "against-wall", "in-corner"})
"""What is said to be carried, or to be at a wall, needs no wall of ours."""


def habits(cast: Cast, relations: Sequence[Relation], kind: str, room: bool) -> list[Relation]:
    """More relations, for what ``relations`` leave open; what it came to is noted in ``cast``.

    ``kind`` is the place that the text names, as in "kitchen", ``room`` whether it gave its size.
    """
    found: list[Relation] = []
    about = {a for r in relations for a in r.assets}
    tables = [g for g in cast.groups if g.head == "table" and len(g.ids) == 1]
    for group in cast.groups:
        free = tuple(i for i in group.ids if i not in about)
        if not free:
            continue
        if group.head in ("chair", "stool") and len(tables) == 1 and len(free) > 1:
            found.append(say("around", *free, tables[0].ids[0]))
            cast.notes.append(f"{group.phrase.what}: placed around the table")
        elif group.head in ON_WALLS and kind not in OUTDOORS:
            found += [say("on-wall", i) for i in free]
            cast.notes.append(f"{group.phrase.what}: hung on a wall")
        elif group.head in HANGING and tables:
            found += [say("above", i, tables[0].ids[0]) for i in free]
    found += _turned(cast, relations)
    if kind not in OUTDOORS and not OUTSIDE & {g.head for g in cast.groups}:
        found += _in_walls(cast, relations)
    if room or kind in ROOMS:
        found += _walled(cast, [*relations, *found])
    return found


def _turned(cast: Cast, relations: Sequence[Relation]) -> list[Relation]:
    """Nobody sits before the back of a television: it looks back at the first who looks at it."""
    heads = {i: g.head for g in cast.groups for i in g.ids}
    watched = {r.assets[1]: r.assets[0] for r in reversed(relations) if r.kind == "facing"}
    return [say("facing", s, by, weight=0.5) for s, by in watched.items() if heads[s] in SCREENS]


def _in_walls(cast: Cast, relations: Sequence[Relation]) -> list[Relation]:
    """Windows and doors are in a wall, and so is a picture above something; what is below, at it.

    Not where something is behind them: then they stand by themselves.
    """
    carried = {a for r in relations if r.kind in CARRIED for a in (r.assets[:-1] or r.assets)}
    free = {r.assets[1] for r in relations if r.kind in ("behind", "around", "on")}
    below = [r.assets for r in relations if r.kind == "under"]
    below += [r.assets[::-1] for r in relations if r.kind == "above"]
    found: list[Relation] = []
    for group in cast.groups:
        if group.head not in ON_WALLS | IN_WALLS:
            continue
        low = {low for low, high in below if high in group.ids}
        if group.head in IN_WALLS or low:
            kind = "against-wall" if group.head == "door" else "on-wall"
            # What belongs together is best seen on the back wall; single things share all walls.
            ids = [i for i in group.ids if i not in carried | free]
            found += [say(kind, i, wall="back") if low else say(kind, i) for i in ids]
        found += [say("against-wall", i) for i in sorted(low - carried)]
    return found


def _walled(cast: Cast, relations: Sequence[Relation]) -> list[Relation]:
    """Beds, cupboards and the like stand with their back to a wall, unless they stand elsewhere."""
    placing = [r for r in relations if r.kind not in ("facing", "repetition")]
    placed = {a for r in placing for a in (r.assets[:-1] or r.assets)}
    rows = {a for r in relations if r.kind == "repetition" for a in r.assets}
    found: list[Relation] = []
    for group in cast.groups:
        if group.head in AT_WALLS and not placed & set(group.ids):
            # What stands in a row goes where its middle goes.
            middle = group.ids[len(group.ids) // 2]
            ids = (middle,) if rows & set(group.ids) else group.ids
            found += [say("against-wall", i, weight=0.5) for i in ids]
            cast.notes.append(f"{group.phrase.what}: put against a wall")
    return found
