"""A hub is asked once whether it has a model, whatever it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from common.errors import UserError
from common.policies.local import HFPolicy
from common.policies.weights import reach

ANSWERS = {"me/there": 200, "me/gone": 404, "me/busy": 503}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on the loopback; what it was asked for."""
    paths: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, model, name = self.path.partition("/api/models/")
            paths.extend([name] if model else [])  # the client asks for other things, too
            status = ANSWERS.get(name, 404)
            body = json.dumps({"id": name, "siblings": []}).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield paths
    server.shutdown()
    server.server_close()


def test_what_a_hub_says(asked: list[str]) -> None:
    reach("me/there")
    reach("me/busy")  # the loader hears for itself
    with pytest.raises(OSError, match="no such model on the hub"):
        reach("me/gone")
    with pytest.raises(UserError, match="me/gone .there is no such folder, and no such model"):
        HFPolicy.load("me/gone")
    assert asked == ["me/there", "me/busy", "me/gone", "me/gone"]


def test_a_folder_and_the_cache_need_no_hub(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    revision = tmp_path / "models--me--cached" / "snapshots" / ("0" * 40)
    revision.mkdir(parents=True)
    (revision / "config.json").write_text("{}")
    (tmp_path / "models--me--cached" / "refs").mkdir()
    (tmp_path / "models--me--cached" / "refs" / "main").write_text("0" * 40)
    reach("me/cached")
    reach(tmp_path)
    assert not asked


def test_no_hub_and_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="no hub answers"):
        reach("me/there")
    with pytest.raises(OSError, match="no hub name looks like it"):
        reach("runs/of/mine")
    with pytest.raises(OSError, match="no hub name looks like it"):
        reach("")
