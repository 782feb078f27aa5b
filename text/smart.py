"""SMART (arXiv 2410.16128): a model learns which strategy to try first.

A question is a short decision process: the model names a strategy and solves with it; when that is
wrong it tries another one, not used before, up to T attempts. What worked at attempt t is learnt as
if it had come first, *implicit biasing*:

    learn -log pi(a_t | question),  a_t the strategy and solution of the first right attempt

so that the first attempt comes to do what refinement did. Replaces **propose** and **select**; the
learning is supervised. Strategies are direct answers, chain of thought, least-to-most and program
of thought, whose one-line programs run in the sandbox, or those of a file of one's own:

    [{"name": "...", "program": false, "shots": [["question", "solution"], ...]}, ...]

Without other strategies (``--set only=chain-of-thought``) this is ReST on one strategy (ReST^EM,
arXiv 2312.06585): the control that the paper's reviewers missed.

Deviations: the official code is a stub, so this follows the paper's description. A proposer sees no
reference and so cannot know which attempt was right: all T attempts are drawn, the later ones with
strategies in random order and without the failed texts, and only those up to the first success
count; ``tokens_to_success`` are what a loop that stops there would have spent. There is no first
stage of supervised learning; worked examples in the prompt stand for it.

    upspiral text improve --method smart --task arithmetic
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import sandbox
from common.errors import UserError
from common.policies import Generator, Sample
from common.pool import of_round
from common.records import Candidate, Demonstration, Lessons, Metric, Task, identity
from common.stages import Context
from text.answers import canonical, flexible, kind_of
from text.improve import Accuracy
from text.prompts import question, template

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

FILE = Path(__file__).with_name("strategies.json")
LIMITS = sandbox.Limits(seconds=5, cpu_seconds=3)
UNNAMED = "unnamed"
"""The strategy of a solution that names none."""


@dataclass(frozen=True)
class Strategy:
    """A way to solve, shown by worked examples. What a ``program`` prints is its answer."""

    name: str
    shots: tuple[tuple[str, str], ...]
    program: bool = False


def strategies(path: str | Path = FILE) -> tuple[Strategy, ...]:
    """The strategies of a file.

    Raises:
        UserError: it cannot be read, or has no two strategies with different names and examples.
    """
    try:
        rows = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        found = tuple(
            Strategy(
                str(row["name"]),
                tuple((str(asked), str(solved)) for asked, solved in row["shots"]),
                bool(row.get("program", False)),
            )
            for row in rows
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"cannot read strategies from {path} ({type(error).__name__}: {error})",
            'give a JSON list of {"name", "program", "shots": [["question", "solution"], ...]}',
        ) from error
    names = [s.name for s in found]
    if not found or len(set(names)) < len(names) or not all(s.name and s.shots for s in found):
        raise UserError(
            f"the strategies of {path} are none, share a name, or lack examples",
            "give each strategy a name of its own and at least one example",
        )
    return found


def free_prompt(task: Task, known: Sequence[Strategy], chat: bool = False) -> str:
    """What leaves the choice to the model: the strategies, and an example of each in turn."""
    shots = [(s, s.shots[i % len(s.shots)]) for i, s in enumerate(known)]
    blocks = [(asked, f"{s.name}: {solved}") for s, (asked, solved) in shots]
    names = ", ".join(s.name for s in known)
    return f"Strategies: {names}.\n\n{_blocks(task, blocks, '', chat)}"


def bound_prompt(task: Task, strategy: Strategy, chat: bool = False) -> str:
    """What asks for ``strategy``: its examples, and its name where the answer begins."""
    blocks = [(asked, f"{strategy.name}: {solved}") for asked, solved in strategy.shots]
    return _blocks(task, blocks, f" {strategy.name}:", chat)


def _blocks(task: Task, blocks: Sequence[tuple[str, str]], begun: str, chat: bool) -> str:
    labels = template(str(task.meta.get("family", "")), task.language)
    shown = [f"{labels['question']} {q}\n{labels['answer']} {a}" for q, a in blocks]
    if chat:
        asked = f"Name a way to solve the problem and solve it.{' Use' + begun if begun else ''}"
        return "\n\n".join([asked, *shown, question(task)])
    return "\n\n".join(
        [*shown, f"{labels['question']} {question(task)}\n{labels['answer']}{begun}"]
    )


def named(output: str, known: Sequence[Strategy]) -> Strategy | None:
    """The strategy that a solution begins with the name of."""
    beginning = output.strip().casefold()
    return next((s for s in known if beginning.startswith(f"{s.name.casefold()}:")), None)


def code_of(output: str, strategy: Strategy) -> str:
    """The program of a solution: what follows the name, out of a fence if it is in one."""
    text = output.strip()
    if text.casefold().startswith(f"{strategy.name.casefold()}:"):
        text = text[len(strategy.name) + 1 :].strip()
    fenced = re.search(r"```(?:python)?\s*\n(.*?)```", text, re.DOTALL)
    return fenced[1] if fenced else text


def run_program(code: str) -> str | None:
    """The last line that ``code`` prints in the sandbox; None if it fails, or prints nothing."""
    ran = sandbox.run(code, limits=LIMITS)
    lines = ran.stdout.strip().splitlines() if ran.status == "ok" else []
    return lines[-1].strip() if lines else None


def answered(
    tasks: Sequence[Task],
    drawn: Sequence[Candidate],
    known: Sequence[Strategy],
    run: Callable[[str], str | None] = run_program,
) -> list[Candidate]:
    """The candidates with their strategy, and their answer: what a program prints, or else says."""
    by_id = {task.id: task for task in tasks}
    used = [named(c.output, known) for c in drawn]
    programs = sorted(
        {code_of(c.output, s) for c, s in zip(drawn, used, strict=True) if s and s.program}
    )
    with ThreadPoolExecutor(2) as pool:  # a process each; the threads only wait
        printed = dict(zip(programs, pool.map(run, programs), strict=True))
    found = []
    for c, s in zip(drawn, used, strict=True):
        task = by_id[c.task]
        if s and s.program:
            said = printed[code_of(c.output, s)]
            answer = None if said is None else canonical(said, kind_of(task), "en")
        else:
            answer = flexible(c.output, kind_of(task), task.language)
        # An empty answer is no reading of the text: the judge would read a program's numbers.
        found.append(replace(c, strategy=s.name if s else UNNAMED, answer=answer or ""))
    return found


@dataclass(frozen=True)
class Attempts:
    """Propose: ``sample.n`` times a question, a first attempt and then other strategies, in turn.

    Tasks carry the :func:`free_prompt`. ``attempts`` is T, the first included. ``meta`` has the
    ``trajectory`` and the number of the ``attempt``, from 1; ``parent`` is the attempt before.
    """

    sample: Sample
    known: tuple[Strategy, ...]
    attempts: int = 3
    chat: bool = False
    run: Callable[[str], str | None] = run_program

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise UserError(f"attempts={self.attempts}", "give 1 or more")

    def propose(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        drawn = answered(tasks, self.sample.propose(policy, tasks, ctx), self.known, self.run)
        latest = [
            replace(c, meta={**c.meta, "trajectory": i % self.sample.n, "attempt": 1})
            for i, c in enumerate(drawn)
        ]
        orders = [self._order(c, ctx) for c in latest]
        found = list(latest)
        for attempt in range(2, self.attempts + 1):
            going = [
                (c, order[attempt - 2], order)
                for c, order in zip(latest, orders, strict=True)
                if len(order) >= attempt - 1
            ]
            if not going:
                break
            latest = self._again(policy, tasks, [(c, s) for c, s, _ in going], attempt, ctx)
            orders = [order for _, _, order in going]
            found += latest
        return found

    def _order(self, first: Candidate, ctx: Context) -> list[Strategy]:
        """The strategies of later attempts: all but the first's, in random order."""
        others = [s for s in self.known if s.name != first.strategy]
        seed = ctx.seed_for("strategies", ctx.round, first.task, first.meta["trajectory"])
        random.Random(seed).shuffle(others)
        return others

    def _again(
        self,
        policy: Generator,
        tasks: Sequence[Task],
        going: Sequence[tuple[Candidate, Strategy]],
        attempt: int,
        ctx: Context,
    ) -> list[Candidate]:
        by_id = {task.id: task for task in tasks}
        asked = [
            replace(by_id[c.task], id=identity("attempt", attempt, c.id),
                    prompt=bound_prompt(by_id[c.task], s, self.chat))
            for c, s in going
        ]  # fmt: skip
        said = replace(self.sample, n=1).propose(policy, asked, ctx)
        said = [
            replace(
                c,
                task=before.task,
                parent=before.id,
                output=_with_name(c.output, s),
                meta={**c.meta, "trajectory": before.meta["trajectory"], "attempt": attempt},
            )
            for c, (before, s) in zip(said, going, strict=True)
        ]
        return answered(tasks, said, self.known, self.run)


def _with_name(output: str, strategy: Strategy) -> str:
    """The solution under its name, which the prompt had already said."""
    return output if named(output, (strategy,)) else f" {strategy.name}:{output}"


@dataclass(frozen=True)
class FirstSuccess:
    """Select: of each trajectory the first right attempt, as an answer to the bare question.

    At most ``keep`` a question, each text once, early attempts first; none that names no strategy,
    or the model would learn names of its own. ``notes`` have the accuracy of first attempts and
    after refinement, the strategies that were chosen first and how often each was right, and the
    tokens spent.
    """

    keep: int = 2
    key: str = "correct"

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = list(of_round(pool, ctx.round))
        paths = trajectories(mine)
        first: dict[str, list[Candidate]] = {}
        for path in paths:
            right = [c for c in path if c.scores[self.key] > 0.5 and c.strategy != UNNAMED]
            if right and right[0].meta.get("finished", True):
                first.setdefault(right[0].task, []).append(right[0])
        chosen = []
        for task in sorted(first):
            ranked = sorted(first[task], key=lambda c: (c.meta["attempt"], c.id))
            texts: dict[str, Candidate] = {}
            for c in ranked:
                texts.setdefault(c.output, c)
            for c in list(texts.values())[: self.keep]:
                name, prompt = identity("smart", ctx.round, c.id), tasks[task].prompt
                chosen.append(Demonstration(name, task, ctx.round, prompt, c.output, c.strategy))
        return Lessons(demonstrations=tuple(chosen), notes=self._notes(mine, paths, chosen))

    def _notes(
        self,
        mine: Sequence[Candidate],
        paths: Sequence[Sequence[Candidate]],
        chosen: Sequence[Demonstration],
    ) -> dict[str, Any]:
        if not paths:
            return {}
        right = [[c.scores[self.key] > 0.5 for c in path] for path in paths]
        until = [row.index(True) + 1 if any(row) else len(row) for row in right]
        firsts = Counter(path[0].strategy for path in paths)
        by_name: dict[str, list[float]] = {}
        for c in mine:
            by_name.setdefault(c.strategy, []).append(c.scores[self.key])
        tokens = [[c.tokens for c in path] for path in paths]
        return {
            "first_accuracy": float(np.mean([row[0] for row in right])),
            "refined_accuracy": float(np.mean([any(row) for row in right])),
            "first_strategy": {name: n / len(paths) for name, n in sorted(firsts.items())},
            "strategy_accuracy": {n: float(np.mean(v)) for n, v in sorted(by_name.items())},
            "tokens_first": sum(row[0] for row in tokens),
            "tokens_to_success": sum(sum(row[:n]) for row, n in zip(tokens, until, strict=True)),
            "learnt_from_later_attempts": _later(chosen, paths),
        }


def trajectories(pool: Sequence[Candidate]) -> list[list[Candidate]]:
    """The attempts of each trajectory in order, by task and number."""
    found: dict[tuple[str, int], list[Candidate]] = {}
    for c in pool:
        if "trajectory" in c.meta:
            found.setdefault((c.task, c.meta["trajectory"]), []).append(c)
    return [sorted(found[name], key=lambda c: c.meta["attempt"]) for name in sorted(found)]


@dataclass(frozen=True)
class Refinement(Accuracy):
    """Measure: the figures of first attempts, and ``refined``, the accuracy of trying on.

    ``refined`` counts a trajectory as right if any of its attempts is: refinement that is told when
    it is wrong, which is what a first attempt is to do as well as. ``propose`` are
    :class:`Attempts`.
    """

    def measure(self, policy: Generator, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        scored = self.scored(policy, tasks, ctx)
        right: dict[str, list[bool]] = {}
        for path in trajectories(scored):
            right.setdefault(path[0].task, []).append(any(c.scores["correct"] > 0.5 for c in path))
        refined = {task: float(np.mean(row)) for task, row in right.items()}
        firsts = [c for c in scored if c.meta["attempt"] == 1]
        return [*self.figures(firsts), Metric.of("refined", refined, "higher")]


def _later(chosen: Sequence[Demonstration], paths: Sequence[Sequence[Candidate]]) -> float:
    """The share of lessons that no first attempt had given."""
    firsts = {(path[0].task, path[0].output) for path in paths}
    later = [(d.task, d.completion) not in firsts for d in chosen]
    return float(np.mean(later)) if later else 0.0


@dataclass(frozen=True)
class SMART:
    """Strategies that the model names; the first that worked is learnt as the first to try.

    ``strategies`` is a file of one's own, ``only`` names those to use (one is the ReST control).
    """

    attempts: int = 3
    keep: int = 2
    strategies: str = ""
    only: str = ""

    def loop(self, parts: Parts) -> Loop:
        known = strategies(self.strategies or FILE)
        wanted = [name for name in self.only.split(",") if name]
        if missing := set(wanted) - {s.name for s in known}:
            names = ", ".join(s.name for s in known)
            raise UserError(f"no strategy {min(missing)!r}", f"use some of {names}")
        known = tuple(s for s in known if not wanted or s.name in wanted)
        chat = parts.config.chat
        tasks = [replace(task, prompt=free_prompt(task, known, chat)) for task in parts.tasks]
        measured = replace(parts.sample, n=parts.config.measured)
        return parts.loop(
            tasks=tasks,
            propose=Attempts(parts.sample, known, self.attempts, chat),
            select=FirstSuccess(self.keep),
            learn=parts.sft(),
            measure=Refinement(Attempts(measured, known, self.attempts, chat), parts.examiner),
        )
