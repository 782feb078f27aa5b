"""The same store on PostgreSQL: a server of the test's own, where one is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from common.store import Store
from tests.common import toy

pytest.importorskip("psycopg")
BINARIES = [shutil.which("initdb"), shutil.which("postgres"), shutil.which("pg_isready")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if not all(BINARIES):
        pytest.skip("PostgreSQL is not installed")
    initdb, postgres, ready = (str(binary) for binary in BINARIES)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        user = None
        if os.geteuid() == 0:  # the server refuses to run as root
            user = "postgres"
            shutil.chown(folder, user)
        command = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(command, user=user, check=True, capture_output=True)
        command = [
            postgres,
            "-D",
            str(data),
            "-k",
            folder,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ]
        server = subprocess.Popen(
            command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for _ in range(100):
                if subprocess.run([ready, "-h", folder, "-q"]).returncode == 0:
                    break
                threading.Event().wait(0.1)
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown: it does not wait for clients
            server.wait(30)


def test_a_run_is_the_same_as_on_sqlite(url: str, tmp_path: Path) -> None:
    toy.run(tmp_path / "lite", rounds=2)
    store = Store(tmp_path / "pg", url)
    result = toy.loop().run(2, store, "toy", shard_size=2, progress=toy.quiet)
    assert toy.loop().run(2, store, "toy", shard_size=2, progress=toy.quiet) == result
    assert toy.everything(tmp_path / "pg", store=store) == toy.everything(tmp_path / "lite")
    assert store.export("toy", tmp_path / "pairs.parquet") == 32


def test_one_owner_and_runs_side_by_side(url: str, tmp_path: Path) -> None:
    store = Store(tmp_path, url)
    held = store.lease("owned")
    with pytest.raises(UserError, match="under way"):
        Store(tmp_path, url).lease("owned")
    held.close("done")
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            toy.loop().run(2, Store(tmp_path, url), name, shard_size=2, progress=toy.quiet)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.candidates("a") == store.candidates("b") != []


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot use"):
        Store(tmp_path, f"postgresql+psycopg://postgres@/postgres?host={tmp_path}")
