"""A report as its readers see it: opened from the disk in a real browser, on a desk and a phone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.records import Metric, Round
from common.report import Extra, Page, Player, Sample, Section, write
from speech import audio

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (p := shutil.which(n))), None)  # fmt: skip
NAMES = ("wer", "cer", "similarity", "dnsmos", "dnsmos_signal", "dnsmos_background", "p808")

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome is on the PATH"),
]


def metric(name: str, round: int, split: str = "dev") -> Metric:
    """40 items, of which a third changes with every round."""
    items = {f"t{i}": 0.5 + 0.01 * (i % 7) - 0.05 * round * (i % 3 == 0) for i in range(40)}
    mean = sum(items.values()) / 40
    return Metric(name, mean, 0.02, 40, split, round, "lower", items)  # type: ignore[arg-type]


def tone(seconds: float) -> bytes:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return audio.encode((0.2 * np.sin(2 * math.pi * 220 * time)).astype(np.float32), suffix=".ogg")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of four rounds, seven metrics, two texts by five versions, and a wide figure."""
    rounds = [
        Round(i, i != 2, "aa", "why " * 12, 120, 0, 60.0, tuple(metric(n, i) for n in NAMES))
        for i in range(5)
    ]
    wide = (
        '<svg width="1500pt" height="300pt" viewBox="0 0 1500 300"><rect width="1500" '
        'height="300"/></svg>'
    )
    section = Section("Gap", "caption", (wide,), tuple(NAMES), [tuple(range(len(NAMES)))])
    labels = ("starter", "round 1", "round 3", "round 4", "recording")
    samples = [
        Sample(
            f"please say number {i} " * 6,
            tuple(Player(name, tone(0.5 + 0.25 * k), "audio/ogg") for k, name in enumerate(labels)),
            "WER 0.75 → 0.50",
        )
        for i in range(2)
    ]
    tests = {
        "starter": [metric(name, 0, "test") for name in NAMES],
        "final": [metric(name, 4, "test") for name in NAMES],
    }
    page = Page("run", "speech/align:demo", "done", "2026-01-02", 0, rounds, tests,
                Extra(samples, "chosen so", [section]))  # fmt: skip
    path = tmp_path_factory.mktemp("report") / "report.html"
    write(page, path)
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Chromium's own sandbox does not start for root, as which tests run in containers.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_from_the_disk_alone_and_nothing_cut_off(chromium: Any, report: Path, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    assert not complaints and not [u for u in asked if u[:5] not in ("file:", "data:")]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # What is wider than the screen can be scrolled, and its names stay in sight.
    cut = (
        "[...document.querySelectorAll('table, svg')].filter(e => !e.closest('.scroll, .figures'))"
    )
    assert page.evaluate(f"{cut}.length") == 0
    moved = """() => { const box = document.querySelector('.dev').parentElement;
        box.scrollLeft = 200; const first = box.querySelector('td').getBoundingClientRect();
        return [box.scrollLeft > 0, Math.round(first.left - box.getBoundingClientRect().left)] }"""
    assert page.evaluate(moved) == [width == 400, 0]
    page.wait_for_function(
        "[...document.querySelectorAll('audio')].every(a => a.readyState >= 1)", timeout=30_000
    )
    durations = page.evaluate("[...document.querySelectorAll('audio')].map(a => a.duration)")
    assert durations == [pytest.approx(0.5 + 0.25 * k, abs=0.05) for k in range(5)] * 2
    bars = page.evaluate(
        "[...document.querySelector('.bar').children].map(e => e.getBoundingClientRect().width /"
        " e.parentElement.getBoundingClientRect().width)"
    )
    assert bars == [pytest.approx(share, abs=0.01) for share in (14 / 40, 26 / 40, 0)]
    page.close()
