"""The study as one page of HTML and as JSON; no word that anybody wrote unless asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.report import Section, document, svg
from text.persistence.cohort import Cohort
from text.persistence.matching import Matched
from text.persistence.study import Difference, Result, Study

SHOWN = 30
"""Features in the table and the figure."""
NOTICE = (
    "Groups of people are described here, by a rule that was chosen for this study. It tells "
    "nobody whether one person will go on, and must not decide about one."
)
_BLUE, _GREY = "#2563eb", "#9ca3af"


def facts(cohort: Cohort, matched: Matched, study: Study, words: bool = False) -> dict[str, Any]:
    """Everything that was found; ``words`` says whether to quote."""
    rule = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(cohort.rule).items()}
    found: dict[str, Any] = {
        "rule": rule,
        "flow": cohort.flow,
        "pairs": len(matched.people) // 2,
        "balance": {
            name: {"before": before, "after": after}
            for name, (before, after) in matched.balance.items()
        },
        "differences": [row._asdict() for row in study.differences],
        "classifier": {
            r.name: {"blocks": list(r.blocks), "macro_f1": r.f1._asdict(),
                     "auroc": r.auroc._asdict(), "n": r.n}
            for r in study.results
        },
        "shuffled": study.chance._asdict(),
    }  # fmt: skip
    if words:
        found["words"] = {name: list(some) for name, some in study.words.items()}
    return found


def page(cohort: Cohort, matched: Matched, study: Study, source: str, words: bool = False) -> str:
    """The report; ``source`` says what was read."""
    rule = cohort.rule
    said = (
        f"Persistent: {rule.posts} posts or more in {rule.weeks} weeks or more, within "
        f"{rule.outcome:g} days that begin {rule.gap:g} days after the first post in "
        f"{', '.join(rule.communities)}. Not persistent: no post there. Read were the "
        f"{rule.observation:g} days until that first post. The rule is this study's own, not the "
        "paper's."
    )
    chance = study.chance
    few = sum(row.q < 0.05 for row in study.differences)
    sections = [
        Section("Who is in it", said, columns=("", "count"), rows=[*cohort.flow.items()]),
        Section(
            "Pairs",
            f"{len(matched.people) // 2} pairs of people in the same cell of activity and age. "
            "Standardised difference of means; below 0.1 in size counts as alike.",
            columns=("", "before matching", "after"),
            rows=[(name, *both) for name, both in matched.balance.items()],
        ),
        Section(
            "How the groups differ",
            f"{few} of {len(study.differences)} features differ at a false-discovery rate of 0.05 "
            "(Benjamini-Hochberg over Mann-Whitney tests). Cliff's delta is above 0 where the "
            f"persistent have more. The {min(SHOWN, len(study.differences))} clearest are shown.",
            figures=(_deltas(study.differences[:SHOWN]),),
            columns=("feature", "block", "persistent", "others", "delta", "q"),
            rows=[
                (d.feature, d.block, d.persistent, d.other, d.delta, f"{d.q:.2g}")
                for d in study.differences[:SHOWN]
            ],
        ),
        Section(
            "Who can be told from whom",
            "Logistic regression on people it has not seen; 95% intervals by bootstrap over "
            f"pairs. Chance is 0.5. With labels swapped at random within pairs ({chance.shuffles} "
            f"times) {chance.of} comes to AUROC {chance.mean:.3f} ± {chance.deviation:.3f}; "
            f"the true labels' has p = {chance.p:.3g}.",
            figures=(_areas(study.results),),
            columns=("features", "macro-F1", "95%", "AUROC", "95%", "people"),
            rows=[
                (r.name, r.f1.value, f"{r.f1.low:.3f} to {r.f1.high:.3f}",
                 r.auroc.value, f"{r.auroc.low:.3f} to {r.auroc.high:.3f}", r.n)
                for r in study.results
            ],
        ),
    ]  # fmt: skip
    if words:
        sections.append(
            Section(
                "Words",
                "Asked for with --words. Each was used by several people.",
                columns=("", "words"),
                rows=[(name, ", ".join(some)) for name, some in study.words.items()],
            )
        )
    return document("Who goes on", sections, f"{source} · arXiv 2105.08031, rules of our own",
                    NOTICE)  # fmt: skip


def _deltas(rows: Sequence[Difference]) -> str:
    """Cliff's delta of each feature, as SVG; filled where q is below 0.05."""
    figure, axes = _axes(len(rows), "differences")
    names = [f"{row.feature} ({row.block})" for row in rows]
    colours = [_BLUE if row.q < 0.05 else _GREY for row in rows]
    axes.barh(names, [row.delta for row in rows], color=colours, height=0.65)
    axes.axvline(0, color="#111827", lw=0.8)
    axes.set_xlabel("Cliff's delta: persistent above others (blue: q < 0.05)", fontsize=9)
    return svg(figure)


def _areas(results: Sequence[Result]) -> str:
    """AUROC of each set of blocks with its interval, as SVG."""
    figure, axes = _axes(len(results), "areas")
    values = [r.auroc.value for r in results]
    errors = [
        [max(0.0, r.auroc.value - r.auroc.low) for r in results],
        [max(0.0, r.auroc.high - r.auroc.value) for r in results],
    ]
    axes.errorbar(values, [r.name for r in results], xerr=errors, fmt="o", color=_BLUE, capsize=3)
    axes.axvline(0.5, color="#111827", lw=0.8, ls="--")
    axes.set_xlabel("AUROC, 95% interval (dashed: chance)", fontsize=9)
    return svg(figure)


def _axes(rows: int, name: str) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure = Figure(figsize=(7.5, 0.26 * rows + 0.9), layout="constrained")
        axes = figure.add_subplot()
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e5e7eb", lw=0.7)
    axes.set_axisbelow(True)
    return figure, axes
