"""The page without a browser: what it shows next, that it is blind, and who may ask for it."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.annotation import headphones, server
from common.annotation.page import Page
from common.annotation.ratings import order, outcomes
from common.database import Database
from common.errors import UserError
from common.records import Comparison, Stimulus
from common.store import Store

NAMES = ("starter", "round-7")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def comparisons(store: Store, count: int = 4, suffix: str = ".wav") -> list[Comparison]:
    found = []
    for i in range(count):
        data = [headphones.wav(("plain",)) + bytes([i, side]) for side in range(2)]
        a, b = (
            Stimulus(name, f"stream of {name} {i}", store.put(d, suffix))
            for name, d in zip(NAMES, data, strict=True)
        )
        found.append(Comparison(f"c{i}", "starter/round-7/dev", f"t{i}", f"text {i}", (a, b)))
    store.add("run", found)
    return found


@pytest.fixture
def page(store: Store) -> Page:
    return Page(store, "run", comparisons(store), 0, "Which?")


def ask(page: Page, act: str, **more: Any) -> dict[str, Any]:
    return page.view({"act": act, "rater": "Ann", "check": "skipped", **more})


def test_a_name_comes_first_then_headphones_then_the_items(page: Page) -> None:
    assert page.view({}) == {"welcome": True, "error": ""}
    assert "cannot be a name" in page.view({"act": "begin", "rater": "\n\x00"})["error"]
    assert page.view({"act": "begin", "rater": " ANN"}) == {"rater": "ann", "intro": True}
    first = page.view({"act": "begin", "rater": "ann", "check": "skipped"})
    assert first["item"]["number"] == 1 and first["total"] == 4 and first["answered"] == 0


def test_every_answer_is_stored_and_the_next_item_shown(store: Store, page: Page) -> None:
    view = ask(page, "begin")
    wanted = [s.comparison.id for s in order(store.comparisons("run"), "ann", 0)]
    seen = []
    for count in range(1, 5):
        seen.append(view["item"]["id"])
        view = ask(page, "answer", item=seen[-1], answer="left", seconds=1.5)
        assert view["answered"] == count == len(store.ratings("run"))
    assert seen == wanted and view["done"] is True
    assert ask(page, "begin")["done"] is True
    said = store.ratings("run")[0]
    assert said.rater == "ann" and said.meta == {"headphones": "skipped", "seconds": 1.5}
    assert {said.left, said.right} == set(NAMES) and said.test == "starter/round-7/dev"


def test_it_goes_on_where_a_rater_stopped_and_raters_do_not_meet(store: Store, page: Page) -> None:
    first = ask(page, "begin")["item"]["id"]
    ask(page, "answer", item=first, answer="tie")
    again = Page(store, "run", store.comparisons("run"), 0, "Which?")  # the server was restarted
    view = ask(again, "begin")
    assert view["answered"] == 1 and view["item"]["number"] == 2
    assert ask(again, "begin", rater="bob")["answered"] == 0
    assert ask(again, "begin", rater=" ANN ")["answered"] == 1


def test_one_may_go_back_and_answer_anew(store: Store, page: Page) -> None:
    first = ask(page, "begin")["item"]
    second = ask(page, "answer", item=first["id"], answer="left")["item"]
    back = ask(page, "back", item=second["id"])["item"]
    assert back == first and back["first"]
    assert ask(page, "back", item=first["id"])["item"] == first
    view = ask(page, "answer", item=first["id"], answer="right")
    assert view["item"] == second and view["answered"] == 1
    assert [r.answer for r in store.ratings("run")] == ["left", "right"]
    (found,) = outcomes(store.comparisons("run"), store.ratings("run"))
    assert found.ratings == 1
    for _ in range(3):
        view = ask(page, "answer", item=view["item"]["id"], answer="tie")
    assert ask(page, "back")["item"]["number"] == 4


def test_what_is_no_answer_is_not_stored(store: Store, page: Page) -> None:
    item = ask(page, "begin")["item"]["id"]
    for more in ({"item": item, "answer": "both"}, {"item": "c99", "answer": "left"},
                 {"item": None, "answer": "left"}, {"item": [], "answer": "left"}):  # fmt: skip
        assert ask(page, "answer", **more)["item"]["id"] == item
    assert not store.ratings("run")


def test_an_answer_that_cannot_be_stored_is_asked_again(
    store: Store, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "patience", 0.1)
    store.database.engine.dispose()
    item = ask(page, "begin")["item"]
    other = sqlite3.connect(tmp_path / "upspiral.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    view = ask(page, "answer", item=item["id"], answer="left")
    other.execute("ROLLBACK")
    other.close()
    assert view["item"] == item and "locked by another program" in view["error"]
    assert ask(page, "answer", item=item["id"], answer="left")["answered"] == 1


def test_no_view_says_which_is_which(store: Store, page: Page) -> None:
    views = [page.view({"act": "begin", "rater": "ann"}), ask(page, "begin"),
             page.view({"act": "check", "rater": "ann", "picks": []})]  # fmt: skip
    for item in [c.id for c in store.comparisons("run")]:
        views.append(ask(page, "answer", item=item, answer="left"))
    text = json.dumps(views)
    secret = [*NAMES, "stream of", "dev", str(store.home), *headphones.KINDS]
    secret += [s.artifact[:40] for c in store.comparisons("run") for s in c.stimuli]
    assert not [word for word in secret if word in text]
    # The two sides' names do not tell the system either: another start, other names.
    again = Page(store, "run", store.comparisons("run"), 0, "Which?")
    assert not page.media.keys() & again.media.keys()
    assert {m.path for m in page.media.values()} == {m.path for m in again.media.values()}


def test_both_media_are_those_of_the_item_as_the_rating_has_it(store: Store, page: Page) -> None:
    by_id = {c.id: c for c in store.comparisons("run")}
    for rater in ("ann", "bob", "cy"):
        item = ask(page, "begin", rater=rater)["item"]
        ask(page, "answer", item=item["id"], answer="left", rater=rater)
        said = store.ratings("run")[-1]
        system = {s.artifact: s.system for s in by_id[item["id"]].stimuli}
        for side in ("left", "right"):
            path = page.media[item[side]["src"].removeprefix("media/")].path
            assert system[path.name] == getattr(said, side)


def test_the_check_of_headphones(page: Page) -> None:
    def check(pick: str, attempt: int) -> dict[str, Any]:
        picks: list[int] = []
        view: dict[str, Any] = {}
        for trial in range(headphones.TRIALS):
            asked = {"act": "check", "rater": "ann", "picks": picks, "attempt": attempt}
            view = page.view(asked)
            assert view["trial"]["number"] == trial + 1
            assert page.media[view["trial"]["sound"].removeprefix("media/")].mime == "audio/wav"
            picks.append(headphones.arrangement(0, "ann", attempt, trial).index(pick))
        return page.view({"act": "check", "rater": "ann", "picks": picks, "attempt": attempt})

    failed = check("antiphase", 0)
    assert failed["failed"] and failed["right"] == 0 and failed["attempt"] == 1
    passed = check("quiet", 1)
    assert passed["check"] == "passed" and passed["item"]["number"] == 1


def test_pictures_need_no_headphones(store: Store) -> None:
    page = Page(store, "run", comparisons(store, suffix=".png"), 0, "Which is nicer?")
    view = page.view({"act": "begin", "rater": "ann"})
    assert view["item"]["left"]["image"] is True and not page.listening
    ask(page, "answer", item=view["item"]["id"], answer="left", check=None)
    assert "headphones" not in store.ratings("run")[0].meta


# Who may ask


def test_only_other_addresses_than_loopback_get_a_token() -> None:
    with server.bound("127.0.0.1", 0) as place:
        assert place.token is None and place.url.startswith("http://127.0.0.1:")
        port = place.socket.getsockname()[1]
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="is in use"), server.bound(*taken.getsockname()):
            pass
        taken.close()
        assert str(port) in place.url
    with server.bound("localhost", 0) as place:
        assert place.token is None
    with server.bound("0.0.0.0", 0) as place, server.bound("0.0.0.0", 0) as other:
        assert place.token and other.token and place.token != other.token
        assert len(place.token) >= 32 and place.url.endswith(f"/?token={place.token}")
    for host, port, said in (
        ("no.such.host.invalid", 0, "no address"),
        ("192.0.2.1", 0, "is not this machine's"),
        ("127.0.0.1", 70_000, "there is no port"),
        ("127.0.0.1", -1, "there is no port"),
    ):
        with pytest.raises(UserError, match=said), server.bound(host, port):
            pass


@pytest.fixture
def browser(page: Page) -> Any:
    from starlette.testclient import TestClient

    def make(token: str | None, host: str = "http://127.0.0.1:7860") -> TestClient:
        return TestClient(server.application(page, token), base_url=host, follow_redirects=False)

    return make


def test_nothing_comes_without_the_token(page: Page, browser: Any) -> None:
    client = browser("s3cret", "http://lab.example:7860")
    media = [f"/media/{name}" for name in page.media]
    for path in ("/", "/config", "/gradio_api/info", "/assets/x.js", *media):
        for wrong in ("", "?token=", "?token=s3cre", "?token=wrong", "?token=ß"):
            assert client.get(path + wrong).status_code == 401, path + wrong
    assert client.post("/gradio_api/component_server", json={}).status_code == 401
    assert client.get("/", cookies={"upspiral-token-7860": "wrong"}).status_code == 401
    entered = client.get("/?token=s3cret")
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert client.get("/").status_code == 200
    sound = client.get(media[0], headers={"Range": "bytes=0-3"})
    assert sound.status_code == 206 and sound.content == b"RIFF"
    assert client.get("/media/unknown").status_code == 404


def test_a_page_of_another_site_is_refused(browser: Any) -> None:
    client = browser(None)
    assert client.get("/").status_code == 200
    same = {"Origin": "http://127.0.0.1:7860"}
    for origin in ("http://evil.example", "http://127.0.0.1:9999", "null"):
        assert client.get("/", headers={"Origin": origin}).status_code == 403
    assert client.get("/", headers=same).status_code == 200
    # A name of somebody else's that was made to point here (DNS rebinding).
    for host, status in (("evil.example", 403), ("localhost:7860", 200), ("[::1]:7860", 200)):
        assert client.get("/", headers={"Host": host}).status_code == status


def test_the_browser_is_told_to_load_from_nowhere_else(browser: Any) -> None:
    answer = browser(None).get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "starter" not in answer.text and "round-7" not in answer.text


def test_the_server_calls_nobody(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: called.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: called.append(given) or [])
    assert browser(None).get("/").status_code == 200
    time.sleep(1)  # what would call would do so in a thread
    assert not called
