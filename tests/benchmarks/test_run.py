"""What runs the benchmarks: every script has a row, also one that failed or missed its aim."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, looking for scripts in ``tmp_path``."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    monkeypatch.setattr(run, "HERE", tmp_path)
    (tmp_path / "claim.py").write_text((BENCHMARKS / "claim.py").read_text())
    yield run
    sys.modules.pop("run"), sys.modules.pop("claim", None)


def script(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text(f"from claim import Result, of, tell\n{body}\n")


GOOD = 'print("talk")\ntell(of("to sort", [3.0, 5.0, 4.0], "to shuffle", aim=2))'
MISSED = 'tell(Result("to say it", 7.0, (6.0, 9.0), 2, "-", 6.0, "s", "lower"))'


def test_a_row_for_each_whatever_happened(run: Any, tmp_path: Path, capfd: Any) -> None:
    script(tmp_path, "good", GOOD)
    script(tmp_path, "missed", MISSED)
    script(tmp_path, "broken", 'raise SystemExit("other answers")')
    script(tmp_path, "silent", 'print("done")')
    assert run.main([]) == 2
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| to sort | 4× | 3 to 5, n=3 | ≥ 2× | to shuffle | `good` |" in page
    assert "| to say it | **7 s**, missed | 6 to 9, n=2 | ≤ 6 s | - | `missed` |" in page
    assert "**failed** | exit code 1: other answers" in page
    assert "**failed** | printed no result" in page
    assert f"## {run.machine()}" in page and str(tmp_path) not in page
    assert "talk" in capfd.readouterr().out


def test_names_renew_their_rows_and_leave_the_others(run: Any, tmp_path: Path) -> None:
    script(tmp_path, "good", GOOD)
    script(tmp_path, "missed", MISSED)
    assert run.main(["good", "missed.py"]) == 0
    script(tmp_path, "good", GOOD.replace("5.0, 4.0", "5.0, 4.5"))
    assert run.main(["good"]) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert "4.5×" in page and "`missed`" in page
    (tmp_path / "missed.py").unlink()
    assert run.main(["good"]) == 0
    assert "`missed`" not in (tmp_path / "RESULTS.md").read_text()
    with pytest.raises(SystemExit):
        run.main(["nonsense"])


def test_a_script_without_end_has_failed(run: Any, tmp_path: Path) -> None:
    script(tmp_path, "endless", "while True: pass")
    assert "no end after 1 s" in run.run(tmp_path / "endless.py", limit=1)["failed"]


@pytest.mark.parametrize("last", ["[]", "{}", "[1]", '[{"claim": "c"}]', "[", ""])
def test_what_is_no_list_of_results_is_told(run: Any, last: str) -> None:
    with pytest.raises(ValueError):
        run.parsed(f"talk\n{last}\n")


def test_ratios_are_taken_turn_by_turn(run: Any, capsys: Any) -> None:
    import claim

    order: list[str] = []
    times = claim.in_turns({n: lambda n=n: order.append(n) for n in ("a", "b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"] and {*map(len, times.values())} == {3}
    assert claim.ratios([6.0, 8.0], [2.0, 4.0]) == [3.0, 2.0]
    claim.tell(claim.of("c", [3.0, 2.0], "d", aim=3))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found[0]["ratio"] == 2.5 and found[0]["spread"] == [2.0, 3.0]
    assert claim.Result(**found[0]).missed
