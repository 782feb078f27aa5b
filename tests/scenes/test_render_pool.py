"""Blender's workers: warm, replaced when they crash, hang or grow, and gone with the pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from common.errors import UserError
from scenes.render.jobs import Camera, Measure, Render, Scene, Thing
from scenes.render.pool import RenderError, Workers
from tests.scenes.shapes import obj, table

CAMERA = Camera(location=(0, -4, 1), target=(0, 0, 0.5))


def render(path: Path, width: int = 64, samples: int = 1) -> Render:
    scene = Scene(things=(Thing(id="block", size=(1, 1, 1)),))
    return Render(scene=scene, cameras=(CAMERA,), paths=(path,), width=width,
                  height=width * 3 // 4, samples=samples)  # fmt: skip


def until(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_warm_worker_does_the_first_job_and_ends_with_the_pool(tmp_path: Path) -> None:
    with Workers(device="cpu") as workers:
        workers.warm()
        until(lambda: workers.pids)
        (pid,) = workers.pids
        workers.do(render(tmp_path / "a.png"))
        assert workers.pids == (pid,)
        assert Image.open(tmp_path / "a.png").size == (64, 48)
    assert not alive(pid)


def test_a_job_whose_worker_is_killed_is_done_again(tmp_path: Path) -> None:
    with Workers(device="cpu") as workers:
        workers.do(render(tmp_path / "first.png"))
        (pid,) = workers.pids
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))
        assert workers.do(render(tmp_path / "a.png")).paths == (tmp_path / "a.png",)
        assert workers.pids and workers.pids != (pid,)
        assert Image.open(tmp_path / "a.png").size == (64, 48)


def test_a_job_that_kills_twice_or_hangs_is_given_up_and_the_next_one_done(tmp_path: Path) -> None:
    with Workers(device="cpu") as workers:
        workers.do(render(tmp_path / "first.png"))
        ending = True

        def killer() -> None:
            while ending:
                for pid in workers.pids:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)

        found = workers.submit(render(tmp_path / "a.png", 640, 4096))
        thread = Thread(target=killer)
        thread.start()
        with pytest.raises(RenderError, match=r"ended: signal 9.* at a Render job, twice"):
            found.result(300)
        ending = False
        thread.join()
        workers.timeout = 0.2
        with pytest.raises(RenderError, match=r"took over 0\.2 s at a Render job, twice"):
            workers.do(render(tmp_path / "b.png", 640, 4096))
        workers.timeout = 600
        workers.do(render(tmp_path / "c.png"))
        assert Image.open(tmp_path / "c.png").size == (64, 48)


def test_workers_are_replaced_by_count_and_by_memory(tmp_path: Path) -> None:
    model = obj(tmp_path / "table.obj", table())
    with Workers(device="cpu", recycle_after=2) as workers:
        seen = []
        for _ in range(3):
            workers.do(Measure(model=model))
            seen.append(workers.pids)
        assert seen[0] and not seen[1] and seen[2] and seen[2] != seen[0]
        workers.recycle_after, workers.memory = 200, 1
        workers.do(Measure(model=model))
        assert not workers.pids, "more than a byte"


def test_a_wrong_job_leaves_the_worker_as_it_was(tmp_path: Path) -> None:
    with Workers(device="cpu") as workers:
        with pytest.raises(UserError, match=r"none\.obj"):
            workers.do(Measure(model=tmp_path / "none.obj"))
        before = workers.pids
        assert workers.do(Measure(model=obj(tmp_path / "table.obj", table()))).faces > 0
        assert workers.pids == before
    with pytest.raises(RuntimeError, match="context manager"):
        Workers().submit(Measure(model=tmp_path / "none.obj"))
