"""Runs programs against their tests; the script of a sandbox job, which imports nothing of ours.

Reads ``../in/jobs.json``, a list of ``[source, tests, seconds]``, and leaves ``results.json``: for
each program a list with an empty text for a test that passed, or else what went wrong. A program is
a process of its own, so it cannot touch the next one's tests; its verdicts come through a pipe.

A test is a statement. Of ``assert left == right`` both sides are compared here, type by type: a
value that says it equals everything is none that was asked for.
"""

import ast
import json
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

MEMORY = 512 * 2**20
ELSEWHERE = 10
"""Seconds by the clock for each second of processor time: other work may have the processor."""


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal and of one type, all through; numbers are one type."""
    numbers = (int, float)
    if isinstance(right, bool) or isinstance(left, bool):
        return type(left) is type(right) and left is right
    if type(left) in numbers and type(right) in numbers:
        return bool(left == right or abs(left - right) <= 1e-6 * max(1, abs(right)))
    if type(left) is not type(right):
        return False
    if type(left) in (list, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if type(left) is dict:
        return same(sorted(left, key=repr), sorted(right, key=repr)) and all(
            same(left[key], right[key]) for key in right
        )
    if type(left) in (str, bytes, set, frozenset, type(None), complex):
        return bool(left == right)
    return False


def passes(test: str, space: dict[str, Any]) -> None:
    """Runs a test; raises what the program raises, AssertionError where the result is another."""
    tree = ast.parse(test)
    match tree.body:
        case [ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]))]:
            got = eval(compile(ast.Expression(left), "test", "eval"), space)
            wanted = eval(compile(ast.Expression(right), "test", "eval"), space)
            if not same(got, wanted):
                raise AssertionError(f"{ast.unparse(left)} is {got!r:.100}, not {wanted!r:.100}")
        case _:
            exec(compile(tree, "test", "exec"), space)


def child(source: str, tests: Sequence[str], seconds: float, pipe: int) -> NoReturn:
    """What a program's own process does; it never returns."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds * ELSEWHERE)
    nowhere = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    space = {"__name__": "program"}
    wrong = ""
    try:
        exec(compile(source, "program", "exec"), space)
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error}"[:300]
    for test in tests:
        said = wrong
        if not wrong:
            try:
                passes(test, space)
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"[:300]
        os.write(pipe, (json.dumps(said) + "\n").encode())
    os._exit(0)


def run(source: str, tests: Sequence[str], seconds: float) -> list[str]:
    """The verdicts of one program; of tests that it did not live to see, how it ended."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        child(source, tests, seconds, theirs)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = [json.loads(line) for line in pipe]
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    slow = status in (-signal.SIGPROF, -signal.SIGALRM, -signal.SIGXCPU)
    ended = f"took more than {seconds:g} s" if slow else f"ended with {status}"
    return said + [ended] * (len(tests) - len(said))


if __name__ == "__main__":
    jobs = json.loads(Path("../in/jobs.json").read_text())
    results = [run(*job) for job in jobs]
    Path("results.json").write_text(json.dumps(results))
