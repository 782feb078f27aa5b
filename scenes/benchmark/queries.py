"""Queries of the benchmark: generated scenes, what must hold of them, and texts that say so.

A scene is made of facts ("four chairs around a table"), each with the constraints that the judge
will hold the answer against; a text says the facts in turn. The ground truth is known from how the
scene was made, and no planner had a part in it. Splits share no phrasing
(:mod:`scenes.benchmark.phrasings`) and no combination of a fact with its nouns.

Users bring their own as JSONL, a :class:`Query` a line; see docs/scenes-benchmark.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from common.errors import UserError
from common.records import Split, identity
from scenes.benchmark.phrasings import NUMBERS, SPLITS, WAYS, Fact, spoken, tell
from scenes.benchmark.predicates import Constraint, Kind, Wanted
from scenes.graph import MAX_ASSETS, Strict, problem

SEATS = ("chair", "stool", "armchair", "office chair")
TOPS = ("table", "desk", "cabinet", "dresser", "nightstand")
LARGE = ("sofa", "armchair", "bed", "wardrobe", "bookcase", "piano", "fridge", *TOPS)
LOOSE = ("plant", "floor lamp", "suitcase", "trash can", "stool", "chair", "guitar", "bicycle")
SMALL = ("lamp", "laptop", "vase", "book", "cup", "bowl", "bottle", "candle", "radio", "teapot",
         "telephone", "teddy bear")  # fmt: skip
BACKED = ("sofa", "wardrobe", "bookcase", "bed", "dresser", "desk", "piano", "cabinet", "fridge")
LOOKING = ("armchair", "chair", "sofa", "office chair")
OUTSIDE = ("tree", "car", "bench", "fountain", "street lamp", "bush", "bicycle", "tent", "man",
           "woman", "dog")  # fmt: skip
ROOMS = ("room", "living room", "bedroom", "office", "study", "hall")
PLACES = ("park", "garden", "square", "street")
TALL = (("bookcase", "cabinet"), ("wardrobe", "table"), ("wardrobe", "desk"), ("fridge", "table"),
        ("floor lamp", "plant"), ("bookcase", "dresser"), ("fridge", "dresser"))  # fmt: skip
WIDTHS = {"sofa": 2.0, "table": 1.2, "desk": 1.5, "bookcase": 2.0, "wardrobe": 1.8, "bed": 1.8}
HEIGHTS = {"plant": 0.8, "floor lamp": 1.6, "bookcase": 1.9, "tree": 5.0, "street lamp": 3.0}
BUCKETS = ((3, 6, 0.4), (7, 15, 0.3), (16, 40, 0.2), (41, MAX_ASSETS, 0.1))
"""Assets from, to, and the share of scenes of that size."""
COUNTS: dict[Split, int] = {"train": 20, "dev": 24, "test": 60}
"""Scenes of each split; SceneCraft learns from 20."""
LEARNT = 15
"""What scenes of the outer loop hold at most: it lays them out many times."""


class Query(Strict):
    """A text, and what a scene of it must hold. Texts of one ``group`` say the same scene."""

    id: str
    text: str = Field(min_length=1)
    objects: tuple[Wanted, ...]
    constraints: tuple[Constraint, ...] = ()
    group: str = ""
    split: Split = "test"

    @property
    def scene(self) -> str:
        """The name of the scene, which is what errors are counted by."""
        return self.group or self.id

    @property
    def size(self) -> int:
        """Assets that are asked for."""
        return sum(o.count for o in self.objects)


def load(path: Path) -> list[Query]:
    """The queries of a JSONL file.

    Raises:
        UserError: it cannot be read, holds none, or a line is no query or names objects that it
            does not list.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "name a JSONL file of queries") from error
    remedy = "see docs/scenes-benchmark.md for its form"
    found: list[Query] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            query = Query.model_validate_json(line)
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {problem(error)}", remedy) from error
        names = [o.name for o in query.objects]
        lost = [n for c in query.constraints for n in (*c.subjects, *c.hosts) if n not in names]
        if lost or not names or len(set(names)) < len(names):
            wrong = f"a constraint is about {lost[0]!r}" if lost else "objects are none or double"
            raise UserError(f"{path}, line {number}: {wrong}", "list each object once")
        found.append(query)
    if not found or len({q.id for q in found}) < len(found):
        raise UserError(f"{path}: no query, or two of one id", remedy)
    return found


def builtin(split: Split, each: int = 3, known: bool = False) -> list[Query]:
    """The built-in queries of a split: each scene in ``each`` of its phrasings, by turns.

    ``known``: in phrasings of train and dev, by which the planner was mended.
    """
    ways = [*WAYS["train"], *WAYS["dev"]] if known else WAYS[split]
    return [
        _query(scene, split, number, ways[(each * number + k) % len(ways)])
        for number in range(COUNTS[split])
        for scene in [_scene(split, number)]
        for k in range(each)
    ]


# Facts


@dataclass
class _Scene:
    """A scene under way. ``taken`` are sides of hosts at which something stands."""

    outdoors: bool
    place: str
    objects: dict[str, Wanted] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    taken: set[tuple[str, str]] = field(default_factory=set)
    walled: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        return sum(o.count for o in self.objects.values())

    def heads(self) -> set[str]:
        return {name.split()[-1] for name in self.objects}


def _scene(split: Split, number: int) -> _Scene:
    """Scene ``number`` of a split: facts are added until it is as large as it is to be."""
    rng = random.Random(identity("scene", split, number, 13 if split == "test" else 0))
    if split == "test":
        at, low, high = (number + 0.5) / COUNTS["test"], 3, MAX_ASSETS
        for low, high, share in BUCKETS:  # noqa: B007 (the last one that is reached counts)
            if at < share:
                break
            at -= share
    else:
        low, high = (3, 6) if number % 2 else (7, LEARNT)
    wanted = rng.randint(low, high)
    outdoors = rng.random() < 0.25
    scene = _Scene(outdoors, rng.choice(PLACES if outdoors else ROOMS))
    for _ in range(400):
        left = wanted - scene.size
        if left <= 0 and len(scene.facts) > 1:
            break
        _grow(scene, split, rng, max(left, 1), high)
    return scene


def _grow(scene: _Scene, split: Split, rng: random.Random, left: int, high: int) -> None:
    """Add a fact, if it fits: its nouns are new or may be hosts once more, and are this split's."""
    kinds = _OUTDOORS if scene.outdoors else _INDOORS
    many = [k for k in kinds if k in _MANY]
    # Large scenes are made of rows and groups, as large scenes are.
    kind = rng.choice(many) if left > 8 and rng.random() < 0.6 else rng.choice(kinds)
    fact = _fact(scene, kind, rng, min(left, high - scene.size))
    if fact is None or _split(kind, fact) != split:
        return
    found = _held(fact)
    new = {o.name: o for o in found[0] if o.name not in scene.objects}
    heads = [name.split()[-1] for name in new]
    alike = len({name.split()[-1] for name in fact.names}) < len(fact.names)
    clash = alike or set(heads) & scene.heads()
    subject, *hosts = fact.names
    # What a fact is about is new; whom it is placed by may be there, in that number.
    others = [o for o in found[0][1:] if o.name in scene.objects]
    if subject not in new or any(scene.objects[o.name].count != o.count for o in others):
        return
    if clash or scene.size + sum(o.count for o in new.values()) > high:
        return
    if kind in _ONCE and kind in {f.kind for f in scene.facts}:
        return
    side = "all" if kind in _ROUND else kind
    for host in hosts:
        busy = {s for h, s in scene.taken if h == host and s != "on"}
        if kind in ("on", "on-each"):
            if (host, "on") in scene.taken:
                return
        elif "all" in busy or side in busy or (side == "all" and busy):
            return
    if kind in ("left-of", "right-of", "behind", "far", "distance", "between", "flank") and any(
        host in scene.walled for host in hosts
    ):
        return
    scene.taken |= {(host, "on" if kind in ("on", "on-each") else side) for host in hosts}
    if kind in ("against-wall", "in-corner", "on-wall"):
        scene.walled.add(subject)
    scene.objects.update(new)
    scene.constraints += found[1]
    scene.facts.append(fact)


def _split(kind: str, fact: Fact) -> Split:
    """To which split a fact with these nouns belongs: a fifth to train, a fifth to dev."""
    part = int(identity("combination", kind.removesuffix("-each"), fact.names, fact.word), 16) % 5
    return SPLITS[min(part, 2)]


HOLDS = {"nightstand": 2, "cabinet": 4, "dresser": 4}
"""How many small things there is room for on the smaller tops; six on others."""
_ROUND = ("around", "around-each", "flank", "beside")
"""Facts that leave no side of the host to others."""
_ONCE = ("in-centre", "in-corner")
_MANY = frozenset({"row", "grid", "around-each", "around", "on", "on-each"})
_INDOORS = ("exists", "on", "on", "left-of", "right-of", "in-front-of", "behind", "beside", "near",
            "far", "distance", "around", "around", "around-each", "on-each", "flank", "between",
            "row", "grid", "stack", "against-wall", "against-wall", "on-wall", "in-corner",
            "in-centre", "facing", "opposite", "under", "size", "taller", "parallel",
            "perpendicular")  # fmt: skip
_OUTDOORS = ("exists", "left-of", "right-of", "in-front-of", "behind", "beside", "near", "far",
             "distance", "flank", "between", "row", "row", "grid", "size", "facing")  # fmt: skip


def _fact(scene: _Scene, kind: str, rng: random.Random, left: int) -> Fact | None:
    """A fact of a kind with nouns drawn for it; None where there is no room for it."""
    things = OUTSIDE if scene.outdoors else LARGE + LOOSE
    large = OUTSIDE if scene.outdoors else LARGE
    among: Sequence[str]
    by: Sequence[str]

    def fresh(among: Sequence[str]) -> str:
        free = [n for n in among if n.split()[-1] not in scene.heads()]
        return rng.choice(free or list(among))

    def host(among: Sequence[str]) -> str:
        """One that is there already, more often than not; single things only."""
        there = [n for n in among if n in scene.objects and scene.objects[n].count == 1]
        return rng.choice(there) if there and rng.random() < 0.6 else fresh(among)

    if kind == "exists":
        return Fact(kind, (fresh(things),), (1,))
    if kind == "on":
        below = host(TOPS)
        most = max(1, min(left, HOLDS.get(below, 6)))
        return Fact(kind, (fresh(SMALL), below), (rng.randint(1, most), 1))
    if kind == "around":
        return Fact(
            kind, (fresh(SEATS), host(("table",))), (rng.randint(2, max(2, min(left, 8))), 1)
        )
    if kind in ("around-each", "on-each"):
        around = kind == "around-each"
        each = rng.randint(2, 6) if around else 1
        hosts = rng.randint(2, max(2, min(left // (each + 1), 12)))
        nouns = (fresh(SEATS), "table") if around else (fresh(SMALL), fresh(TOPS))
        return Fact(kind, nouns, (each, hosts))
    if kind in ("row", "grid"):
        among = OUTSIDE if scene.outdoors else (*SEATS, *TOPS, "plant", "bookcase")
        if kind == "row":
            return Fact(kind, (fresh(among),), (rng.randint(3, max(3, min(left, 12))),))
        rows = rng.randint(2, max(2, min(10, left // 3)))
        columns = rng.randint(2, max(2, min(10, left // rows)))
        return Fact(kind, (fresh(among),), (columns,), value=spoken(rows))
    if kind == "stack":
        return Fact(kind, (fresh(("book", "box", "plate", "suitcase")),), (rng.randint(2, 4),))
    if kind in ("against-wall", "on-wall"):
        side = rng.choice(["the wall", "the back wall", "the left wall", "the right wall"])
        among = BACKED if kind == "against-wall" else ("painting", "picture", "clock")
        return Fact(kind, (fresh(among),), (1,), word=side)
    if kind == "in-corner":
        side = rng.choice(["the corner", "the left corner", "the right corner"])
        among = ("plant", "floor lamp", "wardrobe", "armchair")
        return Fact(kind, (fresh(among),), (1,), word=side)
    if kind == "in-centre":
        return Fact(kind, (fresh(("table", "sofa", "bed", "rug", "piano")),), (1,))
    if kind == "between":
        return Fact(kind, (fresh(things), host(large), fresh(large)), (1, 1, 1))
    if kind == "flank":
        pairs = ("nightstand", "plant", "floor lamp", "armchair", "cabinet")
        by = ("bench", "fountain", "tent") if scene.outdoors else ("sofa", "bed", "desk", "dresser")
        return Fact(kind, (fresh(OUTSIDE if scene.outdoors else pairs), host(by)), (2, 1))
    if kind in ("facing", "opposite"):
        among = ("bench", "man", "woman", "dog") if scene.outdoors else LOOKING
        by = OUTSIDE if scene.outdoors else ("sofa", "desk", "piano", "bed", "bookcase")
        if kind == "opposite":
            by = ("sofa", "armchair", "bookcase", "piano")
        return Fact(kind, (fresh(among), host(by)), (1, 1))
    if kind == "under":
        return Fact(
            kind, (fresh(("rug", "carpet")), host(("table", "bed", "sofa", "desk"))), (1, 1)
        )
    if kind == "size":
        wide = not scene.outdoors and rng.random() < 0.6
        lengths = WIDTHS if wide else HEIGHTS
        there = [n for n in lengths if (n in OUTSIDE) == scene.outdoors]
        name = fresh(there)
        metres = lengths[name] * rng.choice([0.8, 0.9, 1.1, 1.2])
        return Fact(kind, (name,), (1,), f"{metres:.2g}", "wide" if wide else "tall")
    if kind == "taller":
        return Fact(kind, rng.choice(TALL), (1, 1))
    value = str(rng.choice([2, 3, 4])) if kind == "distance" else ""
    return Fact(kind, (fresh(things), host(large)), (1, 1), value)


def _held(fact: Fact) -> tuple[list[Wanted], list[Constraint]]:
    """The objects of a fact, and what must hold of them."""
    subject, *hosts = fact.names
    each = fact.kind in ("around-each", "on-each")
    total = fact.counts[0] * (fact.counts[1] if each else 1)
    value: float | None = None
    if fact.kind == "grid":
        value, total = float(fact.counts[0]), fact.counts[0] * NUMBERS.index(fact.value)
    wanted = Wanted(name=subject, count=total)
    if fact.kind == "size":
        length = "width" if fact.word == "wide" else "height"
        return [wanted.model_copy(update={length: float(fact.value)})], []
    others = [Wanted(name=h, count=n) for h, n in zip(hosts, fact.counts[1:], strict=True)]
    if fact.kind == "exists":
        return [wanted, *others], []
    if fact.kind == "distance":
        value = float(fact.value)
    if fact.kind == "taller":
        value = 2.0
    side = next((s for s in ("left", "right", "back") if s in fact.word.split()), None)
    kind: Kind = fact.kind.removesuffix("-each")  # type: ignore[assignment]
    held = Constraint(
        kind=kind,
        subjects=(subject,),
        hosts=tuple(hosts),
        value=value,
        side=side,
    )
    return [wanted, *others], [held]


def _query(scene: _Scene, split: Split, at: int, way: int) -> Query:
    group = f"{split}-{at:02d}"
    return Query(
        id=f"{group}-{way}",
        text=tell(way, scene.place, scene.facts),
        objects=tuple(scene.objects.values()),
        constraints=tuple(scene.constraints),
        group=group,
        split=split,
    )
