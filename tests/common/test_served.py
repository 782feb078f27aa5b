"""A served policy against a real HTTP server on the loopback that misbehaves on request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from common.errors import UserError
from common.policies import Sample
from common.policies.answers import Heard
from common.policies.served import RefusedError, ServedError, ServedPolicy
from common.records import Task
from tests.common.loopback import Server, serving
from tests.common.tiny import context


class Plan(BaseModel):
    objects: list[str]
    size: float


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


HELLO = [{"role": "user", "content": "hello there"}]


def test_recovers_from_429_500_and_a_dropped_connection(server: Server) -> None:
    server.script = [(429, {"Retry-After": "1"}), (500, {}), "drop"]
    policy = server.policy()
    assert policy.chat(HELLO) == "hello there"
    assert len(server.seen) == 4
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.99  # as the server asked
    assert waits[1] >= 0.74 and waits[2] >= 1.49  # 1 s and 2 s, less up to a quarter
    assert policy.usage.requests == 1 and policy.usage.retries == 3
    assert (policy.usage.prompt_tokens, policy.usage.completion_tokens) == (3, 2)


def test_a_hanging_server_times_out_and_a_recovering_one_answers(server: Server) -> None:
    server.script = ["hang"]
    assert server.policy(timeout=1.0).chat(HELLO) == "hello there"
    server.script = ["hang", "hang"]
    start = time.monotonic()
    with pytest.raises(ServedError, match=r"within 0\.3 s, asked 2 times"):
        server.policy(timeout=0.3, retries=1).chat(HELLO)
    assert time.monotonic() - start < 8


def test_broken_json_is_asked_again_with_what_is_wrong(server: Server) -> None:
    good = '{"objects": ["lamp"], "size": 2}'
    server.script = ["{oops", '{"objects": "lamp"}', f"```json\n{good}\n```"]
    assert server.policy().ask(HELLO, Plan) == Plan(objects=["lamp"], size=2.0)
    assert [len(body["messages"]) for body in server.seen] == [1, 3, 3]
    assert server.seen[1]["messages"][1]["content"] == "{oops"
    assert "objects" in server.seen[2]["messages"][-1]["content"]
    sent = server.seen[0]["response_format"]["json_schema"]["schema"]
    assert sent == Plan.model_json_schema()
    server.script = ["no", "nor this", good]
    with pytest.raises(ServedError, match="no valid Plan in 2 attempts"):
        server.policy().ask(HELLO, Plan, attempts=2)
    assert server.script == [good]


def test_concurrency_is_limited_and_used(server: Server) -> None:
    server.delay = 0.2
    policy = server.policy(concurrency=3)
    texts = policy.map(lambda i: policy.chat([{"role": "user", "content": f"n {i}"}]), range(7))
    assert texts == [f"n {i}" for i in range(7)]
    assert server.most_busy == 3
    assert policy.usage.requests == 7


def test_generate_gives_candidates_with_logprobs_and_seeds(server: Server, tmp_path: Path) -> None:
    tasks = [Task(id=f"t{i}", prompt=f"say {i}") for i in range(3)]
    policy = server.policy(logprobs=True, system="be brief")
    found = Sample(n=2, top_k=5, stop=("\n\n",)).propose(policy, tasks, context(tmp_path))
    assert [(c.task, c.output) for c in found] == [
        (t.id, t.prompt) for t in tasks for _ in range(2)
    ]
    assert all(c.logprob == -1.0 and c.tokens == 2 and c.meta["finished"] for c in found)
    assert len({c.id for c in found}) == len({body["seed"] for body in server.seen}) == 6
    assert server.seen[0]["messages"][0] == {"role": "system", "content": "be brief"}
    assert server.seen[0]["top_k"] == 5 and server.seen[0]["stop"] == ["\n\n"]


def test_several_servers_share_the_requests_and_one_that_fails_is_left_out(server: Server) -> None:
    with serving() as other:
        policy = ServedPolicy(
            f"{server.url}, {other.url}", "m", timeout=20, concurrency=3, retries=0
        )
        server.delay, other.delay = 0.15, 0.05
        hello = [[{"role": "user", "content": f"n {i}"}] for i in range(24)]
        assert policy.map(policy.chat, hello) == [f"n {i}" for i in range(24)]
        # The one with the least to do is asked: the quick one more often.
        assert 4 <= len(server.seen) < len(other.seen)
        server.delay = other.delay = 0.0
        before = len(server.seen)
        server.otherwise = lambda body: (500, {})
        assert policy.map(policy.chat, hello) == [f"n {i}" for i in range(24)]
        assert len(server.seen) - before <= 3  # those under way when it failed
        other.otherwise = lambda body: (503, {})
        with pytest.raises(ServedError) as failed:
            policy.chat(HELLO)
        assert f"{server.url} failed" in str(failed.value)
        assert f"{other.url} failed" in str(failed.value)
        # When all have failed lately, they are asked all the same.
        other.otherwise = lambda body: "there again"
        assert policy.chat(HELLO) == "there again"
        server.otherwise = other.otherwise = lambda body: (401, {})
        with pytest.raises(UserError, match="refuses the key"):
            policy.chat(HELLO)
    gone = ServedPolicy("http://127.0.0.1:9/v1,http://127.0.0.1:10/v1", "m", retries=0)
    with pytest.raises(UserError, match="answers at .*:9/v1; no server answers at .*:10/v1"):
        gone.chat(HELLO)


def test_first_error_stops_the_rest(server: Server) -> None:
    server.script = [(401, {})] * 20
    tasks = [Task(id=f"t{i}", prompt="x") for i in range(20)]
    with pytest.raises(UserError, match="key"):
        server.policy(concurrency=2).generate(tasks, n=1, seeds=lambda t, i: i)
    assert len(server.seen) < 10


def test_errors_name_the_mistake(server: Server, tmp_path: Path) -> None:
    server.script = [(404, {})]
    with pytest.raises(UserError, match="no model m"):
        server.policy().chat(HELLO)
    server.script = [(500, {}), (500, {})]
    with pytest.raises(ServedError, match="failed"):
        server.policy(retries=1).chat(HELLO)
    with pytest.raises(UserError, match="no server answers"):
        ServedPolicy("http://127.0.0.1:9/v1", "m", retries=0).chat(HELLO)
    with pytest.raises(UserError, match="address"):
        ServedPolicy("localhost", "m")
    policy = server.policy()
    policy.save(tmp_path)
    policy.restore(tmp_path)
    other = ServedPolicy(server.url, "other")
    assert other.fingerprint() != policy.fingerprint()
    with pytest.raises(UserError, match="the run used m"):
        other.restore(tmp_path)


def test_an_answer_that_ends_halfway_is_asked_again(server: Server) -> None:
    server.script = ["half"]
    assert server.policy().chat(HELLO) == "hello there"
    assert len(server.seen) == 2


def test_a_refusal_is_said_and_not_asked_again(server: Server) -> None:
    good = '{"objects": ["lamp"], "size": 2}'
    for refusal in ({"refusal": "not that"}, "I'm sorry, but I can’t help with that.", "I cannot."):
        server.script = [refusal, good]
        with pytest.raises(RefusedError, match="m refuses to answer: (not that|I)"):
            server.policy().ask(HELLO, Plan)
        assert server.script == [good]
    server.script = [f"I cannot say much, but: {good}"]
    assert server.policy().ask(HELLO, Plan).size == 2


def test_a_cut_answer_is_asked_again_and_used_at_last(server: Server) -> None:
    cut = '{"objects": ["lamp"], "more": {"a": 1}, "size": 2, "and'
    server.script = [cut, '{"objects": [], "size": 1}']
    assert server.policy().ask(HELLO, Plan).size == 1
    assert "cut" in server.seen[1]["messages"][-1]["content"]
    server.script = [cut, cut]
    heard: list[Heard] = []
    with pytest.raises(ServedError, match="no objects"):
        server.policy().read(HELLO, Plan, lambda h: fail(h, heard), attempts=2)
    assert heard == [Heard({"objects": ["lamp"], "more": {"a": 1}}, whole=False)]


def fail(heard: Heard, seen: list[Heard]) -> Plan:
    seen.append(heard)
    raise ValueError("no objects")


def test_options_that_the_server_rejects_are_left_out_from_then_on(server: Server) -> None:
    good = '{"objects": ["lamp"], "size": 2}'

    def strict(body: dict[str, Any]) -> Any:
        return (400, {}) if {"temperature", "response_format"} & body.keys() else good

    server.otherwise = strict
    policy = server.policy()
    for _ in range(2):
        assert policy.ask(HELLO, Plan, temperature=0.2).size == 2
    assert len(server.seen) == 4
    server.otherwise = lambda body: (400, {})
    with pytest.raises(ServedError, match="rejects the request"):
        policy.ask(HELLO, Plan, temperature=0.2)
    assert len(server.seen) == 5
