"""A server with the HTTP interface of vLLM or SGLang, as far as sampling for a policy needs it.

Neither can be installed here, and no server that can takes weights while it runs. So this is the
smallest one that does what they do: it loads a transformers model from a folder, completes prompts
of tokens with log-probabilities, lists its models, and loads adapters (both kinds) or weights
(SGLang's) from disk when it is told to. It misbehaves on request.

    python -m tests.common.engine_server MODEL PORT [vllm|sglang]
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.common.loopback import ending


class Listening(ThreadingHTTPServer):
    """With room for many connections that wait, as a server of models has."""

    request_queue_size = 256
    daemon_threads = True


class EngineServer:
    """``broken`` holds what goes wrong by path: a status, or ``hang``. ``seen`` are all requests.

    ``scaled`` log-probabilities are those after the temperature, as SGLang gives them by default.
    """

    def __init__(
        self, model: Path, kind: str = "vllm", port: int = 0, scaled: bool = False
    ) -> None:
        self.kind, self.scaled = kind, scaled
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.load(model)
        self.broken: dict[str, int | str] = {}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.busy = self.most_busy = 0
        # Each thread that computes would have threads of its own for it.
        self.computing = ThreadPoolExecutor(1)
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({})

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, body: dict[str, Any]) -> None:
                outer.seen.append((self.path, body))
                how = outer.broken.get(self.path)
                if how == "hang":
                    outer.stopping.wait(10)
                    return
                outer.busy += 1
                outer.most_busy = max(outer.most_busy, outer.busy)
                done = outer.computing.submit(outer.do, self.path, body)
                status, said = (how, "broken") if how else done.result()
                outer.busy -= 1
                data = json.dumps(said if status == 200 else {"error": {"message": said}}).encode()
                self.send_response(int(status))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = Listening(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def load(self, model: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.root = str(model)
        self.adapters: dict[str, str] = {}

    def paths(self) -> list[str]:
        """What was asked for besides completions and models."""
        return [path for path, _ in self.seen if path not in ("/v1/completions", "/v1/models")]

    def do(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The status and the answer, or what is wrong."""
        top = "/v1" if self.kind == "vllm" else ""
        if path == "/v1/models":
            own = [{"id": self.root, "root": self.root, "parent": None}]
            own += [{"id": n, "root": r, "parent": self.root} for n, r in self.adapters.items()]
            more = {"object": "model", "created": 0, "owned_by": self.kind}
            return 200, {"object": "list", "data": [{**card, **more} for card in own]}
        if path == f"{top}/load_lora_adapter":
            return self.adapt(body["lora_name"], body["lora_path"])
        if path == f"{top}/unload_lora_adapter":
            if self.adapters.pop(body["lora_name"], None) is None:
                return 404, "no such adapter"
            self.model.delete_adapter(body["lora_name"])
            return 200, "Success"
        if path == "/update_weights_from_disk" and self.kind == "sglang":
            if not (Path(body["model_path"]) / "config.json").exists():
                return 400, "Failed to get weights iterator"
            self.load(Path(body["model_path"]))
            return 200, {"success": True, "message": "Succeeded to update model weights."}
        if path == "/v1/completions":
            return self.complete(body)
        return 404, "Not Found"

    def adapt(self, name: str, path: str) -> tuple[int, Any]:
        if name in self.adapters:
            return 400, f"The lora adapter '{name}' has already been loaded."
        if not (Path(path) / "adapter_config.json").exists():
            return 404, f"No adapter found for {path}"
        if self.adapters:
            self.model.load_adapter(path, adapter_name=name)
        else:
            base = self.model.unload() if hasattr(self.model, "peft_config") else self.model
            self.model = PeftModel.from_pretrained(base, path, adapter_name=name).eval()
        self.adapters[name] = path
        return 200, "Success"

    @torch.inference_mode()
    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        asked = body["model"] if self.kind == "vllm" else body.get("lora_path", self.root)
        if asked not in (self.root, *self.adapters):
            return 404, f"The model `{asked}` does not exist."
        if hasattr(self.model, "peft_config"):
            if asked == self.root:
                with self.model.disable_adapter():
                    return self.draw(body)
            self.model.set_adapter(asked)
        return self.draw(body)

    def draw(self, body: dict[str, Any]) -> tuple[int, Any]:
        ids, temperature = list(body["prompt"]), body["temperature"]
        random = torch.Generator().manual_seed(body["seed"])
        start, logprobs, reason = len(ids), [], "length"
        for _ in range(body["max_tokens"]):
            logits_V = self.model(input_ids=torch.tensor([ids])).logits[0, -1]
            p_V = (logits_V / max(temperature, 1e-4)).softmax(-1)
            if body["top_k"] > 0:
                p_V = torch.where(p_V >= p_V.topk(body["top_k"]).values[-1], p_V, 0.0)
            token = int(torch.multinomial(p_V, 1, generator=random))
            said_V = logits_V / temperature if self.scaled else logits_V
            ids.append(token)
            logprobs.append(float(said_V.log_softmax(-1)[token]))
            text = self.tokenizer.decode(ids[start:])
            if token == self.tokenizer.eos_token_id or any(s in text for s in body.get("stop", ())):
                reason = "stop"
                break
        name = "token_ids" if self.kind == "vllm" else "response_token_ids"
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": reason}
        choice["logprobs"] = {"token_logprobs": logprobs, "tokens": [], "text_offset": []}
        if body.get("return_token_ids"):
            choice[name] = ids[start:]
        whole = {"id": "x", "object": "text_completion", "created": 0, "model": body["model"]}
        return 200, {**whole, "choices": [choice]}


@contextmanager
def engine(model: Path, kind: str = "vllm", **options: Any) -> Iterator[EngineServer]:
    """A server in a thread, which ends with the context."""
    running = EngineServer(model, kind, **options)
    threading.Thread(target=running.http.serve_forever, daemon=True).start()
    with ending(running):
        yield running


if __name__ == "__main__":
    EngineServer(
        Path(sys.argv[1]), (sys.argv[3:] or ["vllm"])[0], int(sys.argv[2])
    ).http.serve_forever()
