"""The report: its paired interval, what it says, and that nothing in a run can break out of it."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from common.records import Metric, Round
from common.report import Page, Player, Sample, numbers, paired, render, verdict, write

BEFORE = {f"t{i}": 0.5 + 0.01 * (i % 7) for i in range(40)}
AFTER = {task: value - 0.1 + 0.02 * (i % 3) for i, (task, value) in enumerate(BEFORE.items())}


def metric(items: dict[str, float], name: str = "wer") -> Metric:
    values = list(items.values())
    mean = sum(values) / len(values)
    return Metric(name, mean, 0.01, len(values), "test", better="lower", items=items)


def page(**changes: object) -> Page:
    rounds = [
        Round(0, True, "aa", metrics=(Metric("wer", 0.5, 0.02, 30, better="lower"),)),
        Round(
            1,
            False,
            "aa",
            "wer rose by 0.031 ± 0.012",
            pairs=120,
            seconds=61.4,
            metrics=(Metric("wer", 0.53, math.nan, 30, better="lower"),),
            notes={"learn": {"loss": 0.61, "ok": True}, "says": "no number"},
        ),
    ]
    values: dict[str, object] = {
        "run": "run-1",
        "recipe": "speech/align:demo",
        "status": "done",
        "started": "2026-01-02 03:04",
        "seed": 0,
        "rounds": rounds,
        "tests": {"starter": [metric(BEFORE)], "final": [metric(AFTER)]},
    }
    return Page(**(values | changes))  # type: ignore[arg-type]


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_paired_interval_is_students() -> None:
    got = paired(metric(BEFORE), metric(AFTER))
    assert got is not None
    reference = ttest_rel(list(AFTER.values()), list(BEFORE.values())).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((reference.low, reference.high))
    assert got.n == 40
    assert paired(metric({"a": 1.0}), metric({"a": 2.0})) is None


@pytest.mark.parametrize(
    ("sign", "better", "said"),
    [(1, "higher", "better"), (1, "lower", "worse"), (1, "neither", "changed")],
)
def test_verdict_knows_the_direction(sign: int, better: str, said: str) -> None:
    up = {task: value + sign * 0.1 for task, value in BEFORE.items()}
    difference = paired(metric(BEFORE), metric(up))
    assert difference is not None
    assert verdict(Metric("m", 0, 0, 1, better=better), difference) == said  # type: ignore[arg-type]
    noise = {task: value + (-1) ** i * 0.1 for i, (task, value) in enumerate(BEFORE.items())}
    none = paired(metric(BEFORE), metric(noise))
    assert none is not None
    assert verdict(metric(BEFORE), none) == "no difference shown"


def test_report_says_what_happened() -> None:
    words = Elements(render(page())).words
    for expected in ("rolled back", "wer rose by 0.031", "learn/loss", "0.610", "better", "120"):
        assert expected in words
    assert "-0.080" in words  # the paired difference: -0.1 + mean of 0, 0.02, 0.04


def test_nothing_breaks_out() -> None:
    evil = '"><script>alert(1)</script>'
    sample = Sample(evil, (Player(evil, b"RIFF", f"audio/wav{evil}"),))
    rounds = [Round(0, True, "a", evil, metrics=(Metric(evil, 1.0, 0.1, 3),), notes={evil: 1.0})]
    text = render(page(run=evil, recipe=evil, started=evil, rounds=rounds, samples=[sample]))
    tags = Elements(text).tags
    assert "script" not in [tag for tag, _ in tags]
    assert all(
        not value.startswith("http")
        for _, a in tags
        for k, value in a.items()
        if k in ("src", "href") and value
    )


def test_empty_run_and_writing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(page(rounds=[], tests={}), path)
    assert "No round has ended yet" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_numbers_keep_their_path() -> None:
    assert numbers({"a": {"b": 1, "c": "x", "d": True}, "e": 2.5}) == [("a/b", 1.0), ("e", 2.5)]
