"""A run as one self-contained HTML file: what each round did, curves, and things to listen to.

Everything from the run is escaped; figures are inline SVG and sounds are data URLs, so that the
file can be mailed and opened anywhere, offline. A domain adds an :class:`Extra` of its own.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.commands import cell
from common.gate import PairedInterval, paired_interval
from common.records import Metric, Round


@dataclass(frozen=True)
class Player:
    """A sound with its label (``before``, ``after``, ``golden``); ``mime`` as in audio/wav."""

    label: str
    data: bytes
    mime: str = "audio/wav"


@dataclass(frozen=True)
class Sample:
    """One text and its sounds, side by side; ``note`` says what was measured of it."""

    text: str
    players: tuple[Player, ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report that a domain adds: figures, and a table if it has columns.

    ``text`` is shown line by line as it is, as source and diffs are (lines that begin with + and -
    in colour).
    ``figures`` are SVG of the domain's own making and are not escaped; whatever else is. The cells
    of a table of ``prose`` stand to the left and have more lines than one.
    """

    title: str
    caption: str = ""
    figures: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: Sequence[Sequence[object]] = ()
    text: str = ""
    prose: bool = False


@dataclass(frozen=True)
class Extra:
    """What a domain adds to the report of a run; ``caption`` says how the samples were chosen."""

    samples: Sequence[Sample] = ()
    caption: str = ""
    sections: Sequence[Section] = ()


class Outcome(NamedTuple):
    """Shares of the items in which the later policy was better, equal or worse.

    ``gain`` is win - lose with its 95% interval; None where all items fall alike or there is one:
    they show no spread to tell an interval from.
    """

    win: float
    tie: float
    lose: float
    gain: PairedInterval | None


@dataclass(frozen=True)
class Page:
    """What a report shows of a run. ``tests`` holds the test metrics by policy, starter first."""

    run: str
    recipe: str
    status: str
    started: str
    seed: int
    rounds: Sequence[Round]
    tests: Mapping[str, Sequence[Metric]] = field(default_factory=dict)
    extra: Extra = Extra()


def paired(before: Metric, after: Metric) -> PairedInterval | None:
    """``after - before`` with its 95% interval.

    None unless both hold the same items, two or more, and all values are finite.
    """
    if before.items.keys() != after.items.keys() or len(before.items) < 2:
        return None
    if not all(map(math.isfinite, (*before.items.values(), *after.items.values()))):
        return None
    return paired_interval(before.items, after.items)


def outcome(before: Metric, after: Metric) -> Outcome | None:
    """How many items ``after`` won, item by item; None where :func:`paired` is.

    Nor is there an outcome of a metric that has no direction.
    """
    if paired(before, after) is None or after.better == "neither":
        return None
    sign = 1 if after.better == "higher" else -1
    # +1, 0 or -1 an item, so that the mean is the share of wins less that of losses.
    won = {
        item: float(np.sign(sign * (after.items[item] - value)))
        for item, value in before.items.items()
    }
    win, tie, lose = ([*won.values()].count(v) / len(won) for v in (1.0, 0.0, -1.0))
    gain = paired_interval(dict.fromkeys(won, 0.0), won)
    within = gain._replace(low=max(-1.0, gain.low), high=min(1.0, gain.high))
    return Outcome(win, tie, lose, within if gain.se > 0 else None)


def verdict(metric: Metric, difference: PairedInterval) -> str:
    """``better``, ``worse`` or ``no difference shown``, by whether the interval excludes zero.

    A metric without a direction has only ``changed``.
    """
    if difference.low <= 0 <= difference.high:
        return "no difference shown"
    if metric.better == "neither":
        return "changed"
    return "better" if (difference.low > 0) == (metric.better == "higher") else "worse"


def render(page: Page) -> str:
    """The report's HTML."""
    names = list(dict.fromkeys(m.name for r in page.rounds for m in r.metrics))
    measured = _measured(page.rounds, names)
    return _render(
        "report.html.j2",
        page=page,
        names=names,
        measured=measured,
        changed=any(cell["change"] for cells in measured.values() for cell in cells),
        figures=[_figure(name, page.rounds) for name in names],
        learned=_learned(page.rounds),
        pools=_pools(page.rounds),
        pooled=_curves(page.rounds, _pools(page.rounds)),
        selection=_selection(page.rounds),
        selected=_curves(page.rounds, _selected(page.rounds)),
        tests=_tests(page.tests),
        extra=page.extra,
        samples=[
            (s, [(p.label, _data_url(p.data, p.mime)) for p in s.players])
            for s in page.extra.samples
        ],
    )


def write(page: Page, path: Path) -> None:
    """Write the report to ``path``, whole or not at all."""
    save(render(page), path)


def document(title: str, sections: Sequence[Section], about: str = "", notice: str = "") -> str:
    """The HTML of sections alone, for what is no run; ``notice`` stands out above them."""
    return _render("document.html.j2", title=title, about=about, notice=notice, sections=sections)


def save(html: str, path: Path) -> None:
    """Write ``html`` to ``path``, whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(html, encoding="utf-8")
    scratch.replace(path)


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["number"] = cell
    return environment.get_template(template).render(**values)


def _measured(rounds: Sequence[Round], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Each metric over the rounds, with its paired change from the first and what that says."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for round_ in rounds:
        for name, cells in found.items():
            metric = next((m for m in round_.metrics if m.name == name), None)
            start = cells[0]["metric"] if cells else None
            change = paired(start, metric) if start and metric else None
            said = verdict(metric, change) if metric and change else ""
            cells.append({"metric": metric, "change": change, "verdict": said})
    return found


def _learned(rounds: Sequence[Round]) -> dict[str, list[Any]]:
    """What learning recorded (losses, margins, accuracy): name → value of each round, or None."""
    shown = ("pool", "select")
    return _aligned([{k: v for k, v in r.notes.items() if k not in shown} for r in rounds])


def _pools(rounds: Sequence[Round]) -> dict[str, list[Any]]:
    """What each round's candidates showed (:mod:`common.monitors.pool`), as :func:`_learned`."""
    return _aligned([r.notes.get("pool", {}) for r in rounds])


def _selected(rounds: Sequence[Round]) -> dict[str, list[Any]]:
    """What the select stage noted (:class:`common.records.Lessons`), as :func:`_learned`."""
    return _aligned([r.notes.get("select", {}) for r in rounds])


def _selection(rounds: Sequence[Round]) -> dict[str, list[Any]]:
    """As :func:`_selected`, with what it said in words."""
    notes = [r.notes.get("select", {}) for r in rounds]
    words = list(dict.fromkeys(n for one in notes for n, v in one.items() if isinstance(v, str)))
    return {**_selected(rounds), **{name: [one.get(name) for one in notes] for name in words}}


def _aligned(notes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found = [dict(numbers(one)) for one in notes]
    names = list(dict.fromkeys(name for one in found for name in one))
    return {name: [one.get(name) for one in found] for name in names}


def numbers(notes: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers in nested ``notes``, each under its path (``learn/loss``)."""
    found: list[tuple[str, float]] = []
    for name, value in notes.items():
        if isinstance(value, Mapping):
            found += numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{name}", float(value)))
    return found


def _tests(tests: Mapping[str, Sequence[Metric]]) -> list[dict[str, Any]]:
    """Test metrics of the first policy beside the last, with the paired difference."""
    if len(tests) < 2:
        return []
    policies = list(tests.values())
    before, after = policies[0], policies[-1]
    rows = []
    for metric in before:
        other = next((m for m in after if m.name == metric.name), None)
        if other is not None:
            difference = paired(metric, other)
            said = verdict(metric, difference) if difference else "too few to say"
            rows.append({"a": metric, "b": other, "difference": difference, "verdict": said,
                         "outcome": outcome(metric, other)})  # fmt: skip
    return rows


def _figure(name: str, rounds: Sequence[Round]) -> str:
    """The metric over the rounds with its standard error, as inline SVG; rolled-back rounds hollow.

    A missing or not finite value leaves a gap.
    """
    import matplotlib
    from matplotlib.figure import Figure

    points = [(r.index, m, r.kept) for r in rounds for m in r.metrics if m.name == name]
    points = [p for p in points if math.isfinite(p[1].value)]
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.2, 2.4), layout="constrained")
        axes = figure.add_subplot()
        kept = [(i, m) for i, m, k in points if k]
        axes.plot([i for i, _ in kept], [m.value for _, m in kept], color="#2563eb", lw=1.5)
        for i, metric, is_kept in points:
            se = metric.se if math.isfinite(metric.se) else 0.0
            fill = "#2563eb" if is_kept else "white"
            axes.errorbar(
                i, metric.value, se, fmt="o", color="#2563eb", mfc=fill, capsize=3, lw=1, ms=6
            )
        direction = points[0][1].better if points else "higher"
        said = "" if direction == "neither" else f" ({direction} is better)"
        axes.set_title(f"{name}{said}", fontsize=10, loc="left")
        axes.set_xlabel("round", fontsize=9)
        axes.set_xticks([r.index for r in rounds])
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e7eb", lw=0.7)
        return svg(figure)


def _curves(rounds: Sequence[Round], figures: Mapping[str, Sequence[Any]]) -> list[str]:
    """A curve for each of ``figures``; those of one group share their axes, as inline SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    groups: dict[str, dict[str, Sequence[Any]]] = {}
    for name, values in figures.items():
        group, _, line = name.partition("/")
        groups.setdefault(group, {})[line] = values
    drawn = []
    for group, lines in groups.items():
        style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": group}
        with matplotlib.rc_context({**style, "text.parse_math": False}):
            figure = Figure(figsize=(4.2, 2.4), layout="constrained")
            axes = figure.add_subplot()
            for line, values in lines.items():
                points = [(r.index, v) for r, v in zip(rounds, values, strict=True)
                          if v is not None and math.isfinite(v)]  # fmt: skip
                x, y = [p[0] for p in points], [p[1] for p in points]
                axes.plot(x, y, marker="o", ms=4, lw=1.2, label=line)
            if any(lines):
                axes.legend(fontsize=7, frameon=False, ncols=2)
            axes.set_title(group, fontsize=10, loc="left")
            axes.set_xlabel("round", fontsize=9)
            axes.set_xticks([r.index for r in rounds if r.index])
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e5e7eb", lw=0.7)
            drawn.append(svg(figure))
    return drawn


def svg(figure: Any) -> str:
    """A matplotlib figure as inline SVG, the same for the same figure."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    found = text.getvalue()
    return found[found.index("<svg") :]


def _data_url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
