"""A scene graph in one line, for models that can say little, and how far two graphs agree.

    1 round table, 4 chair, 1 lamp, 1 cabinet; chair around table; lamp on cabinet

Things come first, each with its number; then what lies how to what, in words that the rules know
(:mod:`scenes.planners.lexicon`). A name stands for all the things that were listed under it. This
takes a quarter of the tokens that the JSON of the same graph takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.errors import UserError
from scenes.graph import Relation, SceneGraph
from scenes.planners import Plan
from scenes.planners import tokens as lexer
from scenes.planners.arrange import place, relate
from scenes.planners.mend_assets import listed, noun
from scenes.planners.mend_relations import Names, ids_of
from scenes.relations import problem

Fact = tuple[str, ...]
MUTUAL = frozenset("proximity parallelism perpendicularity alignment apart distance".split())
TURNED = {"right-of": "left-of", "behind": "in-front-of", "under": "on"}
"""Relations that say of (b, a) what another says of (a, b); a rug under a table carries it."""


def read(line: str, text: str = "") -> Plan:
    """The graph of a line; ``text`` is what it was made of.

    Raises:
        UserError: the line names nothing, or more than a scene may hold.
    """
    things, *clauses = line.strip().split(";")
    rows = []
    for item in things.split(","):
        number, _, what = item.strip().partition(" ")
        if number.isdecimal() and what.strip():
            rows.append({"name": what, "what": what, "count": int(number)})
    notes: list[str] = []
    try:
        found = listed(rows, notes)
    except ValueError as error:
        raise UserError(f"{line[:60]!r}: {error}", "say it otherwise, or ask for fewer") from None
    names = Names({a.id: a for a in found.assets}, found.groups)
    relations: dict[str, Relation] = {}
    for clause in clauses:
        for relation in _clause(clause, names, notes):
            if problem(relation) is None and len(set(relation.assets)) == len(relation.assets):
                relations.setdefault(str(relation), relation)
    graph = SceneGraph(text=text, assets=found.assets, relations=tuple(relations.values()))
    return Plan(graph, notes=tuple(notes))


def _clause(clause: str, names: Names, notes: list[str]) -> Sequence[Relation]:
    """The relations of "lamp on cabinet", "lamp between bed and sofa", "bed against the wall"."""
    tokens = lexer.read(clause)
    at = next((n for n, t in enumerate(tokens) if t.kind in ("connector", "place")), None)
    if at is None:
        if clause.strip():
            notes.append(f"{clause.strip()!r} says nothing of where things are")
        return []
    subjects = ids_of(" ".join(t.text for t in tokens[:at]), names, notes.append)
    if not subjects:
        return []
    if tokens[at].kind == "place":
        return place(tokens[at].value, subjects)
    hosts: dict[str, None] = {}
    words: list[str] = []
    for token in [*tokens[at + 1 :], lexer.Token("and", "and")]:
        if token.kind == "and":
            hosts |= dict.fromkeys(ids_of(" ".join(words), names, notes.append))
            words = []
        else:
            words.append(token.text)
    kind = tokens[at].value
    if not hosts:
        return []
    if set(hosts) == set(subjects):  # "armchair facing armchair"
        said = "facing each other" if kind in ("facing", "opposite") else "next to each other"
        return place(said, subjects)
    heads = (noun(names.assets[subjects[0]]), noun(names.assets[next(iter(hosts))]))
    return relate(kind, subjects, list(hosts), heads)


def agreement(graph: SceneGraph, wanted: SceneGraph) -> float:
    """How far a graph says what another says, in [0, 1]: the mean of :func:`agreements`."""
    return sum(agreements(graph, wanted)) / 2


def agreements(graph: SceneGraph, wanted: SceneGraph) -> tuple[float, float]:
    """The F1 of the things, by noun and number, and that of :func:`facts`."""
    counts = [Counter(noun(a) for a in g.assets) for g in (graph, wanted)]
    same = sum((counts[0] & counts[1]).values())
    things = 2 * same / (counts[0].total() + counts[1].total())
    own, other = facts(graph), facts(wanted)
    where = 2 * len(own & other) / (len(own) + len(other)) if own or other else 1.0
    return things, where


def facts(graph: SceneGraph) -> frozenset[Fact]:
    """What a graph says by noun: ("on", "lamp", "cabinet").

    The same is said in one way only. Nearness that comes along with another relation of the same
    two is none of its own, since planners add it to taste.
    """
    nouns = {a.id: noun(a) for a in graph.assets}
    found: set[Fact] = set()
    for relation in graph.relations:
        *guests, host = (nouns[i] for i in relation.assets)
        kind = relation.kind
        side = next(
            (str(relation.options[o]) for o in ("wall", "corner") if o in relation.options), ""
        )
        if not guests:
            found.add((kind, host, side))
        elif kind in ("repetition", "grid", "stack"):
            found.add((kind, host))
        elif kind == "between":
            found.add((kind, guests[0], *sorted((*guests[1:], host))))
        elif kind == "direction":
            found.add(("flank", guests[0], host))
        elif kind != "symmetry":
            for guest in guests:
                pair = sorted((guest, host)) if kind in MUTUAL else [guest, host]
                if kind in TURNED:
                    pair, kind_ = [host, guest], TURNED[kind]
                else:
                    kind_ = kind
                found.add((kind_, *pair))
    told = {frozenset(f[1:]) for f in found if f[0] != "proximity"}
    return frozenset(f for f in found if f[0] != "proximity" or frozenset(f[1:]) not in told)
