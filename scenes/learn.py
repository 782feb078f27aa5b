"""SceneCraft's outer loop: what helped single queries becomes a library (arXiv 2403.01248, 3.3).

Over a batch of queries, edits of each skill are tried query by query; what most queries agree on is
merged into the library; the round is kept only if the held-out constraint score does not fall. It
is :class:`common.loop.Loop` with a :class:`~common.skills.SkillLibrary` for a policy.

    upspiral scenes learn --library lib/

| stage | here |
|---|---|
| propose | edits of skills that a query uses: from a served model, or by :mod:`scenes.mutate` |
| judge | the query answered with the edit in place, by the benchmark's judge |
| select | consensus: for each skill the edit that helped more queries than it harmed, the most so |
| learn | the edits become versions in the library, if their examples still pass |
| measure | the constraint score of dev queries; the gate keeps what does not fall |

Deviations: the paper's edits come from its inner loop and GPT-4, and its consensus from GPT-4
(cf. Universal Self-Consistency, arXiv 2311.17311). Here an edit is tried on every query that uses
its skill, and the count of those it helped is the consensus, which needs no model to count. The
paper has no gate. Scenes are laid out with a small solver while learning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from common.errors import UserError
from common.gate import Gate
from common.loop import Loop
from common.policies.served import ServedError, ServedPolicy
from common.pool import of_round
from common.records import Candidate, Demonstration, Lessons, Metric, Task, identity
from common.skills import Skill, SkillLibrary, SkillRefusedError
from common.skills import problem as amiss
from common.stages import Context, Progress
from scenes.assets.index import Index
from scenes.benchmark.arms import Bench
from scenes.benchmark.evaluate import figures, judged
from scenes.benchmark.queries import Query
from scenes.graph import Strict
from scenes.layout import SolverConfig
from scenes.mutate import Change, changed, changes
from scenes.planners import Planner
from scenes.prompts import fill
from scenes.skills import PRELUDE, RELATIONS, Start, using

PROMPT = Path(__file__).with_name("learn.md")
SMALL = SolverConfig(starts=3, steps=24, moves=12)
"""What scenes are laid out with while learning."""
METRICS = ("constraint", "relations", "all placed", "no collisions")
SKILLS_OF_RELATIONS = frozenset(n.replace("-", "_") for n in RELATIONS)


@dataclass(frozen=True)
class LearnConfig:
    """The outer loop. Queries of train, dev and test come from a file or are the built-in ones."""

    library: str
    queries: str | None = None
    start: Start = "published"
    """What an empty library starts with: the paper's published forms, or this project's own."""
    rounds: int = 3
    edits: int = 5
    """Tried for each query and round."""
    model: str | None = None
    """A served model that proposes edits; without one they come from parameter search."""
    base_url: str | None = None


@dataclass(frozen=True)
class Answers:
    """How queries are answered while learning."""

    index: Index
    planner: Planner
    seed: int = 0
    solver: SolverConfig = SMALL

    def answer(
        self, skills: Sequence[Skill], queries: Sequence[Query], progress: Progress | None = None
    ) -> dict[str, Metric]:
        """Figures of queries answered with these skills in use; items are by query."""
        bench = Bench(self.index, self.planner, self.seed, self.solver)
        found = []
        with using(skills):
            for done, query in enumerate(queries, 1):
                found.append(bench.answer(query, "no-inner-loop"))
                if progress is not None:
                    progress(done, len(queries), "held-out queries answered")
        rows = [judged("", "no-inner-loop", q, a) for q, a in zip(queries, found, strict=True)]
        return figures([row.model_copy(update={"scene": row.id}) for row in rows])

    def used(self, skills: Sequence[Skill], text: str) -> list[str]:
        """The skills that a text asks for: arrangements while planning, relations in the graph."""
        with using(skills) as counts:
            try:
                graph = self.planner.plan(text).graph
            except UserError:
                return []
        kinds = {r.kind.replace("-", "_") for r in graph.relations}
        return sorted({*counts, *(kinds & SKILLS_OF_RELATIONS)})


class Editor(Protocol):
    def edits(self, text: str, skills: Sequence[Skill], n: int, ctx: Context) -> list[Skill]:
        """At most ``n`` other versions of some of ``skills``, which ``text`` uses."""


class Search:
    """Edits by :mod:`scenes.mutate`. In a round all queries try the same ones, as far as they use
    the skills, so that there is something to agree on."""

    def edits(self, text: str, skills: Sequence[Skill], n: int, ctx: Context) -> list[Skill]:
        del text
        every: list[tuple[Skill, Change]] = [
            (s, c) for s in skills for c in changes(s.name, s.source, s.name in SKILLS_OF_RELATIONS)
        ]
        # By turns over skills, each skill's own in an order that the round draws.
        ranked: list[tuple[int, str, Skill, Change]] = []
        for s in skills:
            mine = sorted((identity(ctx.seed, ctx.round, str(c)), c) for o, c in every if o is s)
            ranked += [(place, key, s, c) for place, (key, c) in enumerate(mine)]
        ranked.sort(key=lambda entry: entry[:2])
        return [
            replace(s, source=changed(s.source, c), provenance={"origin": "search", "edit": str(c)})
            for _, _, s, c in ranked[:n]
        ]


class Edited(Strict):
    """What a model answers: a skill it would change, its whole new source, and why."""

    skill: str
    source: str
    why: str = ""


@dataclass(frozen=True)
class Served:
    """Edits by a served model. What is no skill is left out; what is runs in the sandbox only."""

    server: ServedPolicy

    def edits(self, text: str, skills: Sequence[Skill], n: int, ctx: Context) -> list[Skill]:
        listed = "\n\n".join(f"# {s.signature}\n{s.source}" for s in skills)
        prompt = fill(PROMPT, prelude=PRELUDE, skills=listed, text=text)
        names = {s.name: s for s in skills}
        found: list[Skill] = []
        for number in range(n):
            seed = ctx.seed_for("edit", ctx.round, text, number) % 2**31
            try:
                said = self.server.ask([{"role": "user", "content": prompt}], Edited, seed=seed)
            except ServedError:
                continue
            if said.skill not in names or said.source.strip() == names[said.skill].source.strip():
                continue
            origin = {"origin": "model", "model": self.server.model, "why": said.why[:500]}
            skill = replace(names[said.skill], source=said.source, provenance=origin)
            if not amiss(skill):
                found.append(skill)
        return found


@dataclass(frozen=True)
class Propose:
    """For each query: the library as it is, and edits of the skills that the query uses."""

    answers: Answers
    editor: Editor
    edits: int

    def propose(self, policy: SkillLibrary, tasks: Sequence[Task], ctx: Context) -> list[Candidate]:
        skills = list(policy)
        state = json.dumps([_row(s) for s in skills], sort_keys=True).encode()
        artifact = ctx.artifacts.put(state, ".json")
        by_name = {s.name: s for s in skills}
        found: list[Candidate] = []
        for task in tasks:
            mine = [by_name[n] for n in self.answers.used(skills, task.prompt) if n in by_name]
            for edit in (None, *self.editor.edits(task.prompt, mine, self.edits, ctx)):
                output = json.dumps(_row(edit)) if edit is not None else ""
                key = identity("edit", ctx.round, task.id, output)
                if any(c.id == key for c in found):
                    continue
                strategy = edit.name if edit is not None else "as-is"
                found.append(
                    Candidate(key, task.id, ctx.round, output, artifact=artifact, strategy=strategy)
                )
        return found


@dataclass(frozen=True)
class Judge:
    """The constraint score of the query, answered with the edit in place; 0 where it fails.

    Where everything holds as it is there is nothing to mend, and edits are not tried: the paper's
    edits, too, come from what its critic found wrong. What they may break elsewhere the gate sees.
    """

    answers: Answers

    def judge(
        self, tasks: Mapping[str, Task], candidates: Sequence[Candidate], ctx: Context
    ) -> list[dict[str, float]]:
        found: list[dict[str, float]] = []
        perfect: set[str] = set()
        for done, c in enumerate(candidates, 1):
            ctx.progress(done, len(candidates), f"round {ctx.round} edits tried")
            if c.task in perfect:
                found.append({"constraint": 1.0})
                continue
            skills = _read(ctx.artifacts.path(c.artifact or "").read_text(encoding="utf-8"))
            if c.output:
                edit = _skill(json.loads(c.output))
                skills = [edit if s.name == edit.name else s for s in skills]
            query = Query.model_validate_json(tasks[c.task].reference or "")
            try:
                score = self.answers.answer(skills, [query])["constraint"].value
            except UserError:
                score = 0.0
            found.append({"constraint": score})
            if not c.output and score == 1.0:
                perfect.add(c.task)
        return found


class Consensus:
    """For each skill the edit that helped more queries than it harmed, the most so.

    Equal counts go to the larger mean gain. A source that is the same but for its layout is the
    same edit.
    """

    def select(self, tasks: Mapping[str, Task], pool: Sequence[Candidate], ctx: Context) -> Lessons:
        del tasks
        now = list(of_round(pool, ctx.round))
        base = {c.task: c.scores["constraint"] for c in now if not c.output}
        gains: dict[str, dict[str, list[tuple[float, Candidate]]]] = {}
        for c in now:
            if c.output:
                source = json.loads(c.output)["source"]
                mine = gains.setdefault(c.strategy, {}).setdefault(source, [])
                mine.append((c.scores["constraint"] - base[c.task], c))
        lessons = []
        for name in sorted(gains):
            votes = {
                source: (
                    sum(g > 0 for g, _ in tried) - sum(g < 0 for g, _ in tried),
                    sum(g for g, _ in tried) / len(tried),
                )
                for source, tried in gains[name].items()
            }
            source = max(sorted(votes), key=lambda s: votes[s])
            if votes[source][0] <= 0:
                continue
            _, best = max(gains[name][source], key=lambda pair: (pair[0], pair[1].id))
            lessons.append(
                Demonstration(
                    identity("lesson", ctx.round, name, source), best.task, ctx.round, name,
                    best.output, source="consensus", weight=votes[source][1],
                )
            )  # fmt: skip
        return Lessons(demonstrations=tuple(lessons))


class Merge:
    """New versions of what the queries agreed on, if their examples still pass."""

    def learn(self, policy: SkillLibrary, lessons: Lessons, ctx: Context) -> Mapping[str, float]:
        merged = refused = 0
        for lesson in lessons.demonstrations:
            edit = _skill(json.loads(lesson.completion))
            where = {"round": ctx.round, "query": lesson.task, "gain": lesson.weight}
            try:
                policy.add(replace(edit, provenance={**edit.provenance, **where}))
                merged += 1
            except SkillRefusedError:
                refused += 1
        return {"merged": merged, "refused": refused}


@dataclass(frozen=True)
class Measured:
    """The benchmark's figures on dev, and at the end on test."""

    answers: Answers

    def measure(self, policy: SkillLibrary, tasks: Sequence[Task], ctx: Context) -> list[Metric]:
        queries = [Query.model_validate_json(t.reference or "") for t in tasks]
        found = self.answers.answer(list(policy), queries, ctx.progress)
        return [found[name] for name in METRICS if name in found]


def loop(
    library: SkillLibrary,
    queries: Sequence[Query],
    answers: Answers,
    editor: Editor,
    edits: int,
) -> Loop:
    """The outer loop over ``queries``, by their splits.

    Raises:
        UserError: there is no query to learn from, or none to measure with.
    """
    for split in ("train", "dev"):
        if not any(q.split == split for q in queries):
            raise UserError(f"no query of the split {split}", 'give some "split": "' + split + '"')
    return Loop(
        policy=library,
        tasks=[Task(q.id, q.text, q.split, q.model_dump_json()) for q in queries],
        propose=Propose(answers, editor, edits),
        judge=Judge(answers),
        select=Consensus(),
        learn=Merge(),
        measure=Measured(answers),
        # What does not fall is kept: a change that dev queries do not use may help others.
        gate=Gate("constraint", min_gain=-1e-9),
    )


def _row(skill: Skill) -> dict[str, Any]:
    return {
        "name": skill.name,
        "source": skill.source,
        "examples": list(skill.examples),
        "provenance": dict(skill.provenance),
    }


def _skill(row: Mapping[str, Any]) -> Skill:
    return Skill(row["name"], row["source"], tuple(row["examples"]), row["provenance"])


def _read(text: str) -> list[Skill]:
    return [_skill(row) for row in json.loads(text)]
