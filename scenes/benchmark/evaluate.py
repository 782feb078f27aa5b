"""The benchmark run: arms over queries, with standard errors and paired differences.

Texts of one scene are no independent samples, so figures are means over scenes of the mean over a
scene's texts, and n counts scenes. Each answer is a line of a file as soon as it is there, so that
a run that was cut off goes on where it was, and several may share the work.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from common.artifacts import disk_errors
from common.gate import PairedInterval, paired_interval
from common.records import Metric, identity
from common.skills import SkillLibrary
from common.stages import Progress
from scenes.assets.index import Index
from scenes.benchmark.arms import ARMS, Answer, Arm, Bench
from scenes.benchmark.pictures import Pictures
from scenes.benchmark.queries import Query
from scenes.graph import Strict
from scenes.layout import SolverConfig
from scenes.planners import Planner
from scenes.skills import starting, using

COUNTED = ("count", "size")
"""Constraints on objects alone, which hold without any layout."""
FIGURES = ("constraint", "relations", "all placed", "no collisions", "clip", "seconds")
"""Shares of constraints that hold, of all and of those between objects and to the room; of texts of
which every object stands there as a model; of texts without a collision; CLIP's cosine with the
text where a picture was made; seconds for a text."""


class Row(Strict):
    """What came of one text."""

    key: str
    arm: Arm
    id: str
    scene: str
    figures: dict[str, float]
    broken: dict[str, tuple[int, int]]
    """By kind of constraint: how many do not hold, of how many."""
    refused: str = ""


@dataclass(frozen=True)
class Report:
    """The rows of a run."""

    rows: tuple[Row, ...]

    @property
    def arms(self) -> list[Arm]:
        return [a for a in ARMS if any(r.arm == a for r in self.rows)]

    def figures(self, arm: Arm) -> dict[str, Metric]:
        """Means over scenes."""
        return figures([r for r in self.rows if r.arm == arm])

    def broken(self, arm: Arm) -> dict[str, tuple[int, int]]:
        """By kind of constraint: how many did not hold, of how many; none of kinds that all did."""
        found: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            if row.arm == arm:
                for kind, (a, b) in row.broken.items():
                    was = found.get(kind, (0, 0))
                    found[kind] = (was[0] + a, was[1] + b)
        return {kind: pair for kind, pair in sorted(found.items()) if pair[0]}

    def differences(self) -> dict[Arm, dict[str, PairedInterval]]:
        """What each arm gains against the first, over the scenes that both answered."""
        arms = self.arms
        first = self.figures(arms[0])
        found: dict[Arm, dict[str, PairedInterval]] = {}
        for arm in arms[1:]:
            found[arm] = {}
            for name, metric in self.figures(arm).items():
                both = first[name].items.keys() & metric.items.keys()
                if both and name != "seconds":
                    a, b = ({s: m.items[s] for s in both} for m in (first[name], metric))
                    found[arm][name] = paired_interval(a, b)
        return found

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "texts": len({r.id for r in self.rows}),
            "arms": {
                arm: {
                    **{n: {"value": m.value, "se": m.se, "n": m.n}
                       for n, m in self.figures(arm).items()},
                    "broken": self.broken(arm),
                }
                for arm in self.arms
            },
            "against": self.arms[0],
            "differences": {
                arm: {n: d._asdict() for n, d in found.items()}
                for arm, found in self.differences().items()
            },
        }  # fmt: skip


def evaluate(
    queries: Sequence[Query],
    index: Index,
    planner: Planner,
    *,
    library: SkillLibrary | None = None,
    arms: Sequence[Arm] = ARMS,
    seed: int = 0,
    solver: SolverConfig | None = None,
    pictures: Pictures | None = None,
    pictured: Collection[str] = (),
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Every arm over every query.

    ``library`` is what the full system and its parts use; None is this project's own relations.
    ``pictures`` are made of the queries ``pictured``, by their ids.
    ``keep`` is a file of rows: those that are there are not made again, new ones are added.
    """
    there, trying = _kept(keep), solver or SolverConfig()
    state = library.fingerprint() if library is not None else "own"
    rows: list[Row] = []
    for arm in arms:
        skills = starting("published") if arm == "no-library" else library
        bench = Bench(index, planner, seed, trying)
        with using(skills):
            for query in queries:
                seen = pictures is not None and query.id in pictured
                key = identity(
                    "row", arm, query.model_dump_json(), seed, state, asdict(trying), seen
                )
                row = there.get(key)
                if row is None:
                    answer = bench.answer(query, arm)
                    row = judged(key, arm, query, answer)
                    if seen and pictures is not None and answer.staged is not None:
                        row.figures["clip"] = pictures.cosine(answer.staged, query.text)
                    _keep(keep, row)
                rows.append(row)
                if progress is not None:
                    progress(len(rows), len(arms) * len(queries), "texts answered")
    return Report(tuple(rows))


def judged(key: str, arm: Arm, query: Query, answer: Answer) -> Row:
    """The row of one answer."""
    v = answer.verdict
    kinds: dict[str, tuple[int, int]] = {}
    for c, held in zip(v.constraints, v.held, strict=True):
        a, b = kinds.get(c.kind, (0, 0))
        kinds[c.kind] = (a + (not held), b + 1)
    found = {
        "constraint": v.score,
        "all placed": float(v.placed == v.asked),
        "no collisions": float(not v.collisions),
        "seconds": answer.seconds,
    }
    said = [held for c, held in zip(v.constraints, v.held, strict=True) if c.kind not in COUNTED]
    if said:
        found["relations"] = sum(said) / len(said)
    return Row(
        key=key, arm=arm, id=query.id, scene=query.scene, figures=found, broken=kinds,
        refused=answer.refused,
    )  # fmt: skip


def figures(rows: Sequence[Row]) -> dict[str, Metric]:
    """Means over scenes with their standard errors, in the order of :data:`FIGURES`."""
    found = {}
    for name in FIGURES:
        values: dict[str, list[float]] = {}
        for row in rows:
            if name in row.figures:
                values.setdefault(row.scene, []).append(row.figures[name])
        if values:
            found[name] = metric(name, {s: float(np.mean(v)) for s, v in values.items()})
    return found


def metric(name: str, items: Mapping[str, float]) -> Metric:
    """Mean and standard error over items."""
    scores = np.array(list(items.values()), dtype=float)
    se = float(scores.std(ddof=1)) / sqrt(len(scores)) if len(scores) > 1 else float("inf")
    return Metric(name, float(scores.mean()), se, len(scores), items=dict(items))


def _kept(path: Path | None) -> dict[str, Row]:
    """Rows of a file; a last line that was cut off does not count."""
    found: dict[str, Row] = {}
    if path is not None and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = Row.model_validate_json(line)
            except ValidationError:
                continue
            found[row.key] = row
    return found


def _keep(path: Path | None, row: Row) -> None:
    if path is None:
        return
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row.model_dump(mode="json")) + "\n")
