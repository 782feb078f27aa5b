"""Gödel Agent (arXiv 2410.04444): an agent that rewrites its policy and the improver that does so.

    pi_{t+1}, I_{t+1} = I_t(pi_t, I_t, r_t, g),    r_t = U(E, pi_t)

    upspiral text evolve --task game24 --model scripted:rewrite-to-search --out agent/

The improver ``I`` decides and acts, the policy ``pi`` answers questions, both are source
(:mod:`text.godel.source`) and run in the sandbox only (:mod:`text.godel.inside`). The host keeps
the goal ``g``, the answers, the versions and the money. A run is a run of the store: every step is
one transaction, so that one which was killed goes on with the step that it was at.

It replaces the stages like this: *propose* is the decision of a step, *judge* the checks of a
change and the validation score, *select* and *learn* are one, the new source; *measure* and the
gate are :meth:`text.godel.workshop.Workshop.settle`. What is not weights needs no lessons between
them, so this is no :class:`common.loop.Loop`; it keeps the same records.

Deviations: the paper's ``evolve`` calls itself. Here the host calls it again, which is the same as
long as nothing happens after the call, and the stack does not grow. It patches a process; here
source is edited on the host and read anew in each step, so that what the agent is can be stored and
rolled back. Tool calls are JSON in the answer, which every server can do. The released code tells
the agent the test score and keeps the version with the best one; here test is measured once, at
the end, by the host. The paper has no sandbox and no roll-back.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

from common.artifacts import disk_errors
from common.lease import Lease
from common.records import Metric, Round, Split, identity
from common.stages import Progress
from common.store import Store
from text.godel.broker import MESSAGES, ROLES, Broker, Spent, checked_messages
from text.godel.cell import CALLS, Cell, NotAllowedError
from text.godel.environment import Environment
from text.godel.models import RecordingEndedError
from text.godel.source import Source
from text.godel.workshop import Rules, Version, Workshop, last_line, says_goal

MOST = {"decide": 4, "call_llm": 50, "interact": 10, "self_update": 20, "run_code": 20}
"""Of each action in a step. Its time stops while it waits for the host, so that an improver that
acts in a loop would go on for as long as there is money."""
STATE = 400_000
"""Characters of the state that an improver hands on."""
RECIPE = "text/evolve"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """What a run came to. ``test`` holds the metric of the start and of the best version."""

    versions: tuple[Version, ...]
    best: Version
    test: Mapping[str, Metric]
    stopped: str
    """Why it ended before its last step; "" if it did not."""
    spent: Mapping[str, Any]
    """Calls, tokens and dollars by role: optimiser, solver, test."""


@dataclass
class _Said:
    """What a step did, whether it got to a decision, and whether the optimiser failed to answer."""

    done: Counter[str] = field(default_factory=Counter)
    decided: bool = False
    unanswered: bool = False


class Evolution:
    """One run: ``steps`` steps, then the test."""

    def __init__(
        self,
        environment: Environment,
        broker: Broker,
        store: Store,
        steps: int,
        rules: Rules,
        progress: Progress | None = None,
        kept: Callable[[Evolution], None] | None = None,
        begun: Callable[[], None] | None = None,
    ) -> None:
        self.environment, self.broker, self.store = environment, broker, store
        self.steps, self.rules = steps, rules
        self.progress = progress or (lambda *_: None)
        self.kept = kept or (lambda _: None)
        """Called after every step that was committed."""
        self.begun = begun or (lambda: None)
        """Called when the run is this process's, before it does anything."""
        self.workshop = Workshop(environment, broker, rules, progress=self.progress)
        self.mind = Cell()
        self.agent: dict[str, Any] = {}
        """The improver's own state, with the conversation."""
        self.proven = ""
        """The last improver that finished a step."""
        self.versions: list[Version] = []
        self.stopped = ""
        self.goal = self._goal()

    def run(self, run: str, seed: int, config: Mapping[str, Any], name: str) -> Result:
        """Run, or continue, ``run``.

        Raises:
            UserError: as :meth:`common.store.Store.lease`, and what only the user can mend.
        """
        tasks = [*self.environment.validation, *self.environment.test]
        plan = {"steps": self.steps, "tasks": identity([[t.id, t.split, t.prompt] for t in tasks])}
        lease = self.store.lease(run, f"{RECIPE}:{name}", config, seed, plan)
        status = "failed"
        try:
            self.begun()
            with disk_errors(self.store.home):
                result = self._all(lease)
            status = "done"
            return result
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.mind.close()
            self.workshop.close()
            lease.close(status)

    def _all(self, lease: Lease) -> Result:
        first = self._resumed(lease.run)
        if first == 0:
            self._begin(lease)
            first = 1
        for step in range(first, self.steps + 1):
            self.progress(step - 1, self.steps, "steps")
            if self.stopped:
                break
            try:
                self._step(lease, step)
            except RecordingEndedError:
                self.stopped = "the recording has ended"
        self.progress(self.steps, self.steps, "steps")
        test = self._test(lease)
        spent = {str(role): self.broker.state()[role] for role in ROLES}
        return Result(tuple(self.versions), self.workshop.best, test, self.stopped, spent)

    # Steps

    def _begin(self, lease: Lease) -> None:
        began = time.monotonic()
        source = Source.start(self.environment.policy)
        self.agent, self.proven = {"history": []}, source.improver
        self.workshop.begin(source)
        tasks = [*self.environment.validation, *self.environment.test]
        self._commit(lease, 0, began, tasks)

    def _step(self, lease: Lease, step: int) -> None:
        """The improver of the current version takes a step; what it changed is measured."""
        began = time.monotonic()
        workshop = self.workshop
        workshop.step = step
        improver = workshop.current.source.improver
        state = {**self.agent, "step": step, "status": self._status(step)}
        state["switches"] = workshop.switches()
        request = {"do": "evolve", "improver": improver, "goal": self.goal, "state": state}
        said = _Said()
        ended = self.mind.turn(request, self._serve(said), self.rules.seconds)
        new = (ended.final or {}).get("state")
        problem = ended.error or unsound(new)
        if not problem:
            self.agent = dict(new or {})
        try:
            workshop.settle()
        except NotAllowedError as error:
            self._tell(f"error: {error}")
        if self.broker.exhausted:
            self.stopped = self.broker.exhausted
        elif problem:
            self._tell(f"error: step {step} failed: {problem}")
            if workshop.current.source.improver == improver != self.proven and not said.unanswered:
                workshop.restore(self.proven, f"step {step} failed: {last_line(problem)}")
                self._tell("the improver of the last step that worked was put back")
        elif said.decided:
            self.proven = improver
        self._commit(lease, step, began)

    def _serve(self, said: _Said) -> Callable[[str, Mapping[str, Any]], Any]:
        """The actions by name, each with its arguments checked."""
        workshop, off = self.workshop, self._off()

        def decide(messages: Any) -> str:
            says_goal(messages, self.goal)
            said.decided = said.unanswered = True
            reply = self.broker.decide(messages)
            said.unanswered = False
            return reply

        def call_llm(prompt: Any) -> str:
            return self.broker.ask("optimiser", prompt)

        actions: Mapping[str, Callable[..., str]] = {
            "decide": decide,
            "self_inspect": workshop.inspect,
            "self_update": workshop.update,
            "interact": workshop.interact,
            "run_code": workshop.run_code,
            "call_llm": call_llm,
        }

        def serve(name: str, arguments: Mapping[str, Any]) -> str:
            action = actions.get(name)
            if action is None or name in off:
                known = ", ".join(n for n in actions if n not in off and n != "decide")
                raise NotAllowedError(f"there is no action {name!r}; there are {known}")
            try:
                signature(action).bind(**arguments)
            except TypeError as error:
                raise NotAllowedError(f"{name}: {error}") from None
            texts = {k: v for k, v in arguments.items() if k not in ("messages", "prompt")}
            for argument, value in texts.items():
                if not isinstance(value, str):
                    raise NotAllowedError(f"{name}: {argument} must be a text")
            said.done[name] += 1
            if said.done[name] > (most := MOST.get(name, CALLS)):
                raise NotAllowedError(f"{name}: a step may do that {most} times")
            return action(**arguments)

        return serve

    def _tell(self, text: str) -> None:
        """Put a word of the host into the agent's conversation, unless errors are kept from it."""
        history = self.agent.get("history")
        if "errors" not in self.rules.without and isinstance(history, list):
            self.agent = {**self.agent, "history": [*history, {"role": "user", "content": text}]}

    def _off(self) -> set[str]:
        switched = {"code": "run_code", "llm": "call_llm"}
        return {switched[name] for name in self.rules.without if name in switched}

    def _goal(self) -> str:
        actions = json.loads((_HERE / "actions.json").read_text("utf-8"))
        listed = "\n".join(f"- {text}" for name, text in actions.items() if name not in self._off())
        return (
            (_HERE / "goal.md")
            .read_text("utf-8")
            .replace("{actions}", listed)
            .replace("{max_drop}", f"{self.rules.max_drop:g}")
            .replace("{about}", self.environment.about)
        )

    def _status(self, step: int) -> str:
        spent = self.broker.total()
        said = f"{self.workshop.status()} This is step {step} of {self.steps}."
        if self.broker.budget.tokens:
            said += f" {spent.tokens} of {self.broker.budget.tokens} tokens are spent."
        return said

    # What is kept

    def _commit(self, lease: Lease, step: int, began: float, tasks: Sequence[Any] = ()) -> None:
        """Keep a step with the versions that it made, in one transaction."""
        new, self.workshop.made = self.workshop.made, []
        rounds = [self._round(version) for version in new]
        metrics = [m for r in rounds for m in r.metrics]
        self.versions += new
        with self.store.artifacts.staging() as folder:
            (folder / "improver.py").write_text(self.proven, encoding="utf-8")
            proven = self.store.put_folder(folder)
        state = {
            "agent": self.agent,
            "proven": proven,
            "current": self.workshop.current.index,
            "best": self.workshop.best.index,
            "feedback": self.workshop.feedback,
            "broker": self.broker.state(),
            "charged": asdict(self.workshop.charged),
        }
        seconds = time.monotonic() - began
        lease.commit(step, "step", 0, [*tasks, *rounds, *metrics], None, state, seconds)
        self.kept(self)

    def _round(self, version: Version) -> Round:
        with self.store.artifacts.staging() as folder:
            version.source.save(folder)
            state = self.store.put_folder(folder)
        reason = version.reason if version.kept else f"{version.reason}: {version.problem}"
        notes = {  # no numbers by name: the report of a run would take them for what was learnt
            "cost": list(version.notes["cost"].items()),
            "diff": version.diff,
            "step": str(version.step),
            "why": version.reason,
            "problem": version.problem,
        }
        return Round(version.index, version.kept, state, reason, seconds=version.seconds,
                     metrics=(version.metric,), notes=notes)  # fmt: skip

    def _resumed(self, run: str) -> int:
        """Take up what is kept; the step to go on with, 0 if nothing is."""
        self.versions = versions(self.store, run)
        if not self.versions:
            return 0
        last = max(v.step for v in self.versions)
        while (unit := self.store.units(run, last + 1, "step").get(("step", 0))) is not None:
            last += 1
        unit = self.store.units(run, last, "step")["step", 0]
        state = unit.payload
        self.agent = state["agent"]
        path = self.store.path(state["proven"]) / "improver.py"
        self.proven = path.read_text(encoding="utf-8")
        self.broker.restore(state["broker"])
        self.stopped = self.broker.exhausted
        workshop = self.workshop
        workshop.charged = Spent(**state["charged"])
        current, best = (self.versions[state[name]] for name in ("current", "best"))
        workshop.take_up(current, best, state["feedback"], len(self.versions))
        return last + 1

    # The end

    def _test(self, lease: Lease) -> dict[str, Metric]:
        """Measure the start and the best version on test, once, in a sandbox of their own."""
        best = self.workshop.best
        if ("test", 0) not in self.store.units(lease.run, 0, "test"):
            began = time.monotonic()
            found = []
            measured = [self.versions[0], *([best] if best.index else [])]
            for number, version in enumerate(measured, 1):
                self.workshop.close()
                metric = self.workshop.evaluate(version.source.policy, last=True).metric
                split: Split = "test"
                found.append(replace(metric, round=version.index, split=split))
                self.progress(number, len(measured), "test")
            payload = {"broker": self.broker.state()}
            seconds = time.monotonic() - began
            lease.commit(0, "test", 0, found, None, payload, seconds)
        else:
            unit = self.store.units(lease.run, 0, "test")["test", 0]
            self.broker.restore(unit.payload["broker"])
        by_version = {m.round: m for m in self.store.metrics(lease.run, "test")}
        self.kept(self)
        return {"start": by_version[0], "best": by_version[best.index]}


def unsound(state: Any) -> str:
    """Why a state that an improver gives cannot be handed to the next step; "" if it can."""
    # The runtime sees to most of this, but code may have written past it.
    history = state.get("history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        return "the state must be an object with a list called history"
    try:
        if len(json.dumps(state, allow_nan=False)) > STATE:
            return f"the state may have {STATE} characters"
    except ValueError:
        return "the state holds a number that JSON has not"
    try:
        for at in range(0, len(history), MESSAGES):
            checked_messages(history[at : at + MESSAGES])
    except NotAllowedError as error:
        return f"the history of the state: {error}"
    return ""


def versions(store: Store, run: str) -> list[Version]:
    """All versions of a run, those that were rolled back too."""
    return [
        Version(
            r.index, Source.read(store.path(r.state)), r.metrics[0], r.kept, r.notes["why"],
            r.notes["problem"], r.notes["diff"], int(r.notes["step"]), r.seconds,
            {"cost": dict(r.notes["cost"])},
        )
        for r in store.rounds(run)
    ]  # fmt: skip
