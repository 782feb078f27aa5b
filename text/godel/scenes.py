"""The schedule of the layout solver as something to improve: no text task, no model in the policy.

A question describes a scene; the answer says how hard to search for its layout (JSON, the fields of
:class:`scenes.layout.SolverConfig`). The host lays the scene out by it and scores

    mean relation score - 0.25 if things collide or stick out - PRICE x effort,

where effort counts gradient steps, moves (two each) and starts (four each). More search finds
better layouts and costs more, so a good schedule depends on the scene. Scenes are those of the
benchmark (:mod:`scenes.benchmark`): validation from its dev split, test from its test split.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from common.errors import UserError
from common.records import Task, identity
from text.godel.environment import Environment

if TYPE_CHECKING:
    from scenes.dress import Dressed

PRICE = 0.0005
"""Of one gradient step."""
POLICY = '''"""How hard the solver searches: `solve(question, ask)` returns settings as JSON."""

import json

SCHEDULE = {"starts": 6, "steps": 60, "moves": 60, "rate": 0.03, "temperature": 0.02}


def solve(question, ask):
    """The settings for one scene."""
    return json.dumps(SCHEDULE)
'''
ABOUT = f"""Say how hard a solver of furniture layouts searches. A question is a JSON object that
describes a scene; the answer is a JSON object with "starts" (1 to 12 layouts side by side), "steps"
(0 to 120 gradient steps), "moves" (0 to 120 pieces taken out and put elsewhere), "rate" (0.001 to
0.3) and "temperature" (0 to 0.3, of the first moves). The score is what the layout's relations
score (0 to 1), less 0.25 if things collide, less {PRICE:g} for each step, {2 * PRICE:g} for each
move and {4 * PRICE:g} for each start. One of the questions:
"""


def load(validation: int, test: int) -> Environment:
    """Scenes of the benchmark's dev and test splits.

    Raises:
        UserError: there are fewer, or the packages for scenes are not installed.
    """
    try:
        from scenes.benchmark.queries import builtin
    except ModuleNotFoundError as error:
        raise UserError(f"scenes need {error.name}", "pip install 'upspiral[scenes]'") from error
    pools = {"dev": builtin("dev", each=1), "test": builtin("test", each=1)}
    for split, wanted in (("dev", validation), ("test", test)):
        if not 2 <= wanted <= len(pools[split]):
            raise UserError(
                f"{wanted} scenes of {split}", f"ask for 2 to {len(pools[split])} of them"
            )
    held = tuple(_task(q.text, "dev") for q in pools["dev"][:validation])
    last = tuple(_task(q.text, "test") for q in pools["test"][:test])
    about = f"{ABOUT}\n{held[0].prompt}"
    return Environment(about, held, last, score, "score", POLICY)


def _task(text: str, split: str) -> Task:
    graph = _dressed(text).graph
    kinds: dict[str, int] = {}
    for relation in graph.relations:
        kinds[relation.kind] = kinds.get(relation.kind, 0) + 1
    question = json.dumps({"things": len(graph.assets), "relations": kinds})
    name = identity("godel scenes", split, text)
    # The scene itself stays with the host, as answers to other tasks do.
    return Task(name, question, "dev" if split == "dev" else "test", text)


@cache
def _dressed(text: str) -> Dressed:
    """A scene with plain blocks: no models are needed to judge a layout."""
    from scenes.assets.index import Index
    from scenes.dress import dress
    from scenes.planners.rules import Rules

    return dress(Rules().plan(text).graph, Index())


def score(task: Task, answer: str) -> float:
    """What a schedule is worth for a scene; 0 where it is none."""
    from scenes.graph import Strict
    from scenes.layout import SolverConfig, solve

    class Schedule(Strict):
        starts: int = Field(ge=1, le=12)
        steps: int = Field(ge=0, le=120)
        moves: int = Field(ge=0, le=120)
        rate: float = Field(ge=0.001, le=0.3)
        temperature: float = Field(ge=0, le=0.3)

    try:
        schedule = Schedule.model_validate_json(answer)
    except ValidationError:
        return 0.0
    scene = _dressed(str(task.reference))
    found = solve(
        scene.graph,
        scene.sizes,
        scene.surfaces,
        lifts=scene.lifts,
        config=SolverConfig(**schedule.model_dump()),
    )
    scores = found.scores.values
    worth = sum(scores) / len(scores) if scores else 1.0
    worth -= 0.25 if found.collisions or found.outside else 0.0
    return worth - PRICE * (schedule.steps + 2 * schedule.moves + 4 * schedule.starts)
