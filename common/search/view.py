"""A tree to look at: lines for a terminal, SVG for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape

from common.search.tree import ROOT, Node, Tree

WIDE, HIGH, GAP, RANK = 176, 62, 12, 26
"""A node's size in pixels, and what lies between nodes beside and below each other."""
LETTERS, ROWS = 30, 3
"""Letters in a row of a node, and rows of its text."""


def figures(node: Node) -> str:
    """Value, score and visits of a node, and what became of it."""
    said = f"V {node.value:.1f}, scored {node.score:g}, {node.visits} visits"
    if node.ended:
        said += ", complete"
    if node.solved is not None:
        said += ", passed the check" if node.solved else ", failed the check"
    return said


def on_best_path(tree: Tree) -> frozenset[int]:
    """The nodes from the root to the best one."""
    found, node = set[int](), next(iter(tree.ranked()), None)
    while node is not None:
        found.add(node.index)
        node = tree.nodes[node.parent] if node.parent is not None else None
    return frozenset(found)


def lines(tree: Tree, width: int = 100, title: str = "") -> list[str]:
    """The tree as text, a node a line or more; a star marks the path to the best node."""
    best = on_best_path(tree)
    root = tree.nodes[ROOT]
    found = [f"{title or 'root'}  ({len(tree.nodes) - 1} nodes, {root.visits} visits, "
             f"{tree.tokens} tokens)"]  # fmt: skip

    def below(node: Node, lead: str) -> None:
        for place, index in enumerate(node.children):
            child, last = tree.nodes[index], place == len(node.children) - 1
            mark = "*" if index in best else " "
            first, rest = ("└─", "  ") if last else ("├─", "│ ")
            told = [child.text, f"[{figures(child)}]"]
            told += [f"lacks: {child.note}"] if child.note else []
            room = max(20, width - len(lead) - 5)
            rows = [row for text in told for row in textwrap.wrap(text, room) or [""]]
            found.append(f"{lead}{first}{mark} {rows[0]}")
            deeper = "│" if child.children else " "
            found.extend(f"{lead}{rest} {deeper} {row}" for row in rows[1:])
            below(child, f"{lead}{rest} ")

    below(root, "")
    return found


def svg(tree: Tree, title: str = "") -> str:
    """The tree as SVG, from left to right; the path to the best node is drawn bold."""
    best, rows = on_best_path(tree), list(_rows(tree))
    places = {index: (depth * (WIDE + RANK), row * (HIGH + GAP)) for index, depth, row in rows}
    width = max(x for x, _ in places.values()) + WIDE + 2
    height = max(y for _, y in places.values()) + HIGH + 2
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="system-ui, sans-serif" '
        f'font-size="10" role="img" aria-label="{escape(title or "a tree of plans")}">'
    ]
    for node in tree.nodes[1:]:
        assert node.parent is not None
        (x0, y0), (x1, y1) = places[node.parent], places[node.index]
        x0, y0, y1, middle = x0 + WIDE, y0 + HIGH / 2, y1 + HIGH / 2, x1 - RANK / 2
        bold = node.index in best
        drawn.append(
            f'<path d="M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}" '
            f'fill="none" stroke="{"#2563eb" if bold else "#9ca3af"}" '
            f'stroke-width="{2 if bold else 1}"/>'
        )
    for node in tree.nodes:
        drawn.append(_box(node, *places[node.index], node.index in best, title))
    return "".join([*drawn, "</svg>"])


def _rows(tree: Tree) -> Iterator[tuple[int, int, float]]:
    """Index, depth and row of every node: leaves one below the other, parents at their middle."""
    place: dict[int, float] = {}
    leaves = 0
    for node in reversed(list(_walk(tree, ROOT))):  # children come before their parent
        if node.children:
            place[node.index] = (place[node.children[0]] + place[node.children[-1]]) / 2
        else:
            place[node.index] = leaves
            leaves += 1
    for node in tree.nodes:  # from the top down
        yield node.index, node.depth, max(place.values()) - place[node.index]


def _walk(tree: Tree, index: int) -> Iterator[Node]:
    yield tree.nodes[index]
    for child in tree.nodes[index].children:
        yield from _walk(tree, child)


def _box(node: Node, x: float, y: float, bold: bool, title: str) -> str:
    fill = {True: "#dcfce7", False: "#fee2e2", None: "#ffffff"}[node.solved]
    text = node.text if node.index != ROOT else title or "problem"
    shown = textwrap.wrap(text, LETTERS, max_lines=ROWS, placeholder=" …") or [""]
    told = f"{text}\n{figures(node)}" + (f"\nlacks: {node.note}" if node.note else "")
    below = "" if node.index == ROOT else f"V {node.value:.1f} · {node.visits} visits"
    rows = [*((row, "#111827") for row in shown), (below, "#6b7280")]
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="5" fill="{fill}" '
        f'stroke="{"#2563eb" if bold else "#9ca3af"}" stroke-width="{2 if bold else 1}"/>'
        f"{_text(rows, x + 7, y + 14)}</g>"
    )


def _text(rows: Sequence[tuple[str, str]], x: float, y: float) -> str:
    return "".join(
        f'<text x="{x:g}" y="{y + 13 * i:g}" fill="{colour}">{escape(row)}</text>'
        for i, (row, colour) in enumerate(rows)
    )
