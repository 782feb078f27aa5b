"""SceneCraft's inner loop: craft a scene, look at it, revise it (arXiv 2403.01248, section 3).

    upspiral scenes craft "a round table with four chairs around it" --out room/

A planner makes a graph of the text; the graph is dressed, laid out and shown; critics say what is
wrong and what to change; the changed graph is dressed, laid out and shown again. It is
:func:`common.refine.refine` with a scene for a candidate. Deviations from the paper: what critics
propose are edits of the graph and not of a script; an edit is kept only if the deterministic score
(:func:`~scenes.critics.geometry.measure`) does not fall; and the loop ends as soon as nothing is
left to mend or nothing helps, where the paper always takes four steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from common.policies.served import ServedError
from common.records import Candidate, Task, identity
from common.refine import Critique, refine
from scenes.assets.index import Index
from scenes.critics import Critic, Criticism, Finding, Shot, Staged
from scenes.critics.geometry import Geometry, Measures, measure
from scenes.dress import Looks
from scenes.edits import Edit, LayOutAgain, LookFrom, apply
from scenes.graph import SceneGraph
from scenes.layout import SolverConfig
from scenes.planners import Plan, Planner
from scenes.planners.rules import Rules
from scenes.render.pool import Workers
from scenes.render.views import View
from scenes.shoot import State, Studio

Progress = Callable[[int, int, str], None]
TRIES = 6
"""Findings that are tried in a step before nothing is said to help."""


@dataclass(frozen=True)
class CraftConfig:
    """How a scene is crafted. ``steps`` counts the draft; the pictures are ``width`` by ``height``
    pixels with so many ``samples`` each."""

    steps: int = 4
    seed: int = 0
    view: View = "front"
    width: int = 800
    height: int = 600
    samples: int = 8
    solver: SolverConfig = SolverConfig()


class Tried(NamedTuple):
    """A change that a critic proposed, and what came of it; kept if the score did not fall."""

    critic: str
    finding: Finding
    kept: bool
    measures: Measures | None
    """None where the edits could not be made."""


@dataclass(frozen=True)
class Step:
    """One state on the way: what it measures, what critics said, and what was tried to get here."""

    staged: Staged
    """A :class:`~scenes.critics.Shot` where pictures are made."""
    measures: Measures
    criticisms: tuple[Criticism, ...]
    tried: tuple[Tried, ...]
    """The last is what made this step; empty for the draft."""
    parent: int | None = None
    """The step that it changed."""

    @property
    def picture(self) -> Path | None:
        return self.staged.picture if isinstance(self.staged, Shot) else None

    @property
    def score(self) -> float:
        """The mean of the critics' scores."""
        return sum(c.score for c in self.criticisms) / max(len(self.criticisms), 1)


@dataclass(frozen=True)
class Crafted:
    """A crafted scene and the way there. ``accepted``: no critic finds anything to mend."""

    text: str
    plan: Plan
    steps: tuple[Step, ...]
    chosen: int
    accepted: bool
    futile: tuple[Tried, ...]
    """What was tried after the last step and did not help."""
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Step:
        return self.steps[self.chosen]

    @property
    def graph(self) -> SceneGraph:
        """With the models that stand for its assets."""
        return self.best.staged.dressed.graph

    @property
    def measures(self) -> Measures:
        return self.best.measures

    @property
    def clip_score(self) -> float | None:
        """What the CLIP critic gives the chosen step, if it was asked."""
        return next((c.score for c in self.best.criticisms if c.critic == "clip"), None)


def craft(
    wanted: str | SceneGraph,
    index: Index,
    *,
    planner: Planner | None = None,
    critics: Sequence[Critic] | None = None,
    workers: Workers | None = None,
    out: Path | None = None,
    looks: Looks | None = None,
    config: CraftConfig = CraftConfig(),
    progress: Progress | None = None,
    kept: Callable[[Step, int], None] | None = None,
) -> Crafted:
    """The scene of a text or of a graph, refined.

    Without ``workers`` nothing is looked at: constraints and collisions only, and no Blender. With
    them, what the camera sees counts too; with ``out`` besides, each step is rendered there as
    ``step-0.png``, ``step-1.png`` and so on. Critics other than the geometric one need pictures.

    Args:
        planner: the rules by default; not asked where a graph is given.
        critics: the geometric one by default.
        kept: told of each step as soon as it is there, and its number.

    Raises:
        UserError: a text that names nothing, too many things, models or relations that are not
            there, a critic without pictures.
        RenderError, OSError: Blender failed; the disk is full. Pictures of earlier steps stay.
    """
    begun = time.monotonic()
    if config.steps < 1:
        raise UserError(f"{config.steps} steps", "ask for 1 or more")
    chosen = list(critics) if critics is not None else [Geometry(index)]
    blind = [c.name for c in chosen if not isinstance(c, Geometry)]
    if blind and (workers is None or out is None):
        raise UserError(f"{', '.join(blind)} cannot judge without a picture", "render the steps")
    plan = Plan(wanted) if isinstance(wanted, SceneGraph) else (planner or Rules()).plan(wanted)
    if not plan.graph.assets:
        raise UserError("a scene of nothing", "name at least one asset")
    text = wanted if isinstance(wanted, str) else wanted.text
    aspect = config.width / config.height
    studio = Studio(index, workers, looks, config.solver, aspect)
    loop = _Loop(text, plan.graph, studio, chosen, config, out, progress, kept)
    task = Task(identity("craft", text, plan.graph.dump()), text)
    found = refine(
        task,
        draft=loop.draft,
        critique=lambda _, step: loop.critique(step),
        revise=lambda task, step, _: loop.revise(task, step),
        accept=lambda step, _: loop.accept(step),
        budget=config.steps,
        from_best=True,
    )
    steps = tuple(loop.steps.values())
    return Crafted(
        text=text,
        plan=plan,
        steps=steps,
        chosen=[*loop.steps].index(found.best.id),
        accepted=found.accepted,
        futile=tuple(loop.tried),
        seconds=time.monotonic() - begun,
        notes=tuple(loop.notes),
    )


class _Loop:
    """The stages of refinement, and what they remember: every step, and what has been tried."""

    def __init__(
        self,
        text: str,
        graph: SceneGraph,
        studio: Studio,
        critics: Sequence[Critic],
        config: CraftConfig,
        out: Path | None,
        progress: Progress | None,
        kept: Callable[[Step, int], None] | None,
    ) -> None:
        self.text, self.graph, self.studio = text, graph, studio
        self.critics, self.config, self.out = list(critics), config, out
        self.progress, self.kept = progress, kept
        self.steps: dict[str, Step] = {}
        self.tried: list[Tried] = []
        """Since the last step."""
        self.notes: list[str] = []
        self._made: Staged | None = None
        self._known: set[str] = set()
        self._seeds = 0

    def draft(self, task: Task) -> Candidate:
        """The graph as it was planned."""
        self._tell(0)
        state = State(self.graph, self.config.seed, self.config.view)
        return self._candidate(task, self.studio.stage(state, text=self.text))

    def critique(self, step: Candidate) -> Critique:
        """The state that was just made, rendered and looked at by every critic."""
        made, number = self._made, len(self.steps)
        assert made is not None
        if self.studio.workers is not None and self.out is not None:
            path, config = self.out / f"step-{number}.png", self.config
            shot = self.studio.shoot(made, path, config.width, config.height, config.samples)
            self.notes += [note for note in shot.notes if note not in self.notes]
            made = shot
        said = tuple(c for critic in list(self.critics) if (c := self._asked(critic, made)))
        parent = [*self.steps].index(step.parent) if step.parent is not None else None
        found = Step(made, measure(made), said, tuple(self.tried), parent)
        self.steps[step.id] = found
        self.tried = []
        self._tell(number + 1)
        if self.kept is not None:
            self.kept(found, number)
        text = "\n".join(f"{c.critic}: {f.what}" for c in said for f in c.findings)
        return Critique(found.score, text)

    def accept(self, step: Candidate) -> bool:
        """Whether no critic finds anything."""
        return not any(c.findings for c in self.steps[step.id].criticisms)

    def revise(self, task: Task, step: Candidate) -> Candidate | None:
        """The first change proposed that does not make the deterministic score fall.

        What the geometric critic proposes has to make it rise: it judges by that score itself.
        """
        base = self.steps[step.id]
        left = TRIES
        for criticism in base.criticisms:
            for finding in criticism.findings:
                key = identity(step.id, [e.model_dump(mode="json") for e in finding.edits])
                if not finding.edits or key in self._known or not left:
                    continue
                self._known.add(key)
                left -= 1
                made = self._edited(base.staged, finding.edits)
                now = measure(made) if isinstance(made, Staged) else None
                better = now is not None and now.rank > base.measures.rank
                same = now is not None and now.rank == base.measures.rank
                keep = better or (same and criticism.critic != Geometry.name)
                self.tried.append(Tried(criticism.critic, finding, keep, now))
                if isinstance(made, Staged) and keep:
                    return self._candidate(task, made)
                if isinstance(made, str):
                    self.notes.append(f"{criticism.critic}: {made}")
        self._tell(self.config.steps)
        return None

    def _edited(self, base: Staged, edits: Sequence[Edit]) -> Staged | str:
        """The state with ``edits`` made, or what keeps them from being made."""
        try:
            graph = apply(base.dressed.graph, edits)
            seed, view = base.seed, base.view
            for edit in edits:
                if isinstance(edit, LayOutAgain):
                    self._seeds += 1
                    seed = self.config.seed + self._seeds
                elif isinstance(edit, LookFrom):
                    view = edit.view
            return self.studio.stage(State(graph, seed, view), base.asked, base, self.text)
        except UserError as error:
            return error.message

    def _asked(self, critic: Critic, made: Staged) -> Criticism | None:
        """What a critic says; one whose server fails is not asked again."""
        try:
            return critic.look(made)  # type: ignore[arg-type]  # a Geometry needs no picture
        except ServedError as error:
            self.notes.append(f"the critic {critic.name} gave up: {error}")
            self.critics.remove(critic)
            return None

    def _candidate(self, task: Task, made: Staged) -> Candidate:
        self._made = made
        meta: Mapping[str, object] = {"seed": made.seed, "view": made.view}
        return Candidate("", task.id, 0, made.dressed.graph.dump(), meta=meta)

    def _tell(self, done: int) -> None:
        if self.progress is not None:
            self.progress(done, self.config.steps, "steps")
