"""What does a tree search of plans buy? Ways to code, side by side, for equal tokens a problem.

Run: ``python studies/sra_mcts.py FOLDER [MODEL] [TASK] [PROBLEMS] [TOKENS]``. For each of PROBLEMS
test problems of TASK (code-basics, humaneval, ...) every arm samples TOKENS tokens: a batch draws
more, but what a problem began after they were spent has no part in its answer.

* ``direct`` and ``cot`` (a plan and code in one go): pass@1 and pass@10 of independent samples, by
  the unbiased estimator over all that were drawn;
* ``best-of-n``: of the direct samples one that passes most public examples, by lot among equal
  ones, in expectation;
* ``search``: plans by tree search, code of the best plan; its answer is chosen by the public
  examples in the same way, and pass@10 is that of its codes.

Hidden tests are run when an arm is done, and choose nothing. Work is kept in FOLDER a shard of
problems at a time, which all arms work on in turn: the same command continues where it was stopped.
The table so far is FOLDER/table.md, with the standard error over problems, and the paired
difference of each arm from best-of-n.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from common.artifacts import Files
from common.comparison import lines
from common.gate import paired_interval
from common.monitors.exploration import best_of_k, pass_at_k
from common.policies import Sample
from common.progress import progress
from common.records import Candidate, Metric, Task, identity
from common.search import Search
from common.stages import Context
from common.tracking import Nothing
from text import tasks
from text.code_arms import DirectCode
from text.planning import FAMILY
from text.programs import hidden_of, public_of, run_tests
from text.prompts import prompted, stops
from text.setup import load_policy
from text.sra_mcts import SHARE, SearchPlans, planned_task

ARMS = ("direct", "cot", "best-of-n", "search")
SHARD, K = 16, 10
SAMPLE = Sample(n=10, temperature=0.7, top_p=0.95, max_new_tokens=96, stop=stops(FAMILY))
HEADINGS = ("arm", "problems", "tokens", "samples", "pass@1", f"pass@{K}", "answer",
            "answer against best-of-n")  # fmt: skip


def stage(arm: str, tokens: int) -> Any:
    """What an arm proposes with; best-of-n chooses from what direct draws."""
    if arm != "search":
        return DirectCode(SAMPLE, tokens, arm)
    return SearchPlans(SAMPLE, Search(tokens=int(SHARE * tokens)), tokens)


def drawn(arm: str, policy: Any, shard: Sequence[Task], tokens: int, folder: Path) -> list[Any]:
    """A row a candidate: its task, tokens, and whether it passes public and hidden tests."""
    planned = arm != "direct"
    asked = [planned_task(t, 3, False) if planned else prompted([t], 3)[0] for t in shard]
    asked = [replace(task, reference=None) for task in asked]
    key = [policy.fingerprint(), arm, tokens, repr(SAMPLE), [t.prompt for t in asked]]
    path = folder / "work" / f"{identity(key)}.json"
    if not path.exists():
        place = path.with_suffix("")
        place.mkdir(parents=True, exist_ok=True)
        files = Files(folder / "artifacts")
        ctx = Context(0, 0, files, Nothing(), progress(), place)
        made = stage(arm, tokens).propose(policy, asked, ctx)
        path.with_suffix(".partial").write_text(json.dumps(tested(made, shard)))
        path.with_suffix(".partial").replace(path)
    return list(json.loads(path.read_text()))


def tested(made: Sequence[Candidate], problems: Sequence[Task]) -> list[dict[str, Any]]:
    """The candidates as rows."""
    by_id = {task.id: task for task in problems}
    public = run_tests([(c.answer or "", public_of(by_id[c.task])) for c in made])
    hidden = run_tests([(c.answer or "", hidden_of(by_id[c.task])) for c in made])
    return [
        {"task": c.task, "tokens": c.meta.get("spent", c.tokens), "public": p.share,
         "correct": h.all, "solved": bool(c.meta.get("solved")), "sampled": c.tokens > 0}
        for c, p, h in zip(made, public, hidden, strict=True)
    ]  # fmt: skip


def paid(rows: Sequence[Mapping[str, Any]], tokens: int) -> list[Mapping[str, Any]]:
    """Of a problem's rows, in order, those that began before its tokens were spent."""
    before = [0, *accumulate(row["tokens"] for row in rows)]
    return [row for row, spent in zip(rows, before, strict=False) if spent < tokens]


def figures(arm: str, rows: Sequence[Mapping[str, Any]], tokens: int) -> dict[str, Metric]:
    """Metrics by name, an item a problem."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["task"], []).append(row)
    found: dict[str, dict[str, float]] = {"tokens": {}, "samples": {}, "answer": {}}
    for task, every in groups.items():
        sampled = [row["correct"] for row in every if row["sampled"]]
        own = paid(every, tokens)
        found["tokens"][task] = sum(row["tokens"] for row in own)
        found["samples"][task] = len(own)
        if arm != "best-of-n":
            for k in (1, K):
                found.setdefault(f"pass@{k}", {})[task] = pass_at_k(len(sampled), sum(sampled), k)
        worth, liked = [float(row["correct"]) for row in own], [row["public"] for row in own]
        chosen = arm in ("best-of-n", "search")
        found["answer"][task] = (
            best_of_k(worth, liked, len(own)) if chosen else float(np.mean(worth))
        )
    return {name: Metric.of(name, items) for name, items in found.items()}


def main(
    out: str,
    model: str = "smollm2",
    task: str = "code-basics",
    problems: str = "48",
    tokens: str = "1500",
) -> None:
    """Work, then write the table."""
    folder = Path(out)
    (folder / "work").mkdir(parents=True, exist_ok=True)
    policy = load_policy(model)
    found = tasks.load(task, 0, 0, 0, int(problems))
    rows: dict[str, list[Any]] = {arm: [] for arm in ARMS}
    for start in range(0, len(found), SHARD):
        shard = found[start : start + SHARD]
        for arm in ARMS:
            if arm != "best-of-n":
                print(f"{arm}: problems {start + 1} to {start + len(shard)}", file=sys.stderr)
                rows[arm] += drawn(arm, policy, shard, int(tokens), folder)
        rows["best-of-n"] = rows["direct"]
        text = f"{task}, {model}, {tokens} tokens a problem\n\n{table(rows, int(tokens))}"
        (folder / "table.md").write_text(text)
    print(text)


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]], tokens: int) -> str:
    """The arms, a line each."""
    told = {arm: figures(arm, rows[arm], tokens) for arm in ARMS}
    best = told["best-of-n"]["answer"].items
    found = []
    for arm, metrics in told.items():
        change = paired_interval(best, metrics["answer"].items)
        shown = [f"{m.value:.3f} ± {m.se:.3f}" if (m := metrics.get(name)) else "-"
                 for name in ("pass@1", f"pass@{K}", "answer")]  # fmt: skip
        against = f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
        cost = [f"{metrics[name].value:.0f}" for name in ("tokens", "samples")]
        found.append((arm, len(best), *cost, *shown, against if arm != "best-of-n" else "-"))
    return lines(HEADINGS, found)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(f"usage: python {sys.argv[0]} FOLDER [MODEL] [TASK] [PROBLEMS] [TOKENS]")
    main(*sys.argv[1:6])
