"""The runtime inside the sandbox: a small process that forks a child for every turn of the agent.

Its text is the script of a :class:`common.sandbox.session.Session`, so it imports nothing of this
project. A turn is one request of the host: let the improver take a step, let the policy answer
questions, run a piece of code. Each runs the agent's source afresh in a child, so that a turn
depends on the source and the state it was given and on nothing that an earlier turn left in memory
or on disk. What the agent asks the host for goes through this process, which alone holds the
channel: a child that outlives its turn can neither hear the next one nor answer in its place.

The time of a turn is the processor's, so that a busy machine makes no change look slow; by the
clock it may take :data:`CLOCK` times as long, without what it waits for the host. A turn that takes
longer, or leaves a process or a file that cannot be removed, is reported as not ``clean``: the host
ends the sandbox and takes a new one, so nothing has to be killed from inside.

A child's descriptors: 0 reads nothing, 1 and 2 go to a file whose end is reported, ``DOWN`` and
``UP`` are the pipes from and to this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import linecache
import os
import queue
import select
import shutil
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
DOWN, UP = 3, 4
LONGEST = 4 * 2**20
"""Bytes of a message from a child."""
CLOCK = 4
"""Times by the clock that a turn may take of what it may take of the processor."""
GRACE = 0.5
"""Seconds in which a child has to end after its last word."""
PRINTED = 4000
"""Characters of what a turn printed that are reported: the last ones."""
ANSWER = 2000
"""Characters of an answer."""
Json = dict[str, Any]


# The process that stays


def main() -> None:
    """Serve turns until the host hangs up."""
    channel = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    lines = Lines(channel)
    while (line := lines.next()) is not None:
        request = json.loads(line)
        if "do" in request:  # else it is an answer that came too late for its turn
            write(channel, {"ended": Turn(request, channel, lines).run()})


class Lines:
    """Lines out of a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.held = bytearray()

    def next(self) -> bytes | None:
        """The next line; None at the end, or where one is too long."""
        while b"\n" not in self.held:
            if not self.more():
                return None
        line, _, rest = bytes(self.held).partition(b"\n")
        self.held = bytearray(rest)
        return line

    def more(self) -> bool:
        """Read once; false at the end, or where a line is too long."""
        chunk = os.read(self.fd, 1 << 16)
        self.held += chunk
        return bool(chunk) and (len(self.held) <= LONGEST or b"\n" in self.held)


def write(fd: int, message: Any) -> None:
    """A line of JSON."""
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


class Turn:
    """One request, carried out by a child."""

    def __init__(self, request: Json, channel: int, lines: Lines) -> None:
        self.request, self.channel, self.lines = request, channel, lines
        self.waiting = 0
        """Calls of the child that the host has not answered."""

    def run(self) -> Json:
        """What became of it: ``final`` or ``why`` not, what was ``printed``, whether ``clean``."""
        down, up = os.pipe(), os.pipe()
        printed = os.open("../tmp/printed", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        pid = os.fork()
        if pid == 0:
            become_child(self.request, down[0], up[1], printed)
        os.close(down[0])
        os.close(up[1])
        try:
            final, why = self.relay(pid, down[1], Lines(up[0]))
        finally:
            os.close(down[1])
            os.close(up[0])
        status = None if why else self.wait(pid)
        if final is None and not why:
            why = ended_by(status)
        size = os.fstat(printed).st_size
        text = os.pread(printed, 4 * PRINTED, max(0, size - 4 * PRINTED)).decode("utf-8", "replace")
        os.close(printed)
        clean = status is not None and childless() and emptied()
        return {"final": final, "why": why, "printed": text[-PRINTED:], "clean": clean}

    def relay(self, pid: int, down: int, child: Lines) -> tuple[Any, str]:
        """Carry calls up and answers down: the last word of the child, or why there is none."""
        seconds = float(self.request["seconds"])
        left = CLOCK * seconds
        while True:
            while b"\n" in child.held:
                try:
                    said = json.loads(child.next() or b"")
                    if "final" in said:
                        return said["final"], ""
                    call = {"call": str(said["call"]), "id": int(said["id"])}
                    call["arguments"] = dict(said["arguments"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    return None, "it wrote into the pipe of the runtime"
                write(self.channel, call)
                self.waiting += 1
            while self.waiting and b"\n" in self.lines.held:
                self.answer(down)
            began = time.monotonic()
            pause = max(0.01, min(left, seconds - processor_time(pid)))
            ready = select.select([child.fd, self.channel], [], [], pause)[0]
            if not self.waiting:
                left -= time.monotonic() - began
            if left <= 0 or processor_time(pid) >= seconds:
                return None, f"it ran longer than {seconds:g} s"
            if self.channel in ready and not self.lines.more():
                os._exit(0)  # the host has hung up
            if child.fd in ready and not child.more():
                return None, ""

    def answer(self, down: int) -> None:
        """Hand an answer of the host to the child."""
        line = (self.lines.next() or b"") + b"\n"
        self.waiting -= 1
        with contextlib.suppress(BrokenPipeError):  # how it ended is read from its own pipe
            while line:
                line = line[os.write(down, line) :]

    def wait(self, pid: int) -> int | None:
        """The status of a child that is given a moment to end; None if it goes on."""
        last = time.monotonic() + GRACE
        while time.monotonic() < last:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            time.sleep(0.001)
        return None


def processor_time(pid: int) -> float:
    """Seconds that a process has computed; 0 when it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock of clock_getcpuclockid(3)
    except OSError:
        return 0.0


def ended_by(status: int | None) -> str:
    """How a child ended that said no last word."""
    if status is None:
        return "it hung up and went on"
    if os.WIFSIGNALED(status):
        return f"it was ended by signal {os.WTERMSIG(status)}"
    return f"it ended with exit code {os.WEXITSTATUS(status)} before it was done"


def childless() -> bool:
    """Whether nothing is left of a turn: orphans become children of this process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def emptied() -> bool:
    """Empty the folders that a turn may write to; whether that could be done."""
    for folder in (Path(), Path("../tmp")):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
    return not any(Path().iterdir()) and not any(Path("../tmp").iterdir())


# A child: one turn


class HostError(RuntimeError):
    """What the host says instead of an answer: a mistake in a call, or that it is not allowed."""


class Host:
    """The host as a child sees it: it is called by name, from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.answers: dict[int, queue.SimpleQueue[Json]] = {}
        self.reader: threading.Thread | None = None

    def __call__(self, name: str, /, **arguments: Any) -> Any:
        """What the host answers to ``name``.

        Raises:
            HostError: it refuses, and says why.
        """
        mine: queue.SimpleQueue[Json] = queue.SimpleQueue()
        with self.lock:
            if self.reader is None:
                self.reader = threading.Thread(target=self.read, daemon=True)
                self.reader.start()
            self.count += 1
            number = self.count
            self.answers[number] = mine
            write(UP, {"call": name, "id": number, "arguments": arguments})
        answer = mine.get()
        if "error" in answer:
            raise HostError(answer["error"])
        return answer["value"]

    def read(self) -> None:
        """Give each answer to the thread that waits for it."""
        lines = Lines(DOWN)
        while (line := lines.next()) is not None:
            answer = json.loads(line)
            self.answers.pop(answer["id"]).put(answer)


def become_child(request: Json, down: int, up: int, printed: int) -> NoReturn:
    """Carry a turn out and end."""
    try:
        high = [os.dup2(fd, 60 + n) for n, fd in enumerate((down, up, printed))]
        os.closerange(3, 60)  # the host's channel is the parent's alone
        for fd, number in zip((*high, high[-1]), (DOWN, UP, 1, 2), strict=True):
            os.dup2(fd, number)
        os.closerange(UP + 1, 256)
        try:
            final = TURNS[request["do"]](request, Host())
        except BaseException as error:
            final = {"error": told(error)}
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        write(UP, {"final": final})
    finally:
        os._exit(0)


def loaded(name: str, source: str) -> dict[str, Any]:
    """The names of a module of the agent."""
    module = types.ModuleType(name)
    path = f"{name}.py"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)
    return module.__dict__


def told(error: BaseException) -> str:
    """An error with the lines of the agent's own source that led to it."""
    whole = traceback.TracebackException.from_exception(error)
    own = [frame for frame in whole.stack if not frame.filename.startswith(("<", "/", "../in"))]
    whole.stack = traceback.StackSummary.from_list(own[-6:])
    whole.__context__ = whole.__cause__ = None
    return "".join(whole.format())[-ANSWER:].strip()


def function(names: Mapping[str, Any], name: str, module: str) -> Callable[..., Any]:
    found = names.get(name)
    if not callable(found):
        raise TypeError(f"{module}.py has no function {name}")
    return found  # type: ignore[no-any-return]


def evolve(request: Json, host: Host) -> Json:
    """The improver takes a step; what it makes of its state."""
    improver = loaded("improver", request["improver"])
    state = function(improver, "evolve", "improver")(request["goal"], request["state"], host)
    if not isinstance(state, dict) or not isinstance(state.get("history"), list):
        raise TypeError("evolve must return the state, a dict with a list called history")
    json.dumps(state)
    return {"state": state}


def solve(request: Json, host: Host) -> Json:
    """The policy answers questions: for each an ``answer``, or the ``error`` it ended in."""
    policy = function(loaded("policy", request["policy"]), "solve", "policy")

    def ask(prompt: Any, temperature: float = 0.0) -> str:
        text: str = host("ask", prompt=prompt, temperature=temperature)
        return text

    def one(question: str) -> Json:
        try:
            answer = policy(question, ask)
            if not isinstance(answer, str):
                raise TypeError(f"solve must return a text, not {type(answer).__name__}")
            return {"answer": answer[:ANSWER]}
        except (Exception, SystemExit) as error:
            return {"error": told(error)}

    if request["width"] == 1:
        return {"answers": [one(question) for question in request["questions"]]}
    with ThreadPoolExecutor(request["width"]) as pool:
        return {"answers": list(pool.map(one, request["questions"]))}


def run(request: Json, host: Host) -> Json:  # noqa: ARG001
    """Run a piece of code, which may import the policy; what it prints is reported anyway."""
    loaded("policy", request["policy"])
    loaded("code", request["code"])
    return {}


TURNS: Mapping[str, Callable[[Json, Host], Json]] = {"evolve": evolve, "solve": solve, "run": run}

if __name__ == "__main__":
    main()
