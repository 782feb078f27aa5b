"""From words to models: which model of the index stands for each asset of a graph, and how large.

SceneCraft takes of ten candidates by text the one whose render is nearest to the words by CLIP, and
asks a language model for its height (arXiv 2403.01248, section 3). Here the catalogue's sizes are
trusted, and :mod:`scenes.assets.search` ranks; ``looks`` may rank its best again by pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import UserError
from scenes.assets.index import Index
from scenes.assets.model import Model
from scenes.assets.search import SURE, Hit, search
from scenes.assets.words import tokens
from scenes.graph import Asset, SceneGraph, Surface

Size = tuple[float, float, float]
BLOCK: Size = (0.5, 0.5, 0.5)
"""What stands for an asset that no model fits, unless its size is known."""
BLOCKS: dict[str, Size] = {
    "on": (0.15, 0.15, 0.15),
    "inside": (0.15, 0.15, 0.15),
    "on-wall": (0.6, 0.03, 0.8),
}
"""The same for what is carried by another thing, or hangs on a wall."""
BEND = 1.4
"""By how much more a model may be stretched one way than another; more looks wrong."""
STANDS = 0.25
"""Metres of a catalogue's elevation up to which a thing may as well stand on the floor."""
SMALLEST = 5
"""Tenths of their size to which things get smaller at most, to find room on what carries them."""
VARIED = frozenset({"different", "various", "assorted", "mixed", "diverse"})
Looks = Callable[[str, Sequence[Hit]], Sequence[Hit]]
"""Ranks hits for some words again, best first."""
Measure = Callable[[Sequence[Model]], Mapping[str, tuple[Size, Sequence[Surface]] | str]]
"""Looks into models' files: size and surfaces by id, or what is wrong with the model."""


@dataclass(frozen=True)
class Dressed:
    """A graph with a model for each asset that has one; sizes and surfaces are for the solver."""

    graph: SceneGraph
    models: Mapping[str, Model]
    sizes: Mapping[str, Size]
    surfaces: Mapping[str, tuple[Surface, ...]]
    missing: Mapping[str, str]
    """Assets that stand as plain blocks, and the nearest that there was."""
    lifts: Mapping[str, float] = field(default_factory=dict)
    """Metres above the floor, of what hangs."""


def dress(
    graph: SceneGraph, index: Index, measure: Measure | None = None, looks: Looks | None = None
) -> Dressed:
    """Models for the assets of ``graph``.

    Assets of the same words and size get the same model, unless the words ask for different ones;
    an asset that names its ``model`` gets that. A model that turns out to be broken is left out and
    the next one taken.

    Raises:
        UserError: an asset names a model that the index does not have.
    """
    chosen: dict[str, Model] = {}
    missing: dict[str, str] = {}
    for alike in _alike(graph):
        found, nearest = _found(index, alike, measure, looks)
        for n, asset in enumerate(alike):
            if found:
                chosen[asset.id] = found[n % len(found)]
            else:
                missing[asset.id] = nearest
    sizes, surfaces = {}, {}
    blocks = {r.assets[0]: BLOCKS[r.kind] for r in graph.relations if r.kind in BLOCKS}
    for asset in graph.assets:
        model = chosen.get(asset.id)
        own = model.size if model and model.size else None
        size = sized(asset, own, blocks.get(asset.id, BLOCK))
        sizes[asset.id] = size
        if model is not None:
            surfaces[asset.id] = scaled(model, size)
    for name, size in _fitting(graph, sizes, surfaces).items():
        sizes[name] = size
        if name in chosen:
            surfaces[name] = scaled(chosen[name], size)
    assets = tuple(
        a.model_copy(update={"model": chosen[a.id].id}) if a.id in chosen else a
        for a in graph.assets
    )
    lifts = {name: m.elevation for name, m in chosen.items() if m.elevation > STANDS}
    dressed = graph.model_copy(update={"assets": assets})
    return Dressed(dressed, chosen, sizes, surfaces, missing, lifts)


def _fitting(
    graph: SceneGraph, sizes: Mapping[str, Size], surfaces: Mapping[str, Sequence[Surface]]
) -> dict[str, Size]:
    """New sizes of things that would find no room together on what carries them.

    Catalogues have bowls of half a metre; four on a small cabinet are smaller ones. What has a
    wanted size keeps it, and nothing gets smaller than half of what it was.
    """
    free = {a.id for a in graph.assets if a.width is None and a.depth is None and a.height is None}
    carried: dict[str, list[str]] = {}
    for relation in graph.relations:
        if relation.kind == "on":
            carried.setdefault(relation.assets[1], []).append(relation.assets[0])
    found: dict[str, Size] = {}
    for host, names in carried.items():
        top = max(
            surfaces.get(host, ()),
            key=lambda s: (s.x[1] - s.x[0]) * (s.y[1] - s.y[0]),
            default=None,
        )
        if top is None or len(names) < 2:
            continue
        room = (top.x[1] - top.x[0], top.y[1] - top.y[0])
        for tenths in range(10, SMALLEST - 1, -1):
            share = tenths / 10
            if _packed([_shrunk(n, sizes, free, share) for n in names], room):
                break
        if share < 1.0:
            found |= {n: _shrunk(n, sizes, free, share) for n in names if n in free}
    return found


def _shrunk(name: str, sizes: Mapping[str, Size], free: Collection[str], share: float) -> Size:
    x, y, z = sizes[name]
    return (x * share, y * share, z * share) if name in free else (x, y, z)


def _packed(things: Sequence[Size], room: tuple[float, float], gap: float = 0.02) -> bool:
    """Whether things find room in rows from the front to the back, the deepest first."""
    left, deep, used = 0.0, 0.0, 0.0
    for x, y, _ in sorted(things, key=lambda size: -size[1]):
        if not deep or left + x > room[0]:
            used, left, deep = used + deep + (gap if deep else 0.0), 0.0, y
        left += x + gap
        if x > room[0] or used + deep > room[1]:
            return False
    return True


def sized(asset: Asset, own: Size | None, block: Size = BLOCK) -> Size:
    """Metres of an asset: what is wanted of it, the rest in the proportions of its model.

    Without a model the rest is that of a plain ``block``.

    Wanted lengths that would bend the model by more than :data:`BEND` count by their mean.
    """
    wanted = (asset.width, asset.depth, asset.height)
    if own is None:
        known = [w for w in wanted if w is not None]
        fill = sum(known) / len(known) if known else None
        width, depth, height = (w or fill or b for w, b in zip(wanted, block, strict=True))
        return (width, depth, height)
    ratios = [w / o for w, o in zip(wanted, own, strict=True) if w is not None]
    if not ratios:
        return own
    mean = sum(ratios) / len(ratios)
    if max(ratios) / min(ratios) > BEND:
        width, depth, height = (o * mean for o in own)
    else:
        width, depth, height = (w or o * mean for w, o in zip(wanted, own, strict=True))
    return (round(width, 5), round(depth, 5), round(height, 5))


def scaled(model: Model, size: Size) -> tuple[Surface, ...]:
    """Where things stand on a model of that size: as measured, else as its catalogue says."""
    own = model.size or size
    x, y, z = (s / o for s, o in zip(size, own, strict=True))
    found = model.surfaces
    if found is None:
        if model.rest is None:
            return ()
        half = (0.45 * own[0], 0.45 * own[1])
        found = (Surface(x=(-half[0], half[0]), y=(-half[1], half[1]), z=model.rest),)
    return tuple(s.scaled(x, y, z) for s in found)


def _alike(graph: SceneGraph) -> list[list[Asset]]:
    """Assets that are to look the same, in the order of the graph."""
    groups: dict[tuple[object, ...], list[Asset]] = {}
    for a in graph.assets:
        key = (a.what, a.width, a.depth, a.height, a.category, a.model)
        groups.setdefault(key, []).append(a)
    return list(groups.values())


def _found(
    index: Index, alike: Sequence[Asset], measure: Measure | None, looks: Looks | None
) -> tuple[list[Model], str]:
    """One model for all of ``alike``, or several where they are to differ; and the nearest."""
    asset = alike[0]
    if asset.model is not None:
        try:
            hits = [Hit(index[asset.model], 2.0)]
        except KeyError:
            raise UserError(
                f"{asset.id} is to be the model {asset.model!r}, which is not in the index",
                "see upspiral scenes search",
            ) from None
    else:
        lengths = {"width": asset.width, "depth": asset.depth, "height": asset.height}
        wanted = {name: value for name, value in lengths.items() if value is not None}
        hits = search(index, asset.what, category=asset.category, wanted=wanted)
    nearest = hits[0].model.name if hits else "nothing"
    hits = [hit for hit in hits if hit.score >= SURE]
    if looks is not None and len(hits) > 1:
        hits = list(looks(asset.what, hits))
    varied = bool(VARIED & set(tokens(asset.what)))
    count = len(alike) if varied else 1
    found: list[Model] = []
    for hit in hits:
        model = _measured(index, hit.model, measure)
        if model is not None:
            found.append(model)
        if len(found) == count:
            break
    return found, nearest


def _measured(index: Index, model: Model, measure: Measure | None) -> Model | None:
    """The model with its size and surfaces; None if it is broken."""
    if measure is None or (model.surfaces is not None and model.size is not None):
        return model
    told = measure([model])[model.id]
    if isinstance(told, str):
        index.broken(model.id, told)
        return None
    size, surfaces = told
    return index.measured(model.id, size, surfaces)
