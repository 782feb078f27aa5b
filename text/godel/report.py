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
        (v.index, v.step, v.metric.value, "yes" if v.kept else "no", v.reason, v.problem,
         v.notes["cost"]["calls"], v.notes["cost"]["tokens"], v.notes["cost"]["usd"])
        for v in found
    ]  # fmt: skip
    columns = ("version", "step", "validation", "kept", "why", "rolled back because", "calls",
               "tokens", "US dollars")  # fmt: skip
    about = (
        "Every state of the agent that was measured. Calls, tokens and dollars are what was spent "
        "since the version before, the agent's own decisions included."
    )
    made = [Section("Versions", about, columns=columns, rows=rows)]
    for v in found:
        if v.diff:
            kept = "" if v.kept else " (rolled back)"
            made.append(Section(f"Version {v.index}{kept}", v.reason, text=v.diff))
    best = max((v for v in found if v.kept), key=lambda v: (v.metric.value, -v.index))
    whole: Source = best.source
    for name, text in whole.files().items():
        made.append(Section(f"{name} of the best version, {best.index}", text=text))
    return made
