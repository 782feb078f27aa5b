"""``upspiral scenes plan`` and ``relations``: from a sentence to a scene graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class MakePlan:
    """Turn a sentence into a scene graph: assets, and relations between them."""

    text: tyro.conf.Positional[str]
    """What to show, or @FILE with it."""
    out: Path | None = None
    """Write the graph here as JSON."""
    planner: Literal["rules", "smollm2", "served"] = "rules"
    """Rules need no model; smollm2 is a small one; served asks --model at --base-url."""
    model: str | None = None
    """The name that the server knows the model by."""
    base_url: str | None = None
    """Of an OpenAI-compatible server, as in http://localhost:8000/v1; its key: OPENAI_API_KEY."""
    adapter: Path | None = None
    """For --planner smollm2: what upspiral scenes train planner made; the starter by default."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.planners.choose import planner

        # Beside the graph, so that a plan that failed halfway is gone on with.
        keep = self.out.with_name(f"{self.out.stem}-answers") if self.out else None
        chosen = planner(
            self.planner,
            model=self.model,
            base_url=self.base_url,
            adapter=self.adapter,
            keep=keep,
            progress=out.progress(),
        )
        plan = chosen.plan(brief(self.text))
        out.table(
            ("asset", "what", "width", "depth", "height"),
            [(a.id, a.what, a.width, a.depth, a.height) for a in plan.graph.assets],
        )
        out.print()
        for relation in plan.graph.relations:
            out.print(str(relation))
        for note in plan.notes:
            out.note(f"note: {note}")
        if plan.unused:
            out.note(f"words that could not be used: {', '.join(plan.unused)}")
        if self.out is not None:
            write(self.out, plan.graph.dump())
        return {
            "graph": plan.graph.model_dump(mode="json", exclude_defaults=True),
            "unused": list(plan.unused),
            "notes": list(plan.notes),
        }


@dataclass(frozen=True)
class Relations:
    """List the relations that a scene graph may name, with their options."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.relations import KINDS

        out.table(("relation", "meaning"), [(k.signature(), k.about) for k in KINDS.values()])
        return {
            "relations": [
                {
                    "name": k.name,
                    "assets": [k.least, k.most],
                    "options": dict(k.options),
                    "choices": {name: list(v) for name, v in k.choices.items()},
                    "about": k.about,
                }
                for k in KINDS.values()
            ]
        }


def brief(text: str) -> str:
    """``text``, or what stands in the file that ``@FILE`` names.

    Raises:
        UserError: the file cannot be read as text.
    """
    if not text.startswith("@"):
        return text
    path = Path(text[1:]).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}", "name a text file after the @") from error


def write(path: Path, text: str) -> None:
    """Raises :class:`UserError` where ``path`` cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", "choose another file") from error
