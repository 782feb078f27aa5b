"""The geometric critic: what can be measured, and the only one that the inner loop obeys.

SceneCraft has a vision-language model look at the render and name what does not hold (arXiv
2403.01248, section 3). What holds is geometry, and geometry can be measured: the score of each
constraint, how much of each thing the camera sees (by an object index), what shares space, what has
no model. :func:`measure` is the deterministic score by which edits of every critic are kept or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from scenes.assets.index import Index
from scenes.assets.model import Model
from scenes.assets.search import SURE, search
from scenes.critics import Criticism, Finding, Staged
from scenes.edits import AddRelation, Edit, LayOutAgain, LookFrom, Replace, Resize, Weigh
from scenes.graph import Relation
from scenes.layout import score
from scenes.relations import HOLDS, Scores

SEEN = 0.2
"""The share of a thing that has to be in sight for it to count as visible."""
HEAVIER = 3.0
"""By how much more a constraint counts that does not hold."""
TRIES = 3
"""Other models that are proposed for one that cannot carry what it should."""


class Measures(NamedTuple):
    """The deterministic score of a state, by what was asked for in the first place."""

    constraint_score: float
    """Weighted mean over the constraints asked for; one whose asset is gone scores 0."""
    asked: int
    """Things asked for."""
    placed: int
    """Those that stand there as a model, within the room."""
    visible: int | None
    """Those that the camera sees; None where nobody looked."""
    collisions: int
    """Pairs of solid things that share space."""

    @property
    def rank(self) -> tuple[float, float, int]:
        """What must not fall: constraints, then what is seen, then collisions.

        To a thousandth, below which a difference is the solver's noise.
        """
        seen = self.placed if self.visible is None else min(self.visible, self.placed)
        return round(self.constraint_score, 3), seen / max(self.asked, 1), -self.collisions

    @property
    def score(self) -> float:
        """One number in [0, 1]: 1 where everything asked for holds, stands and is seen."""
        if not self.asked:
            return 1.0
        _, seen, _ = self.rank
        return self.constraint_score * seen * max(0.0, 1 - self.collisions / self.asked)


def constraints(staged: Staged) -> Scores:
    """What each constraint that was asked for scores as things stand now."""
    asked = staged.asked or staged.dressed.graph
    if asked.relations == staged.dressed.graph.relations:
        return Scores(asked.relations, staged.solution.scores.values)
    return score(asked, staged.solution.layout, staged.dressed.surfaces)


def measure(staged: Staged) -> Measures:
    """See :class:`Measures`."""
    asked = staged.asked or staged.dressed.graph
    wanted = {a.id for a in asked.assets}
    gone = {*staged.dressed.missing, *staged.solution.outside}
    placed = [a for a in wanted if a in staged.solution.layout and a not in gone]
    seen = None
    if staged.sights or not staged.scene.things:
        seen = sum(s.id in wanted and s.visible >= SEEN * s.whole > 0 for s in staged.sights)
    return Measures(
        constraint_score=constraints(staged).mean,
        asked=len(wanted),
        placed=len(placed),
        visible=seen,
        collisions=len(staged.solution.collisions),
    )


@dataclass(frozen=True)
class Geometry:
    """See the module. ``index`` is where other models are looked for; without it none are."""

    index: Index | None = None
    name: str = "geometry"

    def look(self, shot: Staged) -> Criticism:
        """What is wrong with ``shot``, worst first; needs no picture."""
        findings = [
            *self._missing(shot),
            *self._constraints(shot),
            *_crowded(shot),
            *_unseen(shot),
        ]
        return Criticism(critic=self.name, score=measure(shot).score, findings=tuple(findings))

    def _missing(self, shot: Staged) -> Iterator[Finding]:
        for asset, nearest in shot.dressed.missing.items():
            what = shot.dressed.graph[asset].what
            yield Finding(
                what=f"There is no model of {what!r}; {asset} is a plain block (nearest: {nearest})"
            )

    def _constraints(self, shot: Staged) -> Iterator[Finding]:
        """Those that do not hold, worst first, each with one remedy after the other."""
        graph = shot.dressed.graph
        values = shot.solution.scores.values
        order = sorted((v, n) for n, v in enumerate(values) if v < HOLDS)
        for value, n in order:
            said = graph.relations[n]
            what = f"{said} scores {value:.2f}"
            for edits in self._remedies(shot, n, said):
                yield Finding(what=what, edits=edits)
        if order:
            worst, n = order[0]
            yield Finding(
                what=f"{len(order)} of {len(values)} constraints do not hold, worst "
                f"{graph.relations[n]} with {worst:.2f}",
                edits=(LayOutAgain(),),
            )

    def _remedies(self, shot: Staged, n: int, said: Relation) -> Iterator[tuple[Edit, ...]]:
        if said.kind in ("on", "inside"):
            guest, host = said.assets
            fit = _fitting(shot, guest, host)
            if fit is not None:
                yield (fit,)
            for other in self._others(shot, host):
                yield (Replace(asset=host, model=other.id),)
        if said.weight * HEAVIER <= 100:
            yield (Weigh(index=n, weight=said.weight * HEAVIER),)

    def _others(self, shot: Staged, asset: str) -> list[Model]:
        """Other models of the same words, that have a place to stand on as far as is known."""
        if self.index is None:
            return []
        now = shot.dressed.models.get(asset)
        hits = search(self.index, shot.dressed.graph[asset].what)
        fit = [
            hit.model
            for hit in hits
            if hit.score >= SURE
            and (now is None or hit.model.id != now.id)
            and (hit.model.surfaces or (hit.model.surfaces is None and hit.model.rest))
        ]
        return fit[:TRIES]


def _fitting(shot: Staged, guest: str, host: str) -> Resize | None:
    """The guest as large as the host's largest surface lets it be; None if it fits, or hardly."""
    offers = shot.dressed.surfaces.get(host, ())
    if not offers:
        return None
    width, depth, height = shot.dressed.sizes[guest]
    best = max(offers, key=lambda s: (s.x[1] - s.x[0]) * (s.y[1] - s.y[0]))
    shares = [(best.x[1] - best.x[0]) / width, (best.y[1] - best.y[0]) / depth]
    if best.clearance is not None:
        shares.append(best.clearance / height)
    by = min(shares)
    if not 0.4 <= by < 1:  # a thing of less than half its size is another thing
        return None
    return Resize(asset=guest, width=width * by, depth=depth * by, height=height * by)


def _crowded(shot: Staged) -> Iterator[Finding]:
    for a, b, share in shot.solution.collisions:
        what = f"{a} and {b} share space: {share:.0%} of the smaller one"
        yield Finding(what=what, edits=(LayOutAgain(),))
        apart = Relation(kind="apart", assets=(a, b), options={"distance": 0.05}, weight=2.0)
        yield Finding(what=what, edits=(AddRelation(relation=apart),))
    for asset in shot.solution.outside:
        yield Finding(what=f"{asset} stands beyond the walls", edits=(LayOutAgain(),))


def _unseen(shot: Staged) -> Iterator[Finding]:
    """Things out of the picture or behind others, and where they might be seen from."""
    hidden = [s for s in shot.sights if s.visible < SEEN * max(s.whole, 1)]
    if not hidden:
        return
    told = ", ".join(
        f"{s.id} ({'outside the picture' if s.outside > s.hidden else 'behind others'})"
        for s in hidden
    )
    # From behind, what is left of a thing would be seen on its right; from above things are hardly
    # to be recognised, so that comes last.
    remedies: list[Edit] = [LookFrom(view="corner"), LookFrom(view="front")]
    for edit in (*remedies, LayOutAgain(), LookFrom(view="top")):
        if isinstance(edit, LookFrom) and edit.view == shot.view:
            continue
        yield Finding(what=f"Hardly to be seen: {told}", edits=(edit,))
