"""Runs that are removed take with them what nobody else names, and nothing more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from common import cli, removal
from common.commands.runs import write_report
from common.errors import RunBusyError, UserError
from common.store import Store
from tests.common import toy


def files(home: Path) -> set[Path]:
    folder = home / "artifacts"
    return {p for p in folder.glob("??/*") if p.exists()}


def aged(home: Path) -> None:
    """As if it had all been written yesterday."""
    for path in files(home):
        os.utime(path, (time.time() - 86400,) * 2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two runs that share what the starter is and what seed 0 proposed first, and one apart."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        toy.run(tmp_path / "home", name, toy.loop(), seed=seed)
    aged(tmp_path / "home")
    return tmp_path / "home"


def test_what_other_runs_name_stays(home: Path, tmp_path: Path) -> None:
    store, before = Store(home), files(home)
    whole = toy.everything(home, "b")
    toy.run(tmp_path / "alone", "c", toy.loop(), seed=1)
    what = removal.plan(store, ["a", "c"])
    shared = {p.name for p in files(tmp_path / "alone")} & {
        address
        for r in store.rounds("b")
        for address in [r.state, *(c.artifact for c in store.candidates("b"))]
    }
    assert what.runs == ["a", "c"] and what.artifacts and what.bytes > 0
    assert not set(what.artifacts) & shared
    assert files(home) == before and len(store.runs()) == 3, "a plan removes nothing"
    removal.remove(store, what)
    assert {p.name for p in before - files(home)} == set(what.artifacts)
    assert [r.run for r in store.runs()] == ["b"] and not (home / "runs" / "a").exists()
    assert toy.everything(home, "b") == whole
    for r in store.rounds("b"):
        assert store.path(r.state).exists()
    write_report(store, store.run("b"), tmp_path / "report.html")
    # Begun anew under its old name, it comes out as it did.
    toy.run(home, "c", toy.loop(), seed=1)
    assert toy.everything(home, "c") == toy.everything(tmp_path / "alone", "c")
    store.close()


def test_all_runs_together_leave_nothing(home: Path) -> None:
    store = Store(home)
    removal.remove(store, removal.plan(store, ["a", "b", "c"]))
    assert not files(home) and not store.runs() and not list((home / "runs").iterdir())
    store.close()


def test_what_a_process_at_work_may_be_about_to_name_stays(home: Path) -> None:
    store = Store(home)
    lease = store.lease("d")
    with pytest.raises(RunBusyError, match="'d' is under way"):
        removal.plan(store, ["c", "d"])
    # A state of c that the other run stores now: it is there, and no record names it yet.
    mine = {r.state for r in store.rounds("c")} - {r.state for r in store.rounds("a")}
    again = store.path(min(mine))
    assert store.put_folder(again) == again.name
    removal.remove(store, removal.plan(store, ["c"]))
    assert again.exists() and {p.name for p in files(home)} & mine == {again.name}
    lease.close("done")
    store.close()


def test_a_run_that_others_go_on_from_stays(home: Path) -> None:
    store = Store(home)
    store.lease("child", "text/improve:demo", {"model": "a"}).close("done")
    with pytest.raises(UserError, match="'child' goes on from 'a' — remove child, too"):
        removal.plan(store, ["a"])
    assert removal.plan(store, ["a", "child"]).runs == ["a", "child"]
    with pytest.raises(UserError, match="no run 'x'"):
        removal.plan(store, ["x"])
    store.close()


def test_the_command(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPSPIRAL_HOME", str(home))
    before = files(home)
    assert cli.main(["runs", "remove", "[ab]"]) == 0
    assert "2 runs and" in (said := capsys.readouterr().out) and "add --yes" in said
    assert files(home) == before
    assert cli.main(["runs", "remove", "[ab]", "--yes"]) == 0
    assert "are gone" in capsys.readouterr().out
    assert [r.run for r in Store(home).runs()] == ["c"] and files(home) < before
    assert cli.main(["runs", "remove", "d", "--yes"]) == 2
    assert "unknown run 'd'" in capsys.readouterr().err


def test_a_failure_on_a_full_disk_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from common.commands import runs

    def torn(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos")

    monkeypatch.setenv("UPSPIRAL_HOME", str(home))
    monkeypatch.setattr(runs, "tests_of", torn)
    assert cli.main(["runs", "show", "a"]) == 1
    assert "no space left" not in capsys.readouterr().err
    monkeypatch.setattr(cli, "_FREE", 2**80)
    assert cli.main(["runs", "show", "a"]) == 1
    assert "no space left ([enforce fail" in (said := capsys.readouterr().err)
    assert "upspiral runs remove" in said
