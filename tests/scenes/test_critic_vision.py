"""The vision critic: real pictures from Blender, a real HTTP server that answers by script."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.errors import UserError
from common.policies.served import RefusedError, ServedError, ServedPolicy
from scenes.assets.index import Index
from scenes.critics import Shot
from scenes.critics.mend_edits import OPS, edits
from scenes.critics.overlay import numbered, sheet
from scenes.critics.vision import PROMPT, Vision
from scenes.edits import Edit, LookFrom, Weigh, apply
from scenes.graph import Asset, Relation, SceneGraph
from scenes.layout import SolverConfig
from scenes.render.pool import Workers
from scenes.render.views import View
from scenes.shoot import State, Studio
from tests.common.loopback import Server, serving
from tests.common.transformers_serve import serve, taught_to_see
from tests.scenes.hashed import hashed

GRAPH = SceneGraph(
    text="a lamp on a table left of a sofa",
    assets=(
        Asset(id="table", what="table", width=1.2, depth=0.8, height=0.75),
        Asset(id="lamp", what="table lamp", width=0.3, depth=0.3, height=0.5),
        Asset(id="sofa", what="sofa", width=2.0, depth=0.9, height=0.8),
    ),
    relations=(
        Relation(kind="on", assets=("lamp", "table")),
        Relation(kind="left-of", assets=("table", "sofa")),
    ),
)
FINE = json.dumps({"score": 0.9, "findings": []})


@pytest.fixture(scope="module")
def shot(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Shot:
    folder = tmp_path_factory.mktemp("room")
    empty = Index(folder / "index.db", hashed)  # everything is a block
    studio = Studio(empty, workers, None, SolverConfig(starts=2, steps=20, moves=12))
    staged = studio.stage(State(GRAPH))
    return studio.shoot(staged, folder / "step-0.png", 320, 240, 4)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def shown(workers: Workers, shot: Shot) -> dict[View, Image.Image]:
    """The pictures of the shot, once: rendering them for every test takes long."""
    with serving() as idle:
        return critic(idle, workers)._pictures(shot)


def critic(server: Server, workers: Workers, **options: Any) -> Vision:
    policy = server.policy(**{"retries": 0, "timeout": 5.0, **options})
    return Vision(policy, workers, views=("top",), width=320, samples=4)


def pictures(body: dict[str, Any]) -> list[Image.Image]:
    urls = [p["image_url"]["url"] for p in body["messages"][0]["content"][1:]]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [Image.open(io.BytesIO(base64.b64decode(u.partition(",")[2]))) for u in urls]


def test_it_shows_views_with_numbers_and_what_was_measured(
    server: Server, workers: Workers, shot: Shot
) -> None:
    server.script = [FINE]
    said = critic(server, workers).look(shot)
    assert said.score == 0.9 and said.findings == () and said.critic == "vision"
    text = server.seen[0]["messages"][0]["content"][0]["text"]
    assert GRAPH.text in text and "from the front, from the top" in text
    assert "2: lamp, table lamp, 0.30 x 0.30 x 0.50" in text and "a plain block" in text
    on = shot.solution.scores.values[0]
    assert f"0: on(lamp, table): {on:.2f}" in text
    front, top = pictures(server.seen[0])
    assert front.size == top.size == (320, 240)
    assert np.asarray(front).std() > 5 and np.asarray(front - np.asarray(top)).any()
    with Image.open(shot.picture) as plain:
        assert (np.asarray(plain) != np.asarray(front)).any(-1).mean() > 0.005, "numbers are drawn"
    assert not list(shot.picture.parent.rglob("*mask*"))
    assert all(f'"op": "{op}"' in PROMPT.read_text() for op in OPS)
    assert len(OPS) == len(get_args(get_args(Edit)[0]))


def test_what_it_asks_for_becomes_edits_and_the_rest_is_told(
    server: Server, workers: Workers, shot: Shot
) -> None:
    findings = [
        {
            "what": "The lamp\nis too small",
            "constraint": 0,
            "edits": [
                {"op": "resize", "asset": 2, "height": "70 cm"},
                {"op": "weigh", "index": 0, "weight": 3},
                {"op": "drop_relation", "index": 9},
                {"op": "resize", "asset": "ghost", "height": 1},
                {"op": "explode"},
            ],
        },
        {
            "what": "the sofa looks away",
            "edits": [{"op": "add-relation", "kind": "faces", "assets": [3, 1]}],
        },
        {"what": "no edits"},
        {"edits": []},
        "in words only",
    ]  # fmt: skip
    answer = json.dumps({"score": 60, "findings": findings})
    server.script = [f"Let me look.\n```json\n{answer}\n```"]
    said = critic(server, workers).look(shot)
    assert said.score == 0.6
    first, second, third, fourth = said.findings
    assert [e.op for e in first.edits] == ["resize", "weigh"]
    assert first.edits[0].model_dump(exclude_none=True) == {
        "op": "resize", "asset": "lamp", "height": 0.7,
    }  # fmt: skip
    assert first.what.startswith("The lamp is too small (left out: ")
    for told in ("no relation 9", "no ghost", "no such edit"):
        assert told in first.what
    changed = apply(GRAPH, second.edits)
    assert str(changed.relations[-1]) == "facing(sofa, table)"
    assert (third.what, fourth.what) == ("no edits", "in words only")


def test_a_server_that_takes_one_picture_gets_them_on_one_sheet(
    server: Server,
    workers: Workers,
    shot: Shot,
    shown: dict[View, Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Vision, "_pictures", lambda *_: shown)
    server.otherwise = lambda body: FINE if len(pictures(body)) == 1 else (400, {})
    looking = critic(server, workers)
    looking.look(shot)
    assert pictures(server.seen[-1])[0].size == (640, 240)
    asked = len(server.seen)
    looking.look(shot)
    assert len(server.seen) == asked + 1, "it is remembered"
    server.otherwise = lambda body: (400, {})
    with pytest.raises(ServedError, match="rejects"):
        critic(server, workers).look(shot)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([(429, {})], ServedError, "failed"),
        ([(500, {})], ServedError, "failed"),
        (["hang"], ServedError, "no answer within 0.5 s"),
        (["drop"], UserError, "no server answers"),
        (["{oops"] * 3, ServedError, "no valid Remarks in 3 attempts: invalid JSON"),
        ([""] * 3, ServedError, "empty"),
        (['{"findings": 7}'] * 3, ServedError, "a list is missing"),
        (['{"findings": [{"edits": []}]}'] * 3, ServedError, "none says"),
        (["I'm sorry, I can't look at pictures."], RefusedError, "refuses to answer"),
    ],
)
def test_failures_are_clear_and_keep_the_pictures(
    server: Server,
    workers: Workers,
    shot: Shot,
    shown: dict[View, Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    bad: list[Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(Vision, "_pictures", lambda *_: shown)
    server.script = [*bad]
    with pytest.raises(error, match=message):
        critic(server, workers, timeout=0.5 if "hang" in bad else 5.0).look(shot)
    kept = {p.name for p in (shot.picture.parent / "views").glob("*.png")}
    assert {"step-0-front.png", "step-0-top.png"} <= kept
    server.script = ["{oops", FINE]
    assert critic(server, workers).look(shot).score == 0.9


def test_it_talks_to_a_real_server_of_a_model_that_sees(
    workers: Workers, shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    resize = {"op": "resize", "asset": 2, "height": 0.7}
    said = {"score": 0.8, "findings": [{"what": "The lamp is too small", "edits": [resize]}]}
    model = taught_to_see(PROMPT.read_text(), 2, json.dumps(said), tmp_path / "model")
    with serve(model) as url:
        policy = ServedPolicy(url, str(model), timeout=60, retries=0)
        found = Vision(policy, workers, views=("top",), width=320, samples=4).look(shot)
    assert found.score == 0.8 and found.findings[0].what == "The lamp is too small"
    assert apply(GRAPH, found.findings[0].edits)["lamp"].height == 0.7


def test_numbers_lie_on_their_things(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / "p.png")
    mask = np.zeros((50, 100), np.uint16)
    mask[10:40, 10:30] = 1
    mask[10:40, 60:90] = 3
    mask[18:32, 68:82] = 0  # a hole where the middle is
    Image.fromarray(mask).save(tmp_path / "m.png")
    made = numbered(tmp_path / "p.png", tmp_path / "m.png", 3, 400)
    assert made.size == (400, 200)
    drawn = (np.asarray(made) != 90).any(-1)
    assert drawn[40:160, 40:120].any() and drawn[40:160, 240:360].any()
    assert not drawn[:, 130:230].any()
    both = sheet([made, made, made])
    assert both.size == (800, 400)


JSON = st.none() | st.integers(-2, 5) | st.sampled_from(["lamp", "2", "x", "30 cm", "top", [], {}])
ROWS = st.dictionaries(
    st.sampled_from(["op", "asset", "index", "weight", "height", "what", "view", "kind", "assets"]),
    JSON | st.sampled_from([*OPS, "on", ["lamp", 3], {"id": "x", "what": "box"}]),
)


@given(st.lists(ROWS | JSON, max_size=5) | JSON)
def test_whatever_it_asks_for_the_edits_can_be_made(rows: Any) -> None:
    made, left = edits(rows, GRAPH, ["table", "lamp", "sofa"])
    apply(GRAPH, made)
    assert all(isinstance(note, str) for note in left)


def test_edits_are_checked_together() -> None:
    drop = {"op": "drop-asset", "asset": "lamp"}
    made, left = edits([drop, drop, {"op": "look-from", "view": "Top"}], GRAPH, [])
    assert made[1:] == (LookFrom(view="top"),) and len(left) == 1
    made, left = edits({"op": "weigh", "relation": "1", "weight": 2}, GRAPH, [])
    assert made == (Weigh(index=1, weight=2),) and not left
