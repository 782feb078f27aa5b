"""Where the agent works on itself: a draft, its checks, and the versions that were accepted.

The draft is the current version until :meth:`Workshop.update` changes it. An edit that does not
load, or breaks how policy and improver are called, is refused at once. What remains is measured
(:meth:`Workshop.settle`) at the end of the step, or when the agent asks: it becomes a version, or
the draft goes back to the current one because every question ends in an error, it takes too long,
or validation falls by more than ``max_drop`` below the best. A smaller drop stays: most ways up
have one (paper: in 92 of 100 trials).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from common.records import Metric, identity
from common.stages import Progress
from text.godel.broker import Broker, Role
from text.godel.cell import Cell, Ended, NotAllowedError
from text.godel.environment import Environment, scored
from text.godel.source import EditError, Source

SHOWN = 3
"""Questions that went wrong which the agent is shown."""
ASKS = 40
"""Calls of a model for each question that a policy may make in an evaluation."""
REHEARSAL = '{"calls": [{"action": "self_inspect"}, {"action": "continue_improve"}]}'
"""What an improver that was changed is told, to see whether it still acts."""
Switch = str
SWITCHES: tuple[Switch, ...] = ("thinking", "errors", "code", "llm")
"""What an ablation can take away."""


@dataclass(frozen=True)
class Rules:
    """What a change has to hold to."""

    max_drop: float = 0.2
    seconds: float = 20.0
    """Of the processor, for one step and for one evaluation; models do not count."""
    without: tuple[Switch, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Version:
    """A state of the agent that was measured; ``kept`` false: it was rolled back."""

    index: int
    source: Source
    metric: Metric
    kept: bool = True
    reason: str = ""
    """Why the agent made it."""
    problem: str = ""
    """Why it was rolled back."""
    diff: str = ""
    """From the version that it was made from."""
    step: int = 0
    seconds: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Answers of a policy to questions; ``problem`` says why they are none."""

    metric: Metric
    answers: tuple[str | None, ...]
    errors: tuple[str, ...]
    problem: str = ""


class Workshop:
    """The agent's source as it changes. To be closed."""

    def __init__(
        self,
        environment: Environment,
        broker: Broker,
        rules: Rules = Rules(),
        lab: Cell | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.environment, self.broker, self.rules = environment, broker, rules
        self.lab = lab or Cell()
        self.progress = progress or (lambda *_: None)
        self.made: list[Version] = []
        """Versions since somebody last took them away."""
        self.count = 0
        self.step = 0
        self.charged = broker.total()
        self.current: Version
        self.best: Version
        self.draft: Source
        self.reasons: list[str] = []
        self.feedback = ""
        """What the agent is told of the current version's answers."""

    def close(self) -> None:
        self.lab.close()

    def begin(self, source: Source) -> Version:
        """Measure the starting agent, which becomes version 0."""
        began = time.monotonic()
        evaluation = self.evaluate(source.policy)
        first = Version(
            0, source, evaluation.metric, reason="the start", problem=evaluation.problem,
            seconds=time.monotonic() - began, notes={"cost": self._cost()},
        )  # fmt: skip
        self.take_up(first, first, self.told(evaluation), 1)
        self.made.append(first)
        return first

    def take_up(self, current: Version, best: Version, feedback: str, count: int) -> None:
        """Go on from what was reached before, ``count`` versions in all."""
        self.current, self.best, self.feedback, self.count = current, best, feedback, count
        self.draft, self.reasons = current.source, []

    # What the agent can do

    def inspect(self) -> str:
        """The draft's source and how things stand."""
        files = "\n\n".join(f"# {name}\n{text}" for name, text in self.draft.files().items())
        return f"{self.status()}\n\n{files}"

    def status(self) -> str:
        """How things stand, in a few sentences."""
        now, best = self.current, self.best
        said = f"Version {now.index}: validation {_figure(now.metric)}."
        if best.index != now.index:
            said += f" The best is version {best.index} with {_figure(best.metric)}."
        return said + ("" if self.draft == now.source else " Changes since are not measured yet.")

    def update(self, file: str, action: str, name: str, source: str = "", reason: str = "") -> str:
        """Change the draft.

        Raises:
            NotAllowedError: the edit cannot be made, or what it makes cannot be used.
        """
        try:
            new = self.draft.edited(file, action, name, source)
        except EditError as error:
            raise NotAllowedError(str(error)) from None
        if new == self.draft:
            raise NotAllowedError(f"{name} is like that already")
        problem = self.unusable(new, file)
        if problem:
            raise NotAllowedError(f"{file}.py stays as it was: {problem}")
        self.draft = new
        self.reasons.append(reason or f"{action} {name} in {file}.py")
        return f"{file}.py: {action} {name}, done"

    def interact(self) -> str:
        """Measure what was changed, and tell how the policy does.

        Raises:
            NotAllowedError: as :meth:`settle`.
        """
        self.settle()
        return self.feedback

    def run_code(self, source: str) -> str:
        """Run code and tell what it printed.

        Raises:
            NotAllowedError: it ended in an error.
        """
        request = {"do": "run", "policy": self.draft.policy, "code": source}
        ended = self.lab.turn(request, _nothing, self.rules.seconds)
        if ended.error:
            raise NotAllowedError(f"{ended.printed}\n{ended.error}".strip())
        return ended.printed or "it printed nothing"

    # What becomes of it

    def settle(self) -> Version | None:
        """Measure the draft, and take it as a version; None if nothing was changed.

        Raises:
            NotAllowedError: it is rolled back; the message says why.
        """
        if self.draft == self.current.source:
            self.reasons = []
            return None
        began = time.monotonic()
        now, source = self.current, self.draft
        if source.policy == now.source.policy:
            metric, problem, feedback = now.metric, "", self.feedback
        else:
            evaluation = self.evaluate(source.policy)
            metric, problem = evaluation.metric, evaluation.problem
            feedback = self.told(evaluation)
            lowest = self.best.metric.value - self.rules.max_drop - 1e-9
            if not problem and metric.value < lowest:
                problem = (
                    f"validation {_figure(metric)}, more than {self.rules.max_drop:g} below "
                    f"the {self.best.metric.value:.3f} of version {self.best.index}"
                )
            if self.broker.exhausted:
                problem = f"{self.broker.exhausted} before it was measured"
        version = Version(
            self.count, source, replace(metric, round=self.count), not problem,
            "; ".join(self.reasons), problem,
            now.source.diff(source), self.step, time.monotonic() - began,
            {"cost": self._cost()},
        )  # fmt: skip
        self.count += 1
        self.made.append(version)
        self.draft, self.reasons = now.source, []
        if problem:
            raise NotAllowedError(f"rolled back to version {now.index}: {problem}\n\n{feedback}")
        self.draft, self.current, self.feedback = source, version, feedback
        if metric.value > self.best.metric.value:
            self.best = version
        return version

    def restore(self, improver: str, why: str) -> Version:
        """Put an improver back that worked; the policy stays. A version of its own."""
        now = self.current
        source = Source(policy=now.source.policy, improver=improver)
        version = Version(
            self.count, source, replace(now.metric, round=self.count), True,
            f"the improver was put back: {why}", "",
            now.source.diff(source), self.step, notes={"cost": self._cost()},
        )  # fmt: skip
        self.count += 1
        self.made.append(version)
        self.current, self.draft, self.reasons = version, source, []
        return version

    def unusable(self, source: Source, file: str) -> str:
        """Why one of the files cannot be used, found by using it; "" if it can."""
        if file == "policy":
            return self._answers(source.policy, [], "solver").error
        seen: list[str] = []

        def serve(name: str, arguments: Mapping[str, Any]) -> Any:
            seen.append(name)
            if name == "decide":
                says_goal(arguments.get("messages"), "the goal")
                return REHEARSAL
            if name == "self_inspect":
                return "inspected"
            raise NotAllowedError(f"{name} is not there in a rehearsal")

        state = {"history": [], "step": 0, "status": "A rehearsal.", "switches": self.switches()}
        request = {
            "do": "evolve", "improver": source.improver, "goal": "the goal", "state": state
        }  # fmt: skip
        ended = self.lab.turn(request, serve, min(5.0, self.rules.seconds))
        if ended.error:
            return ended.error
        if "decide" not in seen:
            return "evolve() does not ask for a decision"
        return "" if "self_inspect" in seen else "evolve() does not carry out what was decided"

    def switches(self) -> dict[str, bool]:
        """What is switched on."""
        return {name: name not in self.rules.without for name in SWITCHES}

    def _cost(self) -> dict[str, float]:
        """What was spent since the last version was made."""
        now, before = self.broker.total(), self.charged
        self.charged = now
        names = ("calls", "tokens", "usd")
        return {name: getattr(now, name) - getattr(before, name) for name in names}

    # Measuring

    def evaluate(self, policy: str, last: bool = False) -> Evaluation:
        """Answers to the validation questions, or, at the end, to those of test; their scores."""
        tasks = self.environment.test if last else self.environment.validation
        role: Role = "test" if last else "solver"
        ended = self._answers(policy, [task.prompt for task in tasks], role)
        given = (ended.final or {}).get("answers")
        rows = (
            given if isinstance(given, list) and len(given) == len(tasks) else [{} for _ in tasks]
        )
        rows = [row if isinstance(row, dict) else {} for row in rows]
        answers = tuple(_text(row.get("answer")) for row in rows)
        errors = tuple(_text(row.get("error")) or "" for row in rows)
        values = scored(self.environment, tasks, answers)
        items = {task.id: value for task, value in zip(tasks, values, strict=True)}
        problem = ended.error
        if not problem and all(answer is None for answer in answers):
            problem = f"every question ends in an error, as in: {last_line(errors[0])}"
        return Evaluation(Metric.of(self.environment.metric, items), answers, errors, problem)

    def told(self, evaluation: Evaluation) -> str:
        """What the agent is told of its answers: the score, and some that were wrong."""
        lines = [f"validation {_figure(evaluation.metric)}"]
        values = list(evaluation.metric.items.values())
        wrong = [n for n, value in enumerate(values) if value < 1]
        rng = random.Random(identity("wrong", self.rules.seed, self.count))
        for n in sorted(rng.sample(wrong, min(SHOWN, len(wrong)))):
            task, answer = self.environment.validation[n], evaluation.answers[n]
            said = f"answer: {answer[:400]}" if answer is not None else evaluation.errors[n][-600:]
            lines.append(f"question: {task.prompt[:600]}\n{said}\nscore: {values[n]:.2f}")
        return "\n\n".join(lines)

    def _answers(self, policy: str, questions: Sequence[str], role: Role) -> Ended:
        """Have a policy answer questions; most policies ask a model once for each."""
        asked, total, lock = count(1), len(questions), threading.Lock()
        what = "test questions" if role == "test" else f"step {self.step} questions"

        def serve(name: str, arguments: Mapping[str, Any]) -> Any:
            if name != "ask":
                raise NotAllowedError(f"a policy cannot {name}")
            with lock:
                number = next(asked)
                if number > ASKS * max(1, total):
                    raise NotAllowedError(f"a policy may ask {ASKS} times for each question")
                self.progress(min(number, total - 1), total, what)
            return self.broker.ask(role, arguments.get("prompt"), arguments.get("temperature", 0.0))

        width = self.broker.models[role].width
        request = {"do": "solve", "policy": policy, "questions": list(questions), "width": width}
        try:
            return self.lab.turn(request, serve, self.rules.seconds)
        finally:
            if next(asked) > 1:
                self.progress(total, total, what)


def last_line(error: str) -> str:
    """What an error comes to, without the lines of source that led to it."""
    return (error.strip().splitlines() or [""])[-1][:300]


def says_goal(messages: Any, goal: str) -> None:
    """The goal is the one thing that the agent may not change.

    Raises:
        NotAllowedError: ``messages`` do not hold it.
    """
    given = messages if isinstance(messages, list) else []
    texts = [m.get("content") for m in given if isinstance(m, dict)]
    if not any(isinstance(text, str) and goal in text for text in texts):
        raise NotAllowedError("the messages of a decision must hold the goal as it was given")


def _nothing(name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ARG001
    raise NotAllowedError(f"code cannot {name}")


def _figure(metric: Metric) -> str:
    return f"{metric.name} {metric.value:.3f} ± {metric.se:.3f} (n={metric.n})"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
