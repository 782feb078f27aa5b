"""What a critic may ask to be changed: small edits of a scene graph, as data.

A critic, a person or a served model names edits in JSON; :func:`apply` makes a new graph of them.
Nothing here decides whether an edit helps: that is the deterministic score's part, in the inner
loop (:mod:`scenes.craft`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from common.errors import UserError
from scenes.graph import Asset, Length, Name, Relation, SceneGraph, Strict, Words, problem
from scenes.relations import problem as amiss


class AddAsset(Strict):
    """One more thing."""

    op: Literal["add-asset"] = "add-asset"
    asset: Asset


class DropAsset(Strict):
    """Take a thing away, and it out of its relations; those about nothing else go too."""

    op: Literal["drop-asset"] = "drop-asset"
    asset: Name


class Resize(Strict):
    """Want other metres of a thing; what is not given stays."""

    op: Literal["resize"] = "resize"
    asset: Name
    width: Length | None = None
    depth: Length | None = None
    height: Length | None = None


class Replace(Strict):
    """Look for a thing by other words, or take a model of the index by its id."""

    op: Literal["replace"] = "replace"
    asset: Name
    what: Words | None = None
    model: str | None = None


class AddRelation(Strict):
    """One more relation; one of the same kind and assets is replaced by it."""

    op: Literal["add-relation"] = "add-relation"
    relation: Relation


class DropRelation(Strict):
    """Take a relation away: the ``index``-th of the graph, from 0."""

    op: Literal["drop-relation"] = "drop-relation"
    index: Annotated[int, Field(ge=0)]


class Weigh(Strict):
    """Let a relation count more or less: the ``index``-th of the graph, from 0."""

    op: Literal["weigh"] = "weigh"
    index: Annotated[int, Field(ge=0)]
    weight: Annotated[float, Field(gt=0, le=100)]


class LookFrom(Strict):
    """Show the scene from another side."""

    op: Literal["look-from"] = "look-from"
    view: Literal["front", "corner", "left", "right", "back", "top"]


class LayOutAgain(Strict):
    """Solve the layout once more, from other random numbers."""

    op: Literal["lay-out-again"] = "lay-out-again"


Edit = Annotated[
    AddAsset | DropAsset | Resize | Replace | AddRelation | DropRelation | Weigh | LookFrom
    | LayOutAgain,
    Field(discriminator="op"),
]  # fmt: skip


def apply(graph: SceneGraph, edits: Iterable[Edit]) -> SceneGraph:
    """``graph`` with ``edits`` made in turn; numbers of relations are those of ``graph`` as given.

    ``look-from`` and ``lay-out-again`` change no graph.

    Raises:
        UserError: an edit names an asset or a relation that is not there, or makes no valid graph.
    """
    assets = {a.id: a for a in graph.assets}
    relations: list[Relation | None] = list(graph.relations)
    for edit in edits:
        if isinstance(edit, AddAsset):
            if edit.asset.id in assets:
                raise _wrong(edit, f"there is a {edit.asset.id} already")
            assets[edit.asset.id] = edit.asset
        elif isinstance(edit, DropAsset | Resize | Replace):
            if edit.asset not in assets:
                raise _wrong(edit, f"there is no {edit.asset}")
            if isinstance(edit, DropAsset):
                del assets[edit.asset]
                relations = [r and _without(r, edit.asset) for r in relations]
                continue
            change = edit.model_dump(exclude={"op", "asset"}, exclude_none=True)
            if isinstance(edit, Replace) and edit.model is None:
                change["model"] = None  # other words are looked for anew
            assets[edit.asset] = assets[edit.asset].model_copy(update=change)
        elif isinstance(edit, AddRelation):
            wrong = amiss(edit.relation)
            if wrong:
                raise _wrong(edit, f"{edit.relation}: {wrong}")
            same = [
                n
                for n, r in enumerate(relations)
                if r and (r.kind, r.assets) == (edit.relation.kind, edit.relation.assets)
            ]
            if same:
                relations[same[0]] = edit.relation
            else:
                relations.append(edit.relation)
        elif isinstance(edit, DropRelation | Weigh):
            there = relations[edit.index] if edit.index < len(graph.relations) else None
            if there is None:
                raise _wrong(edit, f"there is no relation {edit.index}")
            relations[edit.index] = (
                there.model_copy(update={"weight": edit.weight})
                if isinstance(edit, Weigh)
                else None
            )
    scenes = tuple(
        s.model_copy(update={"assets": tuple(a for a in s.assets if a in assets)})
        for s in graph.scenes
    )
    try:
        return SceneGraph(
            text=graph.text,
            assets=tuple(assets.values()),
            relations=tuple(r for r in relations if r is not None),
            scenes=tuple(s for s in scenes if s.assets),
            room=graph.room,
            outdoors=graph.outdoors,
        )
    except ValidationError as error:
        raise UserError(f"the edits make no scene graph: {problem(error)}", "drop them") from error


def _without(relation: Relation, asset: str) -> Relation | None:
    """A relation once ``asset`` is gone; None if it is no longer one."""
    if asset not in relation.assets:
        return relation
    left = relation.model_copy(update={"assets": tuple(a for a in relation.assets if a != asset)})
    return left if left.assets and not amiss(left) else None


def _wrong(edit: Strict, why: str) -> UserError:
    return UserError(f"{edit.model_dump_json(exclude_none=True)}: {why}", "drop the edit")
