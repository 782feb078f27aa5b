"""What a step may do and say: nothing that it says harms a run, and it cannot go on for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.text.godel import call, change, right, run, told
from text.godel.evolve import versions

LONE = "shorter \ud83d"
"""Half of a character: JSON can hold it, and nothing can write it."""
ACTS = """def evolve(goal, state, act):
    reply = act('decide', messages=conversation(goal, state))
    state['history'].append({'role': 'assistant', 'content': reply})
    if state['step'] == 2:
        WHAT
    execute(reply, state, act)
    return state"""
"""An improver that does something else in the second step, after a rehearsal without it."""


def acts(what: str) -> str:
    return change(ACTS.replace("WHAT", what), "evolve", "improver")


def test_half_a_character_harms_no_run(tmp_path: Path) -> None:
    solve = "def solve(question, ask):\n    "
    update = {"file": "policy", "action": "modify", "name": "solve", "source": right(3)}
    result, made = run(
        tmp_path,
        [
            call("self_update", **update, reason=LONE),
            call("call_llm", prompt=LONE),
            change(solve + "return ask('\\ud800')"),
            change(solve + "raise ValueError('\\ud800')"),
            call("run_code", source="import policy\npolicy.solve = 5; raise OSError('\\udfff')"),
            call("self_update", **{**update, "name": LONE}),
            acts("state['\\ud800'] = ['\\ud800']; reply += '\\ud800'"),
            call("interact"),
        ],
    )
    assert result.versions[1].reason == "shorter \ufffd" and result.best.metric.value == 0.75
    assert "call_llm: I do not know." in told(made)
    assert any("OSError: \ufffd" in text for text in told(made)) and len(made.versions) == 5
    assert versions(made.store, "run") == list(result.versions)


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ("{'history': 5}", "a list called history"),
        ("{'history': {'a': 1}}", "a list called history"),
        ("{'history': 'abc'}", "a list called history"),
        ("{'history': None}", "a list called history"),
        ("{}", "a list called history"),
        ("[]", "a list called history"),
        ("{'history': [], 'x': float('nan')}", "a number that JSON has not"),
        ("{'history': [5]}", "a message is"),
        ("{'history': [5] + [{'role': 'user', 'content': ''}] * 300}", "a message is"),
        ("{'history': [], 'x': 'x' * 400_000}", "may have 400000 characters"),
        ("{'history': [], 'x': deep(300)}", "more than 100 levels"),
    ],
)
def test_a_state_written_by_hand_is_told_and_the_improver_put_back(
    state: str, problem: str, tmp_path: Path
) -> None:
    deep = "deep = lambda n: [deep(n - 1)] if n else []"
    write = f"{deep}; print(json.dumps({{'final': {{'state': {state}}}}}), file=open(4, 'w'))"
    result, made = run(tmp_path, [acts(write), call("interact"), change(right(2))])
    assert any(t.startswith("error: step 2 failed") and problem in t for t in told(made))
    assert "the improver was put back: step 2 failed" in result.versions[2].reason
    assert result.best.metric.value == 0.5  # what comes next works


def test_a_step_does_only_so_much(tmp_path: Path) -> None:
    """An improver in a loop; what it waits for the host is no time of its own."""
    loop = """for n in range(60):
            source = "def solve(question, ask):\\n    return 'a%d'" % n
            for name, given in (
                ('call_llm', {'prompt': str(n)}), ('interact', {}), ('run_code', {'source': '1'}),
                ('self_update', {'file': 'policy', 'action': 'modify', 'name': 'solve',
                                 'source': source, 'reason': 'loop'}),
            ):
                try:
                    act(name, **given)
                except Exception as error:
                    state['history'].append({'role': 'user', 'content': str(error)})"""
    result, made = run(tmp_path, [acts(loop), call("interact"), acts(loop.replace("60", "0"))])
    assert len(result.versions) <= 2 + 11 and made.broker.spent["optimiser"].calls == 3 + 50
    for name, most in (("call_llm", 50), ("interact", 10), ("run_code", 20), ("self_update", 20)):
        assert told(made).count(f"{name}: a step may do that {most} times") == 60 - most
