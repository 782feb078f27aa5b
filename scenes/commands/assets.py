"""``upspiral scenes index`` and ``search``: which models there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from common.commands import Output
from common.errors import UserError


@dataclass(frozen=True)
class MakeIndex:
    """Put models into the index that scenes are made from. Only what is new or changed is read."""

    assets: tyro.conf.Positional[Path | None] = None
    """A folder of OBJ, GLB, FBX or .blend files, or a .sh3f catalogue; the furniture by default."""
    clip: str = "starter"
    """What sees the models' pictures: starter, ARCHITECTURE:TAG-OR-FILE of open_clip, or none."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.assets.furniture import index
        from scenes.clip.encoder import chosen

        found, done = index(self.assets, chosen(self.clip), out.progress())
        rows = [(name, d.new, d.kept, d.dropped, d.doubles) for name, d in done.items()]
        out.table(("source", "new", "kept", "dropped", "doubles"), rows)
        return {
            "sources": {name: d._asdict() for name, d in done.items()},
            "models": sum(found.sources().values()),
            "broken": dict(found.problems()),
        }


@dataclass(frozen=True)
class Search:
    """Search for models by words. A score below 0.5 is only the nearest that there is."""

    query: tyro.conf.Positional[str]
    """As in "round wooden table"."""
    k: int = 8
    """How many hits."""
    category: str | None = None
    """Only models of this category, as in Kitchen."""
    height: float | None = None
    """Prefer models of about so many metres."""
    assets: Path | None = None
    """Index these first: a folder or a catalogue; the furniture if the index is empty."""

    def run(self, out: Output) -> dict[str, Any]:
        from scenes.assets.furniture import index
        from scenes.assets.index import Index
        from scenes.assets.search import search

        if not self.query.strip():
            raise UserError("an empty query", "say what to look for")
        if self.k < 1:
            raise UserError(f"{self.k} hits", "ask for 1 or more")
        models = Index()
        if self.assets is not None or not models.sources():
            index(self.assets, progress=out.progress(), into=models)
        wanted = {"height": self.height} if self.height is not None else None
        hits = search(models, self.query, k=self.k, category=self.category, wanted=wanted)
        rows = [
            (f"{h.score:.2f}", h.model.name, h.model.category, _metres(h.model.size), h.model.id)
            for h in hits
        ]
        out.table(("score", "name", "category", "metres", "id"), rows)
        return {
            "query": self.query,
            "hits": [{"score": round(h.score, 4), **h.model.model_dump(mode="json")} for h in hits],
        }


def _metres(size: tuple[float, float, float] | None) -> str:
    return " x ".join(f"{v:.2f}" for v in size) if size else "-"
