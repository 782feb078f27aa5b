"""What the report of a run adds for text: answers, what rounds cost, the worst of feedback."""

from __future__ import annotations

from common import budget
from common.report import Extra, Section
from common.store import Store
from text.counseling.quality import sections
from text.prompts import question

COUNT = 8
"""Questions that are shown."""
TREES = 3
"""Trees of a search that are drawn."""


def extra(run: str) -> Extra:
    """What the report of ``run`` shows beside its figures."""
    store = Store()
    if store.run(run).recipe.startswith("text/evolve"):
        from text.godel import report

        return Extra(sections=report.sections(store, run))
    own = sections(store, run)
    return Extra(sections=[*_cost(store, run), *own, *_answers(store, run), *_trees(store, run)])


def _cost(store: Store, run: str) -> list[Section]:
    rounds = [r for r in store.rounds(run) if r.index]
    if not rounds:
        return []
    rows = [(f"round {r.index}", *budget.spent([r]), round(r.seconds)) for r in rounds]
    total = budget.spent(rounds)
    rows.append(("all", *total, round(sum(r.seconds for r in rounds))))
    about = "Tokens sampled for lessons and trained on (prompts included), and seconds, a round."
    return [Section("Cost", about, columns=("", "sampled", "trained", "seconds"), rows=rows)]


def _answers(store: Store, run: str) -> list[Section]:
    """The first sample of a few practised questions, in the first and the last round."""
    rounds = [r.index for r in store.rounds(run) if r.index]
    if not rounds:
        return []
    shown = sorted({rounds[0], rounds[-1]})
    pool = [candidate for index in shown for candidate in store.candidates(run, index)]
    if not pool:
        return []
    tasks = {task.id: task for task in store.tasks(run, "train")}
    first: dict[tuple[str, int], str] = {}
    for candidate in pool:
        said = candidate.output.strip()[:300]
        if "correct" in candidate.scores:
            said += " (right)" if candidate.scores["correct"] > 0.5 else " (wrong)"
        first.setdefault((candidate.task, candidate.round), said)
    chosen = sorted({c.task for c in pool})[:COUNT]  # ids are hashes: a draw that nobody chose
    rows = [
        (question(tasks[task])[:400], tasks[task].reference, *(first.get((task, r)) for r in shown))
        for task in chosen
    ]
    columns = ("question", "reference", *(f"round {r}, first sample" for r in shown))
    about = "Practised questions drawn by their ids, with the first of each round's samples."
    return [Section("Answers", about, columns=columns, rows=rows)]


def _trees(store: Store, run: str) -> list[Section]:
    """The trees of plans of the last round that searched any, for a few practised questions."""
    found = {c.task: c for c in store.candidates(run) if c.artifact and c.strategy == "sra-mcts"}
    if not found:
        return []
    from common.search import loads, svg

    last = max(c.round for c in found.values())
    shown = [task for task in sorted(found) if found[task].round == last][:TREES]
    tasks = {task.id: task for task in store.tasks(run, "train")}
    drawn = []
    for name in shown:
        tree = loads(store.path(str(found[name].artifact)).read_bytes())
        drawn.append(svg(tree, str(tasks[name].meta.get("entry", name))))
    about = (
        f"Plans that round {last} searched for practised questions drawn by their ids. Blue: the "
        "way to the best node; green: it passed the final check; red: it failed. Others: upspiral "
        f"text tree {run}"
    )
    return [Section("Trees of plans", about, figures=tuple(drawn))]
