"""The host's side of every model call: what may be asked, what it cost, and when it is too much.

The agent has no key and no network. It asks for an answer by name; the broker looks at the
request, asks the model, and counts. When tokens or money are spent, every further request is
refused and the run ends after its step. Answers at temperature 0 are remembered: what a policy
asked before costs nothing to ask again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, Literal

from text.godel.cell import NotAllowedError, readable
from text.godel.models import Message, Model, key

Role = Literal["optimiser", "solver", "test"]
ROLES: tuple[Role, ...] = ("optimiser", "solver", "test")
"""``test`` is what the last measurement took, which the agent does not pay for."""
MESSAGES, CHARACTERS = 200, 400_000
"""The most that one request may hold."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend; 0 is no limit. Prices are US dollars for a million tokens."""

    tokens: int = 0
    usd: float = 0.0
    prices: tuple[float, float] = (0.0, 0.0)
    """Of the optimiser, read and written."""
    solver_prices: tuple[float, float] | None = None
    """Of the solver; the same by default."""


@dataclass(frozen=True)
class Spent:
    """What one role took."""

    calls: int = 0
    remembered: int = 0
    """Answered from memory, for nothing."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Broker:
    """Asks ``optimiser`` and ``solver`` for the agent, within ``budget``."""

    def __init__(
        self, optimiser: Model, solver: Model, budget: Budget = Budget(), max_tokens: int = 2048
    ) -> None:
        self.models: Mapping[Role, Model] = {
            "optimiser": optimiser, "solver": solver, "test": solver
        }  # fmt: skip
        self.budget, self.max_tokens = budget, max_tokens
        self.spent: dict[Role, Spent] = {role: Spent() for role in ROLES}
        self.turn = 0
        """Decisions so far."""
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def total(self) -> Spent:
        """What the agent spent, in both roles."""
        one, two = self.spent["optimiser"], self.spent["solver"]
        return Spent(*(a + b for a, b in zip(astuple(one), astuple(two), strict=True)))

    @property
    def exhausted(self) -> str:
        """What of the budget is spent, in a sentence; "" if there is some left."""
        spent, budget = self.total(), self.budget
        if budget.tokens and spent.tokens >= budget.tokens:
            return f"the budget of {budget.tokens} tokens is spent ({spent.tokens})"
        if budget.usd and spent.usd >= budget.usd:
            return f"the budget of ${budget.usd:g} is spent (${spent.usd:.4f})"
        return ""

    def decide(self, messages: Any) -> str:
        """What the optimiser wants to do next."""
        text = self._ask("optimiser", checked_messages(messages), 1.0, self.turn)
        self.turn += 1
        return text

    def ask(self, role: Role, prompt: Any, temperature: Any = 0.0) -> str:
        """An answer to a prompt or to messages."""
        checked = checked_messages(prompt)
        if not isinstance(temperature, int | float) or not 0 <= temperature <= 2:
            raise NotAllowedError("temperature must be a number from 0 to 2")
        name = f"{role == 'optimiser'}{key(checked)}"
        if temperature == 0:
            with self._lock:
                if name in self._known:
                    now = self.spent[role]
                    self.spent[role] = replace(now, remembered=now.remembered + 1)
                    return self._known[name]
        text = self._ask(role, checked, float(temperature), None)
        if temperature == 0:
            with self._lock:
                self._known[name] = text
        return text

    def _ask(
        self, role: Role, messages: list[Message], temperature: float, turn: int | None
    ) -> str:
        if role != "test" and (why := self.exhausted):
            raise NotAllowedError(why)
        got = self.models[role].complete(messages, temperature, self.max_tokens, turn)
        prices = self.budget.prices
        if role != "optimiser" and self.budget.solver_prices is not None:
            prices = self.budget.solver_prices
        usd = (got.prompt_tokens * prices[0] + got.completion_tokens * prices[1]) / 1e6
        with self._lock:
            now = self.spent[role]
            self.spent[role] = replace(
                now,
                calls=now.calls + 1,
                prompt_tokens=now.prompt_tokens + got.prompt_tokens,
                completion_tokens=now.completion_tokens + got.completion_tokens,
                usd=now.usd + usd,
            )
        return readable(got.text)

    # What a run keeps of it

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {"turn": self.turn, **{role: asdict(self.spent[role]) for role in ROLES}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state` gave."""
        self.turn = int(state["turn"])
        self.spent = {role: Spent(**state[role]) for role in ROLES}


def checked_messages(given: Any) -> list[Message]:
    """Messages, or a prompt as one, checked: they were made by code that nobody trusts."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not 0 < len(given) <= MESSAGES:
        raise NotAllowedError(f"give a text, or a list of 1 to {MESSAGES} messages")
    found: list[Message] = []
    for message in given:
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("system", "user", "assistant") or not isinstance(
            message.get("content"), str
        ):
            raise NotAllowedError(
                'a message is {"role": "system", "user" or "assistant", "content": a text}'
            )
        found.append({"role": str(role), "content": message["content"]})
    if sum(len(message["content"]) for message in found) > CHARACTERS:
        raise NotAllowedError(f"messages may hold {CHARACTERS} characters in all")
    return found
