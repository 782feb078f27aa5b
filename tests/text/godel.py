"""A small environment for agents, models that say what a test wants, and code that means harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from common.records import Split, Task
from common.store import Store
from text.godel.broker import Broker, Budget
from text.godel.environment import Environment
from text.godel.evolve import Evolution, Result
from text.godel.models import Scripted
from text.godel.workshop import Rules, Workshop

QUICK = Rules(max_drop=0.5, seconds=1.0)
MARK = "pine" + "apple"
"""What answers begin with, for code that looks for them."""


def processes() -> set[psutil.Process]:
    """What this process has started, directly or not, and what still runs of it."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


def environment(count: int = 4) -> Environment:
    """Questions ``0`` to ``3`` in each split; nobody could guess the answers but by knowing."""

    def tasks(split: Split) -> tuple[Task, ...]:
        return tuple(
            Task(f"{split}{n}", f"question {n}", split, f"{MARK}-{split}-{n}") for n in range(count)
        )

    def score(task: Task, answer: str) -> float:
        return float(answer in (task.reference, f"right {task.prompt[-1]}"))

    return Environment("Say it.", tasks("dev"), tasks("test"), score)


def right(count: int) -> str:
    """A policy that is right on the first ``count`` questions."""
    return (
        "def solve(question, ask):\n"
        f"    return 'right ' + question[-1] if int(question[-1]) < {count} else 'wrong'"
    )


def broker(turns: Sequence[str] = (), **budget: Any) -> Broker:
    model = Scripted(turns)
    return Broker(model, model, Budget(**budget))


def workshop(rules: Rules = QUICK) -> Workshop:
    from text.godel.source import Source

    made = Workshop(environment(), broker(), rules)
    made.begin(Source.start())
    return made


def call(action: str, /, **arguments: str) -> str:
    """A decision with one call."""
    return calls((action, arguments))


def calls(*several: tuple[str, dict[str, str]]) -> str:
    return json.dumps({"calls": [{"action": a, "arguments": b} for a, b in several]})


def change(source: str, name: str = "solve", file: str = "policy", action: str = "modify") -> str:
    """A decision to change the agent."""
    return call("self_update", file=file, action=action, name=name, source=source, reason="a test")


HOSTILE = {
    "exit": "import sys; sys.exit(0)",
    "end": "import os; os._exit(0)",
    "end the runtime": "import os, time; os.kill(os.getppid(), 9); time.sleep(9)",
    "end everything": "import os; os.kill(-1, 9)",
    "loop": "while True: pass",
    "leave a process": "import os, time; os.fork() or time.sleep(60)",
    "leave a daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: os.closerange(0, 99); time.sleep(60)\n    os._exit(0)"
    ),
    "take memory": "x = bytearray(1 << 33)",
    "recurse": "def f(): return f()\nf()",
    "write into the pipe": "import os; os.write(4, b'{\"call\": 1}\\n[]\\n')",
    "say a last word": 'import os; os.write(4, b\'{"final": {"answers": [5]}}\\n\')',
    "say no object": "import os; os.write(4, b'{\"final\": 7}\\n')",
    "close descriptors": "import os; os.closerange(0, 256)",
    "fill the folder": "open('x', 'wb').write(bytes(1 << 28))",
    "leave files": "import os; os.makedirs('a/b'); open('a/b/c', 'w').write('x')",
    "spoil the library": "import json, os\njson.dumps = json.loads = os.write = None",
    "raise what is no exception": "raise KeyboardInterrupt",
}
"""What code may try, as the beginning of a function or at the import of a module."""


def run(
    home: Path,
    turns: Sequence[str],
    steps: int = 0,
    rules: Rules = QUICK,
    kept: Callable[[Evolution], None] | None = None,
    **budget: Any,
) -> tuple[Result, Evolution]:
    """A small run under ``home``, or what is left of it."""
    store = Store(home)
    made = Evolution(environment(), broker(turns, **budget), store, steps or len(turns), rules,
                     kept=kept)  # fmt: skip
    try:
        return made.run("run", 0, {}, "small"), made
    finally:
        store.close()


def told(evolution: Evolution) -> list[str]:
    """What the agent was told, as far as it keeps it."""
    return [m["content"] for m in evolution.agent["history"] if m["role"] == "user"]
