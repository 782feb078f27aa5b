"""Critics look at a scene as it stands and say what is wrong with it, and what to change.

| critic | looks at |
|---|---|
| :mod:`~scenes.critics.geometry` | constraints, what the camera sees, collisions |
| :mod:`~scenes.critics.clip` | the picture against the words, by CLIP |
| :mod:`~scenes.critics.vision` | several views, by a served vision-language model |

What one finds is a suggestion: an edit is kept only if the deterministic score does not fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scenes.dress import Dressed
from scenes.edits import Edit
from scenes.graph import SceneGraph, Strict
from scenes.layout import Solution
from scenes.render.jobs import Camera, Scene, Sight
from scenes.render.views import View


@dataclass(frozen=True, kw_only=True)
class Staged:
    """One state of a scene, laid out: everything that there is to look at but its picture."""

    text: str
    dressed: Dressed
    """The graph, with a model for each asset."""
    solution: Solution
    """Where everything stands, and what each relation scores."""
    scene: Scene
    """What Blender builds."""
    camera: Camera
    sights: tuple[Sight, ...] = ()
    """How much of each thing the camera sees, in the scene's order; empty where nobody looked."""
    asked: SceneGraph | None = None
    """The graph that was first asked for, by which edited ones are measured; None: its own."""
    seed: int = 0
    view: View = "front"


@dataclass(frozen=True, kw_only=True)
class Shot(Staged):
    """One step of refinement, with its picture."""

    picture: Path
    """What the camera saw, as PNG."""
    notes: tuple[str, ...] = ()
    """What was amiss with models, and how it was mended."""


class Finding(Strict):
    """One thing that is wrong, in a sentence, and the edits that may mend it, best first.

    The edits of a finding are tried together.
    """

    what: str
    edits: tuple[Edit, ...] = ()


class Criticism(Strict):
    """What one critic says: a score in [0, 1], 1 if there is nothing to mend, and findings."""

    critic: str
    score: float
    findings: tuple[Finding, ...] = ()


class Critic(Protocol):
    @property
    def name(self) -> str: ...

    def look(self, shot: Shot) -> Criticism:
        """What is wrong with ``shot``, worst first.

        Raises:
            UserError, common.policies.served.ServedError: it cannot look.
        """
