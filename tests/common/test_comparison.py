"""Methods side by side: figures by hand, and runs of the toy loop."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from common import comparison
from common.errors import UserError
from common.records import Metric
from common.store import Store
from tests.common import toy


def metric(**items: float) -> Metric:
    values = list(items.values())
    return Metric("wer", float(np.mean(values)), 0.1, len(values), better="lower", items=items)


def test_figures_by_hand() -> None:
    starters = [metric(a=0.5, b=0.4, c=0.3), metric(a=0.7, b=0.4, c=0.1)]
    finals = [metric(a=0.2, b=0.4, c=0.4), metric(a=0.2, b=0.2, c=0.2)]
    found = comparison.change(starters, finals)
    assert found.starter == pytest.approx(0.4) and found.starter_se == pytest.approx(0.0)
    assert found.final == pytest.approx(0.8 / 3)
    assert found.final_se == pytest.approx(abs(1.0 / 3 - 0.2) / 2)  # sd/√2 of two is half the gap
    assert found.finals == pytest.approx({"a": 0.2, "b": 0.3, "c": 0.3})
    changes = [-0.4, -0.1, 0.1]  # of the tasks' means
    assert found.interval.mean == pytest.approx(np.mean(changes))
    assert found.interval.se == pytest.approx(np.std(changes, ddof=1) / math.sqrt(3))
    assert found.relative == pytest.approx(np.mean(changes) / 0.4)
    assert (found.win, found.tie, found.lose) == pytest.approx((3 / 6, 1 / 6, 2 / 6))
    single = comparison.change(starters[:1], finals[:1])
    assert math.isnan(single.final_se)


def test_different_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="different tasks"):
        comparison.change([metric(a=1.0, b=0.5)], [metric(a=1.0, c=0.5)])


def test_runs_of_two_methods(tmp_path: Path) -> None:
    for rate in (0.4, 0.05):
        for seed in (0, 1):
            toy.run(tmp_path, f"{rate}-{seed}", toy.loop(learn=toy.Step(rate=rate)), seed=seed)
    store = Store(tmp_path)
    store.lease("unfinished").close("failed")
    for run in ("0.4-0", "0.4-1", "0.05-0", "0.05-1"):  # a figure of no single task: left out
        measured = {m.round for m in store.metrics(run, "test")}
        store.add(run, [Metric("tail", 0.1, 0.1, 2, "test", number) for number in measured])
    methods = comparison.compare(
        store,
        {
            "fast": ["0.4-0", "0.4-1", "unfinished"],
            "slow": ["0.05-0", "0.05-1"],
            "new": ["unfinished"],
        },
    )
    assert [m.name for m in methods] == ["fast", "slow"]
    fast, slow = (m.changes["error"] for m in methods)
    assert all("tail" not in m.changes for m in methods)
    assert all(m.learning_seconds > 0 for m in methods)
    assert fast.starter == slow.starter and fast.final < slow.final < slow.starter
    facts = comparison.facts(methods)[methods[0].name]
    assert facts["metrics"]["error"]["final"] == fast.final
    assert facts["metrics"]["error"]["interval"]["mean"] == fast.interval.mean
    assert facts["metrics"]["error"]["against_first"] is None
    between = comparison.facts(methods)["slow"]["metrics"]["error"]["against_first"]
    gaps = [slow.finals[task] - fast.finals[task] for task in fast.finals]
    assert between["mean"] == pytest.approx(np.mean(gaps)) and between["mean"] > 0
    assert between["se"] == pytest.approx(np.std(gaps, ddof=1) / math.sqrt(len(gaps)))
    assert [len(run) for run in facts["dev"]] == [len(run) for run in methods[0].rounds]
    assert all(run[0]["kept"] and "error" in run[0] for run in facts["dev"])
    table = comparison.markdown(methods, "error").splitlines()
    assert len(table) == 4 and all(
        line.count("|") == len(comparison.HEADINGS) + 1 for line in table
    )
    assert f"{fast.final:.3f}" in table[2] and methods[0].kept in table[2]
    assert table[2].endswith("| - |")
    assert f"{between['mean']:+.3f} [{between['low']:+.3f}" in table[3]
    (single,) = comparison.compare(store, {"slow": ["0.05-0"]})
    assert comparison.against(methods[0], single, "error") is None  # of other luck
    svg = comparison.figure(methods, "error")
    ET.fromstring(svg)
    assert ">fast<" in svg and svg == comparison.figure(methods, "error")
    store.close()
