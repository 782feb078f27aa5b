"""How the agent improves: it looks at itself, decides, acts, and carries on.

`evolve(goal, state, act)` is one step. `act(name, **arguments)` carries an action out and raises an
error if it fails; `act("decide", messages=...)` asks the model what to do next. `state` is a dict
that comes back in the next step, with the conversation as `state["history"]`.
"""

import json

HISTORY = 12


def evolve(goal, state, act):
    """One step: decide, act, and return the state."""
    reply = act("decide", messages=conversation(goal, state))
    state["history"].append({"role": "assistant", "content": reply})
    execute(reply, state, act)
    return state


def conversation(goal, state):
    """What the model reads: the goal, how things stand, and the last messages."""
    form = {"calls": [{"action": "NAME", "arguments": {}}]}
    if state["switches"]["thinking"]:
        form = {"thinking": "what went well or badly, what to try next, and why", **form}
    status = f"Step {state['step']}. {state['status']}"
    asked = f"Answer with one JSON object and nothing else: {json.dumps(form)}"
    first = {"role": "user", "content": f"{goal}\n\n{status}\n\n{asked}"}
    return [first, *state["history"][-HISTORY:]]


def execute(reply, state, act):
    """Carry out the calls of a reply in order; the first that fails ends them."""
    try:
        for call in read(reply):
            name = call.get("action")
            if name == "continue_improve":
                tell(state, "continue_improve: go on with the logic as it is now")
                return
            tell(state, f"{name}: {act(name, **call.get('arguments', {}))}")
    except Exception as error:
        if state["switches"]["errors"]:
            tell(state, f"error: {error}")


def read(reply):
    """The calls of a reply: a list of {"action": ..., "arguments": ...}."""
    start = reply.find("{")
    if start < 0:
        raise ValueError("there is no JSON object in the reply")
    # Not strict: line breaks may stand in texts as they are.
    found, _ = json.JSONDecoder(strict=False).raw_decode(reply, start)
    calls = found.get("calls")
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValueError('"calls" must be a list of objects')
    if not calls:
        raise ValueError("it calls no action")
    return calls


def tell(state, text):
    """Put what happened into the conversation."""
    state["history"].append({"role": "user", "content": text})
