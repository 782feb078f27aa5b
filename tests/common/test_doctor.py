"""The doctor against things that are really there and really absent."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from common import doctor


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path))
    return tmp_path


def test_a_sandbox_that_fails_is_not_called_ok(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home / "nothing"))
    found = {finding.name: finding for finding in doctor._sandbox()}
    assert "upspiral data get bubblewrap" in found["bubblewrap"].remedy
    program = home / "cache/bubblewrap/usr/bin/bwrap"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho no namespaces >&2\nexit 1\n")
    program.chmod(0o755)
    found = {finding.name: finding for finding in doctor._sandbox()}
    assert found["bubblewrap"].state != "ok"
    assert "no namespaces" in found["bubblewrap"].detail


def test_a_server_that_answers_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert doctor._server().state == "optional"

    class Models(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Models) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        assert doctor._server().state == "ok"
        server.shutdown()
        thread.join()
    assert doctor._server().state == "missing"


def test_every_part_is_looked_at_and_what_is_missing_has_a_remedy() -> None:
    findings = list(doctor.examine())
    assert {"machine", "device", "data", "model", "sandbox", "server"} <= {f.part for f in findings}
    assert all(f.remedy for f in findings if f.state == "missing")
    prompts = next(f for f in findings if f.name == "prompts")
    assert prompts.state == "missing"  # this home is empty
