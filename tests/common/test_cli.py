"""What an unknown name is told."""

from __future__ import annotations

from common.cli import unknown


def test_the_nearest_name_is_the_remedy() -> None:
    error = unknown("recipe", "startr", ["starter", "demo"])
    assert error.message == "unknown recipe 'startr'" and error.remedy == "did you mean 'starter'?"


def test_without_a_near_one_all_are_listed_and_can_be_told_apart() -> None:
    assert unknown("arm", "x", ["e", "b c", "a, d"]).remedy == "use one of: e, 'b c', 'a, d'"
    assert unknown("arm", "x", {"e", "b", "d"}).remedy == "use one of: b, d, e"
    assert unknown("arm", "x", []).remedy == "use one of: none"


def test_of_many_names_the_first_are_listed() -> None:
    names = [f"run-{i:03}" for i in range(500)]
    remedy = unknown("run", "zzz", names).remedy
    assert remedy.startswith("use one of: run-000, run-001, ")
    assert remedy.endswith(", run-019 and 480 more")
