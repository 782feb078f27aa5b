"""The table and the figure of :mod:`text.verification_gap`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli import plain
from common.comparison import lines as markdown
from text.verification_gap import Line

HEADINGS = ("generator", "verifier", "kind", "filter", "J", "gap", "relative gap", "kept",
            "right over wrong")  # fmt: skip
Ranks = Mapping[tuple[str, str, str], float]
"""By generator, verifier and kind: how often a right answer is put over a wrong one."""


def rows(table: Sequence[Line], ranks: Ranks) -> list[tuple[object, ...]]:
    """A row for each line, under :data:`HEADINGS`; gaps with their standard errors."""
    found: list[tuple[object, ...]] = []
    for line in table:
        g = line.gap
        rank = ranks.get((line.generator, line.verifier, line.kinds[0]))
        found.append(
            (
                line.generator,
                line.verifier,
                " and ".join(line.kinds),
                f"{line.filter}={line.setting:g}",
                f"{g.generator:.3f}",
                f"{g.absolute.value:+.3f} ± {g.absolute.se:.3f}",
                f"{g.relative.value:+.3f} ± {g.relative.se:.3f}",
                f"{g.kept:.0%}",
                f"{rank:.3f}" if len(line.kinds) == 1 and rank is not None else "",
            )
        )
    return found


def facts(table: Sequence[Line], ranks: Ranks, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Every figure under its name, and the cross-verification matrix of the first filter.

    ``matrix`` is by kind, then generator, then verifier: the relative gap.
    """
    matrix: dict[str, dict[str, dict[str, float]]] = {}
    for line in table:
        if len(line.kinds) == 1 and (line.filter, line.setting) == _first(table):
            by = matrix.setdefault(line.kinds[0], {}).setdefault(line.generator, {})
            by[line.verifier] = line.gap.relative.value
    return {
        "parameters": dict(sizes),
        "lines": [
            {
                "generator": line.generator,
                "verifier": line.verifier,
                "kinds": line.kinds,
                "filter": line.filter,
                "setting": line.setting,
                "J": line.gap.generator,
                "gap": line.gap.absolute.value,
                "gap_se": line.gap.absolute.se,
                "relative": line.gap.relative.value,
                "relative_se": line.gap.relative.se,
                "n": line.gap.absolute.n,
                "kept": line.gap.kept,
                "empty": line.gap.empty,
                "right_over_wrong": ranks.get((line.generator, line.verifier, line.kinds[0]))
                if len(line.kinds) == 1
                else None,
            }
            for line in table
        ],
        "matrix": matrix,
    }


def write(table: Sequence[Line], told: Mapping[str, Any], folder: Path) -> None:
    """``gap.md``, ``gap.json`` and ``gap.svg`` in ``folder``."""
    ranks = {
        (one["generator"], one["verifier"], one["kinds"][0]): one["right_over_wrong"]
        for one in told["lines"]
        if one["right_over_wrong"] is not None
    }
    (folder / "gap.md").write_text(markdown(HEADINGS, rows(table, ranks)), encoding="utf-8")
    (folder / "gap.json").write_text(json.dumps(plain(told), indent=1), encoding="utf-8")
    (folder / "gap.svg").write_text(figure(table, told["parameters"]), encoding="utf-8")


def figure(table: Sequence[Line], sizes: Mapping[str, int]) -> str:
    """The relative gap by the first filter, as SVG.

    Of one model a bar for each verifier and ensemble; of several a curve for each verifier, and
    for all together, over the models' sizes, each verifying itself, and a matrix of who verifies
    whom.
    """
    import matplotlib
    from matplotlib.figure import Figure

    first = [line for line in table if (line.filter, line.setting) == _first(table)]
    kinds = list(dict.fromkeys(line.kinds for line in first))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gap"}):
        if len(sizes) == 1:
            drawing = Figure(figsize=(7, 0.4 * len(kinds) + 1.2), layout="constrained")
            axes = drawing.subplots()
            values = [line.gap.relative for line in first]
            names = [" and ".join(line.kinds) for line in first]
            errors = [v.se if np.isfinite(v.se) else 0.0 for v in values]
            axes.barh(names, [v.value for v in values], xerr=errors, color="#2563eb", capsize=3)
            axes.invert_yaxis()
            axes.axvline(0, color="#111827", lw=0.8)
            axes.set_xlabel("relative gap, ± standard error", fontsize=9)
            _plain(axes, f"what filtering by its own verdicts gains ({_named(table)})")
        else:
            single = [kind for kind in kinds if len(kind) == 1]
            drawing = Figure(figsize=(5 + 3 * len(single), 3.4), layout="constrained")
            curves, *squares = np.atleast_1d(drawing.subplots(1, 1 + len(single)))
            order = sorted(sizes, key=lambda name: sizes[name])
            for kind in [kind for kind in kinds if len(kind) in (1, len(single))]:
                own = {x.generator: x.gap.relative for x in first
                       if x.kinds == kind and x.generator == x.verifier}  # fmt: skip
                errors = [own[n].se if np.isfinite(own[n].se) else 0.0 for n in order]
                curves.errorbar([sizes[n] for n in order], [own[n].value for n in order], errors,
                                label=" and ".join(kind), marker="o", capsize=3)  # fmt: skip
            curves.set_xscale("log")
            curves.axhline(0, color="#111827", lw=0.8)
            curves.set_xlabel("parameters", fontsize=9)
            curves.legend(fontsize=8, frameon=False)
            _plain(curves, f"relative gap of each model on itself ({_named(table)})")
            for axes, kind in zip(squares, single, strict=True):
                grid = {(x.generator, x.verifier): x.gap.relative.value for x in first
                        if x.kinds == kind}  # fmt: skip
                values_GV = np.array([[grid[g, v] for v in order] for g in order])
                top = max(1e-9, float(np.abs(values_GV).max()))
                axes.imshow(values_GV, cmap="RdBu", vmin=-top, vmax=top)
                for (row, column), value in np.ndenumerate(values_GV):
                    axes.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=8)
                short = [name.rstrip("/").rsplit("/", 1)[-1] for name in order]
                axes.set_xticks(range(len(order)), short, rotation=30, ha="right")
                axes.set_yticks(range(len(order)), short)
                axes.set_xlabel("verifier", fontsize=9)
                axes.set_ylabel("generator", fontsize=9)
                _plain(axes, kind[0])
        text = io.StringIO()
        drawing.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _first(table: Sequence[Line]) -> tuple[str, float]:
    return table[0].filter, table[0].setting


def _named(table: Sequence[Line]) -> str:
    name, setting = _first(table)
    return f"{name}={setting:g}"


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
