"""The outer loop and the ablation on a few models and queries, without Blender."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.commands import Output
from common.errors import UserError
from common.records import Candidate, Demonstration, Lessons, Task, identity
from common.skills import Skill, SkillLibrary
from common.store import Store
from scenes.assets.index import Index
from scenes.benchmark.arms import ARMS, Arm, Bench
from scenes.benchmark.evaluate import Report, evaluate
from scenes.benchmark.pictures import Pictures, subset
from scenes.benchmark.predicates import Constraint, Wanted
from scenes.benchmark.queries import Query
from scenes.commands.learn import Evaluate
from scenes.layout import SolverConfig
from scenes.learn import Answers, Consensus, Edited, Judge, Search, Served, loop
from scenes.planners.rules import Rules
from scenes.render.pool import Workers
from scenes.skills import library, starting
from tests.common.loopback import Server, serving
from tests.scenes.clips import colours
from tests.scenes.hashed import hashed
from tests.scenes.test_dress import model

QUICK = SolverConfig(starts=2, steps=16, moves=6)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index(tmp_path_factory.mktemp("models") / "i.db", hashed)
    made.add(
        "test",
        [
            model("chair", 0.5, 0.5, 0.9),
            model("table", 1.2, 0.8, 0.75, rest=0.75),
            model("lamp", 0.3, 0.3, 0.5),
            model("sofa", 2.0, 0.9, 0.8),
        ],
    )
    return made


def query(name: str, text: str, kind: str, a: str, b: str, split: str = "test") -> Query:
    return Query(
        id=name, text=text, objects=(Wanted(name=a), Wanted(name=b)), split=split,  # type: ignore[arg-type]
        constraints=(Constraint(kind=kind, subjects=(a,), hosts=(b,)),),  # type: ignore[arg-type]
    )  # fmt: skip


FAR = [
    query("1", "a chair far from a table", "far", "chair", "table", "train"),
    query("2", "a lamp far from a sofa", "far", "lamp", "sofa", "train"),
    query("3", "a chair far from a sofa", "far", "chair", "sofa", "dev"),
    query("4", "a lamp far from a table", "far", "lamp", "table", "dev"),
]


def saying(metres: str) -> list[Skill]:
    """Our own skills, but "far" wants so many metres of air."""
    return [
        replace(s, source=s.source.replace("2.0", metres)) if s.name == "say_far" else s
        for s in starting("own")
    ]


class Other(Search):
    """Edits of one skill only: what it says in other metres."""

    def __init__(self, *metres: str) -> None:
        self.metres = metres

    def edits(self, text: str, skills: Any, n: int, ctx: Any) -> list[Skill]:
        del text, ctx
        (far,) = [s for s in skills if s.name == "say_far"]
        found = []
        for to in self.metres[:n]:
            (source,) = [s.source for s in saying(to) if s.name == "say_far"]
            found.append(replace(far, source=source, provenance={"edit": to}))
        return found


def run(tmp_path: Path, lib: SkillLibrary, index: Index, editor: Any) -> Any:
    method = loop(lib, FAR, Answers(index, Rules(), 0, QUICK), editor, 2)
    return method.run(1, Store(tmp_path / "home"), "learn")


def test_what_helps_most_queries_is_learnt_and_kept(tmp_path: Path, index: Index) -> None:
    lib = library(tmp_path / "lib", hashed)
    lib.put(saying("0.01"))
    result = run(tmp_path, lib, index, Other("0.02", "2.5"))
    before, after = (r.metrics[0] for r in result.rounds)
    assert before.name == "constraint" and before.value < after.value == 1.0
    assert result.rounds[1].kept and result.rounds[1].notes["learn"] == {"merged": 1, "refused": 0}
    learnt = lib["say_far"]
    assert "distance=2.5" in learnt.source and learnt.version == 2
    assert learnt.provenance["edit"] == "2.5" and learnt.provenance["round"] == 1
    # Run again, it is done already; another library gets the same state from the store.
    again = library(tmp_path / "again", hashed)
    again.put(saying("0.01"))
    assert run(tmp_path, again, index, Other("0.02", "2.5")).rounds == result.rounds
    assert again.fingerprint() == lib.fingerprint()


def test_what_fails_dev_is_rolled_back(tmp_path: Path, index: Index) -> None:
    class Wrong(Consensus):
        def select(self, tasks: Any, pool: Any, ctx: Any) -> Lessons:
            (worst,) = [c for c in pool if "0.01" in c.output and c.task == "1"]
            lesson = Demonstration("l", "1", 1, "say_far", worst.output)
            return Lessons(demonstrations=(lesson,))

    lib = library(tmp_path / "lib", hashed)
    lib.put(saying("2.5"))
    before = lib.fingerprint()
    method = loop(lib, FAR, Answers(index, Rules(), 0, QUICK), Other("0.01"), 1)
    result = replace(method, select=Wrong()).run(1, Store(tmp_path / "home"), "learn")
    assert not result.rounds[1].kept and "not above" in result.rounds[1].reason
    assert lib.fingerprint() == before and len(lib.history("say_far")) == 2


class Told:
    """A context that knows the round only."""

    round, seed = 1, 0


def test_consensus_counts_whom_an_edit_helps() -> None:
    def tried(task: str, edit: str, score: float) -> Candidate:
        output = json.dumps({"source": edit}) if edit else ""
        strategy = edit[0] if edit else "as-is"
        return Candidate(
            identity(task, edit), task, 1, output, scores={"constraint": score}, strategy=strategy
        )

    pool = [
        tried(task, edit, score)
        for task, scores in {
            "t1": {"": 0.5, "a1": 1.0, "a2": 0.6, "b1": 0.4, "c1": 0.5},
            "t2": {"": 0.5, "a1": 0.4, "a2": 0.6, "b1": 1.0, "c1": 0.5},
            "t3": {"": 0.5, "a1": 0.4, "b1": 0.4},
        }.items()
        for edit, score in scores.items()
    ]
    tasks = {t: Task(t, t) for t in ("t1", "t2", "t3")}
    lessons = Consensus().select(tasks, pool, Told()).demonstrations  # type: ignore[arg-type]
    # a1 has the larger gain and a2 more queries; b1 harms more than it helps; c1 does nothing.
    assert [json.loads(lesson.completion)["source"] for lesson in lessons] == ["a2"]
    assert lessons[0].weight == pytest.approx(0.1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


class Seeded(Told):
    def seed_for(self, *what: object) -> int:
        return len(what)


def test_edits_of_a_served_model_are_read_and_checked(server: Server) -> None:
    near = next(s for s in starting("own") if s.name == "say_near")
    good = near.source.replace("1.0", "0.5")
    said = [
        {"skill": "say_near", "source": good, "why": "a step is long"},
        {"skill": "say_near", "source": "import os\n" + good},
        {"skill": "say_near", "source": near.source},
        {"skill": "another", "source": good},
    ]
    server.script = [*(json.dumps(s) for s in said), "no", "no", "no"]
    editor = Served(server.policy(retries=0))
    found = editor.edits("a chair near a table", [near], 5, Seeded())  # type: ignore[arg-type]
    assert [s.source for s in found] == [good]
    assert found[0].provenance["why"] == "a step is long" and found[0].examples == near.examples
    prompt = server.seen[0]["messages"][-1]["content"]
    assert near.source in prompt and "a chair near a table" in prompt and "$" not in prompt
    assert set(Edited.model_json_schema()["required"]) == {"skill", "source"}


def test_an_edit_that_fails_scores_nothing(tmp_path: Path, index: Index) -> None:
    class Where:
        round = 1
        artifacts = Store(tmp_path / "home").artifacts

        def progress(self, *_: object) -> None: ...

    task = Task("1", FAR[0].text, reference=FAR[0].model_dump_json())
    state = json.dumps([
        {"name": s.name, "source": s.source, "examples": [], "provenance": {}}
        for s in saying("0.01")
    ])  # fmt: skip
    address = Where.artifacts.put(state.encode(), ".json")
    wrong = "def say_far(subject, host):\n    '''Far from it.'''\n    return 1 / 0\n"
    edit = json.dumps({"name": "say_far", "source": wrong, "examples": [], "provenance": {}})
    pool = [Candidate(f"c{n}", "1", 1, out, artifact=address) for n, out in enumerate(["", edit])]
    judge = Judge(Answers(index, Rules(), 0, QUICK))
    first, second = judge.judge({"1": task}, pool, Where())  # type: ignore[arg-type]
    assert 0.5 < first["constraint"] < 1 and second["constraint"] == 0.0
    perfect = [replace(c, artifact=Where.artifacts.put(b"[]", ".json")) for c in pool]
    # Where everything holds there is nothing to mend, and no edit is tried.
    assert judge.judge({"1": task}, perfect, Where()) == [{"constraint": 1.0}] * 2  # type: ignore[arg-type]


def test_a_loop_needs_queries_of_both_splits(tmp_path: Path, index: Index) -> None:
    lib = library(tmp_path, hashed)
    with pytest.raises(UserError, match="split dev"):
        loop(lib, FAR[:2], Answers(index, Rules()), Search(), 1)


# The ablation


def test_every_arm_answers_and_the_graph_matters(tmp_path: Path, index: Index) -> None:
    queries = [
        query("1", "a lamp on a table", "on", "lamp", "table"),
        query("2", "a chair left of a sofa", "left-of", "chair", "sofa"),
        query("3", "a chair behind a table", "behind", "chair", "table"),
    ]
    keep = tmp_path / "rows.jsonl"
    report = evaluate(queries, index, Rules(), keep=keep, solver=QUICK)
    assert report.arms == list(ARMS)
    full, bare = report.figures("full"), report.figures("no-graph")
    assert full["constraint"].value == full["all placed"].value == 1.0
    assert full["constraint"].n == 3 and full["constraint"].se == 0.0
    assert bare["relations"].value < full["relations"].value
    gone = report.differences()["no-graph"]["relations"]
    assert gone.mean == pytest.approx(bare["relations"].value - 1.0) and gone.n == 3
    assert report.broken("full") == {} and set(report.broken("no-graph")) <= {
        "on", "left-of", "behind",
    }  # fmt: skip
    # A run that was cut off goes on: nothing is made again, half a line does not count.
    lines = keep.read_text().splitlines()
    keep.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40] + "\n")
    again = evaluate(queries, index, Rules(), keep=keep, solver=QUICK)
    assert [r.figures["constraint"] for r in again.rows] == [
        r.figures["constraint"] for r in report.rows
    ]
    assert len(keep.read_text().splitlines()) == len(lines) + 1


def test_texts_of_one_scene_count_once(index: Index) -> None:
    same = query("1", "a lamp on a table", "on", "lamp", "table")
    queries = [
        same.model_copy(update={"id": f"1{way}", "group": "1", "text": text})
        for way, text in zip(
            "ab", ["a lamp on a table", "On a table there is a lamp."], strict=True
        )
    ] + [query("2", "nothing at all !!!", "on", "lamp", "table")]
    report = evaluate(queries, index, Rules(), arms=["no-inner-loop"], solver=QUICK)
    found = report.figures("no-inner-loop")["constraint"]
    assert (found.n == 2 and 0 < found.items["2"] < 1) or found.items["2"] == 0
    assert found.items["1"] == 1.0


def test_a_text_that_is_refused_holds_nothing(index: Index) -> None:
    nothing = query("1", "!!!", "on", "lamp", "table")
    answer = Bench(index, Rules()).answer(nothing, "full")
    assert answer.refused and answer.verdict.score == 0.0 and answer.staged is None
    assert answer.verdict.placed == 0


def test_a_library_in_use_changes_answers(tmp_path: Path, index: Index) -> None:
    lib = library(tmp_path / "lib", hashed)
    lib.put(saying("0.01"))
    arms: list[Arm] = ["no-inner-loop"]
    own = evaluate(FAR[:1], index, Rules(), arms=arms, solver=QUICK)
    theirs = evaluate(FAR[:1], index, Rules(), arms=arms, library=lib, solver=QUICK)
    assert own.figures("no-inner-loop")["relations"].value == 1.0
    assert theirs.figures("no-inner-loop")["relations"].value == 0.0


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    out = Output(sys.stdout)
    with pytest.raises(UserError, match="no arm half"):
        Evaluate(arms="half").run(out)
    with pytest.raises(UserError, match="cannot read"):
        Evaluate(queries=tmp_path / "none.jsonl").run(out)
    with pytest.raises(UserError, match="no library in"):
        Evaluate(library=tmp_path).run(out)
    assert isinstance(Report(()).arms, list)


def test_pictures_of_a_subset_are_scored_by_clip(tmp_path: Path, index: Index) -> None:
    # Plain blocks, since these models have no files: a picture needs nothing of the furniture.
    queries = [
        query("1", "a spaceship near a volcano", "near", "spaceship", "volcano"),
        query("2", "a volcano near a spaceship", "near", "volcano", "spaceship"),
    ]
    arms: list[Arm] = ["full", "one-shot"]
    with Workers(1) as workers:
        pictures = Pictures(index, workers, colours, tmp_path)
        report = evaluate(
            queries, index, Rules(), arms=arms, solver=QUICK, pictures=pictures,
            pictured=subset(queries, 1),
        )  # fmt: skip
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert [sorted(r.id for r in report.rows if "clip" in r.figures)] == [["1", "1"]]
    assert all(-1 <= report.figures(arm)["clip"].value <= 1 for arm in arms)
    assert report.figures("full")["clip"].n == 1
    assert report.differences()["one-shot"]["clip"].n == 1


def test_subsets_are_spread_over_the_list() -> None:
    queries = [query(str(n), "a", "on", "a", "b") for n in range(10)]
    assert sorted(subset(queries, 3)) == ["0", "3", "6"]
    assert len(subset(queries, 99)) == 10 and subset(queries, 0) == frozenset()
