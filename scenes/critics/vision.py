"""The critic that looks: a vision-language model behind an OpenAI-compatible server.

SceneCraft shows GPT-4V one render and lets it rewrite the script (arXiv 2403.01248, section 3).
Here it gets several views with a number drawn on every thing, what each constraint measures, and
may only name edits (:mod:`scenes.edits`): those that cannot be made are left out and said, and of
the rest the inner loop keeps what does not make the measured score fall.

Pictures go into the request itself as base64. A server that takes no more than one picture gets all
views on one sheet.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel

from common.policies.answers import Heard
from common.policies.served import Message, RejectedError, ServedPolicy
from scenes import prompts
from scenes.critics import Criticism, Finding, Shot
from scenes.critics.mend_edits import edits
from scenes.critics.overlay import numbered, sheet
from scenes.relations import signatures
from scenes.render.jobs import Look, Render
from scenes.render.pool import Workers
from scenes.render.views import View, view

PROMPT = Path(__file__).with_name("prompts") / "vision.md"
MOST = 5
"""Findings that are asked for."""
MASK = (200, 150)
"""Pixels across in which it is told apart whose a pixel is, and at most down."""


class Remark(BaseModel):
    what: str
    constraint: int | None = None
    edits: list[dict[str, Any]] = []


class Remarks(BaseModel):
    """What is asked for."""

    score: float
    findings: list[Remark]


@dataclass
class Vision:
    """See the module. ``workers`` render the views besides the one that the shot has already.

    Pictures that were shown are kept beside the shot's, as ``views/step-0-top.png``.
    """

    policy: ServedPolicy
    workers: Workers
    views: Sequence[View] = ("corner", "top")
    width: int = 640
    samples: int = 16
    attempts: int = 3
    name: str = "vision"
    _one: bool = field(default=False, init=False)
    """The server takes one picture at a time."""

    def look(self, shot: Shot) -> Criticism:
        """What the model finds; see :class:`scenes.critics.Critic`.

        Raises:
            UserError: a wrong address, key or name of a model.
            ServedError: the server keeps failing, takes no pictures, or the model refuses.
            RenderError, OSError: Blender failed; the disk is full.
        """
        pictures = self._pictures(shot)
        asked = self._asked(shot, list(pictures))
        shown = list(pictures.values())
        if not self._one:
            try:
                return self._said(shot, asked, shown)
            except RejectedError:
                if len(shown) == 1:
                    raise
        found = self._said(shot, asked, [sheet(shown)])
        self._one = True
        return found

    def _pictures(self, shot: Shot) -> dict[View, Image.Image]:
        """The views by name, the shot's own first, numbers on the things."""
        with Image.open(shot.picture) as own:
            aspect = own.width / own.height
        others = [name for name in self.views if name != shot.view]
        cameras = [shot.camera, *(view(shot.scene, name, aspect) for name in others)]
        paths = [shot.picture, *(self._beside(shot, name) for name in others)]
        if others:
            self.workers.do(
                Render(
                    scene=shot.scene,
                    cameras=tuple(cameras[1:]),
                    paths=tuple(paths[1:]),
                    width=self.width,
                    height=round(self.width / aspect),
                    samples=self.samples,
                )
            )
        made: dict[View, Image.Image] = {}
        across = min(MASK[0], round(MASK[1] * aspect))
        for name, camera, path in zip([shot.view, *others], cameras, paths, strict=True):
            mask = self._beside(shot, f"{name}-mask")
            job = Look(
                scene=shot.scene,
                camera=camera,
                width=across,
                height=round(across / aspect),
                mask=mask,
            )
            self.workers.do(job)
            made[name] = numbered(path, mask, len(shot.scene.things), self.width)
            mask.unlink()
            made[name].save(self._beside(shot, name))
        return made

    def _beside(self, shot: Shot, name: str) -> Path:
        return shot.picture.parent / "views" / f"{shot.picture.stem}-{name}.png"

    def _asked(self, shot: Shot, views: Sequence[View]) -> str:
        graph, layout = shot.dressed.graph, shot.solution.layout
        lines = []
        for number, thing in enumerate(shot.scene.things, 1):
            size = " x ".join(f"{length:.2f}" for length in thing.size)
            where = ", ".join(f"{at:.2f}" for at in thing.location)
            block = (
                "; a plain block, since no model fits" if thing.id in shot.dressed.missing else ""
            )
            what = graph[thing.id].what if thing.id in layout else thing.id
            lines.append(f"{number}: {thing.id}, {what}, {size} at ({where}){block}")
        scores = [
            f"{n}: {relation}: {value:.2f}"
            for n, (relation, value) in enumerate(
                zip(graph.relations, shot.solution.scores.values, strict=True)
            )
        ]
        return prompts.fill(
            PROMPT,
            text=shot.text,
            views=", ".join(f"from the {name}" for name in views),
            assets="\n".join(lines),
            relations="\n".join(scores) or "none",
            signatures=signatures(),
            most=MOST,
        )

    def _said(self, shot: Shot, asked: str, pictures: Sequence[Image.Image]) -> Criticism:
        content: list[dict[str, Any]] = [{"type": "text", "text": asked}]
        content += [{"type": "image_url", "image_url": {"url": _url(p)}} for p in pictures]
        messages: list[Message] = [{"role": "user", "content": content}]
        return self.policy.read(
            messages,
            Remarks,
            lambda heard: self._heard(shot, heard),
            attempts=self.attempts,
            temperature=0.2,
        )

    def _heard(self, shot: Shot, heard: Heard) -> Criticism:
        """The criticism of an answer. Raises ValueError for what is none."""
        value = heard.value if isinstance(heard.value, dict) else {"findings": heard.value}
        rows = value.get("findings", [])
        if not isinstance(rows, list):
            raise ValueError("findings: a list is missing")
        things = [thing.id for thing in shot.scene.things]
        findings = []
        for row in rows[: 2 * MOST]:
            row = {"what": row} if isinstance(row, str) else row
            if not isinstance(row, dict) or not str(row.get("what") or "").strip():
                continue
            made, left = edits(row.get("edits"), shot.dressed.graph, things)
            what = " ".join(str(row["what"]).split())
            if left:
                what += f" (left out: {'; '.join(left)})"
            findings.append(Finding(what=what, edits=made))
        if rows and not findings:
            raise ValueError('findings: none says "what" is wrong')
        # Models that find much may still say 1.
        worst = 1 / (1 + len(findings))
        score = _share(value.get("score"))
        return Criticism(
            critic=self.name,
            score=worst if score is None else min(score, 1.0 if not findings else 0.95),
            findings=tuple(findings),
        )


def _share(score: Any) -> float | None:
    """A score in [0, 1]; those out of ten or a hundred are taken as such."""
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return None
    for most in (1, 10, 100):
        if 0 <= score <= most:
            return score / most
    return None


def _url(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
