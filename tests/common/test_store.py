"""The store: idempotent, atomic, exclusive; clear and harmless when disk or lock fail it."""

from __future__ import annotations

import errno
import itertools
import math
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import artifacts, lease
from common.database import Database
from common.errors import RunBusyError, UserError
from common.records import Candidate, Demonstration, Metric, Preference, Round, Task
from common.store import Store
from common.tables import Record
from tests.common import toy


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def candidate(number: int, round: int = 1, **more: Any) -> Candidate:
    return Candidate(f"c{number}", "t", round, f"output {number}", **more)


FRESH = itertools.count()
RECORDS: list[Record] = [
    Task("t", "say ö", "dev", "a reference", "de", {"voice": 3}),
    Candidate(
        "c", "t", 1, "out\n", -0.1, 7, {"wer": 0.5}, "a.wav", "42", "tree", "fr", "p", {"k": [1]}
    ),
    Preference("p", "t", 1, "prompt", "good", "bad", 0.3, "golden", "c", "d"),
    Demonstration("d", "t", 1, "prompt", "done", "golden", 0.5),
    Metric("wer", 0.1, 0.01, 2, "dev", 1, "lower", {"t": 0.2, "u": 0.0}),
    Round(1, True, "abc", "better", 1, 1, 2.5, (), {"learn": {"loss": 0.693}}),
]


def test_records_come_back_as_they_were(store: Store) -> None:
    store.add("r", RECORDS)
    store.add("r", RECORDS)
    task, made, preference, demonstration, metric, _ = RECORDS
    assert store.tasks("r") == store.tasks("r", "dev") == [task] and not store.tasks("r", "test")
    assert store.candidates("r") == [made] and not store.candidates("r", 2)
    assert store.preferences("r", 1) == [preference]
    assert store.demonstrations("r", 1) == [demonstration]
    assert store.metrics("r") == [metric] and not store.metrics("r", "test")
    (found,) = store.rounds("r")
    assert found.metrics == (metric,) and found.notes == {"learn": {"loss": 0.693}}
    assert not store.candidates("another")


def test_scores_may_be_nan(store: Store) -> None:
    store.add("r", [candidate(1, scores={"wer": math.nan, "far": -math.inf})])
    (found,) = store.candidates("r")
    assert math.isnan(found.scores["wer"]) and found.scores["far"] == -math.inf


def test_numpys_numbers_are_numbers(store: Store) -> None:
    score = {"wer": np.float32(0.5)}
    store.add("r", [candidate(1, logprob=np.float32(-1.5), tokens=np.int64(3), scores=score)])
    assert store.candidates("r") == [candidate(1, logprob=-1.5, tokens=3, scores={"wer": 0.5})]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=8), max_size=5),
)
def test_inserting_again_changes_nothing(
    store: Store, batches: list[list[tuple[int, int]]]
) -> None:
    run = f"run-{next(FRESH)}"
    seen: dict[tuple[int, int], Candidate] = {}
    for batch in batches:
        records = [candidate(n, r, logprob=float(len(seen))) for n, r in batch]
        for record, key in zip(records, batch, strict=True):
            seen.setdefault(key, record)
        store.add(run, records)
    assert store.candidates(run) == sorted(seen.values(), key=lambda c: c.round)


def test_a_unit_is_committed_whole_or_not_at_all(store: Store) -> None:
    held = store.lease("r")
    broken = candidate(2, meta={"cannot": object()})
    with pytest.raises(sa.exc.StatementError, match="cannot be stored"):
        held.commit(1, "propose", 0, [candidate(1), broken])
    assert not store.candidates("r") and not store.units("r", 1)
    held.commit(1, "propose", 0, [candidate(1), candidate(2)], payload={"x": 1}, seconds=2.0)
    held.commit(1, "judge", 0, scores={"c2": {"wer": 0.5}})
    held.close("done")
    assert [c.scores for c in store.candidates("r", 1, 0)] == [{}, {"wer": 0.5}]
    assert store.units("r", 1)["propose", 0] == ({"x": 1}, 2.0)
    assert set(store.units("r", 1)) == {("propose", 0), ("judge", 0)}


def test_runs_are_listed_newest_first(store: Store) -> None:
    for name in ("first", "second", "third"):
        store.lease(name, recipe=f"toy:{name}", config={"n": 1}, seed=4).close("done")
    assert [run.run for run in store.runs()] == ["third", "second", "first"]
    run = store.runs()[0]
    assert (run.recipe, run.status, run.seed, run.config) == ("toy:third", "done", 4, {"n": 1})
    assert run.started.endswith("+00:00")
    with pytest.raises(UserError, match="no run 'fourth'"):
        store.run("fourth")
    with pytest.raises(UserError, match="cannot name a run"):
        store.lease("../escape")


def test_a_run_has_one_owner(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    held = store.lease("r", seed=1, plan={"rounds": 3})
    with pytest.raises(RunBusyError, match="under way"):
        store.lease("r", seed=1, plan={"rounds": 3})
    held.close("interrupted")
    with pytest.raises(UserError, match="begun with rounds 3, not 4"):
        store.lease("r", seed=1, plan={"rounds": 4})
    with pytest.raises(UserError, match="begun with seed 1, not 2"):
        store.lease("r", seed=2, plan={"rounds": 3})
    held = store.lease("r", seed=1, plan={"rounds": 3})
    # Another host sees a fresh heartbeat, then one that has been silent for too long.
    monkeypatch.setattr(lease, "_host", lambda: "elsewhere")
    with pytest.raises(RunBusyError, match="under way"):
        store.lease("r", seed=1, plan={"rounds": 3})
    monkeypatch.setattr(lease, "STALE", 0.0)
    assert store.run("r").status == "interrupted"
    taken = store.lease("r", seed=1, plan={"rounds": 3})
    with pytest.raises(UserError, match="taken over"):
        held.commit(1, "propose", 0, [candidate(1)])
    assert not store.candidates("r")
    taken.commit(1, "propose", 0, [candidate(2)])
    held.close("failed")
    taken.close("done")
    assert store.run("r").status == "done" and len(store.candidates("r")) == 1


def test_the_heartbeat_beats(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.01)
    monkeypatch.setattr(lease, "STALE", 3.0)
    held = store.lease("r")
    monkeypatch.setattr(lease, "_host", lambda: "elsewhere")
    time.sleep(4)
    assert store.run("r").status == "running"
    held.close("done")


def test_artifacts_are_addressed_by_content(store: Store, tmp_path: Path) -> None:
    address = store.put(b"sound", ".wav")
    assert address.endswith(".wav") and store.path(address).read_bytes() == b"sound"
    assert store.put(b"sound", ".wav") == address != store.put(b"other", ".wav")
    for unknown in ("0" * 40, "../../upspiral.db", ""):
        with pytest.raises(KeyError):
            store.path(unknown)
    folder = tmp_path / "policy"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a")
    (folder / "inner" / "b.bin").write_bytes(b"b")
    first = store.put_folder(folder)
    assert store.put_folder(folder) == first
    assert (store.path(first) / "inner" / "b.bin").read_bytes() == b"b"
    (folder / "a.bin").rename(folder / "c.bin")
    second = store.put_folder(folder)
    assert second != first and (store.path(first) / "a.bin").exists()
    assert store.artifacts.put_folder(folder, move=True) == second and not folder.exists()
    assert not list((tmp_path / "artifacts" / "tmp").iterdir())
    with pytest.raises(FileNotFoundError):
        store.put_folder(folder)


def test_export_is_what_trl_reads(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "pairs.parquet"
    toy.run(tmp_path)
    count = store.export("toy", out)
    table = pq.read_table(out)
    assert table.column_names == ["prompt", "chosen", "rejected", "margin", "source", "round"]
    assert table.num_rows == count == len(store.preferences("toy")) == 48
    for preference, found in zip(store.preferences("toy"), table.to_pylist(), strict=True):
        assert {name: getattr(preference, name) for name in found} == found
    with pytest.raises(UserError, match="cannot write"):
        store.export("toy", tmp_path / "nowhere" / "pairs.parquet")
    with pytest.raises(UserError, match="no run"):
        store.export("another", out)
    store.lease("empty").close("done")
    with pytest.raises(UserError, match="no preferences"):
        store.export("empty", out)


# A full disk and a locked store: a clear error, nothing lost, the run continues.


def limit(more: int) -> Any:
    """Let no database grow by more than ``more`` pages."""
    most: list[int] = []

    def connect(connection: sqlite3.Connection, _: object) -> None:
        most.append(connection.execute("PRAGMA page_count").fetchone()[0] + more)
        connection.execute(f"PRAGMA max_page_count={most[0]}")

    return connect


@pytest.mark.parametrize("pages", [2, 8, 16])
def test_a_full_database_is_said_and_survived(tmp_path: Path, pages: int) -> None:
    toy.run(tmp_path / "calm")
    store = Store(tmp_path / "full")
    sa.event.listen(store.database.engine, "connect", limit(pages))
    store.database.engine.dispose()
    with pytest.raises(UserError, match=r"full.*free some space"):
        toy.loop().run(3, store, "toy", shard_size=2, progress=toy.quiet)
    assert store.run("toy").status in ("failed", "interrupted")
    before = store.candidates("toy")
    store.close()
    toy.run(tmp_path / "full")  # the store opens anew, without the limit
    found, calm = (toy.everything(tmp_path / name) for name in ("full", "calm"))
    assert found == calm
    store = Store(tmp_path / "full")
    assert [c.id for c in store.candidates("toy")][: len(before)] == [c.id for c in before]
    store.close()


def test_a_full_disk_under_artifacts_is_said_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run(tmp_path / "calm")
    real, calls = artifacts._write, 0

    def write(path: Path, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            path.write_bytes(data[:3])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data)

    monkeypatch.setattr(artifacts, "_write", write)
    with pytest.raises(UserError, match=r"full.*free some space"):
        toy.run(tmp_path / "full")
    assert not list((tmp_path / "full" / "artifacts" / "tmp").iterdir())
    toy.run(tmp_path / "full")
    assert toy.everything(tmp_path / "full") == toy.everything(tmp_path / "calm")


def test_a_locked_store_is_said_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run(tmp_path / "calm")
    monkeypatch.setattr(Database, "patience", 0.2)
    store = Store(tmp_path / "busy")
    other = sqlite3.connect(tmp_path / "busy" / "upspiral.db", isolation_level=None)

    class Locks(toy.Perturb):
        def propose(self, *given: Any) -> list[Candidate]:
            if store.units("toy", 1, "propose").keys() >= {("propose", 3)}:
                other.execute("BEGIN IMMEDIATE")
            return super().propose(*given)

    with pytest.raises(UserError, match=r"locked.*close what holds it"):
        toy.loop(propose=Locks()).run(3, store, "toy", shard_size=2, progress=toy.quiet)
    assert len(store.units("toy", 1, "propose")) == 4
    assert store.candidates("toy"), "a locked store can still be read"
    other.execute("ROLLBACK")
    other.close()
    store.close()
    assert toy.run(tmp_path / "busy").rounds
    assert toy.everything(tmp_path / "busy") == toy.everything(tmp_path / "calm")


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "upspiral.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match="not a readable store"):
        Store(tmp_path)
    with pytest.raises(UserError, match="cannot open"):
        Store(tmp_path / "x", url="nonsense")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError):
        Store(file)
    newer = Store(tmp_path / "newer")
    with newer._write() as connection:
        connection.execute(sa.text("UPDATE version SET version = 99"))
    newer.close()
    with pytest.raises(UserError, match="another version"):
        Store(tmp_path / "newer")
