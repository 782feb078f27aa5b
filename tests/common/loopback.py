"""A real HTTP server on the loopback that answers as an OpenAI-compatible one, or misbehaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, TypeVar

from common.policies.served import ServedPolicy


def completion(text: str, **message: Any) -> dict[str, Any]:
    tokens: list[dict[str, Any]] = [
        {"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []} for word in text.split()
    ]
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": {"content": tokens},
            "message": {"role": "assistant", "content": text} | message,
        }],
        "usage": {"prompt_tokens": 3, "completion_tokens": len(tokens), "total_tokens": 9},
    }  # fmt: skip


class Server:
    """Answers by ``script``, one entry a request; when it is used up, as ``otherwise`` says.

    An entry is the text of the answer, fields of its message as a dict, a status with headers,
    ``hang``, ``drop`` (no answer), or ``half`` (the connection ends within the answer).
    """

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.otherwise: Callable[[dict[str, Any]], Any] = lambda body: body["messages"][-1][
            "content"
        ]
        self.seen: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.delay = 0.0
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append(body)
                    outer.times.append(time.monotonic())
                    outer.busy += 1
                    outer.most_busy = max(outer.most_busy, outer.busy)
                    what = outer.script.pop(0) if outer.script else None
                try:
                    self.answer(what, body)
                finally:
                    with outer.lock:
                        outer.busy -= 1

            def answer(self, what: Any, body: dict[str, Any]) -> None:
                if what == "hang":
                    outer.stopping.wait(10)
                    return
                time.sleep(outer.delay)
                if what == "drop":
                    self.connection.close()
                    return
                status, headers, text, fields = 200, {}, "", {}
                if what is None:
                    what = outer.otherwise(body)
                if isinstance(what, str):
                    text = what
                elif isinstance(what, dict):
                    fields = what
                else:
                    status, headers = what
                said = completion(text, **fields) if status == 200 else {"error": "no"}
                data = json.dumps(said).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if what == "half" else data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def policy(self, **options: Any) -> ServedPolicy:
        return ServedPolicy(self.url, "m", **{"timeout": 20.0, **options})


class Stoppable(Protocol):
    """A server whose answers end when ``stopping`` is set."""

    http: ThreadingHTTPServer
    stopping: threading.Event


R = TypeVar("R", bound=Stoppable)


@contextmanager
def ending(running: R) -> Iterator[R]:
    """``running``, which ends with the context."""
    try:
        yield running
    finally:
        running.stopping.set()
        running.http.shutdown()
        running.http.server_close()


def serving() -> AbstractContextManager[Server]:
    """A server that ends with the context."""
    return ending(Server())
