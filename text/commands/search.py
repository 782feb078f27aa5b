"""``upspiral text search``: plans by tree search for the problems of a task, and their code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from common.commands import Output
from common.errors import UserError

if TYPE_CHECKING:
    from common.records import Candidate, Task
    from common.search import Tree
    from text.improve import ImproveConfig
    from text.sra_mcts import SearchPlans

TOGETHER = 16
"""Problems that are searched side by side."""
SETTINGS = ("check", "temperature", "top_p", "max_new_tokens", "shots", "chat", "sampling")
"""What --set may change, beside the settings of the search itself."""


@dataclass(frozen=True)
class SearchCommand:
    """Search a plan for each problem, write its code, and run it against the public examples.

    Every step is kept in the folder of --out: after Ctrl-C or a crash the same command continues.
    Hidden tests reach neither the search nor the choice of a plan; --score runs them at the end.
    """

    task: str = "code-basics"
    """code-basics; humaneval, from its package or as humaneval:FILE; humaneval+:FILE, mbpp:FILE,
    mbpp+:FILE."""
    model: str = "smollm2"
    """smollm2, a run of text, a folder, or a hub name."""
    base_url: str | None = None
    """Address of an OpenAI-compatible server, as http://HOST:PORT/v1; --model names its model."""
    split: Literal["train", "dev", "test"] = "test"
    """Which problems."""
    count: int = 20
    """How many of them; fewer where there are fewer."""
    iterations: int = 16
    """Nodes that are looked into for a problem, at most."""
    samples: int = 4
    """How often the code of the best plan is written."""
    out: Path = Path("plans")
    """The folder for plans.jsonl and the steps of the search."""
    seed: int = 0
    """Everything random derives from it."""
    score: bool = False
    """Run the hidden tests on the answers, when all is done."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other setting of the search or of sampling, as in --set branch=4 --set
    temperature=1.0."""

    def run(self, out: Output) -> dict[str, Any]:
        from common.commands.outcome import made
        from common.records import identity
        from common.search import Log

        config, propose = self.config()
        folder = made(self.out, "--out")
        tasks = self.problems(config)
        hidden = {task.id: task for task in tasks}
        asked = [replace(task, reference=None) for task in tasks]
        policy = self.policy(config)
        key = identity(policy.fingerprint(), asdict(propose), self.seed, [asdict(t) for t in asked])
        with Log(folder / "steps.jsonl", key, propose.search) as log:
            log.trees()  # what cannot be read is said before there is anything to resume
            found = read(folder / "plans.jsonl", "id")
            out.resume = shlex.join(self._words())
            _write(folder / "problems.jsonl", [
                {"id": t.id, "name": name_of(t), "head": t.meta["question"]} for t in tasks
            ])  # fmt: skip
            rows = {row["id"]: row for row in found if row.get("key") == key}
            context = _context(folder, self.seed, out)
            for first in range(0, len(asked), TOGETHER):
                group = [task for task in asked[first : first + TOGETHER] if task.id not in rows]
                if not group:
                    continue
                out.note(f"problems {first + 1} to {first + len(group)} of {len(asked)}")
                trees = propose.grow(policy, group, context, log)
                for row in _rows(group, propose.code(policy, group, context, trees), trees):
                    rows[row["id"]] = {"key": key, **row}
                _write(folder / "plans.jsonl", list(rows.values()))
        out.resume = None
        return self._tell([rows[task.id] for task in tasks], hidden, out)

    def config(self) -> tuple[ImproveConfig, SearchPlans]:
        """How it is sampled and searched.

        Raises:
            UserError: no such task or setting, or a number that is too small.
        """
        from common.search import Search
        from text.improve import ImproveConfig, sampler
        from text.methods import method
        from text.setup import with_settings
        from text.sra_mcts import SRAMCTS, SearchPlans
        from text.tasks import about

        if self.count < 1 or self.samples < 1:
            raise UserError(f"count={self.count}, samples={self.samples}", "give 1 or more of each")
        if about(self.task)["kind"] != "code":
            raise UserError(f"{self.task} asks for no code", "use code-basics or humaneval")
        names = [n for n in (*Search.__dataclass_fields__, *SETTINGS) if n != "iterations"]
        for one in self.set:
            if one.partition("=")[0] not in names:
                raise UserError(
                    f"no setting {one!r}", f"write name=value; names: {', '.join(names)}"
                )
        base = ImproveConfig(method="sra-mcts", task=self.task, model=self.model, shots=3,
                             samples=self.samples, max_new_tokens=128,
                             chat=self.base_url is not None)  # fmt: skip
        config = with_settings(base, (f"iterations={self.iterations}", *self.set))
        found = method(config.method, config.settings)
        assert isinstance(found, SRAMCTS)
        propose = SearchPlans(sampler(config), found.searched(), found.tokens, config.chat,
                              found.check == "examples")  # fmt: skip
        return config, propose

    def policy(self, config: ImproveConfig) -> Any:
        """The model that plans and writes."""
        if self.base_url is not None:
            from common.policies.served import connect

            return connect(config.model, self.base_url)
        from text import setup

        return setup.load_policy(config.model, config.chat, config.sampling)

    def problems(self, config: ImproveConfig) -> list[Task]:
        """The problems, with the prompt that the search starts from."""
        from text import tasks
        from text.sra_mcts import planned_task

        sizes = {"train": 0, "dev": 0, "test": 0, self.split: self.count}
        found = tasks.load(self.task, 0, **sizes)
        return [planned_task(task, config.shots, config.chat) for task in found]

    def _words(self) -> list[str]:
        words = ["upspiral", "text", "search"]
        for name in ("task", "model", "split", "count", "iterations", "samples", "out", "seed"):
            words += [f"--{name}", str(getattr(self, name))]
        words += ["--base-url", self.base_url] if self.base_url else []
        words += ["--score"] if self.score else []
        return words + [word for one in self.set for word in ("--set", one)]

    def _tell(
        self, rows: Sequence[Mapping[str, Any]], tasks: Mapping[str, Task], out: Output
    ) -> dict[str, Any]:
        shown = [
            (r["name"], len(r["plan"]), r["value"], "yes" if r["solved"] else "no",
             f"{r['public']:.0%}" if r["examples"] else "-", r["nodes"], r["tokens"])
            for r in rows
        ]  # fmt: skip
        out.table(("problem", "steps", "value", "checked", "public", "nodes", "tokens"), shown)
        shows = [row for row in rows if row["examples"]]
        passed = sum(row["public"] == 1 for row in shows)
        told: dict[str, Any] = {
            "task": self.task, "out": self.out, "problems": len(rows), "public": passed,
            "solved": sum(row["solved"] for row in rows),
            "tokens": sum(row["tokens"] for row in rows),
        }  # fmt: skip
        none = f"; {len(rows) - len(shows)} without any" if len(shows) < len(rows) else ""
        out.print(f"\n{passed} of {len(shows)} answers pass all public examples{none}; "
                  f"{told['tokens']} tokens")  # fmt: skip
        if self.score:
            from common.records import Metric
            from text.programs import hidden_of, run_tests

            found = run_tests([(row["code"], hidden_of(tasks[row["id"]])) for row in rows])
            items = {row["id"]: float(t.all) for row, t in zip(rows, found, strict=True)}
            metric = Metric.of("correct", items)
            told |= {"correct": metric.value, "correct_se": metric.se, "n": metric.n}
            error = f" ± {metric.se:.3f}" if metric.n > 1 else ""
            out.print(f"hidden tests: {metric.value:.3f}{error} (n={metric.n})")
        out.print(f"plans and code: {self.out / 'plans.jsonl'}")
        out.print(f"a tree: upspiral text tree {self.out} {rows[0]['id'][:8]}")
        return told


def name_of(task: Task) -> str:
    """What people call a problem: its name in its data set, or its function's."""
    return str(task.meta.get("name") or task.meta["entry"])


def read(path: Path, *names: str) -> list[dict[str, Any]]:
    """The rows of a file of ours, each with ``names``; none where it is not there.

    Raises:
        UserError: it cannot be read.
    """
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        if not all(isinstance(row, dict) and row.keys() >= set(names) for row in rows):
            raise ValueError(f"a row has no {', '.join(names)}")
        return rows
    except (OSError, ValueError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({error})", "delete it") from error


def _rows(
    tasks: Sequence[Task], made: Sequence[Candidate], trees: Mapping[str, Tree]
) -> list[dict[str, Any]]:
    """A row a problem: the best plan, and of its codes the first that passes most examples."""
    from text.programs import public_of, run_tests

    by_id = {task.id: task for task in tasks}
    tested = run_tests([(c.answer or "", public_of(by_id[c.task])) for c in made])
    rows = []
    for task in tasks:
        own = [(c, t) for c, t in zip(made, tested, strict=True) if c.task == task.id]
        best, verdict = max(own, key=lambda pair: pair[1].share)
        rows.append(
            {"id": task.id, "name": name_of(task), "plan": best.meta["plan"],
             "value": best.meta["value"], "solved": best.meta["solved"], "code": best.answer,
             "public": verdict.share, "examples": len(verdict.passed), "why": verdict.why,
             "samples": [c.answer for c, _ in own], "nodes": len(trees[task.id].nodes) - 1,
             "tokens": sum(c.meta["spent"] for c, _ in own)}
        )  # fmt: skip
    return rows


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    half = path.with_suffix(".partial")
    half.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    half.replace(path)


def _context(folder: Path, seed: int, out: Output) -> Any:
    from common.artifacts import Files
    from common.stages import Context
    from common.tracking import Nothing

    return Context(seed, 0, Files(folder / "artifacts"), Nothing(), out.progress(), folder)
