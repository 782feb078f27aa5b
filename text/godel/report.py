"""What the report of an evolution adds: versions, what they cost, and the diffs of the agent."""

from __future__ import annotations

from common.report import Section
from common.store import Store
from text.godel.evolve import versions
from text.godel.source import Source


def sections(store: Store, run: str) -> list[Section]:
    """Sections for the report of ``run``."""
    found = versions(store, run)
    if not found:
        return []
    rows = [
        (f"version {v.index}", v.step, v.metric.value, *(v.notes["cost"].values())) for v in found
    ]
    columns = ("", "step", "validation", "calls", "tokens", "US dollars")
    about = (
        "Every state of the agent that was measured; they are the rounds above. Calls, tokens and "
        "dollars were spent since the version before, the agent's own decisions included."
    )
    made = [Section("Versions and their cost", about, columns=columns, rows=rows)]
    for v in found:
        if v.diff:
            kept = "" if v.kept else " (rolled back)"
            made.append(Section(f"Version {v.index}{kept}", v.reason, text=v.diff))
    best = max((v for v in found if v.kept), key=lambda v: (v.metric.value, -v.index))
    whole: Source = best.source
    for name, text in whole.files().items():
        made.append(Section(f"{name} of the best version, {best.index}", text=text))
    return made
