"""The tree of a search: its nodes, where upper confidence leads, and how values go up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.errors import UserError

ROOT = 0
LAST = 3
"""How many of the best plans get a final check when a search ends without one that passed."""


@dataclass(frozen=True)
class Search:
    """How a tree is searched; ``tokens`` is what it may take, 0 for no limit."""

    iterations: int = 16
    branch: int = 3
    exploration: float = 0.5
    unvisited: float = 8.0
    alpha: float = 0.5
    rollout_branch: int = 2
    rollout_steps: int = 1
    gate: float = 8.8
    depth: int = 8
    tokens: int = 0

    def __post_init__(self) -> None:
        least = {"iterations": 1, "branch": 1, "rollout_branch": 1, "rollout_steps": 0,
                 "depth": 1, "tokens": 0}  # fmt: skip
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"{name}={getattr(self, name)}", f"give {minimum} or more")
        if not 0 <= self.alpha <= 1 or not self.exploration >= 0:
            raise UserError(
                f"alpha={self.alpha:g}, exploration={self.exploration:g}",
                "give an alpha in [0, 1] and an exploration of 0 or more",
            )


@dataclass(frozen=True)
class Step:
    """One turn of a search: all that it learnt. ``at`` is the leaf; None for the checks at the end.

    ``children`` and ``rollout`` are texts with their scores, ``checks`` nodes with whether
    they passed, and what shows it.
    """

    at: int | None
    note: str = ""
    ended: bool = False
    children: tuple[tuple[str, float], ...] = ()
    rollout: tuple[tuple[str, float], ...] = ()
    checks: tuple[tuple[int, bool, str], ...] = ()
    tokens: int = 0


@dataclass
class Node:
    """``score`` is what was said of it when it was new, ``value`` what the search makes of it."""

    index: int
    parent: int | None
    text: str
    score: float
    value: float
    depth: int
    visits: int = 0
    note: str = ""
    ended: bool = False
    closed: bool = False
    """There is nothing to grow from it: it ended, or no step was found."""
    solved: bool | None = None
    """What the final check said, if it was asked."""
    shown: str = ""
    """What shows it."""
    children: list[int] = field(default_factory=list)


class Tree:
    """The nodes by number, the root first, and the steps that made them."""

    def __init__(self, config: Search, steps: Sequence[Step] = ()) -> None:
        self.config = config
        self.nodes = [Node(ROOT, None, "", 0.0, 0.0, 0)]
        self.steps: list[Step] = []
        for step in steps:
            self.grow(step)

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)

    @property
    def iterations(self) -> int:
        return sum(step.at is not None for step in self.steps)

    @property
    def finished(self) -> bool:
        """Whether the search is over, the last checks included."""
        return self.answer is not None or any(step.at is None for step in self.steps)

    @property
    def grown(self) -> bool:
        """Whether the tree grows no more."""
        used = 0 < self.config.tokens <= self.tokens
        done = self.answer is not None or self.iterations >= self.config.iterations
        return done or used or not self.open(ROOT)

    @property
    def answer(self) -> Node | None:
        """The best node that passed the final check."""
        passed = [node for node in self.nodes if node.solved]
        return max(passed, key=lambda node: (node.value, -node.index), default=None)

    def ranked(self) -> list[Node]:
        """All nodes but the root: those that passed the check first, then by value."""
        return sorted(self.nodes[1:], key=lambda node: (not node.solved, -node.value, node.index))

    def path(self, index: int) -> tuple[str, ...]:
        """The texts from the root to a node."""
        node, found = self.nodes[index], list[str]()
        while node.parent is not None:
            found.append(node.text)
            node = self.nodes[node.parent]
        return tuple(reversed(found))

    def siblings(self, index: int) -> tuple[str, ...]:
        """The texts of the other children of a node's parent."""
        parent = self.nodes[index].parent
        if parent is None:
            return ()
        return tuple(self.nodes[i].text for i in self.nodes[parent].children if i != index)

    def open(self, index: int) -> bool:
        """Whether something can grow at or below a node."""
        node = self.nodes[index]
        if node.closed or node.depth >= self.config.depth:
            return False
        return not node.children or any(self.open(child) for child in node.children)

    def select(self) -> int:
        """The leaf that upper confidence leads to; of equal nodes the earlier."""
        node = self.nodes[ROOT]
        while node.children:
            parent = node
            open_ = [self.nodes[i] for i in node.children if self.open(i)]
            node = max(open_, key=lambda child: (self._bound(parent, child), -child.index))
        return node.index

    def _bound(self, parent: Node, child: Node) -> float:
        if child.visits == 0:
            return child.value + self.config.unvisited
        spread = math.sqrt(2 * math.log(max(1, parent.visits)) / child.visits)
        return child.value + self.config.exploration * spread

    def grow(self, step: Step) -> None:
        """Take in a step: its children, the rollout's score, the backup, the checks."""
        self.steps.append(step)
        if step.at is not None:
            leaf = self.nodes[step.at]
            leaf.note, leaf.ended = step.note, step.ended
            leaf.closed = not step.children
            for text, score in step.children:
                leaf.children.append(len(self.nodes))
                self.nodes.append(
                    Node(len(self.nodes), leaf.index, text, score, score, leaf.depth + 1)
                )
            from_ = leaf
            if leaf.children:
                from_ = self._best_child(leaf)
                if step.rollout:
                    alpha, reached = self.config.alpha, max(score for _, score in step.rollout)
                    from_.value = (1 - alpha) * from_.value + alpha * reached
            self._back_up(from_)
        self.check(step)

    def check(self, step: Step) -> None:
        """Take in what the final check said; ``step`` is the last one, with its checks."""
        self.steps[-1] = step
        for index, solved, shown in step.checks:
            self.nodes[index].solved, self.nodes[index].shown = solved, shown

    def to_check(self, last: bool = False) -> list[int]:
        """Nodes at the gate that were not checked; at the ``last`` the best of the others."""
        new = [node for node in self.ranked() if node.solved is None]
        if last:
            return [node.index for node in new[:LAST]]
        return [node.index for node in new[:1] if node.value >= self.config.gate]

    def _best_child(self, node: Node) -> Node:
        children = [self.nodes[i] for i in node.children]
        return max(children, key=lambda child: (child.score, -child.index))

    def _back_up(self, node: Node) -> None:
        while True:
            node.visits += 1
            below = [self.nodes[i] for i in node.children]
            visits = sum(child.visits for child in below)
            if visits:
                node.value = sum(child.visits * child.value for child in below) / visits
            if node.parent is None:
                return
            node = self.nodes[node.parent]
