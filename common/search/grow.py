"""Trees that grow side by side: a turn of all of them is a handful of calls, however many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from common.search.tree import ROOT, Step, Tree
from common.stages import Progress


class Said(NamedTuple):
    """A text, and the tokens that it took to say it."""

    text: str
    tokens: int = 0


class Reflection(NamedTuple):
    """What is to be said of a path so far; ``ended`` if nothing is missing."""

    note: str
    ended: bool
    tokens: int = 0


class Scored(NamedTuple):
    """How good a path is, and the tokens that it took to say so."""

    value: float
    tokens: int = 0


class Checked(NamedTuple):
    """Whether a path solves the problem, the tokens that it took to say so, and what shows it."""

    solved: bool
    tokens: int = 0
    shown: str = ""


@dataclass(frozen=True)
class Place:
    """A node as a grower sees it: the texts from the root to it, and what stands beside it.

    ``key`` names the work, and is what seeds are made of. ``siblings`` are the last steps of other
    paths that are the same up to there; ``others`` are steps that were proposed already where new
    ones are asked for.
    """

    tree: str
    key: str
    path: tuple[str, ...]
    siblings: tuple[str, ...] = ()
    note: str = ""
    others: tuple[str, ...] = ()


class Grower(Protocol):
    """What grows a tree. Every method gets the places of all trees and answers in their order."""

    def reflect(self, places: Sequence[Place]) -> Sequence[Reflection]:
        """What is missing, seen beside the ``siblings``."""

    def propose(self, places: Sequence[Place], counts: Sequence[int]) -> Sequence[Sequence[Said]]:
        """As many next steps as ``counts`` says for each place, other ones than ``others``."""

    def score(self, places: Sequence[Place]) -> Sequence[Scored]:
        """How good each path is."""

    def check(self, places: Sequence[Place]) -> Sequence[Checked]:
        """The final check of a path that would be an answer."""


def nothing(tree: str, step: Step) -> None:
    """No log."""


def search(
    trees: Mapping[str, Tree],
    grower: Grower,
    log: Callable[[str, Step], None] = nothing,
    progress: Progress | None = None,
) -> None:
    """Grow ``trees`` side by side until each is finished.

    ``log`` gets every step when it is done. A tree that has steps already goes on after them. What
    becomes of one tree does not depend on the others, provided that the grower's answers do not.
    """
    while under_way := {name: tree for name, tree in trees.items() if not tree.finished}:
        growing = {name: tree for name, tree in under_way.items() if not tree.grown}
        steps = {name: Step(None) for name in under_way} | _Turn(growing, grower).steps
        for name, step in steps.items():
            under_way[name].grow(step)
        asked = [
            (name, tree, index)
            for name, tree in under_way.items()
            for index in tree.to_check(last=name not in growing)
        ]
        places = [_place(name, tree, index, "check") for name, tree, index in asked]
        said = grower.check(places) if places else ()
        for (name, _, index), outcome in zip(asked, said, strict=True):
            steps[name] = replace(
                steps[name],
                checks=(*steps[name].checks, (index, outcome.solved, outcome.shown)),
                tokens=steps[name].tokens + outcome.tokens,
            )
        for name, step in steps.items():
            under_way[name].check(step)
            log(name, step)
        if progress is not None:
            done = sum(len(tree.steps) for tree in trees.values())
            left = sum(
                tree.config.iterations - tree.iterations + 1
                for tree in trees.values()
                if not tree.finished
            )
            progress(done, done + left, "steps of searches")


def _place(name: str, tree: Tree, index: int, what: str, **more: Any) -> Place:
    """A node as growers see it."""
    given = {"siblings": tree.siblings(index), "note": tree.nodes[index].note, **more}
    return Place(name, f"{name}/{index}/{what}", tree.path(index), **given)


class _Turn:
    """What is found at the leaf of each tree: ``steps``, by tree."""

    def __init__(self, trees: Mapping[str, Tree], grower: Grower) -> None:
        self.trees, self.grower = trees, grower
        self.leaf = {name: tree.select() for name, tree in trees.items()}
        self.steps = {name: Step(leaf) for name, leaf in self.leaf.items()}
        self._reflect()
        self._expand()
        for turn in range(max((t.config.rollout_steps for t in trees.values()), default=0)):
            self._roll(turn)

    def _add(self, name: str, tokens: int, **changes: Any) -> None:
        step = self.steps[name]
        self.steps[name] = replace(step, tokens=step.tokens + tokens, **changes)

    def _reflect(self) -> None:
        asked = [name for name, leaf in self.leaf.items() if leaf != ROOT]  # nothing was said there
        places = [_place(name, self.trees[name], self.leaf[name], "reflect") for name in asked]
        said = self.grower.reflect(places) if places else ()
        for name, one in zip(asked, said, strict=True):
            self._add(name, one.tokens, note=one.note, ended=one.ended)

    def _expand(self) -> None:
        """Children with their scores; those that repeat one before are asked for once again."""
        found: dict[str, list[str]] = {n: [] for n, step in self.steps.items() if not step.ended}
        for what in ("propose", "again"):
            missing = {n: self.trees[n].config.branch - len(own) for n, own in found.items()}
            wanting = [name for name, count in missing.items() if count]
            if not wanting:
                break
            places = [
                _place(name, self.trees[name], self.leaf[name], what,
                       note=self.steps[name].note, others=tuple(found[name]))
                for name in wanting
            ]  # fmt: skip
            said = self.grower.propose(places, [missing[name] for name in wanting])
            for name, group in zip(wanting, said, strict=True):
                self._add(name, sum(one.tokens for one in group))
                for text in _texts(group):
                    if text.casefold() not in map(str.casefold, found[name]):
                        found[name].append(text)
        for name, own in self._scored(found, "score").items():
            self._add(name, 0, children=own)

    def _roll(self, turn: int) -> None:
        """One more step of each greedy rollout, the best of ``rollout_branch``."""
        ahead: dict[str, tuple[str, ...]] = {}
        for name, step in self.steps.items():
            if step.children and len(step.rollout) == turn < self.trees[name].config.rollout_steps:
                best = max(step.children, key=lambda child: child[1])[0]
                rolled = tuple(text for text, _ in step.rollout)
                ahead[name] = (*self.trees[name].path(self.leaf[name]), best, *rolled)
        if not ahead:
            return
        places = [Place(n, f"{n}/{self.leaf[n]}/rollout{turn}", path) for n, path in ahead.items()]
        said = self.grower.propose(places, [self.trees[n].config.rollout_branch for n in ahead])
        found = {}
        for name, group in zip(ahead, said, strict=True):
            self._add(name, sum(one.tokens for one in group))
            found[name] = _texts(group)
        for name, own in self._scored(found, f"rolled{turn}", ahead).items():
            best_ = max(own, key=lambda child: child[1])
            self._add(name, 0, rollout=(*self.steps[name].rollout, best_))

    def _scored(
        self,
        found: Mapping[str, Sequence[str]],
        what: str,
        paths: Mapping[str, tuple[str, ...]] | None = None,
    ) -> dict[str, tuple[tuple[str, float], ...]]:
        """New steps with their scores, asked for in one call; trees without any are left out."""
        places = []
        for name, own in found.items():
            path = paths[name] if paths else self.trees[name].path(self.leaf[name])
            for i, text in enumerate(own):
                key = f"{name}/{self.leaf[name]}/{what}/{i}"
                places.append(Place(name, key, (*path, text), (*own[:i], *own[i + 1 :])))
        said = iter(self.grower.score(places) if places else ())
        scored = {}
        for name, own in found.items():
            values = [next(said) for _ in own]
            self._add(name, sum(one.tokens for one in values))
            if own:
                scored[name] = tuple((t, one.value) for t, one in zip(own, values, strict=True))
        return scored


def _texts(said: Sequence[Said]) -> list[str]:
    """What was said, each in one line; nothing is no step."""
    return [text for one in said if (text := " ".join(one.text.split()))]
