"""A crafted scene as one self-contained HTML file: its steps side by side, and why each was made.

Everything from the scene is escaped and pictures are data URLs, so that the file can be mailed and
opened anywhere, offline. The pictures in it are JPEGs; the PNGs beside it are as rendered.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from scenes.assets.model import attribution
from scenes.craft import Crafted, Step
from scenes.critics.geometry import SEEN, constraints
from scenes.edits import Edit, Weigh
from scenes.graph import SceneGraph
from scenes.relations import HOLDS


def render(crafted: Crafted) -> str:
    """The report's HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        crafted=crafted,
        measures=crafted.measures,
        steps=[_shown(crafted, n) for n in range(len(crafted.steps))],
        futile=[_told(t.finding.edits, crafted.graph) for t in crafted.futile],
        rows=_constraints(crafted),
        holds=HOLDS,
        assets=_assets(crafted.best),
        owed=attribution(crafted.best.staged.dressed.models.values()).splitlines(),
    )


def write(crafted: Crafted, path: Path) -> None:
    """Write the report to ``path``, whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    try:
        scratch.write_text(render(crafted), encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _shown(crafted: Crafted, n: int) -> dict[str, Any]:
    """A step as the template shows it; edits are of the graph of the step that they changed."""
    step = crafted.steps[n]
    before = crafted.steps[step.parent].staged.dressed.graph if step.parent is not None else None
    changes = [
        {"tried": t, "edits": _told(t.finding.edits, before or crafted.plan.graph)}
        for t in step.tried
    ]
    return {
        "step": step,
        "number": n,
        "chosen": n == crafted.chosen,
        "picture": _picture(step.picture) if step.picture is not None else None,
        "made": changes[-1] if changes else None,
        "refused": changes[:-1],
    }


def _constraints(crafted: Crafted) -> list[tuple[str, list[float]]]:
    """Each constraint that was asked for with its score in every step."""
    columns = [constraints(step.staged) for step in crafted.steps]
    return [
        (str(relation), [column.values[n] for column in columns])
        for n, relation in enumerate(columns[0].relations)
    ]


def _assets(step: Step) -> list[dict[str, Any]]:
    """What stands for each thing, how large it is, and whether it is seen."""
    dressed, layout = step.staged.dressed, step.staged.solution.layout
    seen = {s.id: s.visible / s.whole if s.whole else 0.0 for s in step.staged.sights}
    return [
        {
            "id": a.id,
            "what": a.what,
            "model": dressed.models[a.id].name if a.id in dressed.models else None,
            "size": " × ".join(f"{side:.2f}" for side in layout[a.id].size),
            "seen": seen.get(a.id),
            "hidden": seen.get(a.id, 1.0) < SEEN,
        }
        for a in dressed.graph.assets
    ]


def _told(edits: tuple[Edit, ...], graph: SceneGraph) -> str:
    """Edits in words."""
    return "; ".join(_words(edit, graph) for edit in edits)


def _words(edit: Edit, graph: SceneGraph) -> str:
    if isinstance(edit, Weigh) and edit.index < len(graph.relations):
        return f"weigh {graph.relations[edit.index]} {edit.weight:g} times"
    told = edit.model_dump(mode="json", exclude={"op"}, exclude_none=True, exclude_defaults=True)
    if "relation" in told:
        told["relation"] = str(edit.relation)  # type: ignore[union-attr]
    fields = ", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{v}" for k, v in told.items())
    return f"{edit.op.replace('-', ' ')}{': ' if fields else ''}{fields}"


def _picture(path: Path) -> str:
    from PIL import Image

    data = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
