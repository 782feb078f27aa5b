"""What a pool of candidates shows, by hand; that every run records it; that the report plots it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from common.monitors.pool import figures
from common.records import Candidate
from common.report import Page, render
from common.store import Store
from tests.common import toy


def said(task: str, output: str, **more: Any) -> Candidate:
    more = {"tokens": 4, "logprob": -2.0, **more}
    return Candidate(f"{task}-{output}", task, 1, output, **more)


def test_by_hand() -> None:
    pool = [
        said("a", "x y", scores={"correct": 1.0, "wer": 0.5}, answer="1", logprob=-8.0),
        said("a", "x z", scores={"correct": 0.0, "wer": 0.1}, answer="2", meta={"spent": 10}),
        said("b", "x x", scores={"correct": 0.0, "wer": math.nan}),
        said("b", "x", scores={"correct": 0.0, "wer": 0.3}),
    ]
    found = figures(pool)
    assert found["candidates"] == 4 and found["sampled_tokens"] == 22 and found["length"] == 4
    assert found["logprob"] == pytest.approx(-3.5)
    assert found["logprob_per_token"] == pytest.approx(-3.5 / 4)
    assert found["answer_entropy"] == pytest.approx(math.log(2) / 2)  # b gave no answer, twice
    # The right one of a is the less likely: its quarter keeps the wrong one.
    assert found["correct"] == {"pass@1": 0.25, "pass@2": 0.5, "best_by_logprob": 0.0,
                                "relative_gap": -0.5}  # fmt: skip
    wer = {"mean": 0.3, "highest": 0.4, "lowest": 0.2, "spread": 0.1}
    assert found["wer"] == pytest.approx(wer)
    assert figures([]) == {}
    assert "logprob" not in figures([said("a", "x", logprob=0.0)])


def test_more_samples_show_pass_at_k_s() -> None:
    pool = [said("a", str(i), scores={"correct": float(i < 3)}) for i in range(6)]
    assert set(figures(pool)["correct"]) == {"pass@1", "pass@2", "pass@4", "pass@6", "pass@6-4",
                                             "best_by_logprob", "relative_gap"}  # fmt: skip
    assert figures(pool)["correct"]["pass@6-4"] == 0


def test_every_run_records_its_pools_and_the_report_plots_them(tmp_path: Path) -> None:
    result = toy.run(tmp_path, rounds=2)
    assert "pool" not in result.rounds[0].notes
    for turn in result.rounds[1:]:
        pool = turn.notes["pool"]
        assert pool["candidates"] == 64 and pool["sampled_tokens"] == 64 * 6
        assert pool["error"]["lowest"] < pool["error"]["mean"] < pool["error"]["highest"]
    store = Store(tmp_path)
    page = render(Page("toy", "", "done", "", 0, store.rounds("toy")))
    store.close()
    assert "<h2>Proposals</h2>" in page and ">highest<" in page and "error/spread" in page
