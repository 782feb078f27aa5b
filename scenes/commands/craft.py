"""``upspiral scenes craft``: a sentence becomes a scene."""

from __future__ import annotations

import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from scenes.critics.clip import ClipCritic
    from scenes.graph import SceneGraph
    from scenes.render.pool import Workers


@dataclass(frozen=True)
class Craft:
    """Make a Blender scene of a sentence: plan, lay out, look, revise.

    The folder then holds scene.blend, scene.glb, scene.py, graph.json, a picture a step and
    report.html (docs/scenes.md).
    """

    text: tyro.conf.Positional[str | None] = None
    """What to show, or @FILE with it."""
    out: Path = Path("room")
    """The folder for the scene."""
    graph: Path | None = None
    """Start from this scene graph instead of a sentence."""
    planner: Literal["rules", "smollm2", "served"] = "rules"
    """Who reads the sentence."""
    critic: str = "geometry"
    """Who looks at the steps: geometry, clip, vision, or several with commas."""
    model: str | None = None
    """The name of the served model, for --planner served, --critic vision and --raw."""
    base_url: str | None = None
    """Where it is served, as in http://localhost:8000/v1."""
    adapter: Path | None = None
    """For --planner smollm2: what upspiral scenes train planner made; the starter by default."""
    clip: str = "starter"
    """The weights of --critic clip: starter, or ARCHITECTURE:TAG_OR_FILE of open_clip."""
    assets: Path | None = None
    """Take models from here only: a folder, or a .sh3f catalogue. All that is indexed by default,
    which is at least the furniture."""
    library: Path | None = None
    """Relations and phrases as this library has them, which upspiral scenes learn made."""
    steps: int = 4
    """How many states of the scene there may be, the draft included."""
    seed: int = 0
    size: str = "800x600"
    """Pixels of the pictures, as WIDTHxHEIGHT."""
    samples: int = 8
    """Rays a pixel: more is smoother and slower; 64 for a picture to show."""
    raw: bool = False
    """Have the served model write the Blender script itself. It runs in the sandbox only."""
    device: Literal["auto", "cpu", "gpu"] = "auto"

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.commands.control import sides
        from scenes.commands.plan import brief
        from scenes.graph import load
        from scenes.render.pool import Workers

        begun = time.monotonic()
        width, height = sides(self.size)
        if (self.text is None) == (self.graph is None):
            raise UserError(
                "a scene is made of a text or of a --graph",
                'give one of them, as in upspiral scenes craft "a table with four chairs"',
            )
        if not 1 <= self.samples <= 4096:
            raise UserError(f"{self.samples} samples", "ask for 1 to 4096")
        if self.raw:
            return self._raw(out, width, height)
        wanted = brief(self.text) if self.text is not None else load(self.graph or Path())
        with Workers(device=self.device) as workers:
            workers.warm()  # Blender starts beside the imports that are to come
            return self._crafted(wanted, workers, (width, height), begun, out)

    def _crafted(
        self,
        wanted: str | SceneGraph,
        workers: Workers,
        size: tuple[int, int],
        begun: float,
        out: Output,
    ) -> dict[str, Any]:
        from scenes.craft import CraftConfig, Step, craft
        from scenes.critics import Shot
        from scenes.critics.choose import critics
        from scenes.deliver import GRAPH, deliver, keep
        from scenes.planners.choose import planner
        from scenes.shoot import Studio
        from scenes.skills import opened, tally, using

        config = CraftConfig(
            steps=self.steps, seed=self.seed, width=size[0], height=size[1], samples=self.samples
        )
        reader = planner(
            self.planner,
            model=self.model,
            base_url=self.base_url,
            adapter=self.adapter,
            keep=self.out / "answers",
            progress=out.progress(),
        )
        index = self._index(out)
        broken = set(index.problems())
        skills = opened(self.library) if self.library is not None else None

        def kept(step: Step, number: int) -> None:
            keep(step, number, self.out)
            out.resume = shlex.join(self._words(self.out / GRAPH))
            score = step.measures.constraint_score
            out.note(f"step {number}: constraints {score:.3f}; {self.out}/step-{number}.png")

        with using(skills) as used, ThreadPoolExecutor(1) as beside:
            looking = critics(self.critic, index, workers, self.model, self.base_url, self.clip)
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"cannot use {self.out}: {error.strerror}", "choose another folder with --out"
                ) from error
            # Read while Blender renders; with --critic clip the steps are scored as it is.
            likeness = None if "clip" in self.critic else beside.submit(self._likeness)
            made = craft(
                wanted,
                index,
                planner=reader,
                critics=looking,
                workers=workers,
                out=self.out,
                config=config,
                progress=out.progress(),
                kept=kept,
            )
            files = deliver(made, self.out, Studio(index, workers), config)
            clip_score = made.clip_score
            if likeness is not None and isinstance(made.best.staged, Shot):
                clip_score = likeness.result().likeness(made.best.staged).cosine
        if skills is not None:
            skills.used(tally(made.graph, used))
        out.resume = None
        seconds = time.monotonic() - begun
        missing = dict(made.best.staged.dressed.missing)
        amiss = [w for name, w in index.problems().items() if missing or name not in broken]
        notes = [*made.plan.notes, *made.notes, *amiss]
        for note in notes:
            out.note(f"note: {note}")
        for name, nearest in missing.items():
            out.note(f"note: no model for {name}, a plain block stands there (nearest: {nearest})")
        if made.plan.unused:
            out.note(f"words that could not be used: {', '.join(made.plan.unused)}")
        measures = made.measures
        figures = {**measures._asdict(), "clip_score": clip_score, "seconds": seconds}
        out.table(("measure", "value"), [*figures.items()])
        out.print(f"{self.out}: {', '.join(files)}")
        return {
            "text": made.text,
            "out": str(self.out),
            **figures,
            "steps": len(made.steps),
            "chosen": made.chosen,
            "accepted": made.accepted,
            "missing": missing,
            "unused": list(made.plan.unused),
            "notes": notes,
            "files": list(files),
        }

    def _likeness(self) -> ClipCritic:
        """Who scores the picture that is delivered."""
        from scenes.clip import encoder
        from scenes.critics.clip import ClipCritic

        return ClipCritic(encoder.load(self.clip))

    def _raw(self, out: Output, width: int, height: int) -> dict[str, Any]:
        """A scene of a script that the served model wrote; there is no graph to measure it by."""
        from common.policies.served import connect
        from scenes.commands.plan import brief
        from scenes.raw import Raw
        from scenes.render.pool import Workers

        if self.text is None:
            raise UserError("--raw with a graph", "give a sentence: a model writes a script of it")
        policy = connect(self.model, self.base_url)
        with Workers(device=self.device) as workers:
            raw = Raw(policy, workers, width=width, height=height, samples=self.samples)
            made = raw.make(brief(self.text), self.out, out.progress())
        for number, attempt in enumerate(made.attempts[:-1], 1):
            out.note(f"attempt {number}: {' '.join(attempt.why.split())[:200]}")
        out.print(f"{self.out}: {len(made.things)} things, after {len(made.attempts)} scripts")
        unknown = dict.fromkeys(("constraint_score", "clip_score", "asked", "visible"), None)
        return {
            "text": self.text,
            "out": str(self.out),
            **unknown,
            "placed": len(made.things),
            "collisions": None,
            "seconds": made.seconds,
            "things": list(made.things),
            "attempts": [attempt.why for attempt in made.attempts],
        }

    def _index(self, out: Output) -> Any:
        """The models to choose from."""
        from scenes.assets.furniture import index, source
        from scenes.assets.index import Index

        models = Index(only=source(self.assets) if self.assets is not None else None)
        if self.assets is not None or not models.sources():
            index(self.assets, progress=out.progress(), into=models)
        return models

    def _words(self, graph: Path) -> list[str]:
        """The command that goes on from a graph."""
        words = ["upspiral", "scenes", "craft", "--graph", str(graph), "--out", str(self.out)]
        words += ["--seed", str(self.seed), "--size", self.size, "--samples", str(self.samples)]
        if self.critic != "geometry":
            words += ["--critic", self.critic, "--clip", self.clip]
        more = (("--model", self.model), ("--base-url", self.base_url), ("--library", self.library))
        for flag, value in more:
            words += [flag, str(value)] if value is not None else []
        return words + (["--assets", str(self.assets)] if self.assets is not None else [])
