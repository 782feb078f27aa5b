"""The gap between golden and synthetic codes as pictures and tables; see :mod:`speech.gap`."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from common.report import Section
from speech.gap import LONGEST, Gap

GOLDEN, SYNTHETIC = "#d97706", "#2563eb"
COLUMNS = 3
"""Panels beside one another in the curves."""
CAPTION = (
    "The codes of {texts} recorded {split} texts (golden) against those that each version samples "
    "for them (synthetic). MMD² is how far the states of both lie apart, told apart how often a "
    "classifier names the right one of unseen texts (50% is guessing), n-grams the divergence of "
    "the codes in bits above what chance gives: a gap that closes is one whose figures fall. Bars "
    "are 95% intervals, those of the scores of synthetic less golden."
)


def embedding(gap: Gap) -> str:
    """PCA above t-SNE, a column a version, golden and synthetic streams of a text joined; SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(gap.versions) + 0.6, 6.4), layout="constrained")
    panels = figure.subplots(2, len(gap.versions), squeeze=False, sharex="row", sharey="row")
    axis = "golden PCA {} ({:.0%})"
    for i, version in enumerate(gap.versions):
        for panel, golden, own in (
            (panels[0, i], gap.pca, version.pca),
            (panels[1, i], gap.tsne, version.tsne),
        ):
            for a, b in zip(golden, own, strict=True):
                panel.plot([a[0], b[0]], [a[1], b[1]], color="#d4d4d8", lw=0.6, zorder=1)
            panel.scatter(*np.transpose(golden), s=12, color=GOLDEN, marker="^", label="golden")
            panel.scatter(*np.transpose(own), s=12, color=SYNTHETIC, label="synthetic")
            panel.tick_params(labelsize=7)
        panels[0, i].set_title(
            f"{version.name}: MMD² {version.mmd.value:.3f}, p {version.mmd.p:.2g}\n"
            f"told apart {version.classifier.value:.0%}, p {version.classifier.p:.2g}",
            fontsize=9,
            loc="left",
        )
        panels[0, i].set_xlabel(axis.format(1, gap.explained[0]), fontsize=8)
        panels[1, i].set_xlabel("t-SNE", fontsize=8)
    panels[0, 0].set_ylabel(axis.format(2, gap.explained[1]), fontsize=8)
    panels[0, 0].legend(fontsize=7, frameon=False)
    return _svg(figure)


def curves(gap: Gap) -> str:
    """Excess divergence of n-grams, and each score of golden and synthetic, by version; SVG."""
    from matplotlib.figure import Figure

    names, places = [v.name for v in gap.versions], np.arange(len(gap.versions))
    scores = list(gap.versions[0].scores)
    lines = math.ceil((1 + len(scores)) / COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.6 * lines), layout="constrained")
    first, *rest = figure.subplots(lines, COLUMNS, squeeze=False).flat
    for panel in rest[len(scores) :]:
        panel.remove()
    rest = rest[: len(scores)]
    for n in range(LONGEST):
        rows = [v.ngrams[n] for v in gap.versions]
        middle = np.array([d.excess for d in rows])
        # A percentile interval need not hold the estimate; a bar of negative length is an error.
        around = [
            [max(0.0, d.excess - d.low) for d in rows], [max(0.0, d.high - d.excess) for d in rows]
        ]  # fmt: skip
        # Beside one another, where bars of the same place would cover each other.
        first.errorbar(places + 0.1 * (n - (LONGEST - 1) / 2), middle, around, marker="o", ms=4,
                       capsize=3, lw=1, label=f"{n + 1}-grams")  # fmt: skip
    first.set_xticks(places, names)
    first.axhline(0, color="#71717a", lw=0.7)
    first.set_title("JS divergence above its floor (bits)", fontsize=9, loc="left")
    for panel, score in zip(rest, scores, strict=True):
        rows_ = [v.scores[score] for v in gap.versions]
        around_ = [
            [d.change.mean - d.change.low for d in rows_],
            [d.change.high - d.change.mean for d in rows_],
        ]
        panel.errorbar(
            names, [d.synthetic for d in rows_], around_, marker="o", capsize=3, lw=1,
            color=SYNTHETIC, label="synthetic",
        )  # fmt: skip
        panel.axhline(rows_[0].golden, color=GOLDEN, lw=1, label="golden")
        panel.set_title(score, fontsize=9, loc="left")
    rest[0].legend(fontsize=7, frameon=False)
    first.legend(fontsize=7, frameon=False)
    for panel in (first, *rest):
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def section(folder: Path) -> Section | None:
    """The gap that is kept in ``folder``, for a run's report; None if there is none."""
    path = folder / "gap.json"
    if not path.is_file():
        return None
    gap = Gap.load(path)
    return Section("Gap to the recordings", CAPTION.format(texts=len(gap.texts), split=gap.split),
                   (embedding(gap), curves(gap)), HEADINGS, rows(gap))  # fmt: skip


def _svg(figure: Any) -> str:
    import matplotlib

    # Letters stay letters, and the same figures make the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gap"}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


HEADINGS = ("policy", "MMD²", "told apart", *(f"{n}-grams" for n in range(1, LONGEST + 1)))
MEASURED = ("policy", "", "golden", "synthetic", "difference, 95% interval", "n")


def rows(gap: Gap) -> list[tuple[object, ...]]:
    """A line a version under :data:`HEADINGS`; n-grams in bits above their floor."""
    found: list[tuple[object, ...]] = []
    for v in gap.versions:
        told = [f"{v.mmd.value:.4f} (p {v.mmd.p:.2g})", f"{v.classifier.value:.0%}"]
        told += [f"{d.excess:+.3f} (p {d.p:.2g})" for d in v.ngrams]
        found.append((v.name, *told))
    return found


def differences(gap: Gap) -> list[tuple[object, ...]]:
    """A line a version and measure, under :data:`MEASURED`."""
    return [
        (v.name, name, d.golden, d.synthetic,
         f"{d.change.mean:+.3f} [{d.change.low:+.3f}, {d.change.high:+.3f}]", d.change.n)
        for v in gap.versions
        for name, d in [*v.scores.items(), *v.lengths.items()]
    ]  # fmt: skip
