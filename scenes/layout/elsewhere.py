"""Layouts whose scores a model wrote: solved and scored in the sandbox, never in this process.

What a job gets is data and sources; what comes back is data and is checked. A second or two more a
layout, for a fresh process that loads torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from common import sandbox
from common.errors import UserError
from scenes.graph import Layout, Placement, SceneGraph, Surface

ROOT = Path(__file__).parents[2]
FILES: Mapping[str, Path] = {"common": ROOT / "common", "scenes": ROOT / "scenes"}
"""What a job imports besides installed packages."""
SECONDS = 300.0
_LAYOUT = TypeAdapter(Layout)
_DRIVER = """
import json, sys
from dataclasses import replace
sys.path.insert(0, "../in")
job = json.load(open("../in/job.json"))
from scenes.graph import Placement, SceneGraph, Surface
from scenes.layout import SolverConfig, score, solve
from scenes.relations import KINDS
for name, source in job["sources"].items():
    space = {"__name__": name}
    exec(compile(job["prelude"], "prelude", "exec"), space)
    exec(compile(source, name, "exec"), space)
    KINDS[name] = replace(KINDS[name], score=space[name.replace("-", "_")])
graph = SceneGraph.model_validate(job["graph"])
surfaces = {n: [Surface.model_validate(s) for s in of] for n, of in job["surfaces"].items()}
start = job["start"] and {n: Placement.model_validate(p) for n, p in job["start"].items()}
if job["what"] == "score":
    found = {"values": score(graph, start, surfaces).values}
else:
    made = solve(graph, job["sizes"], surfaces, lifts=job["lifts"], seed=job["seed"],
                 config=SolverConfig(**job["config"]), start=start)
    found = {"values": made.scores.values, "collisions": made.collisions,
             "outside": made.outside, "seconds": made.seconds,
             "layout": {n: p.model_dump() for n, p in made.layout.items()}}
json.dump(found, open("found.json", "w"))
"""


@dataclass(frozen=True)
class Walled:
    """Sources of relations, by kind, that only the sandbox may run, and their ``prelude``."""

    sources: Mapping[str, str]
    prelude: str


walled: ContextVar[Walled | None] = ContextVar("walled", default=None)
"""Set while such relations are in use; :func:`scenes.layout.solve` heeds it."""


def solved(
    these: Walled,
    graph: SceneGraph,
    sizes: Mapping[str, tuple[float, float, float]],
    surfaces: Mapping[str, Sequence[Surface]] | None,
    lifts: Mapping[str, float] | None,
    seed: int,
    config: Any,
    start: Layout | None,
) -> tuple[Layout, dict[str, Any]]:
    """A layout of ``graph`` and what was said of it; see :func:`scenes.layout.solve`.

    Raises:
        UserError: a relation's source failed, or what came back is no layout of the graph.
    """
    more = {"sizes": dict(sizes), "lifts": dict(lifts or {}), "seed": seed}
    found = _run(these, "solve", graph, surfaces, start, config=asdict(config), **more)
    try:
        layout = _LAYOUT.validate_python(found["layout"])
        if set(layout) != {a.id for a in graph.assets}:
            raise ValueError("it places other assets")
    except (ValidationError, ValueError, KeyError) as error:
        raise UserError(f"no layout came back: {error}", "roll the library back") from error
    return layout, found


def scored(
    these: Walled,
    graph: SceneGraph,
    layout: Layout,
    surfaces: Mapping[str, Sequence[Surface]] | None,
) -> list[float]:
    """See :func:`scenes.layout.score`."""
    return values(_run(these, "score", graph, surfaces, layout), len(graph.relations))


def values(found: Mapping[str, Any], count: int) -> list[float]:
    """Scores that came back, each held to [0, 1]; a NaN is 0."""
    try:
        said = [float(v) for v in found["values"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("no scores came back", "roll the library back") from error
    if len(said) != count:
        raise UserError(f"{len(said)} scores of {count} came back", "roll the library back")
    return [min(max(v, 0.0), 1.0) if v == v else 0.0 for v in said]


def _run(
    these: Walled,
    what: str,
    graph: SceneGraph,
    surfaces: Mapping[str, Sequence[Surface]] | None,
    start: Layout | None,
    **more: Any,
) -> dict[str, Any]:
    def plain(placements: Mapping[str, Placement] | None) -> Any:
        return placements and {n: p.model_dump() for n, p in placements.items()}

    job = {
        "what": what,
        "sources": dict(these.sources),
        "prelude": these.prelude,
        "graph": graph.model_dump(mode="json"),
        "surfaces": {n: [s.model_dump() for s in of] for n, of in (surfaces or {}).items()},
        "start": plain(start),
        **more,
    }
    ran = sandbox.run(
        _DRIVER,
        files={**FILES, "job.json": json.dumps(job).encode()},
        limits=sandbox.Limits(seconds=SECONDS, cpu_seconds=int(SECONDS), memory=4096 * sandbox.MIB),
        check=False,  # of the driver; sources are checked when a library takes them
    )
    if ran.status != "ok" or "found.json" not in ran.files:
        raise UserError(f"a learnt relation failed: {ran.why}", "roll the library back")
    try:
        found: dict[str, Any] = json.loads(ran.files["found.json"])
        return found
    except ValueError as error:
        raise UserError("a learnt relation wrote no JSON", "roll the library back") from error
