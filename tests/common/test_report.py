"""The report: its paired interval, what it says, and that nothing in a run can break out of it."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy.stats import ttest_1samp, ttest_rel

from common.gate import paired_interval
from common.records import Metric, Round
from common.report import (
    Extra,
    Page,
    Player,
    Sample,
    Section,
    document,
    numbers,
    outcome,
    paired,
    render,
    verdict,
    write,
)

BEFORE = {f"t{i}": 0.5 + 0.01 * (i % 7) for i in range(40)}
AFTER = {task: value - 0.1 + 0.02 * (i % 3) for i, (task, value) in enumerate(BEFORE.items())}

AFTER_FEWER = {task: value for task, value in AFTER.items() if task != "t1"}


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
    """The tags of a page with their attributes, its text, and the words of tables by class."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.tables: dict[str, list[str]] = {}
        self.table: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.table = self.tables[dict(attrs).get("class") or ""] = []

    def handle_data(self, data: str) -> None:
        self.words += data
        self.table += data.split()


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


def test_changes_of_rounds_are_paired_with_round_0() -> None:
    """Whether a round was kept or not; what cannot be paired has no change."""
    lost = {**BEFORE, "t0": math.nan}
    rounds = [
        Round(i, i != 2, "aa", metrics=(metric(items), metric(other, "cer")))
        for i, (items, other) in enumerate([(BEFORE, BEFORE), (AFTER, lost), (AFTER, AFTER_FEWER)])
    ]
    found = Elements(render(page(rounds=rounds)))
    change = paired_interval(BEFORE, AFTER)
    said = f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    dev = " ".join(found.tables["dev"])
    assert dev.count(said) == 2, "of the round that was kept and of the one that was not"
    assert dev.count("[") == 2, "a value that is not finite, and other items, have none"
    assert [a["class"] for t, a in found.tags if t == "span" and a["class"] == "better"] == [
        "better"
    ] * 2
    alone = Elements(render(page(rounds=rounds[:1])))
    assert "Mean ± standard error" in alone.words and "change from round 0" not in alone.words


def test_outcomes_by_hand() -> None:
    before = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}
    after = {"a": 0.5, "b": 0.9, "c": 1.0, "d": 1.1}  # an error rate: two won, one lost
    found = outcome(metric(before), metric(after))
    assert found is not None
    assert found[:3] == (0.5, 0.25, 0.25)
    reference = ttest_1samp([1, 1, 0, -1], 0).confidence_interval(0.95)
    assert found.gain is not None and found.gain.mean == 0.25 and found.gain.n == 4
    assert reference.low < -1 and reference.high > 1, "a share cannot, and its interval may not"
    assert (found.gain.low, found.gain.high) == (-1, 1)
    wide = {f"{i}{k}": v for i in range(10) for k, v in before.items()}
    more = outcome(
        metric(wide), metric({f"{i}{k}": v for i in range(10) for k, v in after.items()})
    )
    reference = ttest_1samp([1, 1, 0, -1] * 10, 0).confidence_interval(0.95)
    assert more is not None and more.gain is not None
    assert (more.gain.low, more.gain.high) == pytest.approx((reference.low, reference.high))
    higher = replace(metric(after), better="higher")
    assert outcome(replace(metric(before), better="higher"), higher)[:3] == (0.25, 0.25, 0.5)  # type: ignore[index]
    all_won = outcome(metric(before), metric(dict.fromkeys(before, 0.0)))
    assert all_won is not None and all_won[:] == (1.0, 0.0, 0.0, None)
    assert outcome(metric({"a": 1.0}), metric({"a": 0.5})) is None
    assert outcome(metric(before), metric({**before, "a": math.inf})) is None


def test_bars_are_as_wide_as_their_shares() -> None:
    found = Elements(render(page()))
    (bar,) = [a for t, a in found.tags if t == "div" and a.get("class") == "bar"]
    assert bar["aria-label"] == "win 100%, tie 0%, lose 0%"
    parts = [(a["class"], a["style"]) for t, a in found.tags if t == "i"]
    assert parts == [("win", "width: 100.00%"), ("tie", "width: 0.00%"), ("lose", "width: 0.00%")]
    assert "+1.000 (all alike)" in " ".join(found.tables["outcomes"])
    assert "item by item" not in Elements(render(page(tests={}))).words


def test_what_a_domain_adds() -> None:
    svg = "<svg id='own'></svg>"
    sections = [
        Section("Gap & more", "what it is", (svg, svg), ("name", "value"), (("one", 0.25),)),
        Section("Words alone", "no table"),
    ]
    samples = [Sample("say this", (Player("starter", b"x"), Player("golden", b"y")), "WER 0.50")]
    found = Elements(render(page(extra=Extra(samples, "chosen so", sections))))
    assert [a.get("id") for t, a in found.tags if t == "svg"].count("own") == 2
    for expected in ("Gap & more", "what it is", "0.250", "Words alone", "chosen so", "WER 0.50"):
        assert expected in found.words
    players = [(a["aria-label"], a["src"]) for t, a in found.tags if t == "audio"]
    assert players == [
        ("starter: say this", "data:audio/wav;base64,eA=="),
        ("golden: say this", "data:audio/wav;base64,eQ=="),
    ]


def test_nothing_breaks_out() -> None:
    evil = '"><script>alert(1)</script>'
    sample = Sample(evil, (Player(evil, b"RIFF", f"audio/wav{evil}"),), evil)
    section = Section(evil, evil, ("<svg></svg>",), (evil,), ((evil,),))
    extra = Extra([sample], evil, [section])
    rounds = [Round(0, True, "a", evil, metrics=(Metric(evil, 1.0, 0.1, 3),), notes={evil: 1.0})]
    text = render(page(run=evil, recipe=evil, started=evil, rounds=rounds, extra=extra))
    tags = Elements(text).tags
    assert "script" not in [tag for tag, _ in tags]
    assert Elements(text).words.count(evil) >= 11, "each is shown as it is written"
    assert all(
        not value.startswith("http")
        for _, a in tags
        for k, value in a.items()
        if k in ("src", "href") and value
    )


def test_what_a_selector_noted_is_shown_and_drawn() -> None:
    notes = {"select": {"threshold": 0.25, "judge": "stopped <here>", "scan": [1, 2]}}
    rounds = [Round(0, True, "a"), Round(1, True, "b", notes=notes)]
    text = render(page(rounds=rounds, tests={}))
    assert "<h2>Selection</h2>" in text and "<h2>Learning</h2>" not in text
    words = Elements(text).words
    assert "stopped <here>" in words and "0.25" in words and words.count("threshold") >= 2


def test_empty_run_and_writing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(page(rounds=[], tests={}), path)
    assert "No round has ended yet" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_numbers_keep_their_path() -> None:
    assert numbers({"a": {"b": 1, "c": "x", "d": True}, "e": 2.5}) == [("a/b", 1.0), ("e", 2.5)]


def test_sections_alone_are_a_page() -> None:
    some = Section("A <b>", "caption", figures=("<svg></svg>",), columns=("x",), rows=[("<i>",)])
    page = document("Title & more", [some], about="about", notice="Careful <")
    assert "Title &amp; more" in page and "Careful &lt;" in page and "&lt;i&gt;" in page
    assert "<svg></svg>" in page and "A &lt;b&gt;" in page and "http" not in page
    assert 'class="notice"' not in document("t", [])
