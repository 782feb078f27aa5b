"""What a layout scores, whoever made it: the yardstick for graphs that were changed meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scenes.graph import Layout, SceneGraph, Surface
from scenes.layout.elsewhere import scored, walled
from scenes.layout.problem import Problem
from scenes.relations import Scores


def score(
    graph: SceneGraph, layout: Layout, surfaces: Mapping[str, Sequence[Surface]] | None = None
) -> Scores:
    """The scores of the relations of ``graph`` in ``layout``; 0 where one of its assets is missing.

    ``surfaces`` are at the sizes from before a placement's own scale.

    Raises:
        UserError: as :class:`~scenes.layout.problem.Problem` does.
    """
    if (these := walled.get()) is not None:
        return Scores(graph.relations, tuple(scored(these, graph, layout, surfaces)))
    there = [n for n, r in enumerate(graph.relations) if all(a in layout for a in r.assets)]
    left = graph.model_copy(
        update={
            "assets": tuple(a for a in graph.assets if a.id in layout),
            "relations": tuple(graph.relations[n] for n in there),
        }
    )
    values = [0.0] * len(graph.relations)
    if there:
        offered = {
            name: [s.scaled(*(layout[name].scale,) * 3) for s in found]
            for name, found in (surfaces or {}).items()
            if name in layout
        }
        problem = Problem(left, {a.id: layout[a.id].size for a in left.assets}, offered)
        found = problem.judged(problem.standing(layout)).values
        for n, value in zip(there, found, strict=True):
            values[n] = value
    return Scores(graph.relations, tuple(values))
