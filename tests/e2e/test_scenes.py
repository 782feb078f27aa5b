"""Scenes as a user makes them: a sentence to a folder, from a graph, from one's own models.

And what goes wrong: mistakes, broken models, a disk that fills, Ctrl-C while Blender renders.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scenes.graph import load
from tests.common.loopback import serving
from tests.scenes.shapes import chair, obj, table

TEXT = "a table with two chairs around it and a lamp on the table"
SMALL = ("--size", "96x72", "--samples", "1", "--json")
TOLD = "file,name,category,tags,width,depth,height,creator,licence\n"
# One real process for what needs no process of its own: torch takes seconds to import.
DRIVER = """
import json, sys
from common.cli import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        print("\\0", code, file=stream, flush=True)
"""

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


def several(place: Path, *commands: list[str]) -> list[Done]:
    """Commands, one after the other, in one process."""
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        env={**os.environ, "UPSPIRAL_HOME": str(place / "home")},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    outs, errs = ran.stdout.split("\0"), ran.stderr.split("\0")
    codes = [int(part.split()[0]) for part in outs[1:]]
    cut = [re.sub(r"^ \d+\n", "", part) for part in (*outs, *errs)]
    return [Done(c, cut[n], cut[len(outs) + n]) for n, c in enumerate(codes)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one's own models: good ones, broken ones, one whose texture is missing."""
    root = tmp_path_factory.mktemp("scenes")
    own = root / "own"
    own.mkdir()
    obj(own / "table.obj", table())
    obj(own / "chair.obj", chair(), material="map_Kd oak.png")
    obj(own / "lamp.obj", [((-0.1, 0.1), (-0.1, 0.1), (0, 0.4))])
    (own / "models.csv").write_text(
        TOLD + "lamp.obj,lamp,,,0.2,0.2,0.4,Ada,CC-BY-3.0\nchair.obj,chair,,,,,,,\n"
    )
    bad = root / "bad"
    bad.mkdir()
    obj(bad / "chair.obj", chair())
    (bad / "table.obj").write_text("this is no model\n")
    (bad / "lamp.glb").write_bytes(b"glTF\x02\x00\x00\x00garbage")
    (root / "no.json").write_text("{}")
    (root / "lost.json").write_text('{"assets": [{"id": "a", "what": "chair", "model": "gone"}]}')
    (root / "brief.txt").write_text(TEXT)
    return root


@pytest.fixture(scope="module")
def done(place: Path) -> list[Done]:
    craft = ["scenes", "craft"]
    own = ["--assets", "own", *SMALL]
    return several(
        place,
        [*craft, "@brief.txt", "--out", "room", *own],
        [*craft, "--graph", "room/graph.json", "--out", "again", *own],
        [*craft, TEXT, "--out", "blocks", "--assets", "bad", *SMALL],
        [*craft, "", *own],
        [*craft, "500 chairs", *own],
        [*craft, "a chair", "--graph", "room/graph.json", *own],
        [*craft, *own],
        [*craft, "a chair", "--critic", "geometri", *own],
        [*craft, "a chair", "--assets", "nowhere", *SMALL],
        [*craft, "--graph", "no.json", *own],
        [*craft, "--graph", "lost.json", "--out", "lost", *own],
        [*craft, "a chair", "--out", "brief.txt", *own],
        [*craft, "a chair", *own, "--size", "9x9"],
        [*craft, "a chair", "--planner", "served", *own],
    )


def test_a_sentence_becomes_a_folder(done: list[Done], place: Path) -> None:
    first, room = done[0], place / "room"
    assert first.code == 0, first.err
    told = first.json
    assert {"constraint_score", "clip_score", "asked", "placed", "visible", "collisions"} < set(
        told
    )
    assert (told["asked"], told["placed"], told["visible"], told["collisions"]) == (4, 4, 4, 0)
    assert told["constraint_score"] >= 0.9 and -1 <= told["clip_score"] <= 1 and told["seconds"] > 0
    assert sorted(told["files"]) == sorted(p.name for p in room.iterdir())
    assert (room / "scene.blend").stat().st_size and (room / "scene.glb").read_bytes()[
        :4
    ] == b"glTF"
    with Image.open(room / "step-0.png") as picture:
        assert picture.size == (96, 72) and len(picture.getcolors(10_000) or []) > 100
    assert "lamp: Ada, own, CC-BY-3.0" in (room / "attribution.txt").read_text()
    compile((room / "scene.py").read_text(), "scene.py", "exec")
    assert "oak.png is missing" in " ".join(told["notes"])  # the texture, and yet a scene


def test_the_report_stands_alone(done: list[Done], place: Path) -> None:
    html = (place / "room" / "report.html").read_text()
    assert TEXT in html and "data:image/jpeg;base64," in html and "Ada" in html
    assert "around(chair-1, chair-2, table)" in html
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", html)


def test_a_graph_gives_the_same_scene_again(done: list[Done], place: Path) -> None:
    assert done[1].code == 0, done[1].err
    room, again = load(place / "room" / "graph.json"), load(place / "again" / "graph.json")
    assert room == again and room.text == TEXT
    pictures = [Image.open(place / name / "step-0.png") for name in ("room", "again")]
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_broken_models_are_left_out_and_told(done: list[Done], place: Path) -> None:
    told = done[2].json
    assert done[2].code == 0 and set(told["missing"]) == {"table", "lamp"}
    assert (told["asked"], told["placed"]) == (4, 2) and not told["accepted"]
    assert "no model for table" in done[2].err
    assert any("table.obj" in note for note in told["notes"])
    assert "a plain block" in (place / "blocks" / "report.html").read_text()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (3, "an empty text"),
        (4, "more than 100 things"),
        (5, "a text or of a --graph"),
        (6, "a text or of a --graph"),
        (7, "unknown critic 'geometri' — did you mean 'geometry'?"),
        (8, "nowhere is not a folder"),
        (9, "no.json is no scene graph: assets: Field required"),
        (10, "the model 'gone', which is not in the index"),
        (11, "cannot use brief.txt"),
        (12, "the size '9x9'"),
        (13, "needs --model"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(done: list[Done], number: int, said: str) -> None:
    found = done[number]
    assert found.code == 2 and said in found.json["error"] + " — " + found.json["remedy"]
    last = found.err.strip().splitlines()[-1]
    assert last.startswith("upspiral: ") and found.json["error"] in last


def started(place: Path, *words: str, limit: int | None = None) -> subprocess.Popen[str]:
    def full() -> None:
        assert limit is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "common.cli", "scenes", "craft", *words],
        env={**os.environ, "UPSPIRAL_HOME": str(place / "home")},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=full if limit is not None else None,
    )


def test_a_disk_that_fills_keeps_the_steps(done: list[Done], place: Path) -> None:
    """No file may be larger than a small picture: step 0 fits, the .blend does not."""
    room = place / "room"
    limit = 60_000
    assert max((room / "step-0.png").stat().st_size, 36_864) < limit
    assert (room / "scene.blend").stat().st_size > limit
    process = started(place, TEXT, "--out", "full", "--assets", "own", *SMALL, limit=limit)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert re.search("too large|space|full", err.splitlines()[-1], re.IGNORECASE), err
    assert "resume with: upspiral scenes craft --graph full/graph.json" in err
    assert "error" in json.loads(out.splitlines()[-1])
    assert {"step-0.png", "graph.json"} <= {p.name for p in (place / "full").iterdir()}
    assert not [p for p in (place / "full").iterdir() if p.name.startswith(".")]
    assert load(place / "full" / "graph.json").text == TEXT


def test_a_served_planner_and_critic(done: list[Done], place: Path) -> None:
    """The model reads the sentence, then looks: it wants the lamp larger, then nothing more."""
    assets = [
        {"name": "table", "what": "table", "size": [1.2, 0.8, 0.75]},
        {"name": "lamp", "what": "lamp", "size": [0.2, 0.2, 0.4]},
    ]
    relations = {"relations": [{"kind": "on", "assets": ["lamp", "table"]}]}
    larger = {"op": "resize", "asset": "lamp", "width": 0.3, "depth": 0.3, "height": 0.6}
    finding = {"what": "the lamp is too small", "edits": [larger]}
    said = [
        {"assets": assets},
        relations,
        {"score": 0.5, "findings": [finding]},
        {"score": 0.9, "findings": []},
    ]
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        server.script = [json.dumps(answer) for answer in said]
        (ran,) = several(
            place,
            ["scenes", "craft", "a lamp on a table", "--out", "served", "--assets", "own",
             "--planner", "served", "--critic", "geometry,vision", "--model", "m",
             "--base-url", server.url, *SMALL],
        )  # fmt: skip
        assert ran.code == 0, ran.err
        assert len(server.seen) == 4 and not server.script
    told = ran.json
    assert (told["steps"], told["chosen"], told["accepted"]) == (2, 1, True)
    assert load(place / "served" / "graph.json")["lamp"].height == 0.6
    html = (place / "served" / "report.html").read_text()
    assert "Because vision said: the lamp is too small" in html


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def stopped(process: subprocess.Popen[str], at: str, wait: float) -> tuple[str, str]:
    """What a command says that gets Ctrl-C ``wait`` seconds after ``at``; its workers are gone."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if at in line:
            break
    until = time.monotonic() + 60
    while not (workers := children(process.pid)) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, said + err
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers)
    return out, said + err


def test_a_stop_in_the_first_render(done: list[Done], place: Path) -> None:
    process = started(
        place, TEXT, "--out", "first", "--assets", "own", "--size", "4000x3000",
        "--samples", "4096", "--json",
    )  # fmt: skip
    out, err = stopped(process, "steps: 0/", 8)
    assert "upspiral: stopped" in err and json.loads(out) == {"error": "stopped"}
    assert [*(place / "first").iterdir()] == []


def test_a_stop_after_a_step_keeps_it(done: list[Done], place: Path) -> None:
    """Two things cannot be left of one another, so that there is always more to try."""
    sides = [{"kind": "left-of", "assets": pair} for pair in (["a", "b"], ["b", "a"])]
    assets = [{"id": "a", "what": "chair"}, {"id": "b", "what": "lamp"}]
    (place / "torn.json").write_text(json.dumps({"assets": assets, "relations": sides}))
    process = started(place, "--graph", "torn.json", "--out", "kept", "--assets", "own", *SMALL)
    _, err = stopped(process, "step 0: ", 0)
    assert "resume with: upspiral scenes craft --graph kept/graph.json --out kept" in err
    assert {"step-0.png", "graph.json"} <= {p.name for p in (place / "kept").iterdir()}
