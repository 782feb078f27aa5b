"""SRA-MCTS (arXiv 2411.11053): reasoning paths for code, found by a tree search.

One model is planner, critic and reflector. For each problem a tree of plans in plain language is
searched (:mod:`common.search` has the equations): a node is reflected on and is at its end or gets
``branch`` next steps, scored from 0 to 10; a greedy rollout is blended in; values go up as means
weighted by visits; at the gate, or after ``iterations``, a plan has to pass the final check: the
same model writes its code, which runs in the sandbox against the problem's public examples only.
Plans with code that passes are learnt by supervised fine-tuning. Replaces **propose**, **judge**
and **select**.

Hidden tests reach none of it: the train tasks of this method have no reference.

Mended in comparison with the released code (DIRECT-BIT/SRA-MCTS): siblings reach the reflector, and
steps that repeat one are asked for again with those that there are; ``not solved`` is no end; the
final check decides what is an answer and a lesson; 16 iterations, not 2, which fall back on the
highest value of a tree that was hardly searched.

Deviations: prompts are ours, and the model's code follows its plan as comments. A node that ended
is not visited again. Critic and check are asked at temperature 0: their noise would be searched. A
step that is code gets its 0 without being asked about. The released final check asks the model
whether a plan solves the problem; so do ``check=model``, and a problem that shows no examples. The
paper fine-tunes on every plan that came out; here its code has to pass the examples.

``arm`` names controls that spend the same ``tokens`` a problem: ``direct`` (code at once), ``cot``
(a plan and code in one go), ``best-of-n`` (direct, of which the likeliest that passes is learnt).

    upspiral text improve --method sra-mcts --task code-basics --model smollm2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.policies import Generator, Sample
from common.pool import of_round
from common.records import Candidate, Demonstration, Lessons, Task, identity
from common.search import (
    Checked,
    Log,
    Place,
    Reflection,
    Said,
    Scored,
    Search,
    Tree,
    dumps,
    search,
)
from common.stages import Context
from text import planning
from text.answers import kind_of
from text.code_arms import ARMS, DirectCode, PublicExamples, drawn, likelihood
from text.improve import Accuracy, Solve
from text.planning import FAMILY, comments
from text.programs import answer_of, public_of, run_tests
from text.prompts import prompt, question

if TYPE_CHECKING:
    from common.loop import Loop
    from text.improve import Parts

STRATEGY = "sra-mcts"
SHARE = 0.75
"""Of a budget of tokens, what the search may take; code gets the rest."""
CHECKS = ("examples", "model")
SHORT, LINE = 8, 32
"""Tokens of a score or a verdict, and of a step or a reflection."""
CHATTY = 4
"""How many times as many a chat model gets."""


@dataclass(frozen=True)
class Planner:
    """What grows trees of plans (:class:`common.search.Grower`): ``policy`` in all its roles.

    ``tasks`` are by the trees' names and carry the planned prompt; code is sampled as ``sample``
    says. With ``by_examples`` the final check writes the code of a plan and runs the problem's
    public examples, if it has any; otherwise the model is asked.
    """

    policy: Generator
    tasks: Mapping[str, Task]
    sample: Sample
    ctx: Context
    chat: bool = False
    by_examples: bool = True

    def reflect(self, places: Sequence[Place]) -> list[Reflection]:
        said = self._say(places, planning.reflection_prompt, LINE, self.sample.temperature)
        return [
            Reflection(" ".join(c.output.split()), planning.ended(c.output), c.tokens) for c in said
        ]

    def propose(self, places: Sequence[Place], counts: Sequence[int]) -> list[list[Said]]:
        each = [
            replace(place, key=f"{place.key}/{i}")
            for place, count in zip(places, counts, strict=True)
            for i in range(count)
        ]
        said = iter(self._say(each, planning.step_prompt, LINE, self.sample.temperature))
        return [
            [
                Said(planning.first_step(c.output), c.tokens)
                for c in (next(said) for _ in range(count))
            ]
            for count in counts
        ]

    def score(self, places: Sequence[Place]) -> list[Scored]:
        asked = [place for place in places if not planning.is_code(place.path[-1])]
        said = self._say(asked, planning.score_prompt, SHORT, 0.0)
        found = {place.key: Scored(0.0) for place in places}
        for place, c in zip(asked, said, strict=True):
            found[place.key] = Scored(planning.points(c.output), c.tokens)
        return [found[place.key] for place in places]

    def check(self, places: Sequence[Place]) -> list[Checked]:
        tried = [p for p in places if self.by_examples and public_of(self.tasks[p.tree])]
        asked = [p for p in places if p not in tried]
        found = {}
        for place, c in zip(
            asked, self._say(asked, planning.check_prompt, SHORT, 0.0), strict=True
        ):
            found[place.key] = Checked(planning.solved(c.output) is True, c.tokens)
        code = self._generate(
            [Task(p.key, self.tasks[p.tree].prompt + comments(p.path)) for p in tried],
            self.sample.max_new_tokens, 0.0, self.sample.stop,
        )  # fmt: skip
        shown = [comments(p.path) + c.output for p, c in zip(tried, code, strict=True)]
        own = [self.tasks[p.tree] for p in tried]
        tested = run_tests(
            [(answer_of(o, t), public_of(t)) for o, t in zip(shown, own, strict=True)]
        )
        for place, c, output, verdict in zip(tried, code, shown, tested, strict=True):
            found[place.key] = Checked(verdict.all, c.tokens, output)
        return [found[place.key] for place in places]

    def _say(
        self,
        places: Sequence[Place],
        ask: Callable[[str, Place, bool], str],
        tokens: int,
        temperature: float,
    ) -> list[Candidate]:
        """One line for each place, in one call."""
        asked = [Task(p.key, ask(question(self.tasks[p.tree]), p, self.chat)) for p in places]
        if self.chat:  # which does not stop at the end of a line, and is wordy
            return self._generate(asked, CHATTY * tokens, temperature, ())
        return self._generate(asked, tokens, temperature, planning.STOPS)

    def _generate(
        self, asked: Sequence[Task], tokens: int, temperature: float, stop: tuple[str, ...]
    ) -> list[Candidate]:
        if not asked:
            return []
        return self.policy.generate(
            asked,
            n=1,
            seeds=lambda task, _: self.ctx.seed_for(STRATEGY, self.ctx.round, task.id),
            round=self.ctx.round,
            temperature=temperature,
            top_p=self.sample.top_p,
            max_new_tokens=tokens,
            stop=stop,
        )


@dataclass(frozen=True)
class SearchPlans:
    """Propose: search a plan for each task, and write its code ``sample.n`` times.

    Tasks carry the planned prompt. A candidate's output is the plan as comments and the code;
    ``artifact`` is its tree, ``meta`` has the ``plan``, its ``value``, whether it was ``solved`` by
    the final check, and the tokens that were ``spent``, those of the search with the first. What
    the final check had to show is the first candidate, without a log-probability. With ``tokens``
    code is written until a task has spent them.
    """

    sample: Sample
    search: Search = Search()
    tokens: int = 0
    chat: bool = False
    by_examples: bool = True

    def propose(self, policy: Any, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        # In the folder of this unit of work, which outlives a crash.
        key = identity(
            policy.fingerprint(), asdict(self), ctx.seed, ctx.round, [asdict(t) for t in tasks]
        )
        with Log(ctx.workdir / "search.jsonl", key, self.search) as log:
            trees = self.grow(policy, tasks, ctx, log)
        kept = {name: ctx.artifacts.put(dumps(tree), ".json") for name, tree in trees.items()}
        made = self.code(policy, tasks, ctx, trees)
        return [replace(c, artifact=kept[c.task]) for c in made]

    def grow(self, policy: Any, tasks: Sequence[Task], ctx: Context, log: Log) -> dict[str, Tree]:
        """The trees of the tasks; what ``log`` has of them is not searched again."""
        known = log.trees()
        trees = {task.id: known.get(task.id) or Tree(self.search) for task in tasks}
        by_id = {task.id: task for task in tasks}
        planner = Planner(policy, by_id, self.sample, ctx, self.chat, self.by_examples)
        search(trees, planner, log, ctx.progress)
        return trees

    def code(
        self, policy: Any, tasks: Sequence[Task], ctx: Context, trees: Mapping[str, Tree]
    ) -> list[Candidate]:
        """The candidates of each task, task by task."""
        best = {name: next(iter(tree.ranked()), tree.nodes[0]) for name, tree in trees.items()}
        plans = {name: trees[name].path(node.index) for name, node in best.items()}
        asked = [replace(task, prompt=task.prompt + comments(plans[task.id])) for task in tasks]
        spent = {name: tree.tokens for name, tree in trees.items()}
        written = drawn(policy, asked, self.sample, ctx, spent, self.tokens, STRATEGY)
        found = []
        for task in tasks:
            node, plan = best[task.id], plans[task.id]
            own = [
                replace(c, output=comments(plan) + c.output) for c in written if c.task == task.id
            ]
            if node.solved and node.shown:
                name = identity(STRATEGY, ctx.round, task.id, "shown")
                made = Candidate(name, task.id, ctx.round, node.shown, meta={"finished": True})
                own.insert(0, replace(made, strategy=STRATEGY, language=task.language))
            for number, c in enumerate(own):
                more = spent[task.id] if number == 0 else 0
                meta = {**c.meta, "plan": list(plan), "value": node.value,
                        "solved": bool(node.solved), "spent": c.tokens + more}  # fmt: skip
                answer = answer_of(c.output, task)
                found.append(replace(c, answer=answer, meta=meta))
        return found


@dataclass(frozen=True)
class Passing:
    """Select: of each task the first ``keep`` candidates of this round that pass all public
    examples, each text once; with an ``order`` those with the most of it.

    With ``checked`` only plans that passed the final check are lessons.
    """

    keep: int = 2
    checked: bool = False
    order: Callable[[Candidate], float] | None = None

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        mine = list(of_round(pool, ctx.round))
        passing = [c for c in mine if c.scores["passes"] > 0.5 and c.meta.get("finished", True)]
        sound = [c for c in passing if c.meta.get("solved") or not self.checked]
        chosen: dict[str, dict[str, Candidate]] = {}
        if self.order is not None:
            sound.sort(key=self.order, reverse=True)
        for c in sound:
            own = chosen.setdefault(c.task, {})
            if len(own) < self.keep:
                own.setdefault(c.output.rstrip(), c)
        lessons = [
            Demonstration(identity(STRATEGY, ctx.round, c.id), name, ctx.round,
                          tasks[name].prompt, text, c.strategy)
            for name in sorted(chosen)
            for text, c in chosen[name].items()
        ]  # fmt: skip
        notes = {
            "tasks_with_lessons": len(chosen),
            "passing": len(passing),
            "dropped_by_the_final_check": len(passing) - len(sound),
        }
        return Lessons(demonstrations=tuple(lessons), notes=notes)


@dataclass(frozen=True)
class SRAMCTS(Search):
    """Plans are searched, code is written for the best, and what passes the examples is learnt.

    ``check`` says who decides the final check, the public examples or the model. ``tokens`` is what
    a problem may take, code included, of which the search gets its share; ``keep`` is how many
    lessons a problem gives.
    """

    arm: str = "search"
    check: str = "examples"
    keep: int = 2

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise UserError(f"no arm {self.arm!r}", f"use {', '.join(ARMS)}")
        if self.check not in CHECKS:
            raise UserError(f"no check {self.check!r}", f"use {', '.join(CHECKS)}")
        if self.keep < 1 or self.tokens < 0:
            raise UserError(
                f"keep={self.keep}, tokens={self.tokens}", "give a keep of 1 or more, tokens >= 0"
            )
        super().__post_init__()

    def searched(self) -> Search:
        """The settings of the search."""
        own = {name: getattr(self, name) for name in Search.__dataclass_fields__}
        return Search(**{**own, "tokens": int(SHARE * self.tokens)})

    def loop(self, parts: Parts) -> Loop:
        if any(kind_of(task) != "code" for task in parts.tasks):
            raise UserError(
                f"{parts.config.task} asks for no code", "use code-basics, mbpp:FILE or the like"
            )
        planned = self.arm in ("search", "cot")
        tasks = [_asked(task, parts, planned) for task in parts.tasks]
        propose: Any = DirectCode(parts.sample, self.tokens, self.arm)
        if self.arm == "search":
            examples, chat = self.check == "examples", parts.config.chat
            propose = SearchPlans(parts.sample, self.searched(), self.tokens, chat, examples)
        best = self.arm == "best-of-n"
        select = Passing(1, order=likelihood) if best else Passing(self.keep, self.arm == "search")
        measured = replace(parts.sample, n=parts.config.measured)
        return parts.loop(
            tasks=tasks,
            propose=propose,
            judge=PublicExamples(),
            select=select,
            learn=parts.sft(),
            measure=Accuracy(Solve(measured), parts.examiner),
        )


def _asked(task: Task, parts: Parts, planned: bool) -> Task:
    """A task with the prompt of its arm; of train nobody needs the hidden tests."""
    asked = planned_task(task, parts.config.shots, parts.config.chat) if planned else task
    return replace(asked, reference=None) if task.split == "train" else asked


def planned_task(task: Task, shots: int, chat: bool) -> Task:
    """The task with a prompt whose examples plan before they write."""
    asked = prompt(question(task), FAMILY, task.language, shots, chat)
    return replace(task, prompt=asked, meta={**task.meta, "question": question(task)})
