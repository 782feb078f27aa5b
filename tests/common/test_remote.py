"""A policy that learns here and is sampled from by servers, which get its weights each round."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UserError
from common.learners.data import lora_config
from common.policies import Sample, endpoints, engines
from common.policies.remote import RemotePolicy
from common.records import Task
from tests.common.engine_server import engine
from tests.common.tiny import context, tiny_policy

TASKS = [Task(id=f"t{i}", prompt=f"go w{i}") for i in range(6)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's home, with the model in ``model``, where nothing waits for long."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UPSPIRAL_HOME", str(tmp_path))
    monkeypatch.setattr(engines, "RETRIES", 0)
    tiny_policy().save(make(tmp_path / "model"))
    return tmp_path


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def connected(home: Path, *servers: str, restart: str = "") -> RemotePolicy:
    """The model, sampled from by servers that were started with it, as a loop begins with it."""
    policy = RemotePolicy.load(home / "model", device="cpu")
    policy.connect(",".join(servers), restart)
    return kept(policy, home)


def kept(policy: RemotePolicy, home: Path) -> RemotePolicy:
    """The policy as a loop keeps it: saved as an artifact and restored."""
    folder = make(home / "artifacts" / "ab" / policy.fingerprint())
    policy.save(folder)
    policy.restore(folder)
    return policy


def moved(policy: RemotePolicy, seed: int = 1) -> None:
    """Change what learning changes, by a good deal."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += 0.4 * torch.randn_like(parameter)


def draw(policy: RemotePolicy, place: Path, **options: Any) -> list[Any]:
    sample = Sample(**{"n": 2, "max_new_tokens": 8, **options})
    return sample.propose(policy, TASKS, context(place / "work"))


def agree(policy: RemotePolicy, found: list[Any]) -> None:
    """The candidates' log-probabilities are those of the policy's own weights."""
    prompts = {task.id: policy.encode_prompt(task.prompt) for task in TASKS}
    for c in found:
        ids = policy.tokenizer(c.output, add_special_tokens=False)["input_ids"]
        end = [policy.tokenizer.eos_token_id] if c.meta["finished"] else []
        [own] = policy.logprobs_of_ids([prompts[c.task]], [ids + end]).sums
        assert c.logprob == pytest.approx(own, abs=1e-3)
        assert c.tokens == len(ids + end)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_an_adapter_reaches_the_servers_each_round(home: Path, kind: str) -> None:
    with engine(home / "model", kind) as one, engine(home / "model", kind) as two:
        policy = connected(home, one.url, two.url)
        agree(policy, draw(policy, home))
        assert one.paths() == two.paths() == []  # they began with these weights
        policy.add_adapter(lora_config(2))
        for number in (1, 2):
            moved(policy, number)
            kept(policy, home)
            agree(policy, draw(policy, home))
        top = "/v1" if kind == "vllm" else ""
        load, unload = f"{top}/load_lora_adapter", f"{top}/unload_lora_adapter"
        assert one.paths() == two.paths() == [load, load, unload]
        draw(policy, home)
        assert len(one.paths()) == 3
        # A policy of another process finds the adapter where it is.
        again = RemotePolicy.load(home / "model", device="cpu")
        again.connect(one.url)
        again.restore(policy._weights().folder)
        agree(again, draw(again, home))
        assert len(one.paths()) == 3


def test_all_weights_reach_a_server_that_reads_them_from_disk(home: Path) -> None:
    with engine(home / "model", "sglang") as server:
        policy = connected(home, server.url)
        first = policy._weights().folder
        draw(policy, home)
        moved(policy)
        kept(policy, home)
        agree(policy, draw(policy, home))
        policy.restore(first)  # a round that is rolled back
        agree(policy, draw(policy, home))
        assert server.paths() == ["/update_weights_from_disk"] * 2


def test_a_server_that_is_gone_is_started_with_the_weights_by_a_command(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script, pid = home / "restart.py", home / "pid"
    script.write_text(
        textwrap.dedent(f"""
            import subprocess, sys
            server = [sys.executable, "-m", "tests.common.engine_server", sys.argv[1], "{port}"]
            open({str(pid)!r}, "w").write(str(subprocess.Popen(server).pid))
        """)
    )
    restart = shlex.join([sys.executable, str(script), "{model}", "{url}"])
    policy = connected(home, f"http://127.0.0.1:{port}/v1", restart=restart)
    moved(policy)
    kept(policy, home)
    try:
        agree(policy, draw(policy, home))
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.mark.parametrize(
    ("restart", "told"),
    [
        ("", "cannot take new weights while it runs — give --restart"),
        ("sh -c 'echo no GPU; exit 3'", "sh ended with 3: no GPU"),
        ("/no/such/command {model}", "cannot run /no/such/command: No such file"),
        ("sleep 9", "sleep did not return within 0 s"),
        ("true", "was restarted and serves .*model, not .*artifacts"),
    ],
)
def test_a_restart_that_fails_says_so(
    home: Path, restart: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOADING", 0.3)
    with engine(home / "model") as server:
        policy = connected(home, server.url, restart=restart)
        draw(policy, home)
        moved(policy)
        kept(policy, home)
        with pytest.raises(UserError, match=told):
            draw(policy, home)


@pytest.mark.parametrize(
    ("kind", "how", "told"),
    [
        ("vllm", 404, "refuses the adapter: .*broken.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        ("sglang", 400, "refuses the adapter: .*broken.*--enable-lora"),
        ("vllm", 500, "failed: .*broken.* then resume"),
        ("vllm", "hang", "gave no answer within 0.3 s"),
    ],
)
def test_a_server_that_does_not_take_an_adapter_says_so_and_may_later(
    home: Path, kind: str, how: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(home / "model", kind) as server:
        policy = connected(home, server.url)
        policy.add_adapter(lora_config(2))
        moved(policy)
        kept(policy, home)
        path = "/v1/load_lora_adapter" if kind == "vllm" else "/load_lora_adapter"
        server.broken[path] = how
        with monkeypatch.context() as patched:
            patched.setattr(engines, "LOADING", 0.3)
            with pytest.raises(UserError, match=told):
                draw(policy, home)
        server.broken.clear()
        agree(policy, draw(policy, home))


def test_a_server_that_fails_is_left_out_and_gets_the_weights_when_it_is_back(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(home / "model") as one, engine(home / "model") as two:
        policy = connected(home, one.url, two.url)
        policy.add_adapter(lora_config(2))
        moved(policy)
        kept(policy, home)
        one.broken["/v1/completions"] = 500
        agree(policy, draw(policy, home))
        asked = [path for path, _ in one.seen].count("/v1/completions")
        assert 0 < asked <= 6  # those that were under way at the first failure
        agree(policy, draw(policy, home))
        assert [path for path, _ in one.seen].count("/v1/completions") == asked
        # It comes back as it was started, without the adapter, and before the pause is over.
        one.broken.clear()
        one.load(home / "model")
        monkeypatch.setattr(endpoints, "PAUSE", 0.0)
        agree(policy, draw(policy, home))
        assert [path for path, _ in one.seen].count("/v1/completions") > asked
        assert one.paths() == ["/v1/load_lora_adapter"] * 2
        one.broken["/v1/completions"] = two.broken["/v1/completions"] = 503
        with pytest.raises(UserError, match=f"{one.url} failed.*{two.url} failed|{two.url} failed"):
            draw(policy, home)
    with pytest.raises(UserError, match=f"no server answers at {one.url}; no server answers at"):
        draw(policy, home)


def test_a_server_with_another_model_is_found_out(home: Path) -> None:
    tiny_policy(5).save(make(home / "other"))
    with engine(home / "other") as server, pytest.raises(UserError, match="nats a token from"):
        draw(connected(home, server.url), home)
    with engine(home / "model", "sglang", scaled=True) as server:
        policy = connected(home, server.url)
        with pytest.raises(UserError, match="SGLANG_RETURN_ORIGINAL_LOGPROB=1"):
            draw(policy, home, temperature=0.4)


def test_draws_are_as_asked_for(home: Path) -> None:
    with engine(home / "model") as server:
        policy = connected(home, server.url)
        found = draw(policy, home, n=3, stop=("w3",), top_k=5, temperature=0.9)
        assert [c.task for c in found] == [task.id for task in TASKS for _ in range(3)]
        assert all("w3" not in c.output for c in found)
        bodies = [body for path, body in server.seen if path == "/v1/completions"]
        assert len({body["seed"] for body in bodies}) == len(found)
        for body in bodies:
            assert (body["top_k"], body["repetition_penalty"], body["stop"]) == (5, 1.0, ["w3"])
        greedy = draw(policy, home, n=1, temperature=0.0)
        policy.engines = None
        assert [c.output for c in draw(policy, home, n=1, temperature=0.0)] == [
            c.output for c in greedy
        ]


def test_weights_that_changed_since_they_were_saved_are_not_sampled_from(home: Path) -> None:
    with engine(home / "model") as server:
        policy = connected(home, server.url)
        with policy.at_start():
            pass  # other tensors, the same values
        draw(policy, home)
        moved(policy)
        with pytest.raises(UserError, match="samples while it learns"):
            draw(policy, home)
