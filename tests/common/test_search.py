"""Tree search: its formulas against a search by hand, batches, logs that were cut off."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.search import (
    Checked,
    Log,
    Place,
    Reflection,
    Said,
    Scored,
    Search,
    Step,
    Tree,
    dumps,
    lines,
    loads,
    read_trees,
    search,
    svg,
)

GOAL = "LRLLR"


class Maze:
    """A way of lefts and rights; the critic counts how much of the way to the goal is right.

    Every answer depends on its place alone. ``asked`` keeps the sizes of the calls by their kind.
    """

    def __init__(self, goal: str = GOAL, sloppy: bool = False) -> None:
        self.goal, self.sloppy = goal, sloppy
        self.asked: list[tuple[str, int]] = []
        self.seen: list[Place] = []

    def _note(self, what: str, places: Sequence[Place]) -> None:
        self.asked.append((what, len(places)))
        self.seen += places

    def reflect(self, places: Sequence[Place]) -> list[Reflection]:
        self._note("reflect", places)
        done = len(self.goal)
        return [Reflection(f"at {len(p.path)}", len(p.path) >= done, 3) for p in places]

    def propose(self, places: Sequence[Place], counts: Sequence[int]) -> list[list[Said]]:
        self._note("propose", places)
        found = []
        for place, count in zip(places, counts, strict=True):
            rng = random.Random(place.key)
            options = [way for way in "LR" if way not in place.others] or ["L"]
            found.append([Said(rng.choice(options), 2) for _ in range(count)])
        return found

    def score(self, places: Sequence[Place]) -> list[Scored]:
        self._note("score", places)
        return [Scored(self._worth(p.path), 1) for p in places]

    def check(self, places: Sequence[Place]) -> list[Checked]:
        self._note("check", places)
        return [Checked("".join(p.path) == self.goal, 1, "shown") for p in places]

    def _worth(self, path: Sequence[str]) -> float:
        right = 0
        for way, wanted in zip(path, self.goal, strict=False):
            if way != wanted:
                break
            right += 1
        wrong = len(path) - right
        if self.sloppy and path and path[0] == "R":
            return 9.5
        return max(0.0, 10 * right / len(self.goal) - 4 * wrong)


def grown(config: Search, maze: Maze, *names: str) -> dict[str, Tree]:
    trees = {name: Tree(config) for name in names}
    search(trees, maze)
    return trees


def test_a_search_by_hand() -> None:
    """Two iterations with numbers that were worked out on paper."""
    config = Search(branch=2, exploration=0.5, unvisited=8, alpha=0.5, gate=100)
    tree = Tree(config)
    assert tree.select() == 0
    tree.grow(Step(0, children=(("a", 4.0), ("b", 6.0)), rollout=(("c", 8.0),)))
    a, b = tree.nodes[1], tree.nodes[2]
    assert b.value == 0.5 * 6 + 0.5 * 8 and b.visits == 1  # the better child was rolled out
    assert a.value == 4 and a.visits == 0
    assert tree.nodes[0].visits == 1 and tree.nodes[0].value == 7  # only b was visited
    # a: 4 + 8 = 12; b: 7 + 0.5 sqrt(2 ln 1 / 1) = 7
    assert tree.select() == 1
    tree.grow(Step(1, note="more", children=(("d", 1.0),)))
    d = tree.nodes[3]
    assert (d.value, d.visits, a.visits, a.value) == (1.0, 1, 1, 1.0)
    assert tree.nodes[0].value == (7 * 1 + 1 * 1) / 2
    # b: 7 + 0.5 sqrt(2 ln 2); a: 1 + the same
    assert tree._bound(tree.nodes[0], b) == pytest.approx(7 + 0.5 * math.sqrt(2 * math.log(2)))
    assert tree.select() == 2


def test_it_finds_the_way_and_stops_there() -> None:
    maze = Maze()
    tree = grown(Search(iterations=64, branch=2), maze, "t")["t"]
    assert tree.answer is not None and "".join(tree.path(tree.answer.index)) == GOAL
    assert tree.iterations < 64 and tree.finished
    assert tree.answer.shown == "shown"


def test_sixteen_iterations_search_and_two_do_not() -> None:
    """The released limit of two falls back on the highest value of a hardly searched tree."""
    found = {
        n: [
            t.answer is not None
            for t in grown(Search(iterations=n, branch=2), Maze("LRL"), *"abcdefgh").values()
        ]
        for n in (2, Search().iterations)
    }
    assert not any(found[2]) and all(found[16])


def test_a_plan_that_fails_the_check_is_no_answer_and_the_search_goes_on() -> None:
    """A critic that likes wrong ways: the gate alone would end there."""
    maze = Maze("LRL", sloppy=True)
    tree = grown(Search(iterations=32, branch=2), maze, "t")["t"]
    failed = [node for node in tree.nodes if node.solved is False]
    assert failed and max(node.value for node in failed) >= tree.config.gate
    assert tree.answer is not None and "".join(tree.path(tree.answer.index)) == "LRL"
    assert tree.ranked()[0] is tree.answer
    assert tree.ranked()[0].value <= max(node.value for node in failed)


def test_reflections_see_siblings_and_repeated_steps_are_asked_for_again() -> None:
    maze = Maze()
    grown(Search(iterations=8, branch=2), maze, *"abcd")
    reflected = [p for p in maze.seen if p.key.endswith("reflect")]
    assert any(p.siblings for p in reflected)
    for place in reflected:
        assert place.path[-1] not in place.siblings
    again = [p for p in maze.seen if p.key.endswith("again")]
    assert again and all(len(p.others) == 1 for p in again)  # one of two was missing


def test_trees_share_calls_and_do_not_change_each_other() -> None:
    config = Search(iterations=6, branch=2)
    together = Maze()
    trees = grown(config, together, *"abcdef")
    alone = [grown(config, Maze(), name)[name] for name in "abcdef"]
    assert [tree.steps for tree in trees.values()] == [tree.steps for tree in alone]
    turns = max(len(tree.steps) for tree in trees.values())
    assert len(together.asked) <= 7 * turns  # reflect, 2 x propose, score, roll and score, check
    assert max(size for what, size in together.asked if what == "score") >= 6


def test_tokens_end_a_search_and_are_all_counted() -> None:
    maze = Maze("L" * 8)
    tree = grown(Search(iterations=1000, branch=2, tokens=60, gate=100), maze, "t")["t"]
    last = [step for step in tree.steps if step.at is None]
    assert len(last) == 1 and len(last[0].checks) == 3
    before = tree.tokens - last[0].tokens
    assert 60 <= before < 60 + max(step.tokens for step in tree.steps)


def test_a_tree_without_anything_to_say_ends() -> None:
    class Mute(Maze):
        def propose(self, places: Sequence[Place], counts: Sequence[int]) -> list[list[Said]]:
            return [[Said("  ", 1)] * count for count in counts]

    tree = grown(Search(iterations=50), Mute(), "t")["t"]
    assert len(tree.nodes) == 1 and tree.iterations == 1 and tree.finished


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0, 1), st.integers(1, 12))
def test_values_are_means_of_visited_children(
    seed: int, branch: int, alpha: float, turns: int
) -> None:
    rng = random.Random(seed)
    tree = Tree(Search(branch=branch, alpha=alpha, depth=3, iterations=50, gate=100))
    for turn in range(turns):
        if not tree.open(0):
            break
        leaf = tree.select()
        assert not tree.nodes[leaf].children and tree.nodes[leaf].depth < 3
        n = rng.randint(0, branch)
        children = tuple((f"{turn}.{i}", rng.uniform(0, 10)) for i in range(n))
        rollout = (("r", rng.uniform(0, 10)),) if rng.random() < 0.5 else ()
        tree.grow(Step(leaf, ended=n == 0, children=children, rollout=rollout))
    for node in tree.nodes:
        below = [tree.nodes[i] for i in node.children]
        visits = sum(child.visits for child in below)
        if visits:
            mean = sum(c.visits * c.value for c in below) / visits
            assert node.value == pytest.approx(mean)
        assert node.visits >= visits
    assert tree.nodes[0].visits == tree.iterations
    again = loads(dumps(tree))
    assert again.steps == tree.steps and again.nodes == tree.nodes


def test_a_search_that_was_cut_off_anywhere_goes_on(tmp_path: Path) -> None:
    config = Search(iterations=5, branch=2)
    trees = {name: Tree(config) for name in "ab"}
    with Log(tmp_path / "whole.jsonl", "k", config) as whole:
        search(trees, Maze(), whole)
    data = (tmp_path / "whole.jsonl").read_bytes()
    for end in [*range(0, len(data), 97), len(data) - 1]:
        path = tmp_path / f"cut{end}.jsonl"
        path.write_bytes(data[:end])  # as a crash in the middle of a line leaves it
        with Log(path, "k", config) as log:
            known = log.trees()
            kept = sum(len(tree.steps) for tree in known.values())
            assert kept >= data[:end].count(b"\n") - 1
            maze = Maze()
            going = {name: known.get(name) or Tree(config) for name in "ab"}
            search(going, maze, log)
        assert {n: t.steps for n, t in going.items()} == {n: t.steps for n, t in trees.items()}
        written = read_trees(path)
        assert {n: t.nodes for n, t in written.items()} == {n: t.nodes for n, t in trees.items()}


def test_a_log_is_of_one_search(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path, "one", Search()), pytest.raises(UserError, match="another search is writing"):
        Log(path, "one", Search())
    with pytest.raises(UserError, match="other settings"):
        Log(path, "two", Search())
    path.write_text("nonsense\n")
    with pytest.raises(UserError, match="no log of a search"):
        Log(path, "one", Search())
    path.write_text(json.dumps({"key": "one", "search": {}}) + "\n" + json.dumps({"x": 1}) + "\n")
    with pytest.raises(UserError, match="no log of a search"):
        read_trees(path)
    row = {"tree": "t", "at": 0, "children": [["a", 1, 2]], "rollout": [], "checks": []}
    path.write_text(json.dumps({"key": "one", "search": {}}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match="no log of a search"):
        read_trees(path)
    with pytest.raises(UserError, match="no tree"):
        loads(b"{}")


@pytest.mark.parametrize(
    "given", [{"iterations": 0}, {"branch": 0}, {"alpha": 1.5}, {"exploration": -1.0}, {"depth": 0}]
)
def test_settings_that_make_no_search(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(given))):
        Search(**given)


def test_a_tree_is_drawn() -> None:
    tree = Tree(Search(branch=2))
    tree.grow(Step(0, children=(("take <a> & b", 3.0), ("sum", 7.0)), rollout=(("x", 9.0),)))
    tree.grow(Step(1, note="a step", ended=True))
    tree.check(Step(1, note="a step", ended=True, checks=((2, True, "code"),)))
    drawn = "\n".join(lines(tree, title="f"))
    assert drawn.splitlines()[0].startswith("f  (2 nodes, 2 visits")
    assert "└─* sum" in drawn and "├─  take <a> & b" in drawn
    assert "passed the check" in drawn and "lacks: a step" in drawn and "complete" in drawn
    picture = svg(tree, 'a "title"')
    assert picture.startswith("<svg") and "take &lt;a&gt; &amp; b" in picture
    assert picture.count("<rect") == 3 and picture.count("<path") == 2
    import xml.etree.ElementTree as ET

    ET.fromstring(picture)
    assert "problem" in svg(Tree(Search()))
