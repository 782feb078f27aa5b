"""``upspiral data``: data and models by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro

from common import registry
from common.commands import Output


@dataclass(frozen=True)
class Get:
    """Fetch, verify and cache what a name stands for; nothing is fetched twice."""

    name: tyro.conf.Positional[str]
    """A name of `upspiral data list`."""
    languages: tuple[str, ...] = ("en",)
    """Languages of the prompts: en es fr it ru."""

    def run(self, out: Output) -> dict[str, Any]:
        known = {entry.name: entry for entry in registry.catalogue()}
        if self.name in known and registry.present(self.name) is None:
            out.note(f"getting {self.name} ({known[self.name].source}) ...")
        path = registry.get(self.name, self.languages)
        entry = known[self.name]
        out.print(f"{self.name} is in {path}")
        out.print(f"licence {entry.licence}; {entry.attribution}")
        return {"name": self.name, "path": path, "licence": entry.licence}


@dataclass(frozen=True)
class List:
    """Every name, whether it is here, and its licence."""

    def run(self, out: Output) -> dict[str, Any]:
        found = [registry.describe(entry) for entry in registry.catalogue()]
        rows = [
            (e["name"], e["kind"], "yes" if e["path"] else "no", e["licence"], e["about"])
            for e in found
        ]
        out.table(("name", "kind", "here", "licence", "what"), rows)
        return {"data": found}
