"""Edits out of a model's list: mended where it can be told what is meant, else left out and named.

Things may be called by the number that is drawn on them. Every edit that comes out of here can be
made to the graph by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from common.errors import UserError
from scenes.edits import Edit, apply
from scenes.graph import SceneGraph, problem
from scenes.planners.mend_assets import listed, metres, slug
from scenes.planners.mend_relations import Names, ids_of, related

OPS = tuple(kind.model_fields["op"].default for kind in get_args(get_args(Edit)[0]))
_EDIT: TypeAdapter[Edit] = TypeAdapter(Edit)


def edits(
    rows: Any, graph: SceneGraph, things: Sequence[str]
) -> tuple[tuple[Edit, ...], list[str]]:
    """The edits of a list, and why others were left out.

    ``things`` are the assets in the order of the numbers that are drawn on them, from 1.
    """
    if isinstance(rows, dict):
        rows = [rows]
    found: list[Edit] = []
    left: list[str] = []
    for row in rows if isinstance(rows, list) else []:
        said = str(row)[:80]
        if not isinstance(row, dict):
            left.append(f"{said}: no edit")
            continue
        try:
            for made in _mended(row, graph, things, left):
                edit = _EDIT.validate_python(made)
                apply(graph, [*found, edit])
                found.append(edit)
        except ValidationError as error:
            left.append(f"{said}: {problem(error)}")
        except (UserError, ValueError) as error:
            left.append(f"{said}: {getattr(error, 'message', error)}")
    return tuple(found), left


def _mended(
    row: Mapping[str, Any], graph: SceneGraph, things: Sequence[str], left: list[str]
) -> Iterator[dict[str, Any]]:
    """What one row means, as fields of edits."""
    op = slug(row.get("op") or row.get("edit") or row.get("type"))
    near = get_close_matches(op, OPS, 1)
    if not near:
        raise ValueError("there is no such edit")
    op = near[0]
    names = Names({a.id: a for a in graph.assets}, {})
    if op in ("drop-asset", "resize", "replace"):
        lengths = {d: metres(row.get(d)) for d in ("width", "depth", "height")}
        fields: dict[str, Any] = {d: round(m, 4) for d, m in lengths.items() if m}
        if op == "resize" and not fields:
            raise ValueError("no length is given")
        if op == "replace":  # ids of models are nothing that a picture tells
            fields = {"what": row.get("what")}
        asset = _asset(row.get("asset", row.get("id")), names, things)
        yield {"op": op, "asset": asset, **({} if op == "drop-asset" else fields)}
    elif op in ("drop-relation", "weigh"):
        index = next((row[k] for k in ("index", "relation", "constraint") if k in row), None)
        if isinstance(index, str) and index.isdecimal():
            index = int(index)
        yield {"op": op, "index": index, **({"weight": row.get("weight")} if op == "weigh" else {})}
    elif op == "add-relation":
        inner = row.get("relation")
        said = inner if isinstance(inner, dict) else {**row, "kind": inner or row.get("kind")}
        given = said.get("assets")
        if isinstance(given, list):
            said = {**said, "assets": [_number(n, things) for n in given]}
        for relation in related([said], names, left):
            yield {"op": op, "relation": relation.model_dump()}
    elif op == "add-asset":
        inner = row.get("asset")
        made = listed([inner if isinstance(inner, dict | str) else dict(row)], left)
        for new in made.assets:
            if new.id in names.assets:
                raise ValueError(f"there is a {new.id} already")
            yield {"op": op, "asset": new.model_dump()}
    elif op == "look-from":
        yield {"op": op, "view": slug(row.get("view"))}
    else:
        yield {"op": op}


def _asset(said: Any, names: Names, things: Sequence[str]) -> str:
    notes: list[str] = []
    found = ids_of(_number(said, things), names, notes.append)
    if not found:
        raise ValueError(f"there is no {said}")
    return found[0]


def _number(said: Any, things: Sequence[str]) -> Any:
    """The thing with that number drawn on it; anything else as it is."""
    text = str(said).strip("# ")
    if text.isdecimal() and 0 < int(text) <= len(things):
        return things[int(text) - 1]
    return said
