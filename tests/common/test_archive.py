"""Figures of runs from one store to another."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from common import archive, comparison
from common.errors import UserError
from common.store import Store
from tests.common import toy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for seed in (0, 1):
        toy.run(tmp_path / "here", f"toy-{seed}", toy.loop(), seed=seed)
    return tmp_path / "here"


def test_an_imported_run_compares_as_the_original_does(home: Path, tmp_path: Path) -> None:
    here, there = Store(home), Store(tmp_path / "there")
    file = tmp_path / "runs.json.gz"
    names = ["toy-0", "toy-1"]
    assert archive.write(here, names, file) == file.stat().st_size
    assert archive.read(there, file) == names
    for name in names:
        row = there.run(name)
        assert row == here.run(name) and row.status == "done"
        for ours, theirs in zip(here.rounds(name), there.rounds(name), strict=True):
            assert replace(ours, metrics=()) == replace(theirs, metrics=())
            for a, b in zip(ours.metrics, theirs.metrics, strict=True):
                assert replace(a, items={}) == replace(b, items={})
                assert b.items == pytest.approx(dict(a.items), rel=1e-5)
        assert not there.candidates(name) and here.candidates(name)
    (ours,), (theirs,) = (comparison.compare(s, {"toy": names}) for s in (here, there))
    assert theirs.learning_seconds == pytest.approx(ours.learning_seconds, abs=0.01)
    assert theirs.changes["error"].interval.mean == pytest.approx(
        ours.changes["error"].interval.mean, rel=1e-4
    )
    # Once more: nothing is new, and nothing is there twice.
    assert archive.read(there, file) == []
    assert len(there.runs()) == 2
    here.close()
    there.close()


def test_the_same_runs_make_the_same_file(home: Path, tmp_path: Path) -> None:
    store = Store(home)
    for name in ("a", "b"):
        archive.write(store, ["toy-0"], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    store.close()


def test_what_is_no_archive_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    bad = {
        "text": b"hello",
        "cut": gzip.compress(b"{}" * 500)[:20],
        "json": gzip.compress(b'{"format": 1, "runs": [{}]}'),
        "newer": gzip.compress(json.dumps({"format": 99, "runs": []}).encode()),
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="no archive"):
            archive.read(store, tmp_path / name)
    with pytest.raises(UserError, match="cannot read"):
        archive.read(store, tmp_path / "nothing")
    assert not store.runs()
    store.close()


def test_only_finished_runs_are_archived(home: Path, tmp_path: Path) -> None:
    store = Store(home)
    store.lease("begun").close("failed")
    with pytest.raises(UserError, match="failed, not done"):
        archive.write(store, ["toy-0", "begun"], tmp_path / "x")
    with pytest.raises(UserError, match="cannot write"):
        archive.write(store, ["toy-0"], tmp_path / "no" / "folder")
    assert not [p for p in tmp_path.iterdir() if p.is_file()]
    store.close()
