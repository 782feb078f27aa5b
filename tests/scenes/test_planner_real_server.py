"""The served planner against ``transformers serve``, which ignores ``response_format``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.policies.served import ServedError, ServedPolicy
from scenes.planners.served import Served
from scenes.relations import check
from tests.common.transformers_serve import serve, taught
from tests.scenes.test_planner_served import ASSETS, RELATIONS, TEXT

ANSWERS = {
    "List the things of this scene.": json.dumps(ASSETS),
    "Say how the things of this scene": f"```json\n{json.dumps(RELATIONS)}\n```",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    model = taught(ANSWERS, tmp_path_factory.mktemp("served") / "model")
    with serve(model) as url:
        yield url, str(model)


def test_a_sentence_becomes_a_graph(
    server: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asking = ServedPolicy(*server, timeout=60, retries=0)
    plan = Served(asking, keep=tmp_path).plan(TEXT)
    check(plan.graph)
    assert len(plan.graph.assets) == 6 and plan.notes == ()
    assert [r.kind for r in plan.graph.relations] == ["around", "on"]
    assert asking.usage.requests == 2 and asking.usage.completion_tokens > 40
    assert len(list(tmp_path.iterdir())) == 2


def test_a_server_that_has_no_such_model_says_so(
    server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(ServedError, match="rejects the request.*pinned"):
        Served(ServedPolicy(server[0], "another", retries=0)).plan(TEXT)
