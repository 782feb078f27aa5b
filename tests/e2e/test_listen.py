"""A listening test as its raters see it: the command, a real browser, real clicks and sounds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from common.annotation.ratings import order
from common.records import Comparison, Round, Stimulus, Task, identity
from common.store import Store
from speech import audio
from speech.align import AlignConfig

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (p := shutil.which(n))), None)  # fmt: skip
COUNT = 3
TEST = "starter/round-1/dev"
# What the page, its requests and its answers must never hold.
SECRETS = ["starter", "round-1", "baseline", "contender", "stream of", "artifacts"]

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome is on the PATH"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run whose clips are made: no model is loaded."""
    folder = tmp_path_factory.mktemp("home")
    store = Store(folder)
    lease = store.lease("r", "speech/align:tiny", asdict(AlignConfig()), seed=1)
    store.add("r", [Round(0, True, "aa"), Round(1, True, "bb")])
    for i in range(COUNT):
        task = Task(f"t{i}", f"<text> {i}", "dev", f"text {i} ${{1+1}} <b>`")
        sides = [Stimulus(name, f"stream of {name} {i}", store.put(clip(7 * i + j), ".ogg"))
                 for j, name in enumerate(("starter", "round-1"))]  # fmt: skip
        name = identity("comparison", TEST, task.id)
        store.add("r", [task, Comparison(name, TEST, task.id, str(task.reference), tuple(sides))])
    lease.close("done")
    store.close()
    return folder


def clip(number: int) -> bytes:
    """A third of a second of a tone of its own."""
    time = np.arange(5_000) / audio.SAMPLE_RATE
    wave = 0.2 * np.sin(2 * np.pi * (200 + 20 * number) * time)
    return audio.encode(wave.astype(np.float32), suffix=".ogg")


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Served:
    """A server in a process of its own."""

    def __init__(self, home: Path, *command: str) -> None:
        environment = {**os.environ, "UPSPIRAL_HOME": str(home)}
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        stream = self.process.stderr if "--json" in command else self.process.stdout
        assert stream is not None
        self.url = stream.readline().removeprefix("listening test: ").strip()

    def stop(self, how: signal.Signals) -> tuple[str, str]:
        self.process.send_signal(how)
        return self.process.communicate(timeout=60)


@pytest.fixture
def listen(home: Path, port: int) -> Iterator[Any]:
    started: list[Served] = []

    def start(*more: str) -> Served:
        words = ["r", "--split", "dev", "--port", str(port), *more]
        started.append(Served(home, "-m", "common.cli", "speech", "listen", *words))
        return started[-1]

    yield start
    for served in started:
        if served.process.poll() is None:
            served.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Chromium's own sandbox does not start for root, as which tests run in containers.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A rater's browser, with all that it asked for and was answered."""

    def __init__(self, chromium: Any, url: str, **settings: Any) -> None:
        self.context = chromium.new_context(**settings)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.answers: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(url)

    def _heard(self, response: Any) -> None:
        kind = response.headers.get("content-type", "")
        if "json" in kind or "html" in kind:
            self.answers.append(response.text())

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def shown(self, view: str) -> Any:
        found = self.page.locator(f"[data-view={view}]")
        found.wait_for(state="visible", timeout=60_000)
        return found

    def enter(self, name: str) -> None:
        self.shown("welcome")
        self.page.fill("#blind-name", name)
        self.page.keyboard.press("Enter")
        self.shown("intro")

    def number(self) -> str:
        return str(self.page.locator("[data-slot=number]").text_content())

    def loaded(self) -> list[tuple[int, float]]:
        """Ready state and duration of each sound, once they are there."""
        self.page.wait_for_function(
            "[...document.querySelectorAll('audio')].every(a => a.readyState >= 2)", timeout=30_000
        )
        script = "[...document.querySelectorAll('audio')].map(a => [a.readyState, a.duration])"
        return [tuple(found) for found in self.page.evaluate(script)]

    def answerable(self) -> None:
        self.page.wait_for_selector("[data-answer=left]:enabled", timeout=30_000)

    def close(self) -> None:
        """Leave; nothing must have given the test away, or come from elsewhere."""
        text = "\n".join([*self.requests, *self.answers, self.page.content()])
        assert not [word for word in SECRETS if word in text]
        assert {urlsplit(u).hostname for u in self.requests if u[:4] == "http"} == {"127.0.0.1"}
        assert not self.complaints
        self.context.close()


def ratings(home: Path) -> list[Any]:
    store = Store(home)
    try:
        return store.ratings("r")
    finally:
        store.close()


def test_a_blind_test_from_the_first_click_to_the_report(
    home: Path, listen: Any, chromium: Any
) -> None:
    served = listen()
    ann = Visit(chromium, served.url)
    ann.enter("Ann")

    # The check of headphones: the three tones play, one is picked, the rest is skipped.
    ann.page.click("text=Check my headphones")
    ann.shown("trial")
    assert ann.loaded() == [(4, pytest.approx(4.0))]
    pick = ann.page.locator("[data-pick='1']")
    assert pick.is_disabled()
    ann.page.click("[data-stage=trial] button")
    ann.page.wait_for_selector("[data-pick='1']:enabled", timeout=30_000)
    pick.click()
    ann.page.wait_for_selector("text=Tones 2 of 6")
    ann.page.click("[data-view=trial] >> text=skip the check")

    # An item: sounds load, an answer counts only after both were heard, by click.
    ann.shown("item")
    assert ann.number() == f"Pair 1 of {COUNT}"
    durations = [duration for state, duration in ann.loaded() if state >= 2]
    assert durations == [pytest.approx(5_000 / 16_000, abs=0.02)] * 2
    assert "${1+1} <b>`" in str(ann.page.locator("blockquote").text_content())
    assert ann.page.locator("[data-answer]:enabled").count() == 0
    ann.page.keyboard.press("a")
    ann.page.click("[data-stage=left] button")
    ann.page.wait_for_selector("text=Play B to the end to answer.")
    assert not ratings(home)
    ann.page.click("[data-stage=right] button")
    ann.answerable()
    ann.page.click("[data-answer=right]")
    ann.page.wait_for_selector(f"text=Pair 2 of {COUNT}")
    (first,) = ratings(home)
    assert (first.rater, first.answer, first.test) == ("ann", "right", TEST)
    assert first.meta["headphones"] == "skipped" and first.meta["seconds"] > 0.6

    # Reload: the page goes on by itself. Then the server dies, and is started again.
    ann.page.reload()
    ann.shown("item")
    assert ann.number() == f"Pair 2 of {COUNT}"
    ann.loaded()
    served.stop(signal.SIGKILL)
    for side in ("left", "right"):
        ann.page.click(f"[data-stage={side}] button")
        ann.page.wait_for_selector(f"[data-stage={side}] .heard", timeout=30_000)
    ann.page.click("[data-answer=tie]")
    ann.page.wait_for_selector("text=The server does not answer")
    ann.complaints.clear()  # the browser's own, about the dead server
    served = listen("--json")
    ann.page.click("[data-answer=tie]")
    ann.page.wait_for_selector(f"text=Pair 3 of {COUNT}", timeout=30_000)
    assert [r.answer for r in ratings(home)] == ["right", "tie"]

    # Another rater meanwhile, on a phone.
    bob = Visit(chromium, served.url, viewport={"width": 360, "height": 740}, has_touch=True)
    bob.enter("bob")
    bob.page.tap("text=Skip the check")
    bob.shown("item")
    wide = "document.documentElement.scrollWidth <= window.innerWidth"
    assert bob.page.evaluate(wide), "nothing is cut off on the right"
    for count in range(1, COUNT + 1):
        bob.page.wait_for_selector(f"text=Pair {count} of {COUNT}")
        bob.loaded()
        for side in ("left", "right"):
            bob.page.tap(f"[data-stage={side}] button")
            bob.page.wait_for_selector(f"[data-stage={side}] .heard", timeout=30_000)
        bob.page.tap("[data-answer=left]")
    bob.shown("done")
    bob.close()

    # Ann ends with the keyboard alone, goes back once, and changes her mind.
    for keys in ("12a", "u12b"):
        for key in keys:
            ann.page.keyboard.press(key)
            if key == "u":
                ann.shown("item")
            if key in "12":
                side = "left" if key == "1" else "right"
                ann.page.wait_for_selector(f"[data-stage={side}] .heard", timeout=30_000)
        ann.shown("done")
    ann.close()
    said = ratings(home)
    assert [r.answer for r in said if r.rater == "ann"] == ["right", "tie", "left", "right"]
    assert len(said) == 4 + COUNT

    # What each was shown is what the order says, so the two may have had different sides.
    store = Store(home)
    for rater in ("ann", "bob"):
        shown = {s.comparison.id: s.systems for s in order(store.comparisons("r"), rater, 1)}
        assert all((r.left, r.right) == shown[r.item] for r in said if r.rater == rater)
    store.close()

    out, err = served.stop(signal.SIGINT)
    assert served.process.returncode == 0 and "Traceback" not in err
    (found,) = json.loads(out)["tests"]
    assert (found["test"], found["raters"], found["items"]) == (TEST, 2, COUNT)
    assert found["ratings"] == 2 * COUNT and found["alpha_items"] == COUNT
    assert found["checks"] == {"skipped": 2}
    assert found["win"]["value"] + found["tie"]["value"] + found["lose"]["value"] == pytest.approx(
        1
    )


TOKEN = """
import socket, sys
from common.annotation import server
from common.annotation.page import Page
from common.store import Store
store = Store()
taken = socket.socket()
taken.bind(("127.0.0.1", 0))
page = Page(store, "r", store.comparisons("r"), 0, "Which?")
server.serve(server.Place(taken, "s3cret"), page, lambda line: print(line, flush=True))
"""


def test_behind_a_token(home: Path, chromium: Any) -> None:
    """As on another address than loopback, where a test may not listen."""
    served = Served(home, "-c", TOKEN)
    try:
        stranger = chromium.new_page()
        link = urlsplit(served.url)
        answer = stranger.goto(f"http://{link.netloc}/")
        assert answer.status == 401 and "Open the link" in stranger.content()
        stranger.close()
        cy = Visit(chromium, served.url)
        cy.enter("cy")
        assert cy.page.url == f"http://{link.netloc}/", "the token is gone from the address bar"
        cy.page.click("text=Skip the check")
        cy.shown("item")
        assert all(duration > 0 for _, duration in cy.loaded())
        cy.close()
    finally:
        served.stop(signal.SIGKILL)
