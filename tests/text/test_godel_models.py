"""Models that an agent talks to: served, local, recorded; what they cost; that keys stay here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.policies.served import ServedPolicy
from common.store import Store
from tests.common.loopback import Server, serving
from tests.text.godel import QUICK, call, calls, change, environment, workshop
from tests.text.tiny import checkpoint
from text.godel import environment as environments
from text.godel import models
from text.godel.broker import Broker, Budget
from text.godel.cell import NotAllowedError
from text.godel.evolve import Evolution
from text.godel.models import UNKNOWN, Local, Scripted, Served, alternating
from text.godel.source import Source
from text.godel.workshop import Workshop

ASKS = "def solve(question, ask):\n    return ask([{'role': 'user', 'content': question}])"
LOOKS = "import os\nprint(sorted(os.environ), [v for v in os.environ.values() if 'sk-' in v])"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_a_served_model_decides_and_solves_and_its_key_stays_outside(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    decisions = [calls(("run_code", {"source": LOOKS}), ("call_llm", {"prompt": "question 1"})),
                 change(ASKS), call("interact")]  # fmt: skip

    def say(body: dict[str, Any]) -> Any:
        text = body["messages"][-1]["content"]
        goal = body["messages"][0]["content"]
        if "You are an agent that improves itself" in goal:
            return decisions.pop(0)
        return f"right {text[-1]}" if text[-1] in "012" else "no idea"

    server.otherwise, server.delay = say, 0.02
    model = models.load("served:m", server.url)
    budget = Budget(prices=(2.0, 10.0))
    made = Evolution(environment(), Broker(model, model, budget), Store(tmp_path), 3, QUICK)
    result = made.run("run", 0, {}, "small")
    assert (result.best.metric.value, result.test["best"].value) == (0.75, 0.75)
    told = [m["content"] for m in made.agent["history"] if m["role"] == "user"]
    assert told[0].strip() == "run_code: ['HOME', 'LANG', 'TMPDIR'] []"
    assert told[1] == "call_llm: right 1"
    assert server.most_busy > 1  # questions at the same time
    spent = result.spent
    assert spent["optimiser"]["calls"] == 4 and spent["optimiser"]["prompt_tokens"] == 12
    # The start and the best ask four questions each; dev and test have the same texts, so that
    # what was asked at temperature 0 is remembered.
    assert spent["solver"]["calls"] == 8 and spent["test"]["remembered"] == 8
    usd = spent["solver"]["prompt_tokens"] * 2e-6 + spent["solver"]["completion_tokens"] * 1e-5
    assert spent["solver"]["usd"] == pytest.approx(usd)
    seen = [body for body in server.seen if "temperature" in body]
    assert {body["temperature"] for body in seen} == {0.0, 1.0}


def test_what_a_server_does_not_take_is_left_out_and_what_it_breaks_is_told(
    server: Server,
) -> None:
    model = Served(server.policy(retries=0))
    server.script = [(400, {}), "fine", "again"]
    asked = [{"role": "user", "content": "hello"}]
    assert model.complete(asked, 0.5, 9, None).text == "fine"
    assert model.complete(asked, 0.5, 9, None).text == "again"
    assert [("max_tokens" in body) for body in server.seen] == [True, False, False]
    server.script = [(500, {}), (400, {})]
    for _ in range(2):
        with pytest.raises(NotAllowedError, match="the model did not answer"):
            model.complete(asked, 0.5, 9, None)


def test_a_server_that_is_gone_ends_the_run_which_goes_on_later(
    server: Server, tmp_path: Path
) -> None:
    solver = Scripted([call("interact"), change("def solve(q, ask):\n    return 'right 1'")])

    def evolution(base_url: str) -> Evolution:
        broker = Broker(Served(ServedPolicy(base_url, "m", retries=0)), solver)
        return Evolution(environment(), broker, Store(tmp_path), 2, QUICK)

    with pytest.raises(UserError, match="no server answers"):
        evolution("http://127.0.0.1:9/v1").run("run", 0, {}, "small")
    assert Store(tmp_path).run("run").status == "failed"
    server.script = [call("interact"), change("def solve(q, ask):\n    return 'right 1'")]
    result = evolution(server.url).run("run", 0, {}, "small")
    assert result.best.metric.value == 0.25


def test_a_local_model_is_asked_and_says_when_it_is_too_much(tmp_path: Path) -> None:
    model = Local.load(str(checkpoint(tmp_path / "model")))
    got = model.complete([{"role": "user", "content": "say twice"}], 0.0, 6, None)
    assert got.completion_tokens <= 6 and got.prompt_tokens == 2
    again = model.complete([{"role": "user", "content": "say twice"}], 0.0, 6, None)
    assert got == again
    with pytest.raises(NotAllowedError, match="have 300 tokens, the model reads 250"):
        model.complete([{"role": "user", "content": "say " * 300}], 0.0, 6, None)


def test_recordings(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text("About it.\n\n---- 1\nfirst\n\n---- 2 with a word\nsecond\nline\n")
    asked = [{"role": "user", "content": "why?"}]
    path.with_suffix(".replies.json").write_text(f'{{"{models.key(asked)}": "because"}}')
    model = models.load(f"scripted:{path}")
    assert isinstance(model, Scripted) and model.turns == ["first", "second\nline"]
    assert model.complete(asked, 0.0, 9, None).text == "because"
    assert model.complete([{"role": "user", "content": "who?"}], 0.0, 9, None).text == UNKNOWN
    path.write_text("nothing")
    with pytest.raises(UserError, match="holds no decision"):
        models.load(f"scripted:{path}")


@pytest.mark.parametrize(
    "messages",
    [None, 5, [], {}, [5], [{"role": "user"}], [{"role": "robot", "content": "x"}],
     [{"role": "user", "content": 5}], [{"role": "user", "content": "x" * 500_000}],
     [{"role": "user", "content": "x"}] * 300],
)  # fmt: skip
def test_what_is_no_message_is_refused(messages: Any) -> None:
    broker = workshop().broker
    with pytest.raises(NotAllowedError):
        broker.ask("solver", messages)
    with pytest.raises(NotAllowedError, match="temperature"):
        broker.ask("solver", "hello", "hot")


def test_messages_of_one_role_become_one() -> None:
    said = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    found = alternating([{"role": r, "content": c} for r, c in said])
    assert [m["content"] for m in found] == ["a\n\nb", "c", "d"]


def test_environments_keep_their_answers_and_share_no_question() -> None:
    for name in ("arithmetic", "game24"):
        made = environments.load(name, 6, 8)
        assert not {t.prompt for t in made.validation} & {t.prompt for t in made.test}
        first = made.validation[0]
        assert first.prompt in made.about and "The answer is" in made.about
        if name == "arithmetic":
            assert made.score(first, f"so The answer is {first.reference}.") == 1.0
            assert made.score(first, "no number") == 0.0
    code = environments.load("code-basics", 2, 2)
    assert "a Python program" in code.about
    assert code.score(code.validation[0], "    return None") == 0.0
    with pytest.raises(UserError, match="0 validation"):
        environments.load("logic", 0, 0)


def test_spans_are_scored_by_how_far_they_agree(tmp_path: Path) -> None:
    spans = {"spans": ["tall Ann"], "types": ["span"]}
    rows = [
        {"passage": f"Ann {n} ran.", "question": f"Who ran {n}?", "answers_spans": spans}
        for n in range(40)
    ]
    (tmp_path / "validation.jsonl").write_text("\n".join(map(json.dumps, rows[:20])))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows[20:])))
    made = environments.load(f"drop:{tmp_path}", 10, 10)
    assert made.metric == "F1" and len(made.test) == 10
    [task, *_] = made.validation
    assert made.score(task, "Ann ran. The answer is tall Ann.") == 1.0
    assert made.score(task, "Ann") == pytest.approx(2 / 3) and made.score(task, "") == 0.0


def test_scenes_are_laid_out_by_what_the_policy_answers() -> None:
    made = environments.load("scenes", 2, 2)
    assert made.policy is not None and made.metric == "score"
    quick = '{"starts": 2, "steps": 6, "moves": 0, "rate": 0.03, "temperature": 0}'
    [task, _] = made.validation
    value = made.score(task, quick)
    assert 0.3 < value < 1 and value == made.score(task, quick)
    for wrong in (
        "",
        "[]",
        '{"starts": 99}',
        quick.replace("6", "1e9"),
        quick.replace("0.03", "NaN"),
    ):
        assert made.score(task, wrong) == 0.0
    held = Workshop(made, workshop().broker, QUICK)
    try:
        assert held.unusable(Source.start(made.policy), "policy") == ""
    finally:
        held.close()
    assert str(task.reference) not in made.about
