"""``upspiral doctor``: what is here, and what to install for the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from common.commands import Output
from common.doctor import examine


@dataclass(frozen=True)
class Doctor:
    """Look at devices, memory, disk, models, data, sandbox and servers by trying them."""

    def run(self, out: Output) -> dict[str, Any]:
        findings = list(examine())
        rows = [(f.part, f.name, f.state, f.detail) for f in findings]
        out.table(("part", "name", "state", "detail"), rows)
        todo = [f for f in findings if f.state != "ok" and f.remedy]
        if todo:
            out.print()
        for finding in todo:
            out.print(f"{finding.state}: {finding.name} - {finding.remedy}")
        missing = [f.name for f in findings if f.state == "missing"]
        return {"ready": not missing, "missing": missing, "findings": [asdict(f) for f in findings]}
