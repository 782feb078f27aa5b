"""Programs that a model wrote: found in what it said, and run against tests, in the sandbox only.

A question is the head of a function, and an answer its body; or a whole program in a fence, as chat
models write it. Tests are statements. Several programs share a sandbox job, each a process of its
own in it (:mod:`text.harness`); where the job itself comes to an end before all of them did, those
that were left are run alone, so no program can cost another its verdict.

The check of the source (:mod:`common.sandbox.lint`) comes first: a program that it refuses passes
no test. It is no wall, but without ``os`` and ``sys`` it takes intent to lie about a verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from common import sandbox
from common.errors import UserError
from common.records import Candidate, Task
from text.prompts import question

HARNESS = Path(__file__).with_name("harness.py")
SECONDS = 2.0
"""Of processor time, for a program with its tests."""
TOGETHER = 24
"""Programs in a job."""
WORKERS = 2
ALLOWED = "eval is not allowed"
"""What the check says of a HumanEval solution that is right."""
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_TOP = re.compile(r"^(?=[^\s#])", re.MULTILINE)
"""Where a line begins that is not indented: a body has ended there."""


class Verdict(NamedTuple):
    """``passed`` by test; ``why`` says what was wrong with the first that did not."""

    passed: tuple[bool, ...]
    why: str = ""

    @property
    def all(self) -> bool:
        return bool(self.passed) and all(self.passed)

    @property
    def share(self) -> float:
        """The share of tests that passed; 0 without any."""
        return sum(self.passed) / len(self.passed) if self.passed else 0.0


def code_of(output: str, head: str, entry: str) -> str:
    """The program in ``output``: a fenced or bare definition of ``entry``, or the head's body."""
    fenced = [block for block in _FENCE.findall(output) if block.strip()]
    defined = re.compile(rf"^(?:async )?def {re.escape(entry)}\b", re.MULTILINE)
    for block in fenced:
        if defined.search(block):
            return f"{_before(head)}{block.rstrip()}\n"
    text = fenced[0] if fenced else output
    if found := defined.search(text):
        return f"{_before(head)}{text[found.start() :].rstrip()}\n"
    return f"{head.rstrip(chr(10))}\n{_body(text)}"


def strict_code(output: str, head: str) -> str:
    """The program that an output is as it stands: a body after the head, or one fence."""
    whole = re.fullmatch(r"\s*```(?:python|py)?[ \t]*\n(.*?)```\s*", output, re.DOTALL)
    return whole[1] if whole else f"{head.rstrip(chr(10))}\n{output}"


def _body(text: str) -> str:
    """The indented lines that ``text`` begins with; one that lacks its indentation gets it."""
    first, newline, rest = text.strip("\n").rstrip().partition("\n")
    if len(first) - len(first.lstrip()) < 4:
        # A completion goes on where the prompt ended, which may have been within the line.
        first = f"    {first.lstrip()}" if first else ""
    lines = f"{first}{newline}{rest}"
    end = _TOP.search(lines)
    return f"{lines[: end.start()].rstrip() if end else lines}\n"


def _before(head: str) -> str:
    """What a head has before its last function: imports, and helpers that it names."""
    starts = [m.start() for m in re.finditer(r"^(?:async )?def ", head, re.MULTILINE)]
    return head[: starts[-1]] if starts else ""


def hidden_of(task: Task) -> list[str]:
    """The hidden tests of a task; empty where its reference was taken away."""
    return list(json.loads(task.reference)) if task.reference else []


def public_of(task: Task) -> list[str]:
    """The tests that anybody may see."""
    return list(task.meta.get("public", ()))


def run_tests(programs: Sequence[tuple[str, Sequence[str]]]) -> list[Verdict]:
    """Each program against its tests, in order; equal ones are run once."""
    known: dict[tuple[str, tuple[str, ...]], Verdict | None] = {}
    for source, tests in programs:
        findings = [f for f in sandbox.lint(source) if f.message != ALLOWED] if tests else []
        refused = f"line {findings[0].line}: {findings[0].message}" if findings else ""
        nothing = Verdict((False,) * len(tests), refused) if findings or not tests else None
        known.setdefault((source, tuple(tests)), nothing)
    left = [job for job, verdict in known.items() if verdict is None]
    chunks = [left[i : i + TOGETHER] for i in range(0, len(left), TOGETHER)]
    with ThreadPoolExecutor(WORKERS) as pool:  # processes; the threads only wait
        for chunk, verdicts in zip(chunks, pool.map(_job, chunks), strict=True):
            known.update(zip(chunk, verdicts, strict=True))
    return [known[source, tuple(tests)] or Verdict(()) for source, tests in programs]


@cache
def _harness() -> str:
    return HARNESS.read_text(encoding="utf-8")


def _job(chunk: Sequence[tuple[str, tuple[str, ...]]]) -> list[Verdict]:
    jobs = json.dumps([[source, tests, SECONDS] for source, tests in chunk]).encode()
    limits = sandbox.Limits(seconds=20 + 12 * SECONDS * len(chunk))
    ran = sandbox.run(_harness(), files={"jobs.json": jobs}, check=False, limits=limits)
    said = ran.files.get("results.json") if ran.status == "ok" else None
    if said is not None:
        return [
            Verdict(tuple(not one for one in own), next(filter(None, own), ""))
            for own in json.loads(said)
        ]
    if len(chunk) > 1:
        return [verdict for one in chunk for verdict in _job([one])]
    return [Verdict((False,) * len(tests), ran.why or "it left no results") for _, tests in chunk]


def judge(tasks: Mapping[str, Task], candidates: Sequence[Candidate]) -> list[dict[str, float]]:
    """``correct`` and ``strict`` of candidates by the hidden tests of their tasks."""
    programs: list[tuple[str, Sequence[str]]] = []
    for c in candidates:
        task = tasks[c.task]
        free = c.answer if c.answer is not None else answer_of(c.output, task)
        exact = strict_code(c.output, question(task))
        programs += [(free, hidden_of(task)), (exact, hidden_of(task))]
    verdicts = [float(tested.all) for tested in run_tests(programs)]
    return [
        {"correct": free, "strict": exact}
        for free, exact in zip(verdicts[::2], verdicts[1::2], strict=True)
    ]


def answer_of(output: str, task: Task) -> str:
    """The program that an output gives for a task, whose head its question is.

    Raises:
        UserError: the question is no head of a function.
    """
    defined = re.findall(r"^(?:async )?def (\w+)", question(task), re.MULTILINE)
    if not defined:
        raise UserError(
            "the question has no head of a function", "write it as: def NAME(...): and a docstring"
        )
    return code_of(output, question(task), str(task.meta.get("entry", defined[-1])))
