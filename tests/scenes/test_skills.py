"""Skills of scenes: which sources run here, which only in the sandbox, and what comes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.skills import Skill, problem
from scenes.graph import Asset, Relation, SceneGraph
from scenes.layout import score, solve
from scenes.layout.elsewhere import values
from scenes.mutate import changed, changes
from scenes.planners.rules import Rules
from scenes.planners.sayings import HABITS
from scenes.relations import KINDS
from scenes.relations.skills import stand
from scenes.skills import (
    RELATIONS,
    SAMPLES,
    known,
    library,
    opened,
    sources,
    starting,
    tally,
    using,
)
from tests.scenes.hashed import hashed

SIZES = {"chair": (0.5, 0.5, 0.9), "table": (1.0, 1.0, 0.75)}
STARTS = {start: {s.name: s for s in starting(start)} for start in ("own", "published")}  # type: ignore[arg-type]


def graph(kind: str = "proximity", **options: float) -> SceneGraph:
    assets = tuple(Asset(id=name, what=name) for name in SIZES)
    said = Relation(kind=kind, assets=("chair", "table"), options=options)
    return SceneGraph(assets=assets, relations=(said,))


@pytest.mark.parametrize("start", ["own", "published"])
def test_what_a_library_starts_with_is_sound(start: str) -> None:
    skills = STARTS[start]
    assert set(skills) == {*(n.replace("-", "_") for n in RELATIONS), *HABITS}
    for skill in skills.values():
        assert problem(skill) == "" and known(skill)
        assert len(skill.examples) == (2 if skill.name in SAMPLES else 0)


@pytest.mark.parametrize("start", ["own", "published"])
def test_starting_skills_pass_their_examples(start: str) -> None:
    for name, skill in STARTS[start].items():
        with using([skill]):
            for example in skill.examples:
                exec(example, {name: KINDS[name].score, "stand": stand})


def test_starting_skills_pass_them_in_the_sandbox_too(tmp_path: Path) -> None:
    lib = library(tmp_path, hashed)
    assert lib.check(STARTS["published"]["around"]) == ""
    assert lib.check(STARTS["own"]["around"]) == ""
    wrong = replace(
        STARTS["own"]["facing"], source='def facing(p):\n    """No."""\n    return 0.0\n'
    )
    assert "example" in lib.check(wrong)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_edits_stay_known_and_score_numbers(data: st.DataObject) -> None:
    skill = data.draw(st.sampled_from([s for of in STARTS.values() for s in of.values()]))
    relation = skill.name in SAMPLES
    for _ in range(3):
        every = changes(skill.name, skill.source, relation)
        if not every:
            return
        change = data.draw(st.sampled_from(every))
        source = changed(skill.source, change)
        assert source != skill.source
        skill = replace(skill, source=source)
        assert known(skill) and problem(skill) == ""
    if relation:
        good, bad, options = SAMPLES[skill.name]
        with using([skill]):
            for at in (good, bad):
                call = f"found = score(stand({at}){', ' + options if options else ''})"
                space = {"score": KINDS[skill.name].score, "stand": stand}
                exec(call, space)
                found = space["found"]
                assert isinstance(found, torch.Tensor) and bool(torch.isfinite(found).all())


@pytest.mark.parametrize(
    "source",
    [
        "import os\n{}",
        "{}\nprint(1.0)\n",
        "def proximity(p: Poses, distance: float) -> Tensor:\n    return 1.0\n",
        "{0}{0}",
    ],
)
def test_a_source_that_says_more_is_not_known(source: str) -> None:
    own = STARTS["own"]["proximity"]
    assert not known(replace(own, source=source.format(own.source)))
    for old, new in (
        ("gap_3d(", "print("), (".mean(", ".tolist("), ("4 *", "4 **"), ("clamp", "__class__"),
    ):  # fmt: skip
        assert old in own.source
        assert not known(replace(own, source=own.source.replace(old, new)))
    assert not known(replace(own, name="unheard_of"))


def test_library_versions_are_in_use_and_then_not() -> None:
    before = dict(KINDS)
    near = STARTS["own"]["say_near"]
    skills = [
        STARTS["published"]["proximity"],
        replace(near, source=near.source.replace("1.0", "7.0")),
    ]
    with using(skills) as used:
        assert KINDS["proximity"].score is not before["proximity"].score
        plan = Rules().plan("a chair near a table")
        assert str(plan.graph.relations[0]) == "proximity(chair, table, distance=7.0)"
        assert used == {"say_near": 1}
        assert tally(plan.graph, used) == {"say_near": 1, "proximity": 1}
    assert dict(KINDS) == before
    plan = Rules().plan("a chair near a table")
    assert str(plan.graph.relations[0]) == "proximity(chair, table, distance=1.0)"
    with pytest.raises(UserError, match="no skill"), using([Skill("fly", "def fly(): ...")]):
        pass
    assert dict(KINDS) == before


FAR = '''def proximity(p: Poses, distance: float) -> Tensor:
    """Four metres away, whatever anybody says."""
    off = (length(p.guests.plan - p.host.plan) - 4.0).abs()
    return (1 / (1 + off)).mean(-1)
'''


def test_a_strange_relation_lays_out_in_the_sandbox(tmp_path: Path) -> None:
    strange = replace(STARTS["own"]["proximity"], source=FAR)
    assert not known(strange)
    lib = library(tmp_path, hashed)
    lib.put([strange])
    with using(lib):
        with pytest.raises(RuntimeError, match="sandbox only"):
            KINDS["proximity"].score(stand((0, 0), (1, 1)), 1.0)
        found = solve(graph(), SIZES, seed=0)
        x, y, _ = found.layout["chair"].location
        u, v, _ = found.layout["table"].location
        assert ((x - u) ** 2 + (y - v) ** 2) ** 0.5 == pytest.approx(4, abs=0.3)
        assert found.scores.mean > 0.8
        again = score(graph(), found.layout)
        assert again.values == pytest.approx(found.scores.values, abs=1e-3)
    assert solve(graph(), SIZES, seed=0).scores.mean > 0.9


@pytest.mark.parametrize(
    "body", ["    import os\n    return os.system('true')", "    while True: pass", "    return 1"]
)
def test_a_strange_arrangement_cannot_do_harm(body: str) -> None:
    source = (
        f'def say_near(subject: str, host: str) -> list[Relation]:\n    """Near it."""\n{body}\n'
    )
    if "while" in body:
        source = source.replace("pass", "break").replace("break", "raise SystemExit")
    with (
        using([replace(STARTS["own"]["say_near"], source=source)]),
        pytest.raises(UserError, match="say_near failed") as caught,
    ):
        Rules().plan("a chair near a table")
    assert caught.value.remedy == "roll it back"


def test_a_strange_arrangement_is_heard() -> None:
    source = STARTS["own"]["say_near"].source.replace("1.0", "0.5 + 0.25")
    with using([replace(STARTS["own"]["say_near"], source=source)]):
        plan = Rules().plan("a chair near a table")
    assert str(plan.graph.relations[0]) == "proximity(chair, table, distance=0.75)"


def test_what_comes_back_is_checked() -> None:
    assert values({"values": [2, -1, float("nan"), 0.5]}, 4) == [1.0, 0.0, 0.0, 0.5]
    for wrong in ({}, {"values": [1]}, {"values": ["x", 1]}, {"values": None}):
        with pytest.raises(UserError):
            values(wrong, 2)


def test_a_library_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no library in"):
        opened(tmp_path)
    library(tmp_path, hashed).put(list(STARTS["own"].values()))
    assert len(list(opened(tmp_path))) == len(STARTS["own"])
    assert all(sources(name) for name in STARTS["own"])
