"""``upspiral text tree``: the tree of a searched problem, in the terminal or as SVG."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tyro

from common.commands import Output
from common.errors import UserError
from common.search import Tree

if TYPE_CHECKING:
    from common.store import Store


class Known(NamedTuple):
    """A problem that was searched, and what gives its tree."""

    id: str
    name: str
    head: str
    load: Callable[[], Tree]


@dataclass(frozen=True)
class TreeCommand:
    """Draw the tree of plans of a problem; without one, list the problems that there are.

    Works while a search is under way, too, and on one that was cut off.
    """

    searched: tyro.conf.Positional[str]
    """The folder of `upspiral text search`, or a run of sra-mcts (last for the newest)."""
    problem: tyro.conf.Positional[str] = ""
    """Its name, as HumanEval/3 or 3, or the beginning of its id."""
    round: int | None = None
    """The round of a run; its last by default."""
    svg: Path | None = None
    """Write it here, as SVG."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.search import lines, svg

        folder = Path(self.searched).expanduser()
        searched = (folder / "steps.jsonl").exists()
        if not searched and ("/" in self.searched or self.searched.startswith(".")):
            raise UserError(
                f"there is no search in the folder {self.searched!r}",
                "name the --out of an upspiral text search",
            )
        known = _of_folder(folder) if searched else self._of_run()
        if not known:
            where = "" if self.round is None else f" in round {self.round}"
            raise UserError(
                f"{self.searched} has no trees{where}",
                "name the folder of an upspiral text search, or a run of sra-mcts and its --round",
            )
        if not self.problem:
            known.sort(key=lambda one: one.name)
            out.table(("problem", "id"), [(one.name, one.id) for one in known])
            return {"problems": [{"name": one.name, "id": one.id} for one in known]}
        one = _find(known, self.problem)
        tree, name = one.load(), one.name
        out.print(one.head)
        out.print()
        for line in lines(tree, max(60, shutil.get_terminal_size().columns), name):
            out.print(line)
        best = next((node for node in tree.ranked() if node.shown), None)
        if best is not None:
            out.print(f"\nthe final check {'passed' if best.solved else 'failed'}:{best.shown}")
        if self.svg is not None:
            try:
                self.svg.write_text(svg(tree, name), encoding="utf-8")
            except OSError as error:
                raise UserError(
                    f"cannot write {str(self.svg)!r}: {error.strerror}", "name another file"
                ) from error
            out.print(f"\ndrawn: {self.svg}")
        nodes = [
            {"text": n.text, "parent": n.parent, "value": n.value, "score": n.score,
             "visits": n.visits, "note": n.note, "ended": n.ended, "solved": n.solved}
            for n in tree.nodes
        ]  # fmt: skip
        return {"id": one.id, "name": name, "tokens": tree.tokens, "finished": tree.finished,
                "nodes": nodes}  # fmt: skip

    def _of_run(self) -> list[Known]:
        """The searched problems of a run, by its candidates."""
        from common.commands.runs import find
        from common.store import Store
        from text.commands.search import name_of
        from text.prompts import question

        store = Store()
        row = find(store, self.searched)
        pool = store.candidates(row.run, self.round)
        trees = {c.task: str(c.artifact) for c in pool if c.artifact and "plan" in c.meta}
        return [
            Known(task.id, name_of(task), question(task), partial(_artifact, store, trees[task.id]))
            for task in store.tasks(row.run)
            if task.id in trees
        ]


def _of_folder(folder: Path) -> list[Known]:
    """The problems of a search that has steps."""
    from common.search import read_trees
    from text.commands.search import read

    trees = read_trees(folder / "steps.jsonl")
    return [
        Known(row["id"], row["name"], row["head"], partial(trees.__getitem__, row["id"]))
        for row in read(folder / "problems.jsonl", "id", "name", "head")
        if row["id"] in trees
    ]


def _artifact(store: Store, address: str) -> Tree:
    from common.search import loads

    return loads(store.path(address).read_bytes())


def _find(known: Sequence[Known], wanted: str) -> Known:
    """The problem that is meant.

    Raises:
        UserError: none is, or several are.
    """
    exact = [one for one in known if wanted in (one.id, one.name, one.name.rpartition("/")[2])]
    found = exact or [o for o in known if o.id.startswith(wanted) or o.name.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        found.sort(key=lambda one: one.name)
        names = ", ".join(f"{one.name} ({one.id[:8]})" for one in found[:8])
        raise UserError(f"{wanted!r} may be {names}", "give the beginning of the id")
    from common.cli import unknown

    raise unknown("problem", wanted, [one.name for one in known])
